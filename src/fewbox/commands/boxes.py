"""Annotated photos for a command: boxes from a file that is named, or what was drawn in the photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fewbox.errors import AnnotationError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet


PHOTOS_HELP = "folders, files, patterns or addresses"
LABEL_HELP = "name of the class, where the file of boxes has none (default: %(default)s)"


def add_photos_with_boxes(command: argparse.ArgumentParser) -> None:
    """Add what :func:`annotations_of` takes to a command."""
    command.add_argument("photos", nargs="+", metavar="PHOTOS", help=PHOTOS_HELP)
    command.add_argument(
        "--boxes",
        metavar="BOXES",
        help="a file of boxes, or a folder of them (default: those drawn with 'fewbox annotate PHOTOS')",
    )
    add_strict(command)


def add_strict(command: argparse.ArgumentParser) -> None:
    """Add ``--strict`` to a command that reads files of boxes."""
    command.add_argument(
        "--strict",
        action="store_true",
        help="refuse boxes that reach over the edge of their photo, are turned a little, or are flat; "
        "else they are cut at the edge, read as upright, or left out, and counted",
    )


def annotations_of(
    boxes: str | None, photos: Sequence[str], label: str, strict: bool = False
) -> AnnotationSet:
    """The boxes of ``--boxes``; without it, those drawn in the photos.

    Raises:
        AnnotationError: no boxes are given for photos of several places; or they cannot be read.
        PhotoError: a photo cannot be read.
    """
    from fewbox.data.formats import read_annotations
    from fewbox.data.project import Project

    if boxes is not None:
        return read_annotations(boxes, photos, label=label, strict=strict)
    if len(photos) > 1:
        raise AnnotationError("no boxes given for photos of several places", hint="name them: --boxes FILE")
    return Project(photos[0]).annotation_set()
