"""Folders of a data set: those below one another, those with photos, and where the photos of boxes belong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fewbox.data.images import PHOTO_SUFFIXES

# Where programs that detect leave pictures with boxes drawn in: Ultralytics, and YOLOv5 and its kin.
_RUNS = re.compile(
    r"(.*/)?runs/(detect|segment|pose|obb|classify|track|predict[^/]*|(train|val|test)/exp[^/]*)"
)
# What lies beside the pictures of fewbox detect, and how it begins.
_DETECTIONS, _DETECTIONS_START = "detections.json", b'{\n "detector":'

_IMAGES = ("images", "jpegimages")
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
        return sorted(path for path in folder.iterdir() if path.name.lower() in _IMAGES)
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
