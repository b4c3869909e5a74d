"""Names and paths of photos, compared as tools change them on the way.

Tools write other capital letters, no suffix, underscores for blanks, backslashes for slashes;
and the folders in a path are often those of another machine, so that only its end means anything.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from fewbox.data.formats.walking import full_path
from fewbox.data.remote import shown_name

Folders = tuple[str, ...]
"""The names of folders in a path, from the outermost, without regard to capital letters."""

_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation"), "val")
_NO_FOLDERS = ("", ".", "..", "/")


def last_part(name: str) -> str:
    """The name of the photo in a path with either slash."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


@lru_cache(1 << 16)
def folders_in(path: str) -> Folders:
    """The folders that a path in a file names."""
    parts = PurePosixPath(path.replace("\\", "/")).parts[:-1]
    return tuple(without_case(part) for part in parts if part not in _NO_FOLDERS)


def folders_of(photo: Path) -> Folders:
    """The folders in which a photo is; of a stand-in, those of its address."""
    shown = shown_name(photo)
    return folders_in(str(full_path(photo)) if shown == str(photo) else shown)


def relative_name(photo: Path, folder: Path) -> str:
    """The path of a photo from ``folder``, with ``/``."""
    # The folder is resolved, as ".." is wrong after a symbolic link; the photo is not, as its
    # link may have the name the user knows.
    place = os.path.realpath(photo.parent)
    try:
        return Path(os.path.relpath(place, os.path.realpath(folder)), photo.name).as_posix()
    except ValueError:  # Windows: on another drive
        return Path(place, photo.name).as_posix()


def written_names(photos: Sequence[Path], folder: Path | None = None) -> list[str]:
    """What to call photos in a file: their names; if one repeats, paths.

    Args:
        photos: the photos.
        folder: where paths begin; left out, in the folder above those of the photos.
    """
    names = [photo.name for photo in photos]
    if len({composed(name) for name in names}) == len(names):
        return names
    if folder is None:
        places = [os.path.realpath(photo.parent) for photo in photos]
        try:
            folder = Path(os.path.commonpath(places))
        except ValueError:  # Windows: on several drives
            folder = Path(places[0])
        if str(folder) in places:  # so that every photo has a folder before it
            folder = folder.parent
    return [relative_name(photo, folder) for photo in photos]


def common_end(first: Folders, second: Folders) -> int:
    """How many folders two paths have in common, counted from the photo."""
    return common_start(first[::-1], second[::-1])


def common_start(first: Folders, second: Folders) -> int:
    """How many folders two paths have in common, counted from the outermost."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))))


def is_absolute(path: str) -> bool:
    """Whether a path in a file does not start from where the file is."""
    return re.match(r"[/\\]|[a-zA-Z]:|[a-zA-Z][a-zA-Z0-9+.-]+://", path) is not None


def are_of_two_splits(first: Folders, second: Folders) -> bool:
    """Whether folders are named after two parts of a data set, as ``train2017`` and ``valid`` are."""
    of_first, of_second = _split_of(first), _split_of(second)
    return None not in (of_first, of_second) and of_first != of_second


def names_another_split(name: str, folders: Folders) -> bool:
    """Whether a name in a file says that its photo is of another part of a data set than these folders."""
    return are_of_two_splits(folders_in(name)[-2:], folders[-2:])


@lru_cache(1 << 16)
def _split_of(folders: Folders) -> str | None:
    splits = (_SPLITS.get(re.sub(r"[_-]?[0-9]*$", "", name)) for name in reversed(folders))
    return next(filter(None, splits), None)


def composed(name: str) -> str:
    """Names that macOS spells with separate accents equal those other systems spell with one sign."""
    return unicodedata.normalize("NFC", name)


def without_case(name: str) -> str:
    """A name to be compared without regard to capital letters."""
    return composed(name).casefold()


def _stem(name: str) -> str:
    return PurePosixPath(without_case(name)).stem


def _cleaned(name: str) -> str:
    """As servers of photos clean names: blanks become underscores, other signs go."""
    return re.sub(r"[^\w.-]", "", without_case(name).replace(" ", "_"))


# How a photo and the name in a file are compared, strictest first. A name without suffix means
# the photo with any suffix; a name with another suffix does not.
_COMPARISONS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (composed, composed),
    (without_case, without_case),
    (_stem, without_case),
    (_cleaned, _cleaned),
)


class NamedPhotos:
    """Photos by their names, in each of the ways in which names are compared."""

    def __init__(self, photos: Iterable[Path]) -> None:
        self._groups: list[dict[str, list[Path]]] = [{} for _ in _COMPARISONS]
        for photo in photos:
            for group, (photo_key, _) in zip(self._groups, _COMPARISONS, strict=True):
                group.setdefault(photo_key(photo.name), []).append(photo)

    @property
    def names(self) -> Iterable[str]:
        """The names of the photos."""
        return self._groups[0]

    def exactly(self, name: str) -> list[Path]:
        """The photos of this name, whatever folders it names."""
        return self._groups[0].get(composed(last_part(name)), [])

    def each_way(self, names: Sequence[str]) -> Iterable[list[Path]]:
        """The photos that any of these names may mean: by the strictest comparison first, best name first."""
        for group, (_, name_key) in zip(self._groups, _COMPARISONS, strict=True):
            for name in names:
                yield group.get(name_key(last_part(name)), [])
