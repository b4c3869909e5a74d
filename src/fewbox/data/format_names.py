"""The names of the formats of boxes; in a module of its own so that ``--help`` loads nothing heavy."""

from __future__ import annotations

import difflib

from fewbox.errors import SettingError

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
