"""Where the boxes of a command come from: a file that is named, or what was drawn in the photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from goldeneye.errors import AnnotationError

if TYPE_CHECKING:
    from goldeneye.data.annotations import AnnotationSet


def annotations_of(boxes: str | None, photos: Sequence[str], label: str) -> AnnotationSet:
    """The boxes of ``--boxes``; without it, those drawn in the photos.

    Raises:
        AnnotationError: no boxes are given for photos of several places; or they cannot be read.
        PhotoError: a photo cannot be read.
    """
    from goldeneye.data.formats import read_annotations
    from goldeneye.data.project import Project

    if boxes is not None:
        return read_annotations(boxes, photos, label=label)
    if len(photos) > 1:
        raise AnnotationError("no boxes given for photos of several places", hint="name them: --boxes FILE")
    return Project(photos[0]).annotation_set()
