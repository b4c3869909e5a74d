"""Files of boxes: COCO JSON and CSV in, COCO JSON out.

    CSV   image,ymin,xmin,ymax,xmax     parts of the upright photo, 0 to 1
          image,x1,y1,x2,y2             pixels of the upright photo
          with or without a column label; a photo name and empty box columns say
          "looked at, nothing there"
    COCO  bbox [x, y, width, height] in pixels; ``iscrowd`` 1 is a box to ignore;
          ``"reviewed": true`` on an image without boxes says "looked at, nothing there"

A file is read whole or refused: what is malformed is never skipped, as a lost box would
teach the detector that the object is background. Unknown fields and columns are skipped.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
import reprlib
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from goldeneye import files
from goldeneye.data.annotations import AnnotatedImage, AnnotationSet, Box, require_size
from goldeneye.data.images import StrPath, find_photos, photos_in_folder, read_size_hw
from goldeneye.data.json_objects import JsonObject, parse_json_object
from goldeneye.data.project import Project
from goldeneye.errors import AnnotationError

_UNIT_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
_PIXEL_COLUMNS = ("x1", "y1", "x2", "y2")
_CSV_HINT = (
    "the first row must be image,ymin,xmin,ymax,xmax (parts of the photo, 0 to 1) "
    "or image,x1,y1,x2,y2 (pixels), with a column label where there are several classes"
)
_PIXEL_HINT = "if the boxes are in pixels, name the columns x1, y1, x2, y2 instead of xmin, ymin, xmax, ymax"
_UNIT_HINT = "if the boxes are parts of the photo, name the columns xmin, ymin, xmax, ymax"
_JSON_HINT = "write the file again with the tool it comes from; goldeneye reads COCO JSON"
_FORMAT_HINT = "use COCO JSON (.json) or CSV (.csv)"
_SPELLING_HINT = "check the spelling, and the folder you are in"

# What rounding may add to a coordinate from 0 to 1; beyond it the file must be in pixels.
_UNIT_TOLERANCE = 0.01


def read_annotations(
    boxes: StrPath,
    photos: StrPath | Sequence[StrPath] | None = None,
    *,
    label: str = "object",
) -> AnnotationSet:
    """Read a file of boxes together with the photos it speaks of.

    Args:
        boxes: a COCO JSON or CSV file; or a folder, for the project file in it.
        photos: where the photos are: folders, files or patterns; left out, the folder of
            ``boxes``. A file name in ``boxes`` is looked up below these folders, then by its
            last part alone among these photos.
        label: the name of the class if the file names none.

    Returns:
        The photos in the order of the file, then those it does not mention, as not looked
        at. Labels are in the order of COCO category ids, or of first use in a CSV.

    Raises:
        AnnotationError: the file is missing or malformed, speaks of a photo that is not
            there, or its boxes do not fit their photos.
        PhotoError: a photo cannot be read.
    """
    path = Path(boxes)
    if photos is None and os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on too long a name
        return Project(path).annotation_set()
    text = _read_text(path)
    known = _Photos(path.parent if photos is None else photos)
    # Other formats (VOC, YOLO, Label Studio, CVAT, labelme) take a rung each.
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "[")):
        images, labels = _read_coco(text, path.name, known, label)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        images, labels = _read_csv(text, path.name, known, label)
    else:
        raise AnnotationError(f"{path}: not a file of boxes that can be read here", hint=_FORMAT_HINT)
    mentioned = {os.path.realpath(image.path) for image in images}
    rest = [photo for photo in known.found if os.path.realpath(photo) not in mentioned]
    images += [AnnotatedImage(photo, read_size_hw(photo), (), reviewed=False) for photo in rest]
    return AnnotationSet(tuple(images), tuple(labels), path.name)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise AnnotationError(f"{path}: no such file", hint=_SPELLING_HINT) from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not UTF-8 text", hint="save it again as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise AnnotationError(f"{path}: cannot be read: {reason}", hint=_FORMAT_HINT) from error


class _Photos:
    """Where photos are looked for: below folders, and by name among those found."""

    def __init__(self, places: StrPath | Sequence[StrPath]) -> None:
        given = [places] if isinstance(places, str | os.PathLike) else places
        # os.path, as the methods of Path raise on names that are too long for the system.
        self.folders = [Path(place) for place in given if os.path.isdir(place)]  # noqa: PTH112
        # A folder may hold no photo itself: the file can name photos in its sub-folders.
        found = [photo for folder in self.folders for photo in photos_in_folder(folder)]
        others = [place for place in given if Path(place) not in self.folders]
        found += find_photos(others) if others else []
        self.found = list({os.path.realpath(photo): photo for photo in found}.values())
        self.by_name: dict[str, list[Path]] = {}
        for photo in self.found:
            self.by_name.setdefault(_name_key(photo.name), []).append(photo)

    def find(self, name: str, where: str) -> Path:
        """Find the photo that a file calls ``name``; ``where`` is the place it does so."""
        relative = Path(name.replace("\\", "/"))
        for folder in self.folders:
            photo = folder / relative
            if os.path.isfile(photo):  # noqa: PTH113
                return photo
        key = _name_key(relative.name)
        same = self.by_name.get(key, [])
        if len(same) == 1:
            return same[0]
        if same:
            which = " and ".join(map(str, same[:2]))
            hint = "write the name with its folder, and give the folder that both are in"
            raise AnnotationError(f"{where}: two photos have one name: {which}", hint=hint)
        near = difflib.get_close_matches(key, self.by_name, n=1)
        looked = ", ".join(map(str, self.folders)) or f"the {len(self.found)} photos given"
        hint = f"did you mean {near[0]}?" if near else f"looked in {looked}; say where the photos are"
        raise AnnotationError(f"{where}: photo not found: {name[:200]!r}", hint=hint)


def _name_key(name: str) -> str:
    """Names that macOS spells with separate accents equal those other systems spell with one sign."""
    return unicodedata.normalize("NFC", name)


def _read_csv(text: str, source: str, photos: _Photos, label: str) -> tuple[list[AnnotatedImage], list[str]]:
    (_, header), *rows = _csv_rows(text, source)
    header = [column.lower() for column in header]
    columns = _csv_box_columns(header, source)
    images: dict[Path, AnnotatedImage] = {}
    for where, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            counts = f"{len(cells)} columns, but the first row has {len(header)}"
            raise AnnotationError(f"{where}: {counts}", hint="an empty column keeps its comma")
        row = dict(zip(header, cells, strict=False))
        photo = photos.find(row["image"], where)
        image = images.get(photo) or AnnotatedImage(photo, read_size_hw(photo), (), reviewed=True)
        box = _csv_box(row, columns, image.size_hw, label, where)
        if photo in images and (box is None or not image.boxes):
            hint = "keep either its boxes or one row with empty box columns"
            raise AnnotationError(f"{where}: another row says otherwise about {photo.name}", hint=hint)
        images[photo] = image if box is None else replace(image, boxes=(*image.boxes, box))
    boxes = [box for image in images.values() for box in image.boxes]
    if columns == _PIXEL_COLUMNS and boxes and all(max(box.x2, box.y2) <= 1 for box in boxes):
        raise AnnotationError(f"{source}: every box is smaller than one pixel", hint=_UNIT_HINT)
    labels = list(dict.fromkeys(box.label for box in boxes)) if "label" in header else [label]
    return list(images.values()), labels


def _csv_rows(text: str, source: str) -> list[tuple[str, list[str]]]:
    """Split a CSV into the cells of each row that has any, and where that row stands."""
    first_line = next(iter(text.strip().splitlines()), "")
    delimiter = max(",;\t", key=first_line.count)  # spreadsheets of many countries write ;
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        where = f"{source}: row {reader.line_num}"
        raise AnnotationError(f"{where}: not valid CSV: {error}", hint=_CSV_HINT) from error
    if not any(map(any, rows)):
        raise AnnotationError(f"{source}: the file is empty", hint=_CSV_HINT)
    return [(f"{source}: row {number}", row) for number, row in enumerate(rows, start=1) if any(row)]


def _csv_box_columns(header: list[str], source: str) -> tuple[str, ...]:
    """Tell from the header whether the boxes are in parts of the photo or in pixels."""
    known = (_UNIT_COLUMNS, _PIXEL_COLUMNS)
    there = [columns for columns in known if all(header.count(name) == 1 for name in ("image", *columns))]
    if len(there) != 1 or header.count("label") > 1:
        raise AnnotationError(f"{source}: row 1: columns not understood: {','.join(header)}", hint=_CSV_HINT)
    return there[0]


def _csv_box(
    row: dict[str, str], columns: tuple[str, ...], size_hw: tuple[int, int], label: str, where: str
) -> Box | None:
    """Read the box of a row, in pixels; none if its columns are empty."""
    if not any(row[column] for column in columns):
        return None
    x1, y1, x2, y2 = (_csv_number(row[column], f"{where}: {column}") for column in columns)
    if columns == _UNIT_COLUMNS:
        if not all(-_UNIT_TOLERANCE <= edge <= 1 + _UNIT_TOLERANCE for edge in (x1, y1, x2, y2)):
            values = f"xmin={x1:g}, ymin={y1:g}, xmax={x2:g}, ymax={y2:g}"
            raise AnnotationError(f"{where}: every edge must be from 0 to 1: {values}", hint=_PIXEL_HINT)
        height, width = size_hw
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    if not row.get("label", label):
        raise AnnotationError(f"{where}: label is empty", hint="name the class of every box")
    return Box(x1, y1, x2, y2, row.get("label", label))


def _csv_number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        hint = "write a number with a decimal point, or leave all four box columns empty"
        raise AnnotationError(f"{where}: not a number: {reprlib.repr(cell)}", hint=hint)
    return number


def _read_coco(text: str, source: str, photos: _Photos, label: str) -> tuple[list[AnnotatedImage], list[str]]:
    top = parse_json_object(text, source)
    labels = _coco_labels(top, label)
    images: dict[int, AnnotatedImage] = {}
    for entry in top.entries("images"):
        images[entry.unused_id(images)] = _coco_image(entry, photos)
    boxes: dict[int, list[Box]] = {image_id: [] for image_id in images}
    annotation_ids: set[int] = set()
    for entry in top.entries("annotations"):
        annotation_ids.add(entry.unused_id(annotation_ids))
        if entry.whole("image_id") not in images:
            entry.refuse("image_id", "the id of an image in this file")
        if entry.whole("category_id") not in labels:
            entry.refuse("category_id", "the id of a category in this file")
        x, y, width, height = entry.corners("bbox")
        name, ignore = labels[entry.fields["category_id"]], entry.flag("iscrowd")
        boxes[entry.fields["image_id"]].append(Box(x, y, x + width, y + height, name, ignore))
    annotated = [replace(image, boxes=tuple(boxes[image_id])) for image_id, image in images.items()]
    return annotated, [labels[category_id] for category_id in sorted(labels)]


def _coco_labels(top: JsonObject, label: str) -> dict[int, str]:
    """Labels by category id; a file without categories may have one class, called ``label``."""
    labels: dict[int, str] = {}
    if top.fields.get("categories", []) == []:
        used = {entry.whole("category_id") for entry in top.entries("annotations")}
        if len(used) > 1:
            raise AnnotationError(f"{top.where}: {len(used)} category ids and no categories", hint=_JSON_HINT)
        return dict.fromkeys(used or {1}, label)
    for entry in top.entries("categories"):
        labels[entry.unused_id(labels)] = entry.text("name")
    return labels


def _coco_image(entry: JsonObject, photos: _Photos) -> AnnotatedImage:
    photo = photos.find(entry.text("file_name"), entry.where)
    size_hw = read_size_hw(photo)
    if "height" in entry.fields or "width" in entry.fields:
        said_hw = (entry.whole("height"), entry.whole("width"))
        require_size(said_hw, size_hw, f"{entry.where}: {photo.name}")
    return AnnotatedImage(photo, size_hw, (), reviewed=entry.flag("reviewed"))


def write_coco(annotations: AnnotationSet, target: StrPath, root: StrPath | None = None) -> None:
    """Write a set as COCO JSON, which :func:`read_annotations` reads back.

    Args:
        annotations: the set.
        target: the file to write; what it held before stays if writing fails.
        root: the folder that file names start from; left out, the folder of ``target``.

    Raises:
        OutputError: the file cannot be written.
    """
    folder = os.path.realpath(Path(target).parent if root is None else root)
    category_ids = {label: number for number, label in enumerate(annotations.labels, start=1)}
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for image in annotations:
        height, width = image.size_hw
        name = _relative_name(image.path, folder)
        # Ids count from 1 because pycocotools scores a box with id 0 as missed.
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        images[-1]["reviewed"] = image.reviewed
        for box in image.boxes:
            sides = (box.x2 - box.x1, box.y2 - box.y1)
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": len(images),
                    "category_id": category_ids[box.label],
                    "bbox": [box.x1, box.y1, *sides],
                    "area": sides[0] * sides[1],
                    "iscrowd": int(box.ignore),
                }
            )
    categories = [{"id": number, "name": label} for label, number in category_ids.items()]
    coco = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
    # ASCII, as a file name on Linux may hold bytes that no UTF-8 text can.
    files.write_text(target, json.dumps(coco, indent=1) + "\n")


def _relative_name(photo: Path, folder: str) -> str:
    # The folder is resolved, as ".." is wrong after a symbolic link; the photo is not, as its
    # link may have the name the user knows.
    place = os.path.realpath(photo.parent)
    try:
        return Path(os.path.relpath(place, folder), photo.name).as_posix()
    except ValueError:  # Windows: on another drive
        return Path(place, photo.name).as_posix()
