"""The photos of rubber ducks in the package: what ``fewbox demo`` learns from and looks in.

They are rendered, by ``tools/demo_photos.py``, so their boxes are known exactly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations

FOLDER = Path(__file__).parents[1] / "demo_photos"
BOXES_NAME = "boxes.json"
"""One file with the boxes of all photos, in COCO's format."""


def demo_photos() -> tuple[AnnotationSet, AnnotationSet]:
    """The photos to learn from, in the folder ``train``, and those to look in, in ``test``; all reviewed."""
    everything = read_annotations(FOLDER / BOXES_NAME, format="coco")
    train, test = (
        tuple(image for image in everything if image.path.parent.name == name) for name in ("train", "test")
    )
    return replace(everything, images=train, source="train"), replace(everything, images=test, source="test")
