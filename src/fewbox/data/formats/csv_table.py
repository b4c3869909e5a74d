"""Boxes as a table, one row per box.

    image,x1,y1,x2,y2                  pixels of the upright photo
    image,ymin,xmin,ymax,xmax          parts of it, 0 to 1, or pixels: the values tell
    filename,width,height,class,xmin,ymin,xmax,ymax
                                       the table of TensorFlow's tutorials
    image,left,top,width,height        and other names, see ``csv_columns``
    photos/cup.jpg,60,60,200,200,cup   pixels, without a header: Keras RetinaNet

All but the last may have columns for the class and for boxes to ignore. A photo name and empty
box columns say "looked at, nothing there". Other columns are left out, and named.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from fewbox.core import counted
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats.csv_columns import (
    HINT,
    Columns,
    are_parts,
    class_column,
    columns_of,
    degrees_in,
    is_retinanet_row,
    number,
)
from fewbox.data.formats.fitting import require_pixels
from fewbox.data.formats.folders import last_part, written_names
from fewbox.data.formats.raw import (
    Corners,
    RawAnnotations,
    RawBox,
    RawPhoto,
    labels_in_use,
    not_read,
    refuse_rotated,
    turned_corners,
)
from fewbox.data.formats.text_file import number_in, read_text_of_windows
from fewbox.data.images import PHOTO_SUFFIXES
from fewbox.errors import AnnotationError

_PIXEL_EDGES = ("x1", "y1", "x2", "y2")
_RETINANET = ("image", *_PIXEL_EDGES, "label")
_UNIT_HINT = "if the boxes are parts of the photo, name the columns xmin, ymin, xmax, ymax"
_WINDOWS = "not UTF-8, so it was read as Windows-1252: look at labels and names with accents"
_CORNER = (
    "x and y were taken for the left upper corner: name them x_center and y_center if they are the centre"
)
_NOTHING = (
    "none",
    "nothing",
    "background",
    "negative",
    "empty",
    "no object",
    "no_object",
    "nan",
    "null",
    "-",
)
_TRUTHS = {
    "": False,
    "0": False,
    "-1": False,
    "false": False,
    "no": False,
    "1": True,
    "true": True,
    "yes": True,
}


@dataclass(frozen=True)
class _Row:
    """One row: where it stands, its cells, and the corners of its box in the unit of the table."""

    where: str
    cells: list[str]
    corners: Corners | None


def is_box_table(path: Path, *, is_known: bool = False) -> bool:
    """Tell whether a file is a table with columns that are understood here.

    Args:
        path: the file.
        is_known: only the tables of this package and of TensorFlow's tutorials count. Others are often made
            of files of boxes that lie beside them.
    """
    try:
        columns, _ = _table(read_text_of_windows(path)[0], path.name)
    except AnnotationError:
        return False
    return columns.is_known or not is_known


def read_csv(path: Path) -> RawAnnotations:
    """Read a table; rows of one photo need not stand together.

    Raises:
        AnnotationError: a row is not understood, or contradicts another.
    """
    source = path.name
    text, is_windows = read_text_of_windows(path)
    columns, lines = _table(text, source)
    rows = [_row(where, cells, columns) for where, cells in lines]
    boxes = [(row.where, row.corners) for row in rows if row.corners is not None]
    unit = are_parts(boxes) if columns.edges.unit is None else columns.edges.unit
    if not unit:
        require_pixels((corners for _, corners in boxes), source, _UNIT_HINT)
    if unit and columns.edges.is_plain:
        message = f"{source}: x and y of parts of the photo may be a corner or the centre"
        raise AnnotationError(message, hint="name them left and top, or x_center and y_center")
    label = class_column(columns, [(row.where, row.cells) for row in rows if row.corners is not None])
    size = None if _are_sides_of_boxes(columns, rows) else columns.size
    photos: dict[str, RawPhoto] = {}
    marks: dict[str, tuple[str, list[str]]] = {}
    for row in rows:
        name = row.cells[columns.image]
        key = posixpath.normpath(name.replace("\\", "/"))
        paths = _paths(row, columns)
        split = [row.cells[n] for n in (*columns.folders, *columns.splits)] + [*paths]
        first, of_first = marks.setdefault(key, (row.where, split))
        if split != of_first:
            hint = "write the folder into the name, such as train/1.jpg, or split the table"
            raise AnnotationError(f"{row.where}: {name!r} is another photo than in {first}", hint=hint)
        box = _box(row, columns, label, unit)
        size_hw = _size_hw(row, columns, size)
        photo = photos.get(key) or RawPhoto(
            row.where, name, (), reviewed=True, size_hw=size_hw, other_names=paths, paths=paths
        )
        if key in photos and (box is None) != (not photo.boxes):
            hint = "keep either its boxes or one row with empty box columns"
            message = f"{row.where}: another row says otherwise about {posixpath.basename(key)}"
            raise AnnotationError(message, hint=hint)
        photos[key] = photo if box is None else replace(photo, boxes=(*photo.boxes, box))
    unread = sorted([*columns.unread, *columns.splits, *columns.paths])
    unread += columns.size or () if size is None else ()
    left_out = Counter(
        columns.header[n] or "a column without a name"
        for n in unread
        for row in rows
        if row.cells[n] and not (n in columns.paths and _is_photo(row.cells[n]))
    )
    remarks = [*not_read(left_out), *[_WINDOWS] * is_windows, *[_CORNER] * columns.edges.is_plain]
    labels = None if label is None else labels_in_use(tuple(photos.values()), [])
    return RawAnnotations("csv", source, tuple(photos.values()), labels, (path.parent,), tuple(remarks))


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


def _rows(text: str, source: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """What separates cells, and the cells of each row that has any, with where that row stands.

    A first line ``sep=;`` is for Excel: programs write it so that a double click opens the table.
    """
    told = re.match(r"\s*\"?sep=([,;\t])\"?[ ,;\t]*(?:\r?\n|\r)", text, re.IGNORECASE)
    rest = text[told.end() :] if told else text
    first_line = next(iter(rest.strip().splitlines()), "")
    # Spreadsheets of many countries write semicolons.
    delimiter = told[1] if told else max(",;\t", key=first_line.count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        where = f"{source}: row {reader.line_num}"
        raise AnnotationError(f"{where}: not valid CSV: {error}", hint=HINT) from error
    placed = [(f"{source}: row {number}", row) for number, row in enumerate(rows, start=1) if any(row)]
    placed = placed[1:] if told else placed
    if not placed:
        raise AnnotationError(f"{source}: the file is empty", hint=HINT)
    return delimiter, placed


def _table(text: str, source: str) -> tuple[Columns, list[tuple[str, list[str]]]]:
    """What the columns of a table are, and its rows, each with where it stands."""
    delimiter, rows = _rows(text, source)
    if is_retinanet_row(rows[0][1]):
        odd = next((where for where, cells in rows if not is_retinanet_row(cells)), None)
        if odd is not None:
            message = f"{odd}: not path,x1,y1,x2,y2,class as in the rows before it"
            raise AnnotationError(message, hint=HINT)
        return columns_of(_RETINANET, source), rows
    columns = columns_of(rows[0][1], source)
    if delimiter != ",":
        _write_points(rows[1:], (*columns.box, *(columns.size or ())))
    return columns, rows[1:]


def _write_points(rows: list[tuple[str, list[str]]], numeric: Sequence[int]) -> None:
    """Put points for decimal commas, as spreadsheets of many countries write them, in the columns of numbers.

    ``1,234`` may be more than a thousand, unlike ``0,234``; it has decimals only if another number must.
    """
    cells = [cells[n] for _, cells in rows for n in numeric if n < len(cells)]
    if any(re.fullmatch(r"-?(0\d*,\d+|\d+,(\d{1,2}|\d{4,}))", cell) for cell in cells):
        for _, row in rows:
            for n in numeric:
                if n < len(row) and re.fullmatch(r"-?\d+,\d+", row[n]):
                    row[n] = row[n].replace(",", ".")


def _row(where: str, cells: list[str], columns: Columns) -> _Row:
    """Read the box of a row; none if its columns are empty."""
    count = len(columns.header)
    if len(cells) < count or any(cells[count:]):
        message = f"{where}: {counted(len(cells), 'column')}, but the first row has {count}"
        raise AnnotationError(message, hint="an empty column keeps its comma")
    if not any(cells[n] for n in columns.box):
        return _Row(where, cells, None)
    x, y, right, low = (number(cells[n], f"{where}: {columns.header[n]}") for n in columns.box)
    return _Row(where, cells, columns.edges.corners(x, y, right, low))


def _paths(row: _Row, columns: Columns) -> tuple[str, ...]:
    """What else the row says of its photo: the paths that end in its name, and its folder.

    Raises:
        AnnotationError: two columns name two photos.
    """
    name = row.cells[columns.image]
    paths = []
    for n in columns.paths:
        if not _is_photo(row.cells[n]):
            continue  # an id, or nothing
        own = last_part(name).lower()
        if PurePosixPath(last_part(row.cells[n]).lower()).stem not in (own, PurePosixPath(own).stem):
            both = f"{columns.header[columns.image]} {name!r}, {columns.header[n]} {row.cells[n]!r}"
            message = f"{row.where}: two columns name the photo and disagree: {both}"
            raise AnnotationError(message, hint="keep the one that is meant, and remove or rename the other")
        paths.append(row.cells[n])
    folders = [row.cells[n] for n in columns.folders if row.cells[n]]
    return (*paths, *(f"{folder}/{name}" for folder in folders))


def _is_photo(name: str) -> bool:
    return PurePosixPath(last_part(name)).suffix.lower() in PHOTO_SUFFIXES


def _box(row: _Row, columns: Columns, label: int | None, unit: bool) -> RawBox | None:
    name = None if label is None else row.cells[label]
    if row.corners is None:
        if name and name.lower() not in _NOTHING:
            hint = "draw its box; or leave its class empty too, if there is nothing in the photo"
            raise AnnotationError(f"{row.where}: a class without a box: {name[:40]!r}", hint=hint)
        return None
    if label is not None and not name:
        message = f"{row.where}: {columns.header[label]} is empty"
        raise AnnotationError(message, hint="name the class of every box")
    for score in (row.cells[n] for n in columns.scores):
        if score and number_in(score) != 1:  # 1 is what tools write for a box that a person drew
            hint = "these boxes were computed, not drawn; if a person has looked at each, remove the column"
            raise AnnotationError(f"{row.where}: the score of a detection: {score[:40]!r}", hint=hint)
    degrees = degrees_in(columns, row.cells, row.where)
    if unit and degrees % 360:  # without the photo nobody can turn parts of it
        refuse_rotated(row.where)
    turned = turned_corners(row.corners, degrees, row.where)
    ignore = max((_flag(row, n, columns) for n in columns.ignores), default=False)
    return RawBox(row.where, row.corners, name, ignore, unit, turned=turned)


def _flag(row: _Row, column: int, columns: Columns) -> bool:
    text = row.cells[column].lower().removesuffix(".0")
    if text not in _TRUTHS:
        message = f"{row.where}: {columns.header[column].lower()} must be 0 or 1: {row.cells[column][:40]!r}"
        raise AnnotationError(message, hint=HINT)
    return _TRUTHS[text]


def _size_hw(row: _Row, columns: Columns, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None or not any(row.cells[n] for n in size):
        return None
    height, width = (int(number(row.cells[n], f"{row.where}: {columns.header[n]}")) for n in size)
    return (height, width) if height or width else None  # zeros: the tool did not know


def _are_sides_of_boxes(columns: Columns, rows: list[_Row]) -> bool:
    """Whether width and height are those of the boxes, which some tables have beside the corners."""
    pairs = []
    for row in rows:
        if columns.size is not None and row.corners is not None:
            height, width = (number_in(row.cells[n]) for n in columns.size)
            x1, y1, x2, y2 = row.corners
            pairs.append(
                height is not None and width is not None and abs(x2 - x1 - width) + abs(y2 - y1 - height) <= 2
            )
    return bool(pairs) and all(pairs)
