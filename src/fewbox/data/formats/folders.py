"""Folders of a data set: which hold photos, which files of boxes, and how photos are named in both.

First come the folders, then the names of photos, compared as tools change them on the way: tools write
other capital letters, no suffix, underscores for blanks, backslashes for slashes; and the folders in a
path are often those of another machine, so that only its end means anything. Last come the folders of
formats with one file per photo, and what those files have in common.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats.text_file import read_text_of_windows
from fewbox.data.images import PHOTO_SUFFIXES
from fewbox.data.remote import host_in_address, path_in_address, short_names, shown_name
from fewbox.errors import AnnotationError

# Where programs that detect leave pictures with boxes drawn in: Ultralytics, and YOLOv5 and its kin.
_RUNS = re.compile(
    r"(.*/)?runs/(detect|segment|pose|obb|classify|track|predict[^/]*|(train|val|test)/exp[^/]*)"
)
# What lies beside the pictures of fewbox detect, and how it begins.
_DETECTIONS, _DETECTIONS_START = "detections.json", b'{\n "detector":'

ONE_BY_ONE = "convert each folder of photos by itself (--skip-missing), or choose a format of one file: coco"
"""The cure where a format with a file of boxes per photo cannot tell two photos apart."""
FOLDERS_OF_PHOTOS = ("images", "jpegimages")
"""What data sets call them, in small letters."""
_LABELS = "labels"


def full_path(path: Path) -> Path:
    """The absolute path; links stay as they are, as a data set may be made of them."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def visible_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """``folder`` and the folders below it, each once and with the names of its files.

    Hidden ones are left out, and those with what a detector found: its boxes and pictures are no
    data to learn from. Links are followed: data sets often link to photos that lie elsewhere.
    """
    seen: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        real = os.path.realpath(place)
        if real in seen or (Path(place) != folder and _is_of_a_detector(Path(place), folder, names)):
            inner.clear()  # a link to a folder above leads round for ever
            continue
        seen.add(real)
        yield Path(place), sorted(name for name in names if not name.startswith("."))


def folders_of_photos(folder: Path) -> list[Path]:
    """``folder`` if it holds photos, and the folders below it that do."""
    return [place for place, names in visible_folders(folder) if any(map(_is_photo, names))]


def own_folders(form: str, place: Path) -> list[Path]:
    """Where the photos of the files of boxes in ``place`` belong, for a format with a file per photo.

    These are the first that hold photos; the folder itself if none does.
    """
    if form == "yolo":
        return next(([folder] for folder in images_of_labels(place) if _holds_photos(folder)), [place])
    above = full_path(place).parent
    options = ([place], _images_in(place), _images_in(above), _mirrored(place))
    return next((found for option in options if (found := list(filter(_holds_photos, option)))), [place])


def images_of_labels(place: Path) -> list[Path]:
    """The folders in which trainers of YOLO look, best first: ``images`` in place of ``labels``."""
    folders = []
    for path in (full_path(place), place.resolve()):
        parts = list(path.parts)
        number = next((n for n in reversed(range(len(parts))) if parts[n].lower().startswith(_LABELS)), None)
        if number is not None:
            rest = parts[number][len(_LABELS) :]
            for name in ("images" + rest, "images", "Images" + rest, "Images"):
                folders.append(Path(*parts[:number], name, *parts[number + 1 :]))
    return list(dict.fromkeys(folders))


def _mirrored(place: Path) -> list[Path]:
    """``JPEGImages/train`` of ``Annotations/train``."""
    path = full_path(place)
    inner: tuple[str, ...] = (path.name,)
    for folder in path.parents:
        if inner[0].lower().startswith("annotation"):
            return [images.joinpath(*inner[1:]) for images in _images_in(folder)]
        inner = (folder.name, *inner)
    return []


def _images_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.lower() in FOLDERS_OF_PHOTOS)
    except OSError:
        return []


def _holds_photos(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_photo(entry.name) for entry in entries)
    except OSError:
        return False


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES


def _is_of_a_detector(place: Path, root: Path, names: list[str]) -> bool:
    if _RUNS.fullmatch(place.relative_to(root).as_posix()):
        return True
    if _DETECTIONS not in names:
        return False
    try:
        with (place / _DETECTIONS).open("rb") as file:
            return file.read(len(_DETECTIONS_START)) == _DETECTIONS_START
    except OSError:
        return False


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
    """The folders in which a photo is; of a remote one, those of its address."""
    shown = shown_name(photo)
    return folders_in(str(full_path(photo)) if shown == str(photo) else shown)


def relative_name(photo: Path, folder: Path) -> str:
    """The path of a photo from ``folder``, with ``/``; of a remote one that in its address."""
    if remote := path_in_address(photo):
        return str(remote).lstrip("/")
    # The folder is resolved, as ".." is wrong after a symbolic link; the photo is not, as its
    # link may have the name the user knows.
    place = os.path.realpath(photo.parent)
    try:
        return Path(os.path.relpath(place, os.path.realpath(folder)), photo.name).as_posix()
    except ValueError:  # Windows: on another drive
        return Path(place, photo.name).as_posix()


def relative_names(photos: Sequence[Path], folder: Path) -> list[str]:
    """As :func:`relative_name`; before a path that remote photos share stands the bucket of each."""
    names = [relative_name(photo, folder) for photo in photos]
    counts = Counter(map(composed, names))
    hosts = [
        host_in_address(photo) if counts[composed(name)] > 1 else None
        for photo, name in zip(photos, names, strict=True)
    ]
    return [f"{host}/{name}" if host else name for host, name in zip(hosts, names, strict=True)]


def written_names(photos: Sequence[Path], folder: Path | None = None) -> list[str]:
    """What to call photos in a file: their names; if they lie in several folders, or one repeats, paths.

    Of photos on other machines the folders do not count: they are those of the cache.

    Args:
        photos: the photos.
        folder: where paths begin; left out, in the folder above those of the photos.
    """
    names = [photo.name for photo in photos]
    places = [os.path.realpath(photo.parent) for photo in photos]
    local = [place for place, photo in zip(places, photos, strict=True) if shown_name(photo) == str(photo)]
    if len({composed(name) for name in names}) == len(names) and len(set(local)) < 2:
        return names
    if folder is None:
        try:
            folder = Path(os.path.commonpath(places))
        except ValueError:  # Windows: on several drives
            folder = Path(places[0])
        if str(folder) in places:  # so that every photo has a folder before it
            folder = folder.parent
    return relative_names(photos, folder)


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


def splits_in_words(photos: Iterable[Path]) -> str:
    """Such as ``train 8, val 3``, by the folders of the photos; "" where they are not of several parts."""
    found = Counter(split for photo in photos if (split := _split_of(folders_of(photo))))
    return ", ".join(f"{split} {count}" for split, count in found.items()) if len(found) > 1 else ""


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


def name_without_signs(names: Sequence[str], photo: Path) -> str | None:
    """Such as ``'cup_1.jpg' is 'cup (1).jpg'``, of a photo like its names in a file only without signs.

    Args:
        names: what the file calls it, best first.
        photo: what is there.
    """
    *strict, cleaned = (
        any(photo_key(photo.name) == name_key(last_part(name)) for name in names)
        for photo_key, name_key in _COMPARISONS
    )
    return f"{last_part(names[0])[:200]!r} is {photo.name!r}" if cleaned and not any(strict) else None


class NamedPhotos:
    """Photos by their names, in each of the ways in which names are compared."""

    def __init__(self, photos: Iterable[Path]) -> None:
        self._groups: list[dict[str, list[Path]]] = [{} for _ in _COMPARISONS]
        for photo in photos:
            for group, (photo_key, _) in zip(self._groups, _COMPARISONS, strict=True):
                group.setdefault(photo_key(photo.name), []).append(photo)

    def exactly(self, name: str) -> list[Path]:
        """The photos of this name, whatever folders it names."""
        return self._groups[0].get(composed(last_part(name)), [])

    def nearest(self, name: str, taken: Set[str]) -> str | None:
        """The name most like another, of those that are not taken; None if none is like it."""
        free = self._groups[0].keys() - taken
        return next(iter(difflib.get_close_matches(composed(last_part(name))[:200], free, n=1)), None)

    def with_stem(self, name: str) -> list[Path]:
        """The photos called as a name that ends as a photo's does, and a suffix: cup.jpg.png of cup.jpg."""
        return self._groups[2].get(without_case(last_part(name)), []) if _is_photo(name) else []

    def each_way(self, names: Sequence[str], is_stem: bool = False) -> Iterable[list[Path]]:
        """The photos that any of these names may mean: by the strictest comparison first, best name first.

        ``is_stem``: they are names of files for one photo, which may be the photo's without its suffix.
        """
        for group, (_, name_key) in zip(self._groups, _COMPARISONS, strict=True):
            for name in names:
                yield group.get(name_key(last_part(name)), []) + (self.with_stem(name) if is_stem else [])


LABELS_NAME = "labels.txt"


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files in ``folder`` and below whose names end so, sorted; hidden ones are left out."""
    paths = (place / name for place, names in visible_folders(folder) for name in names)
    return sorted(path for path in paths if path.suffix.lower() in suffixes)


def files_in(folder: Path) -> list[Path]:
    """The files directly in ``folder``, in the order of their names; none if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []


def name_below(path: Path, folder: Path) -> str:
    """The path of a file from ``folder``, for messages."""
    return path.relative_to(folder).as_posix()


def source_name(files: Sequence[Path], folder: Path) -> str:
    """What messages begin with: the name of the only file, or of the folder."""
    return files[0].name if len(files) == 1 else folder.resolve().name


def places_of(form: str, files: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """Where the photos of ``files`` may be: below ``folder``, which is the first, and where they belong."""
    places = dict.fromkeys(path.parent for path in files)
    own = [found for place in places for found in own_folders(form, place)]
    return tuple(dict.fromkeys([folder, *places, *own, *folders_of_photos(folder)]))


def listed_labels(files: Sequence[Path], folder: Path) -> list[str]:
    """The labels in ``labels.txt``, one a line: the files themselves have no order of classes."""
    lists = [place / LABELS_NAME for place in dict.fromkeys([folder, *(path.parent for path in files)])]
    texts = [read_text_of_windows(path)[0] for path in lists if path.is_file()]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    # labelme begins its list with these two, of which no box has one.
    return [line for line in lines if line not in ("", "__ignore__", "_background_")]


def labels_text(annotations: AnnotationSet) -> str:
    """``labels.txt``."""
    return "".join(f"{label}\n" for label in annotations.labels)


def images_by_stem(annotations: AnnotationSet, states_names: bool = True) -> dict[str, AnnotatedImage]:
    """The photos that somebody has looked at, by the name that their files have.

    Unless a file says what its photo is called, ``states_names``, the stem of none may be another's name.

    Raises:
        AnnotationError: two photos would have one file, also where capital letters do not count.
    """
    images: dict[str, AnnotatedImage] = {}
    paths: dict[str, Path] = {}
    by_name = {} if states_names else {image.path.name.casefold(): image.path for image in annotations}
    for image in annotations.reviewed_only():
        stem = image.path.stem
        if other := paths.get(stem.casefold()) or by_name.get(stem.casefold()):
            names = " and ".join(short_names([other, image.path]))
            hint = f"rename one of them, {ONE_BY_ONE}"
            raise AnnotationError(f"{annotations.source}: {names} would have one file of boxes", hint=hint)
        paths[stem.casefold()] = image.path
        images[stem] = image
    return images


def are_together(labels: Path, photos: Path) -> bool:
    """Whether photos in a folder ``images`` are those of the labels: not of another split."""
    if not any(name.startswith("images") for name in folders_of(photos / "photo")):
        return True
    place, options = full_path(photos), images_of_labels(labels)
    return not options or any(place.is_relative_to(own) or own.is_relative_to(place) for own in options)
