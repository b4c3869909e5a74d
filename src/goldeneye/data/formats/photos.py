"""Where photos are looked for, and which of them a file means by a name.

A name is tried as a path below the folders, then as the name of one of the photos there. Tools
change names on the way: other capital letters, no suffix, underscores for blanks. Such a name
is understood only if exactly one photo can be meant.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from goldeneye.data.formats.raw import RawPhoto
from goldeneye.data.images import PHOTO_SUFFIXES, StrPath, find_photos, photos_in_folder
from goldeneye.errors import AnnotationError


class PhotoFinder:
    """Finds photos by what files of boxes call them.

    Attributes:
        folders: in which paths are looked up.
        found: the photos in them, and those given one by one.

    Raises:
        PhotoError: a place is neither a folder nor photos.
    """

    def __init__(self, places: StrPath | Sequence[StrPath]) -> None:
        given = [places] if isinstance(places, str | os.PathLike) else places
        # os.path, as the methods of Path raise on names that are too long for the system.
        self.folders = [Path(place) for place in given if os.path.isdir(place)]  # noqa: PTH112
        # A folder may hold no photo itself: the file can name photos in its sub-folders.
        found = [photo for folder in self.folders for photo in photos_in_folder(folder)]
        others = [place for place in given if Path(place) not in self.folders]
        found += find_photos(others) if others else []
        self.found = list({os.path.realpath(photo): photo for photo in found}.values())
        self._groups = [_grouped(self.found, photo_key) for photo_key, _ in _COMPARISONS]

    def find(self, photo: RawPhoto) -> Path:
        """Find the photo that a file means.

        Raises:
            AnnotationError: there is none, or several may be meant.
        """
        names = (photo.name, *photo.other_names)
        for name in names:
            if path := self._below(name):
                return path
        for group, (_, name_key) in zip(self._groups, _COMPARISONS, strict=True):
            for name in names:
                meant = group.get(name_key(_last_part(name)), [])
                if len(meant) > 1:
                    both = f"{meant[0]} or {meant[1]}"
                    hint = "rename one of them, or name the folder of the right one"
                    raise AnnotationError(f"{photo.where}: {name[:200]!r} may be {both}", hint=hint)
                if meant:
                    return meant[0]
        near = difflib.get_close_matches(_composed(_last_part(photo.name))[:200], self._groups[0], n=1)
        looked = ", ".join(map(str, self.folders[:3])) or f"the {len(self.found)} photos given"
        hint = f"did you mean {near[0]}?" if near else f"looked in {looked}; say where the photos are"
        raise AnnotationError(f"{photo.where}: photo not found: {photo.name[:200]!r}", hint=hint)

    def _below(self, name: str) -> Path | None:
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            for folder in self.folders:
                path = folder / spelling
                if os.path.isfile(path):  # noqa: PTH113
                    return path
        return None


def relative_name(photo: Path, folder: Path) -> str:
    """The path of a photo from ``folder``, with ``/``."""
    # The folder is resolved, as ".." is wrong after a symbolic link; the photo is not, as its
    # link may have the name the user knows.
    place = os.path.realpath(photo.parent)
    try:
        return Path(os.path.relpath(place, os.path.realpath(folder)), photo.name).as_posix()
    except ValueError:  # Windows: on another drive
        return Path(place, photo.name).as_posix()


def visible_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """``folder`` and the folders below it, each once and with the names of its files; hidden ones left out.

    Links are followed: data sets often link to photos that lie elsewhere.
    """
    seen: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above leads round for ever
            inner.clear()
            continue
        seen.add(real)
        yield Path(place), sorted(name for name in names if not name.startswith("."))


def folders_of_photos(folder: Path) -> list[Path]:
    """``folder`` if it holds photos, and the folders below it that do."""
    return [
        place
        for place, names in visible_folders(folder)
        if any(Path(name).suffix.lower() in PHOTO_SUFFIXES for name in names)
    ]


def _last_part(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _composed(name: str) -> str:
    """Names that macOS spells with separate accents equal those other systems spell with one sign."""
    return unicodedata.normalize("NFC", name)


def _without_case(name: str) -> str:
    return _composed(name).casefold()


def _stem(name: str) -> str:
    return PurePosixPath(_without_case(name)).stem


def _cleaned(name: str) -> str:
    """As servers of photos clean names: blanks become underscores, other signs go."""
    return re.sub(r"[^\w.-]", "", _without_case(name).replace(" ", "_"))


# How a photo and the name in a file are compared, strictest first. A name without suffix means
# the photo with any suffix; a name with another suffix does not.
_COMPARISONS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (_composed, _composed),
    (_without_case, _without_case),
    (_stem, _without_case),
    (_cleaned, _cleaned),
)


def _grouped(photos: list[Path], key: Callable[[str], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for photo in photos:
        groups.setdefault(key(photo.name), []).append(photo)
    return groups
