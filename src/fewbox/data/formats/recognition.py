"""Which format a file or folder is in, from what is in it.

Nothing is guessed: where a folder holds boxes in two formats, or two files in one of them,
whoever reads it has to say which is meant; and where a file cannot be read, it may be the one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewbox.data import FORMATS
from fewbox.data.formats import yolo
from fewbox.data.formats.csv_table import is_box_table
from fewbox.data.formats.folders import files_below
from fewbox.data.formats.json_file import load_json
from fewbox.data.formats.text_file import load_xml, read_bytes
from fewbox.errors import AnnotationError

_TABLES = (".csv", ".tsv", ".txt")
_FORMAT_HINT = "name a file or a folder of boxes in one of the formats: " + ", ".join(FORMATS)
_SAY_HINT = "say which one is meant: --from FORMAT, or format= in Python"

# Of the files with one suffix in a folder, so many are looked into: folders hold one kind or two.
_LOOKED_INTO = 3


def possible_formats(path: Path) -> tuple[str, ...]:
    """The formats that a file or a folder may be in: one as a rule, several if it is not plain.

    Raises:
        AnnotationError: there are no boxes in it, or it cannot be read.
    """
    found = _formats_below(path) if path.is_dir() else list(filter(None, [format_of_file(path)]))
    if not found:
        raise AnnotationError(f"{path}: no boxes in a format that can be read here", hint=_FORMAT_HINT)
    return tuple(form for form in FORMATS if form in found)


def recognized_format(path: Path) -> str:
    """The format that a file or a folder is in.

    Raises:
        AnnotationError: as for :func:`possible_formats`, or there are several.
    """
    found = possible_formats(path)
    if len(found) > 1:
        raise AnnotationError(f"{path}: boxes in several formats: {', '.join(found)}", hint=_SAY_HINT)
    return found[0]


def files_of(path: Path, form: str) -> tuple[Path, list[Path]]:
    """The files of one format, and the folder that they are below.

    Args:
        path: one file, or a folder; for YOLO the ``data.yaml`` stands for its folder.
        form: one of ``FORMATS``. Of one that is a single file there may be
            one in each folder, for each part of the data set.

    Raises:
        AnnotationError: there is none, or several where one was expected.
    """
    if path.suffix.lower() in yolo.YAML_SUFFIXES and form == "yolo" and path.is_file():
        path = path.parent
    if not path.is_dir():
        return path.parent, [path]
    match form:
        case "voc":
            return path, _some(files_below(path, (".xml",)), path, form)
        case "labelme":
            return path, _some(files_below(path, (".json",)), path, form)
        case "yolo":
            return path, _some(yolo.label_files(path), path, form)
        case "csv":
            tables = [table for table in files_below(path, _TABLES) if is_box_table(table)]
            known = [table for table in tables if is_box_table(table, is_known=True)]
            return path, _one_a_folder(known or tables, path, form)
        case "cvat":
            return path, _one_a_folder(_in_format(path, ".xml", form), path, form)
        case _:
            return path, _one_a_folder(_in_format(path, ".json", form), path, form)


def format_of_file(path: Path) -> str | None:
    """The format that one file is in; None if it holds no boxes.

    Raises:
        AnnotationError: it is malformed, or cannot be read.
    """
    suffix = path.suffix.lower()
    start = {".json": b"{", ".xml": b"<"}.get(suffix) or _first_sign(path)
    if start in (b"{", b"["):
        return _format_of_json(load_json(path, path.name))
    if start == b"<":
        return {"annotation": "voc", "annotations": "cvat"}.get(load_xml(path, path.name).element.tag)
    if suffix in yolo.YAML_SUFFIXES:
        return "yolo" if yolo.is_data_yaml(path) else None
    if suffix == ".txt" and yolo.is_label_file(path):
        return "yolo"
    return "csv" if suffix in _TABLES else None


def _first_sign(path: Path) -> bytes:
    """The first byte that is no blank, nor of a byte order mark, nor half of a sign in UTF-16."""
    return read_bytes(path).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1]


def _format_of_json(content: Any) -> str | None:
    """Tell the formats apart by the fields that only one of them has."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    if "data" in first and first.keys() & {"annotations", "completions", "predictions"}:
        return "labelstudio"
    if first is content and "shapes" in first:
        return "labelme"
    # Categories alone are a list of classes: Label Studio puts one beside its labels of YOLO.
    return "coco" if first is content and first.keys() & {"images", "annotations"} else None


def _formats_below(folder: Path) -> list[str]:
    """The formats of the files in a folder."""
    found = ["yolo"] if yolo.label_files(folder) else []
    tables: list[Path] = []
    looked_into: dict[tuple[Path, str], int] = {}
    for path in files_below(folder, (".json", ".xml", ".csv", ".tsv")):
        place = (path.parent, path.suffix.lower())
        looked_into[place] = looked_into.get(place, 0) + 1
        if looked_into[place] > _LOOKED_INTO:
            continue
        form = format_of_file(path)
        if form is not None and (form != "csv" or is_box_table(path, is_known=True)):
            found.append(form)
        elif form == "csv":
            tables.append(path)
    # A table that another tool made of the boxes beside it does not make the folder doubtful.
    return found or ["csv" for path in tables if is_box_table(path)]


def _in_format(folder: Path, suffix: str, form: str) -> list[Path]:
    """The files of a format that is one file."""
    return [path for path in files_below(folder, (suffix,)) if format_of_file(path) == form]


def _some(files: list[Path], folder: Path, form: str) -> list[Path]:
    if not files:
        raise AnnotationError(f"{folder}: no file in the format {form}", hint=_FORMAT_HINT)
    return files


def _one_a_folder(files: Iterable[Path], folder: Path, form: str) -> list[Path]:
    found = _some(list(files), folder, form)
    if len({path.parent for path in found}) < len(found):  # else each is of a part of the data set
        names = ", ".join(path.relative_to(folder).as_posix() for path in found[:3])
        message = f"{folder}: {len(found)} files in the format {form}: {names}"
        raise AnnotationError(message, hint="name one of them instead of the folder")
    return found
