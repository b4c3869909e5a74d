"""Boxes as a table, one row per box.

    image,x1,y1,x2,y2                  pixels of the upright photo
    image,ymin,xmin,ymax,xmax          parts of it, 0 to 1
    filename,width,height,class,xmin,ymin,xmax,ymax
                                       pixels: the table of TensorFlow's tutorials

The first two may have the columns ``label`` and ``ignore``. A photo name and empty box
columns say "looked at, nothing there". Other columns are left out.
"""

from __future__ import annotations

import csv
import io
import posixpath
import reprlib
from dataclasses import dataclass, replace
from pathlib import Path

from goldeneye.data.annotations import AnnotationSet
from goldeneye.data.formats.names import written_names
from goldeneye.data.formats.raw import RawAnnotations, RawBox, RawPhoto, labels_in_use
from goldeneye.data.formats.shapes import Corners
from goldeneye.data.formats.text_file import number_in, read_text_of_windows
from goldeneye.errors import AnnotationError

_UNIT_EDGES = ("xmin", "ymin", "xmax", "ymax")
_PIXEL_EDGES = ("x1", "y1", "x2", "y2")
_HINT = (
    "the first row must be image,ymin,xmin,ymax,xmax (parts of the photo, 0 to 1) "
    "or image,x1,y1,x2,y2 (pixels), with a column label where there are several classes"
)
_PIXEL_HINT = "if the boxes are in pixels, name the columns x1, y1, x2, y2 instead of xmin, ymin, xmax, ymax"
_UNIT_HINT = "if the boxes are parts of the photo, name the columns xmin, ymin, xmax, ymax"
_WINDOWS = "not UTF-8, so it was read as Windows-1252: look at labels and names with accents"

# What rounding may add to a coordinate from 0 to 1; beyond it the file must be in pixels.
_UNIT_TOLERANCE = 0.01


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table say what."""

    image: str
    edges: tuple[str, ...]
    unit: bool
    label: str | None
    size: tuple[str, str] | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        return (self.image, *self.edges, *(self.size or ()), *([self.label] if self.label else []))


_TENSORFLOW = _Columns("filename", _UNIT_EDGES, unit=False, label="class", size=("height", "width"))


def is_box_table(path: Path) -> bool:
    """Tell whether a file is a table with columns that are understood here."""
    try:
        header = _rows(read_text_of_windows(path)[0], path.name)[0][1]
        _columns_of(header, path.name)
    except AnnotationError:
        return False
    return True


def read_csv(path: Path) -> RawAnnotations:
    """Read a table; rows of one photo need not stand together.

    Raises:
        AnnotationError: a row is not understood, or contradicts another.
    """
    source = path.name
    text, is_windows = read_text_of_windows(path)
    (_, header), *rows = _rows(text, source)
    header = [column.lower() for column in header]
    columns = _columns_of(header, source)
    photos: dict[str, RawPhoto] = {}
    for where, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            counts = f"{len(cells)} columns, but the first row has {len(header)}"
            raise AnnotationError(f"{where}: {counts}", hint="an empty column keeps its comma")
        row = dict(zip(header, cells, strict=False))
        name = row[columns.image]
        key = posixpath.normpath(name.replace("\\", "/"))
        box = _box(row, columns, where)
        photo = photos.get(key) or RawPhoto(
            where, name, (), reviewed=True, size_hw=_size_hw(row, columns, where)
        )
        if key in photos and (box is None or not photo.boxes):
            hint = "keep either its boxes or one row with empty box columns"
            message = f"{where}: another row says otherwise about {posixpath.basename(key)}"
            raise AnnotationError(message, hint=hint)
        photos[key] = photo if box is None else replace(photo, boxes=(*photo.boxes, box))
    boxes = [box for photo in photos.values() for box in photo.boxes]
    if not columns.unit and boxes and all(max(box.corners) <= 1 for box in boxes):
        raise AnnotationError(f"{source}: every box is smaller than one pixel", hint=_UNIT_HINT)
    labels = labels_in_use(tuple(photos.values()), []) if columns.label else None
    remarks = (_WINDOWS,) if is_windows else ()
    return RawAnnotations("csv", source, tuple(photos.values()), labels, (path.parent,), remarks)


def csv_text(annotations: AnnotationSet, folder: Path) -> str:
    """The set as a table in ``folder``; photos that nobody has looked at are not in it."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    any_ignored = any(box.ignore for image in annotations for box in image.boxes)
    more = ["ignore"] if any_ignored else []
    writer.writerow(["image", *_PIXEL_EDGES, "label", *more])
    reviewed = annotations.reviewed_only()
    names = written_names([image.path for image in reviewed], folder)
    for name, image in zip(names, reviewed, strict=True):
        for box in image.boxes:
            edges = [f"{edge:.12g}" for edge in (box.x1, box.y1, box.x2, box.y2)]
            writer.writerow([name, *edges, box.label, *[int(box.ignore) for _ in more]])
        if not image.boxes:
            writer.writerow([name, "", "", "", "", "", *["" for _ in more]])
    return lines.getvalue()


def _rows(text: str, source: str) -> list[tuple[str, list[str]]]:
    """Split a table into the cells of each row that has any, and where that row stands."""
    first_line = next(iter(text.strip().splitlines()), "")
    delimiter = max(",;\t", key=first_line.count)  # spreadsheets of many countries write ;
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        where = f"{source}: row {reader.line_num}"
        raise AnnotationError(f"{where}: not valid CSV: {error}", hint=_HINT) from error
    if not any(map(any, rows)):
        raise AnnotationError(f"{source}: the file is empty", hint=_HINT)
    return [(f"{source}: row {number}", row) for number, row in enumerate(rows, start=1) if any(row)]


def _columns_of(header: list[str], source: str) -> _Columns:
    """Tell from the header what the columns are."""
    header = [column.lower() for column in header]
    label = "label" if "label" in header else None
    known = (
        _Columns("image", _UNIT_EDGES, unit=True, label=label),
        _Columns("image", _PIXEL_EDGES, unit=False, label=label),
        _TENSORFLOW,
    )
    there = [columns for columns in known if all(header.count(name) == 1 for name in columns.needed)]
    if len(there) != 1 or header.count("ignore") > 1:
        shown = ",".join(header)[:200]
        raise AnnotationError(f"{source}: row 1: columns not understood: {shown!r}", hint=_HINT)
    return there[0]


def _box(row: dict[str, str], columns: _Columns, where: str) -> RawBox | None:
    """Read the box of a row; none if its columns are empty."""
    if not any(row[column] for column in columns.edges):
        return None
    edges = [_number(row[column], f"{where}: {column}") for column in columns.edges]
    corners: Corners = (edges[0], edges[1], edges[2], edges[3])
    if columns.unit and not all(-_UNIT_TOLERANCE <= edge <= 1 + _UNIT_TOLERANCE for edge in corners):
        values = ", ".join(f"{name}={edge:g}" for name, edge in zip(columns.edges, corners, strict=True))
        raise AnnotationError(f"{where}: every edge must be from 0 to 1: {values}", hint=_PIXEL_HINT)
    label = row[columns.label] if columns.label else None
    if label == "":
        raise AnnotationError(f"{where}: {columns.label} is empty", hint="name the class of every box")
    ignore = row.get("ignore", "")
    if ignore.lower() not in ("", "0", "1", "false", "true"):
        raise AnnotationError(f"{where}: ignore must be 0 or 1: {reprlib.repr(ignore)}", hint=_HINT)
    return RawBox(where, corners, label, ignore.lower() in ("1", "true"), columns.unit)


def _size_hw(row: dict[str, str], columns: _Columns, where: str) -> tuple[int, int] | None:
    if columns.size is None:
        return None
    sizes = [_number(row[column], f"{where}: {column}") for column in columns.size]
    return int(sizes[0]), int(sizes[1])


def _number(cell: str, where: str) -> float:
    number = number_in(cell)
    if number is None:
        hint = "write a number with a decimal point, or leave all four box columns empty"
        raise AnnotationError(f"{where}: not a number: {reprlib.repr(cell)}", hint=hint)
    return number
