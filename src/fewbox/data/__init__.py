"""Photos and their boxes, and the photos that come with the package.

Nothing in this folder imports torch. What stands here is light: the command line names the formats and
the demo's photos in its ``--help``, so what needs numpy is imported when it is asked for.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewbox.errors import SettingError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet

FORMATS = {
    "coco": "COCO JSON, one file",
    "csv": "a table, one file",
    "cvat": "CVAT for images 1.1 XML, one file",
    "labelme": "labelme JSON, a file per photo",
    "labelstudio": "Label Studio JSON, one file",
    "voc": "Pascal VOC XML, a file per photo",
    "yolo": "YOLO, a text file per photo and data.yaml",
}
"""What each name stands for."""

PROJECT_FILE = "annotations.json"
"""What the boxes drawn with ``fewbox annotate`` are kept in, beside the photos."""

FOLDER_FORMATS = ("labelme", "voc", "yolo")
"""The formats that are a folder with one file per photo."""


def require_format(name: str) -> str:
    """Return ``name`` if it is that of a format.

    Raises:
        SettingError: it is not; the nearest one is suggested.
    """
    if not isinstance(name, str):
        raise SettingError(f"unknown format: {name!r}", hint=f"the formats are: {', '.join(FORMATS)}")
    if name in FORMATS:
        return name
    near = difflib.get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.4)
    hint = (f"did you mean {near[0]}? " if near else "") + f"the formats are: {', '.join(FORMATS)}"
    raise SettingError(f"unknown format: {name!r}", hint=hint)


DEMO_FOLDER = Path(__file__).parents[1] / "rubber_ducks"
"""Photos of rubber ducks: what ``fewbox demo`` learns from and looks in.

They are rendered, by ``tools/demo_photos.py``, so their boxes are known exactly.
"""
DEMO_BOXES_NAME = "boxes.json"
"""One file with the boxes of all photos, in COCO's format."""


def demo_photos() -> tuple[AnnotationSet, AnnotationSet]:
    """Photos of rubber ducks that come with fewbox, with their boxes: those of ``fewbox demo``.

    They are rendered, so every box is known exactly.

    Returns:
        5 photos to learn from, and 40 others to look in; all reviewed.

    Examples:
        >>> train, test = fewbox.demo_photos()
        >>> len(train), len(test), train.labels
        (5, 40, ('rubber_duck',))
    """
    from fewbox.data.formats import read_raw, to_annotation_set

    everything = to_annotation_set(read_raw(DEMO_FOLDER / DEMO_BOXES_NAME, "coco"))
    train, test = (
        tuple(image for image in everything if image.path.parent.name == name) for name in ("train", "test")
    )
    return replace(everything, images=train, source="train"), replace(everything, images=test, source="test")
