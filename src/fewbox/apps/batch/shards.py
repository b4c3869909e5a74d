"""One shard of a run over many photos: which photos, what is found in them, its two tables, their storage.

A run's photos are numbered in the order of their list and cut into shards of equal size. A shard's tables
are written once all of its photos are done, that of the photos last: if both are there, the shard is done; if
not, it is done again. The same shard always gives the same tables under the same names, so it does
no harm if two machines work on it, or a worker dies half-way through writing.

Machines that work together must all see the storage under the same name.
"""

from __future__ import annotations

import io
import json
import posixpath
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fewbox.core import escaped
from fewbox.core.files import replacing
from fewbox.data.images import ReducedImage, read_reduced, read_size_hw
from fewbox.data.photo_file import PhotoBytes, PhotoFile
from fewbox.data.remote import fetch_bytes, file_system, is_remote, without_secrets
from fewbox.detection import Detections
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import FewboxError, OutputError, PhotoError, SettingError

_HINT = "check the address, the connection, and what you are allowed to write there"


class Storage:
    """Files by names such as ``"photos/00000.parquet"``, each written whole or not at all.

    In a folder by renaming; at an address because object stores show an object only once it is whole.
    """

    def __init__(self, where: str) -> None:
        self.where = where if is_remote(where) else str(Path(where).resolve())

    def __str__(self) -> str:
        return without_secrets(self.where) if is_remote(self.where) else self.where

    def write(self, name: str, data: bytes) -> None:
        """Write a file; one of this name is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        if not is_remote(self.where):
            with replacing(Path(self.where) / name) as temporary:
                temporary.write_bytes(data)
            return
        with self._as_output_error(name, "written", FileNotFoundError):
            system, path = self._remote(name)
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.pipe_file(path, data)

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None if there is none.

        Raises:
            OutputError: it is there but cannot be read.
        """
        with suppress(FileNotFoundError), self._as_output_error(name, "read"):
            if not is_remote(self.where):
                return (Path(self.where) / name).read_bytes()
            system, path = self._remote(name)
            data: bytes = system.cat_file(path)
            return data
        return None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; errors as :meth:`write`."""
        with suppress(FileNotFoundError), self._as_output_error(name, "removed"):
            if is_remote(self.where):
                system, path = self._remote(name)
                system.rm_file(path)
            else:
                (Path(self.where) / name).unlink()

    def names(self, folder: str) -> set[str]:
        """The names of the files in a folder; none if there is no such folder; errors as :meth:`read`."""
        with suppress(FileNotFoundError), self._as_output_error(folder, "listed"):
            if not is_remote(self.where):
                return {path.name for path in (Path(self.where) / folder).iterdir()}
            system, path = self._remote(folder)
            system.invalidate_cache()  # other machines write there too
            return {posixpath.basename(name) for name in system.ls(path, detail=False)}
        return set()

    @contextmanager
    def _as_output_error(self, name: str, done: str, *also: type[Exception]) -> Iterator[None]:
        """Turn errors of the file system into ones a user understands, but not that of a missing file."""
        try:
            yield
        except FewboxError:
            raise
        except Exception as error:  # each backend has errors of its own
            if isinstance(error, FileNotFoundError) and not isinstance(error, also):
                raise
            reason = str(error) or type(error).__name__
            raise OutputError(f"{self}/{name}: cannot be {done}: {reason}", hint=_HINT) from error

    def _remote(self, name: str) -> tuple[Any, str]:
        return file_system(f"{self.where.rstrip('/')}/{name}")


DETECTIONS, PHOTOS = "detections", "photos"
"""The folders of the two tables."""

_FETCHES = 4  # from addresses, at once


@dataclass(frozen=True)
class Shard:
    """Some photos of a run.

    Attributes:
        number: of the shard.
        first: the number of its first photo.
        photos: absolute paths and addresses.
    """

    number: int
    first: int
    photos: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its tables are called."""
        return shard_name(self.number)

    def to_json(self) -> str:
        """The shard as text, for another machine."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Shard:
        """The shard that :meth:`to_json` wrote."""
        fields = json.loads(text)
        return cls(fields["number"], fields["first"], tuple(fields["photos"]))


def shard_name(number: int) -> str:
    """What the tables of a shard are called."""
    return f"{number:06d}.parquet"


def cut_into_shards(photos: Sequence[str], size: int) -> Iterator[Shard]:
    """All photos in their order, ``size`` to a shard; the last one takes what is left."""
    for number, first in enumerate(range(0, len(photos), size)):
        yield Shard(number, first, tuple(photos[first : first + size]))


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard: how many photos and detections, and how many photos failed."""

    number: int
    photos: int
    detections: int
    failed: int


def detect_shard(
    detector: PhotoDetector, shard: Shard, threshold: float, storage: Storage, threads: int = 1
) -> ShardResult:
    """Detect in every photo of a shard and write its tables.

    A photo that cannot be read gets a row that says why; the others are done all the same.

    Raises:
        OutputError: a table cannot be written.
    """
    found: list[dict[str, Any]] = []
    photos: list[dict[str, Any]] = []
    for offset, (name, read) in enumerate(_read_ahead(shard.photos, detector, threads)):
        row = {"photo_id": shard.first + offset, "photo": name}
        try:
            detections: Detections = detector.detect(read(), threshold=threshold)
        except PhotoError as error:
            nothing = {"width": None, "height": None, "detections": 0, "full": False}
            photos.append(row | nothing | {"failure": escaped(error.message)})
            continue
        height, width = detections.size_hw
        row |= {"width": width, "height": height}
        is_full = detections.full_at > threshold
        photos.append(row | {"detections": len(detections), "full": is_full, "failure": None})
        for (x1, y1, x2, y2), score, label in detections:
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            found.append(row | {"label": label, "score": score} | box)
    storage.write(f"{DETECTIONS}/{shard.name}", _table(found, DETECTIONS))
    storage.write(f"{PHOTOS}/{shard.name}", _table(photos, PHOTOS))  # last: now the shard is done
    failed = sum(row["failure"] is not None for row in photos)
    return ShardResult(shard.number, len(photos), len(found), failed)


def shown_name(photo: str) -> str:
    """What tables call a photo: its path, or its address without what may be secret in it."""
    return without_secrets(photo) if is_remote(photo) else escaped(photo)


def read_photo_rows(storage: Storage, number: int) -> list[dict[str, Any]]:
    """The rows of a finished shard's table of photos.

    Raises:
        OutputError: the table cannot be read.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    name = f"{PHOTOS}/{shard_name(number)}"
    data = storage.read(name)
    assert data is not None, "only finished shards are asked for"
    try:
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        hint = "remove it, and the same command does its photos again"
        raise OutputError(f"{storage}/{name}: the table is damaged or cut off", hint=hint) from error
    return rows


def require_pyarrow() -> None:
    """Refuse to begin without what writes the tables.

    Raises:
        SettingError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        hint = 'pip install ".[ray]"'
        raise SettingError("tables of detections need pyarrow, which is missing", hint=hint) from error


def _read_ahead(
    photos: Sequence[str], detector: PhotoDetector, threads: int
) -> Iterator[tuple[str, Callable[[], ReducedImage]]]:
    """The name of every photo in order, and what returns its pixels; meanwhile the next ones are fetched.

    On one core they are only fetched from addresses, which is waiting: if they were decoded too, decoding and
    detecting would take turns and wait for each other.
    """
    readers = _FETCHES if any(map(is_remote, photos)) else threads - 1
    if readers == 0:
        for photo in photos:
            yield shown_name(photo), partial(_decode, Path(photo), detector)
        return
    with ThreadPoolExecutor(readers) as pool:
        ahead: deque[tuple[str, Callable[[], ReducedImage]]] = deque()
        for photo in photos:
            file = pool.submit(_fetch, photo).result if threads == 1 else partial(_fetch, photo)
            decode = partial(_decode_from, file, detector)
            ahead.append((shown_name(photo), decode if threads == 1 else pool.submit(decode).result))
            if len(ahead) > readers:
                yield ahead.popleft()
        yield from ahead


def _fetch(photo: str) -> PhotoFile:
    return PhotoBytes(shown_name(photo), fetch_bytes(photo)) if is_remote(photo) else Path(photo)


def _decode_from(file: Callable[[], PhotoFile], detector: PhotoDetector) -> ReducedImage:
    return _decode(file(), detector)


def _decode(file: PhotoFile, detector: PhotoDetector) -> ReducedImage:
    return read_reduced(file, detector.enough_hw(read_size_hw(file)))


def _table(rows: list[dict[str, Any]], kind: str) -> bytes:
    """The rows as a Parquet file."""
    import pyarrow
    import pyarrow.parquet as parquet

    text, whole, real = pyarrow.string(), pyarrow.int32(), pyarrow.float32()
    columns = {"photo_id": pyarrow.int64(), "photo": text, "width": whole, "height": whole}
    if kind == PHOTOS:
        columns |= {"detections": whole, "full": pyarrow.bool_(), "failure": text}
    else:
        columns |= {"label": text, "score": real} | dict.fromkeys(("x1", "y1", "x2", "y2"), real)
    buffer = io.BytesIO()
    schema = pyarrow.schema(list(columns.items()))
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), buffer, compression="zstd")
    return buffer.getvalue()
