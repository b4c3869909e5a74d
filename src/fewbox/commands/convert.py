"""``fewbox convert``: boxes from one format into another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox.commands import PHOTOS_HELP, add_skip_missing, add_strict
from fewbox.core import counted
from fewbox.core.progress import console
from fewbox.data import FORMATS, PROJECT_FILE, require_format
from fewbox.errors import OutputError, SettingError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet


def add_convert(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    names = ", ".join(FORMATS)
    convert = commands.add_parser(
        "convert",
        help="write boxes in another format",
        description="Write boxes in another format, and say what it cannot hold.",
        epilog=f"FORMAT is one of: {names}",
    )
    convert.add_argument("boxes", metavar="BOXES", help="a file of boxes, or a folder of them")
    convert.add_argument("photos", nargs="*", metavar="PHOTOS", help=f"{PHOTOS_HELP} (default: beside BOXES)")
    convert.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="OUT",
        help="the file to write; for labelme, voc and yolo the folder",
    )
    convert.add_argument(
        "--to",
        metavar="FORMAT",
        help="the format to write (default: coco for .json, csv for .csv, cvat for .xml)",
    )
    convert.add_argument(
        "--from", dest="from_format", metavar="FORMAT", help="the format of BOXES (default: recognized)"
    )
    convert.add_argument(
        "--label", default="object", help="name of the class, where BOXES has none (default: %(default)s)"
    )
    add_strict(convert)
    add_skip_missing(convert)
    convert.add_argument(
        "--copy-photos",
        action="store_true",
        help="put the photos into OUT too, where tools of the format expect them; for labelme and voc, "
        "and for yolo those that somebody has looked at",
    )
    convert.set_defaults(run=run_convert)


def run_convert(parsed: argparse.Namespace) -> int:
    """``fewbox convert``."""
    from fewbox.data.formats import possible_formats, write_annotations
    from fewbox.data.formats.writing import target_formats

    from_format = parsed.from_format or _choose(possible_formats(Path(parsed.boxes)), parsed.boxes, "--from")
    to_format = parsed.to or _choose(target_formats(parsed.output), parsed.output, "--to")
    require_format(to_format)
    if parsed.output.is_file():
        hint = "choose another name, or remove the file"
        raise OutputError(f"{parsed.output}: this file is there already", hint=hint)
    annotations, remarks = _read(parsed, from_format)
    losses = write_annotations(annotations, parsed.output, to_format, copy_photos=parsed.copy_photos)
    print(f"read {parsed.boxes} as {from_format}: {_counts(annotations)}")
    print(f"wrote {parsed.output} as {to_format}")
    for remark in (*remarks, *losses):
        console.print(remark)
    if to_format == "yolo" and not parsed.copy_photos:
        console.print(f"the photos belong into {parsed.output / 'images'}: --copy-photos puts them there")
    return 0


def _read(parsed: argparse.Namespace, from_format: str) -> tuple[AnnotationSet, tuple[str, ...]]:
    """The photos with their boxes, and remarks about what is not read; of a project as elsewhere."""
    from fewbox.data.formats import read_raw, to_annotation_set
    from fewbox.data.project import Project
    from fewbox.data.project_set import has_photos

    is_project = from_format == "coco" and not parsed.photos and Path(parsed.boxes, PROJECT_FILE).is_file()
    # Of another tool's file without its photos nothing is left; as a file of boxes it says what is missing.
    if is_project and has_photos(Path(parsed.boxes)):
        return Project(parsed.boxes).annotation_set(label=parsed.label, strict=parsed.strict), ()
    raw = read_raw(parsed.boxes, from_format)
    annotations = to_annotation_set(
        raw,
        parsed.photos or None,
        label=parsed.label,
        strict=parsed.strict,
        skip_missing=parsed.skip_missing,
    )
    return annotations, raw.remarks


def _choose(formats: Sequence[str], what: object, option: str) -> str:
    """The only possible format, or the one that the person at the terminal chooses."""
    if len(formats) == 1:
        return formats[0]
    if not sys.stdin.isatty():
        hint = f"say which one: {option} FORMAT"
        raise SettingError(f"{what}: the format may be: {', '.join(formats)}", hint=hint)
    console.print(f"{what}: which format ({option})?")
    for number, name in enumerate(formats, start=1):
        console.print(f"  {number}  {name}: {FORMATS[name]}")
    while True:
        console.print(f"1 to {len(formats)}, or a name: ", end="")
        answer = sys.stdin.readline()
        if not answer:  # the end of input
            raise SettingError("no format chosen", hint=f"say which one: {option} FORMAT")
        if answer.strip() in formats:
            return answer.strip()
        if answer.strip().isdecimal() and 1 <= int(answer) <= len(formats):
            return formats[int(answer) - 1]


def _counts(annotations: AnnotationSet) -> str:
    boxes = [box for image in annotations for box in image.boxes]
    ignored = sum(box.ignore for box in boxes)
    empty = sum(image.reviewed and not image.boxes for image in annotations)
    unseen = sum(not image.reviewed for image in annotations)
    states = ((empty, "looked at and empty"), (unseen, "not looked at"))
    parts = [
        counted(len(annotations), "photo"),
        *[f"{count} {state}" for count, state in states if count],
        counted(len(boxes), "box") + (f" ({ignored} to ignore)" if ignored else ""),
        counted(len(annotations.labels), "class"),
    ]
    return ", ".join(parts)
