"""Pictures of photos as the page shows them: upright JPEGs of the size that is asked for."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PIL import Image

from fewbox.core import files
from fewbox.data.images import read_reduced, read_size_hw
from fewbox.errors import PhotoError

_CACHE_BYTES = 200_000_000
"""About 20,000 thumbnails, or 500 screens full."""
MAX_SIDE = 20_000
_THUMBNAIL_SIDE = 400
_QUALITY = {"thumbnail": 75, "preview": 88}


_Key = tuple[str, int, int, int | None]
_T = TypeVar("_T")


class Previews:
    """Pictures of photos, the last ones kept in memory. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._bytes = 0

    def picture(self, find: Callable[[], Path], side: int | None) -> tuple[bytes, str]:
        """A photo as JPEG, and a tag that changes with it.

        Args:
            find: says where the photo is.
            side: the longer side is at most this; a smaller photo, or any for None, keeps its size.

        Raises:
            PhotoError: the photo cannot be read.
        """
        return _followed(find, lambda path: self._picture(path, side))

    def _picture(self, path: Path, side: int | None) -> tuple[bytes, str]:
        key = (*_version_of(path), side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key], _tag(key)
        picture = make_picture(path, side)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = picture
                self._bytes += len(picture)
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture, _tag(key)

    @staticmethod
    def tag(find: Callable[[], Path], side: int | None) -> str:
        """The tag of a picture, without making it; ``find`` says where the photo is.

        Raises:
            PhotoError: the photo is not there.
        """
        return _followed(find, lambda path: _tag((*_version_of(path), side)))


class UnreadablePhotos:
    """Photos that could not be read, until their files change: one may have been copied only by half."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, str]] = {}

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Note that a photo cannot be read, if what is done meanwhile finds that.

        Raises:
            PhotoError: what that raises.
        """
        before = files.version_of(path)
        try:
            yield
        except PhotoError as error:
            self._known[path] = (before, error.message)
            raise

    def forget(self, path: Path) -> None:
        """Note that a photo has been read."""
        self._known.pop(path, None)

    def why(self, path: Path) -> str | None:
        """Why a photo cannot be read; None if it can, or if nobody has tried since its file has changed."""
        if not self._known or path not in self._known:  # a path takes its time to hash
            return None
        version, message = self._known[path]
        return message if version == files.version_of(path) else None


def _followed(find: Callable[[], Path], read: Callable[[Path], _T]) -> _T:
    """What ``read`` makes of a photo, also if that is moved meanwhile: a page shows it until it has gone."""
    path = find()
    try:
        return read(path)
    except PhotoError:
        if find() == path:
            raise
    return _followed(find, read)


def make_picture(path: Path, side: int | None) -> bytes:
    """A photo as an upright JPEG whose longer side is at most ``side``.

    Raises:
        PhotoError: the photo cannot be read.
    """
    height, width = read_size_hw(path)
    scale = min(1.0, (side or MAX_SIDE) / max(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(read_reduced(path, size_wh[::-1]).image)
    if picture.size != size_wh:
        picture = picture.resize(size_wh, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    kind = "thumbnail" if side is not None and side <= _THUMBNAIL_SIDE else "preview"
    picture.save(file, "JPEG", quality=_QUALITY[kind])
    return file.getvalue()


def _version_of(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise PhotoError(f"{path}: no such photo", hint="put it back, or reload the page") from error
    return (os.fspath(path), status.st_mtime_ns, status.st_size)


def _tag(key: _Key) -> str:
    return f'"{key[1]:x}-{key[2]:x}-{key[3] or 0}"'
