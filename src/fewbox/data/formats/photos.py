"""Which photo a file of boxes means.

The rule, the same for every format:

1. The photo in the file's own folder. For VOC and labelme that is the folder of the file, or if it
   holds no photos ``images`` or ``JPEGImages`` in it or next to it; for YOLO ``images`` in place of
   ``labels``, or the folder of the file; COCO, CSV, CVAT and Label Studio state a path from there.
2. Else the only photo of that name; of several, the one whose path has most in common with the
   path that the file states and with the place where the file is.
3. Else an error that names two of them.

A photo of another folder is no substitute for one that is missing: where some photos of a folder are
found in their own place, the others are not looked for elsewhere. docs/formats.md has a table of cases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from fewbox.core import counted
from fewbox.data import FOLDER_FORMATS, NamedDrawings
from fewbox.data.formats.folders import (
    Folders,
    NamedPhotos,
    are_of_two_splits,
    are_together,
    common_end,
    common_start,
    composed,
    folders_in,
    folders_of,
    folders_of_photos,
    full_path,
    is_absolute,
    last_part,
    names_another_split,
    own_folders,
)
from fewbox.data.formats.raw import RawAnnotations, RawPhoto
from fewbox.data.formats.text_file import have_one_content
from fewbox.data.images import StrPath, find_named, photo_names_in
from fewbox.data.remote import shown_name
from fewbox.errors import AnnotationError

_RENAME_HINT = "rename one of them, or name the folder of the right one"
_SAYS_OTHER_HINT = "the file is called as one photo and names another: correct the name in it, or its own"
_OWN_HINT = "its own photo, the first, is not among those given: name its folder too, or move the file"

_NEXT = 2
"""How many folders below one folder two may be to lie next to each other: train/labels and val/images."""

_Origin = str | Folders | None
"""What photos of one folder have in common: the folder of their files, or the one in their names."""


class AmbiguousPhotoError(AnnotationError):
    """Two photos may be meant."""


class _Homes:
    """Folders that hold the photos of one origin for certain."""

    def __init__(self) -> None:
        self._of: dict[_Origin, set[str]] = {}
        self._origins: dict[str, set[_Origin]] = {}

    def add(self, origin: _Origin, folder: str) -> None:
        if origin is not None:
            self._of.setdefault(origin, set()).add(folder)
            self._origins.setdefault(folder, set()).add(origin)

    def of(self, origin: _Origin) -> set[str]:
        return self._of.get(origin, set())

    def is_of_another(self, folder: str, origin: _Origin) -> bool:
        return bool(self._origins.get(folder, set()) - {origin, ()})


class PhotoFinder:
    """Finds the photos that a file of boxes means.

    Attributes:
        folders: in which paths are looked up.
        found: the photos in them, and those given one by one.

    Args:
        raw: what the file says; none if there are photos only.
        places: folders, files or patterns, outside which no photo is taken; left out, those of ``raw``.

    Raises:
        PhotoError: a place is neither a folder nor photos.
    """

    def __init__(self, raw: RawAnnotations | None, places: StrPath | Sequence[StrPath] | None = None) -> None:
        self._format = raw.format if raw else ""
        self._has_file_per_photo = self._format in FOLDER_FORMATS
        self._has_several_files = raw is not None and len({photo.file for photo in raw.photos}) > 1
        self._is_given = places is not None
        places = (raw.places if raw else ()) if places is None else places
        given = [places] if isinstance(places, str | os.PathLike) else list(places)
        # os.path, as the methods of Path raise on names that are too long for the system.
        self.folders = [Path(place) for place in given if os.path.isdir(place)]  # noqa: PTH112
        # A folder may hold no photo itself: the file can name photos in its sub-folders.
        self._drawings = NamedDrawings(raw)
        found = [photo for folder in self.folders for photo in self._listed(folder)]
        others = [place for place in given if Path(place) not in self.folders]
        found += find_named(others, self._drawings.has) if others else []
        found = self._drawings.without_doubles(found)
        # What was asked of the system once.
        self._real_paths: dict[Path, str] = {}
        self._folders: dict[Path, Folders] = {}
        self._photos_in: dict[Path, NamedPhotos] = {}
        self._own_folders: dict[Path, list[Path]] = {}
        self._by_real_path: dict[str, Path] = {}
        for photo in found:
            self._by_real_path.setdefault(self._real(photo), photo)
        self.found = list(self._by_real_path.values())
        self._named = NamedPhotos(found)
        self._said = {composed(last_part(photo.name)) for photo in raw.photos} if raw else set()
        # What was given; if nothing was, the first place is where the files of boxes are.
        self._roots = [os.path.realpath(folder) for folder in self.folders[: None if self._is_given else 1]]

    def find_all(self, photos: Sequence[RawPhoto]) -> list[Path | AnnotationError]:
        """Find the photos that a file means, in its order; an error where there is none, or may be two."""
        sure = [self._own(photo) for photo in photos]
        found = sure
        for _ in range(2 if None in sure else 0):  # the second round knows what the first is sure of
            homes = self._homes(photos, sure)
            found = [
                self._elsewhere(photo, homes) if path is None else path
                for photo, path in zip(photos, sure, strict=True)
            ]
            sure = [
                path if isinstance(path, Path) and (known or self._in_common(photo, path)) else known
                for photo, path, known in zip(photos, found, sure, strict=True)
            ]
        return [
            self._without_rival(photo, path) if isinstance(path, Path) else path
            for photo, path in zip(photos, found, strict=True)
            if path is not None
        ]

    def _own(self, photo: RawPhoto) -> Path | AnnotationError | None:
        """The photo in the file's own folder, if there is one that may be taken."""
        if photo.file is None:
            return None
        if not self._has_file_per_photo:
            return self._one_of(photo, self._stated(photo, photo.file.parent), [])
        named, called = self._beside(photo, photo.file, self._may_be_taken)
        path = self._one_of(photo, named, called)
        stated = folders_in(photo.name)
        if stated and isinstance(path, Path):
            in_common = common_end(stated, self._folders_of(path))
            for other in self._named.exactly(photo.name):
                if common_end(stated, self._folders_of(other)) > in_common:
                    return _ambiguous(photo, [path, other], _RENAME_HINT)
        return path

    def _stated(self, photo: RawPhoto, place: Path) -> list[Path]:
        """The photos at the path that a file states, from where the file is."""
        # CVAT exports photos into images/SUBSET.
        folders = [place, place / "images"] if self._format == "cvat" else [place]
        for name in (photo.name, *photo.other_names):
            paths = [path for folder in folders if (path := self._at(folder, name))]
            if paths := [path for path in paths if not self._is_given or self._may_be_taken(path)]:
                return self._different(paths)
        return []

    def _beside(
        self, photo: RawPhoto, file: Path, may_be_taken: Callable[[Path], bool]
    ) -> tuple[list[Path], list[Path]]:
        """The photos in a file's own folders with the name that it states, and those with its own name."""
        folders = self._own_folders_of(file.parent)

        def photos_named(name: str, *, is_stem: bool) -> list[Path]:
            is_below = ".." not in name.replace("\\", "/").split("/")
            for places in ([file.parent], folders if is_below else []):
                at = [path for folder in places if (path := self._at(folder, name))]
                if at and is_stem:
                    at += [path for folder in places for path in self._photos_of(folder).with_stem(name)]
                if at := [path for path in map(self._known, at) if may_be_taken(path)]:
                    return self._different(at)
            for way in zip(*(self._photos_of(p).each_way([name], is_stem) for p in folders), strict=True):
                if paths := [path for part in way for path in map(self._known, part) if may_be_taken(path)]:
                    return self._different(paths)
            return []

        called = photos_named(file.stem, is_stem=True)
        return called if self._format == "yolo" else photos_named(photo.name, is_stem=False), called

    def _elsewhere(self, photo: RawPhoto, homes: _Homes) -> Path | AnnotationError:
        """The photo that has the name, wherever it is."""
        refused: list[Path] = []
        if photo.file is None or not self._has_file_per_photo:
            named, called = self._pick(photo, [photo.name, *photo.other_names], homes, refused), []
        else:
            called = self._pick(photo, [photo.file.stem], homes, refused, is_stem=True)
            named = called if self._format == "yolo" else self._pick(photo, [photo.name], homes, refused)
        return self._one_of(photo, named, called) or self._not_found(photo, refused)

    def _without_rival(self, photo: RawPhoto, path: Path) -> Path | AnnotationError:
        """The photo, unless the file's own one is another that may not be taken."""
        is_plain = ".." not in photo.name and not is_absolute(photo.name)
        if photo.file is None or (is_plain and not self._is_given):
            return path
        if self._has_file_per_photo:
            named, called = self._beside(photo, photo.file, lambda _: True)
        else:
            named, called = [own for own in [self._at(photo.file.parent, photo.name)] if own], []
        rival = next((it for it in self._meant(named, called) if not have_one_content(it, path)), None)
        return path if rival is None else _ambiguous(photo, [rival, path], _OWN_HINT)

    def _pick(
        self, photo: RawPhoto, names: Sequence[str], homes: _Homes, refused: list[Path], is_stem: bool = False
    ) -> list[Path]:
        """The photos that one of the names may mean: one, or several that nothing tells apart."""
        for number, way in enumerate(self._named.each_way(names, is_stem)):
            paths = list(way)
            if number < len(names):  # the name as it is
                at = (self._at(folder, names[number]) for folder in self.folders)
                paths += [path for path in at if path and self._may_be_taken(path)]
                paths += self._deeper(photo, names[number], paths)
            may_be = [path for path in self._different(paths) if self._may_be(photo, path, homes)]
            refused += [path for path in paths if path not in may_be]
            if may_be:
                return self._nearest(photo, may_be)
        return []

    def _deeper(self, photo: RawPhoto, name: str, paths: Sequence[Path]) -> Iterator[Path]:
        """Photos deep below the folders whose path ends as the name, or another path in the file, does."""
        stated = folders_in(name)
        best = max((common_end(stated, self._folders_of(path)) for path in paths), default=0)
        if best < len(stated) and (self._is_given or not paths):
            for path in self._below.exactly(name):
                if common_end(stated, self._folders_of(path)):
                    yield self._known(path)
        elif self._is_given and not paths:  # VOC has the folder on its own
            for path in self._below.exactly(name):
                if any(common_end(folders_in(said), self._folders_of(path)) for said in photo.paths):
                    yield self._known(path)

    def _nearest(self, photo: RawPhoto, paths: list[Path]) -> list[Path]:
        """The path to which every clue points; all that one of them points to if they do not agree."""
        if len(paths) < 2:
            return paths
        clues = [self._clues(photo, path) for path in paths]
        most = tuple(map(max, zip(*clues, strict=True)))
        nearest = [path for path, clue in zip(paths, clues, strict=True) if clue == most]
        contenders = zip(paths, clues, strict=True)
        return nearest or [p for p, clue in contenders if any(map(int.__eq__, clue, most))]

    def _clues(self, photo: RawPhoto, path: Path) -> tuple[int, ...]:
        folders = self._folders_of(path)
        clues = [self._in_common(photo, path)]
        clues += [common_end(folders_in(other), folders) for other in photo.paths]
        if photo.file and self._has_file_per_photo:
            clues.append(common_start(self._folders_of(photo.file), folders))
        return tuple(clues)

    def _in_common(self, photo: RawPhoto, path: Path) -> int:
        """How many folders the end of a path has in common with what the file states, and where it stands."""
        stands = self._folders_of(photo.file) if photo.file else ()
        names = (photo.name, *photo.other_names)
        stated = [(*(() if is_absolute(name) else stands), *folders_in(name)) for name in names]
        return max(common_end(each, self._folders_of(path)) for each in stated)

    def _may_be(self, photo: RawPhoto, path: Path, homes: _Homes) -> bool:
        """Whether a photo that has the right name is not evidently another one."""
        origin, folder, folders = self._origin(photo), self._real(path.parent), self._folders_of(path)
        if names_another_split(photo.name, folders):
            return False
        is_near = self._in_common(photo, path) > 0
        if origin is not None and folder not in homes.of(origin):
            if homes.of(origin) and (self._has_file_per_photo or not is_near):
                return False
            if origin and not is_near and homes.is_of_another(folder, origin):
                return False
        if photo.file is None or common_end(folders_in(photo.name), folders):
            return True
        stands = self._folders_of(photo.file)
        common = common_start(stands, folders)
        here, there = stands[common:], folders[common:]
        # Of photos that were given, only those of a split next to that of the file are no slip.
        if are_of_two_splits(here, there) and (not self._is_given or max(len(here), len(there)) <= _NEXT):
            return False
        return self._is_given or self._format != "yolo" or are_together(photo.file.parent, path.parent)

    def _origin(self, photo: RawPhoto) -> _Origin:
        if photo.file is None:
            return None
        if self._has_several_files or self._has_file_per_photo:
            return str(full_path(photo.file.parent))
        if photo.other_names and not folders_in(photo.other_names[-1]):
            return None  # Label Studio: folders of its own server, which say nothing
        # A name alone says nothing of its folder to somebody who names folders.
        return folders_in(photo.name) or (None if self._is_given else ())

    def _homes(self, photos: Sequence[RawPhoto], sure: Sequence[Path | AnnotationError | None]) -> _Homes:
        """The folders in which photos were found that are right for certain."""
        homes = _Homes()
        for photo, path in zip(photos, sure, strict=True):
            if isinstance(path, Path):
                homes.add(self._origin(photo), self._real(path.parent))
        if self._format == "yolo":
            for place in {photo.file.parent for photo in photos if photo.file}:
                for folder in self._own_folders_of(place):
                    if folder != place:
                        homes.add(str(full_path(place)), self._real(folder))
        return homes

    def _may_be_taken(self, path: Path) -> bool:
        """Whether a photo is among those found, or lies below a folder that was given."""
        if self._real(path) in self._by_real_path:
            return True
        return any(Path(self._real(path.parent)).is_relative_to(root) for root in self._roots)

    def _at(self, folder: Path, name: str) -> Path | None:
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            path = folder / spelling
            if os.path.isfile(path):  # noqa: PTH113
                return self._known(path)
        return None

    def _known(self, path: Path) -> Path:
        """The path under which a photo is among those found."""
        return self._by_real_path.get(self._real(path), path)

    def _different(self, paths: Sequence[Path]) -> list[Path]:
        return list({self._real(path): path for path in reversed(paths)}.values())[::-1]

    def _real(self, path: Path) -> str:
        if path not in self._real_paths:
            self._real_paths[path] = os.path.realpath(path)
        return self._real_paths[path]

    def _folders_of(self, path: Path) -> Folders:
        if path.parent not in self._folders:
            self._folders[path.parent] = folders_of(path)
        return self._folders[path.parent]

    def _own_folders_of(self, place: Path) -> list[Path]:
        if place not in self._own_folders:
            self._own_folders[place] = own_folders(self._format, place)
        return self._own_folders[place]

    def _listed(self, folder: Path) -> list[Path]:
        return [folder / name for name in photo_names_in(folder, self._drawings.has)]

    def _photos_of(self, folder: Path) -> NamedPhotos:
        if folder not in self._photos_in:
            self._photos_in[folder] = NamedPhotos(self._drawings.without_doubles(self._listed(folder)))
        return self._photos_in[folder]

    @cached_property
    def _below(self) -> NamedPhotos:
        """All photos in the folders and below."""
        places = {os.path.realpath(p): p for folder in self.folders for p in folders_of_photos(folder)}
        return NamedPhotos(photo for place in places.values() for photo in self._listed(place))

    def _one_of(
        self, photo: RawPhoto, named: list[Path], called: list[Path]
    ) -> Path | AnnotationError | None:
        """Of the photos that the file names, and those that are called as it is, the one that is meant."""
        meant = self._meant(named, called)
        if len(meant) > 1:
            hint = _RENAME_HINT if len(named) > 1 or len(called) > 1 else _SAYS_OTHER_HINT
            return _ambiguous(photo, meant, hint if named and called else _RENAME_HINT)
        return meant[0] if meant else None

    def _meant(self, named: list[Path], called: list[Path]) -> list[Path]:
        real = {self._real(path) for path in called}
        return [path for path in named if self._real(path) in real] or [*named, *called]

    def _not_found(self, photo: RawPhoto, refused: Sequence[Path]) -> AnnotationError:
        deeper: list[Path] = []
        if not refused and self._is_given:
            deeper = self._different(next(filter(None, self._below.each_way([photo.name])), []))
            if len(deeper) > 1:
                return _ambiguous(photo, deeper, _RENAME_HINT)
            refused = [it for it in deeper if names_another_split(photo.name, self._folders_of(it))]
        looked = ", ".join(map(str, self.folders[:3])) or f"the {counted(len(self.found), 'photo')} given"
        if photo.file and (at := self._at(photo.file.parent, photo.name)):
            hint = f"there is {shown_name(at)}, outside of what was given: name its folder"
        elif refused:
            hint = f"there is {shown_name(refused[0])}, but the photos of these boxes are in another folder"
        elif deeper:
            hint = f"there is {shown_name(deeper[0])}, in a folder below: name that folder"
        elif near := self._named.nearest(photo.name, taken=self._said):
            hint = f"did you mean {near}?"
        else:
            hint = f"looked in {looked}; say where the photos are"
        return AnnotationError(f"{photo.where}: photo not found: {photo.name[:200]!r}", hint=hint)


def _ambiguous(photo: RawPhoto, paths: Sequence[Path], hint: str) -> AmbiguousPhotoError:
    both = f"{shown_name(paths[0])} or {shown_name(paths[1])}"
    return AmbiguousPhotoError(f"{photo.where}: {photo.name[:200]!r} may be {both}", hint=hint)
