"""labelme JSON, one file per photo.

Of the shapes, rectangles are boxes; polygons, circles and masks are read as the box around
them. A flag ``ignore`` on a shape, or ``difficult``, is a box to ignore; so is the label ``__ignore__``,
labelme's own, which stands for every class. A file without shapes says "looked at, nothing there", unless
a flag of the photo is set, which often says why there are none; a photo without a file was not looked at.
``imageData``, the photo itself inside the file, is not read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.formats.folders import (
    LABELS_NAME,
    images_by_stem,
    labels_text,
    listed_labels,
    name_below,
    places_of,
    relative_name,
    source_name,
)
from fewbox.data.formats.json_file import Entry, load_object, refuse_unread
from fewbox.data.formats.raw import (
    NO_INSIDE,
    OUTLINED,
    Corners,
    RawAnnotations,
    RawBox,
    RawPhoto,
    is_upright,
    labels_in_use,
    not_read,
    outer_box,
    require_single_outlines,
    upright_box,
)

_OUTLINES = ("polygon", "circle", "mask")
_TURNED = ("oriented_rectangle", "rotation")  # the latter of X-AnyLabeling
_RECTANGLES = ("rectangle", *_TURNED)
_LINES = ("point", "points", "line", "linestrip")
# The colours are of the first versions.
_SHAPE_FIELDS = frozenset({"label", "points", "shape_type", "flags", "difficult", "mask", "group_id"})
_SHAPE_FIELDS |= {"line_color", "fill_color"}
_PHOTO_FIELDS = frozenset(
    {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
)
_PHOTO_FIELDS |= {"lineColor", "fillColor"}
_IGNORED = "__ignore__"


def read_labelme(files: Sequence[Path], folder: Path) -> RawAnnotations:
    """Read the JSON files of a folder.

    Raises:
        AnnotationError: a file is not labelme's, or a shape in it is not understood.
    """
    left_out: Counter[str] = Counter()
    photos = [_photo(load_object(path, name_below(path, folder)), path, left_out) for path in files]
    used = labels_in_use(photos, listed_labels(files, folder))
    labels = tuple(label for label in used if label != _IGNORED) if used != (_IGNORED,) else None
    # A box to ignore has a class, and is ignored for that one alone.
    photos = [_with_labels(photo, labels or (None,)) for photo in photos]
    source, places = source_name(files, folder), places_of("labelme", files, folder)
    return RawAnnotations("labelme", source, tuple(photos), labels, places, not_read(left_out))


def labelme_texts(annotations: AnnotationSet, folder: Path) -> dict[str, str]:
    """The files of ``folder`` by name; photos that nobody has looked at have none."""
    images = images_by_stem(annotations).items()
    texts = {f"{stem}.json": _text(image, relative_name(image.path, folder)) for stem, image in images}
    return {**texts, LABELS_NAME: labels_text(annotations)}


def _photo(top: Entry, path: Path, left_out: Counter[str]) -> RawPhoto:
    refuse_unread(top, ("shapes",))
    shapes = top.entries("shapes")
    boxes = [box for shape in shapes if (box := _box(shape, left_out)) is not None]
    groups = [
        str(shape.fields["group_id"])
        for shape in shapes
        if _kind(shape) in _OUTLINES and shape.fields.get("group_id") is not None
    ]
    require_single_outlines(groups, top.where)
    size_hw = top.size_hw("imageHeight", "imageWidth")
    # Points and lines mark objects: a photo with nothing else is not empty.
    flags = _set_flags(top)
    reviewed = bool(boxes) or not (shapes or flags)
    left_out.update(flags)
    left_out.update(field[:40] for field in top.fields if field not in _PHOTO_FIELDS and top.fields[field])
    if top.fields.get("checked") is False:  # of X-AnyLabeling
        left_out["checked: false"] += 1
    name = top.text("imagePath") or path.stem
    return RawPhoto(top.where, name, tuple(boxes), reviewed, size_hw, file=path)


def _with_labels(photo: RawPhoto, labels: tuple[str | None, ...]) -> RawPhoto:
    """The photo with a box of each class in place of one of ``__ignore__``."""
    boxes = list[RawBox]()
    for box in photo.boxes:
        boxes += [replace(box, label=label) for label in labels] if box.label == _IGNORED else [box]
    return replace(photo, boxes=tuple(boxes))


def _set_flags(entry: Entry) -> list[str]:
    """How the flags that are set are counted in the remark about what was not read."""
    flags = entry.fields.get("flags")
    return [f"flag {name[:40]}" for name, value in flags.items() if value] if isinstance(flags, dict) else []


def _kind(shape: Entry) -> str:
    """The first versions of labelme drew nothing but polygons, and wrote no kind."""
    return "polygon" if shape.fields.get("shape_type") is None else shape.text("shape_type")


def _box(shape: Entry, left_out: Counter[str]) -> RawBox | None:
    kind = _kind(shape)
    if kind in _LINES:
        left_out[NO_INSIDE] += 1
        return None
    label = shape.text("label")
    points = shape.points("points")
    corners = _corners(kind, points, shape)
    turned = () if kind in _OUTLINES or len(points) != 4 or is_upright(points) else tuple(points)
    if kind in _OUTLINES:
        left_out[OUTLINED] += 1
    ignore = bool(shape.fields.get("flags")) and shape.entry("flags").flag("ignore")
    ignore = ignore or label == _IGNORED or shape.flag("difficult")  # of X-AnyLabeling, as in Pascal VOC
    left_out.update(flag for flag in _set_flags(shape) if flag != "flag ignore")
    left_out.update(
        field[:40] for field, value in shape.fields.items() if field not in _SHAPE_FIELDS and value
    )
    return RawBox(shape.where, corners, label, ignore, turned=turned)


def _corners(kind: str, points: list[tuple[float, float]], shape: Entry) -> Corners:
    if kind == "polygon":
        return outer_box(points, shape.where)
    if kind in _RECTANGLES and len(points) == 4:
        return outer_box(points, shape.where) if is_upright(points) else upright_box(points)
    if kind in _TURNED:
        shape.refuse("points", "four points")
    if kind not in ("rectangle", "circle", "mask"):
        shape.refuse("shape_type", "rectangle, polygon, circle, mask, point or line")
    if len(points) != 2:
        shape.refuse("points", "two points")
    x1, y1, x2, y2 = outer_box(points, shape.where)
    if kind == "mask":  # its points are the first and the last pixel
        return x1, y1, x2 + 1, y2 + 1
    if kind == "circle":  # its points are the centre and any on the rim
        (x, y), radius = points[0], math.dist(*points)
        return x - radius, y - radius, x + radius, y + radius
    return x1, y1, x2, y2


def _text(image: AnnotatedImage, name: str) -> str:
    shapes = [
        {
            "label": box.label,
            "points": [[box.x1, box.y1], [box.x2, box.y2]],
            "group_id": None,
            "description": "",
            "shape_type": "rectangle",
            "flags": {"ignore": True} if box.ignore else {},
            "mask": None,
        }
        for box in image.boxes
    ]
    height, width = image.size_hw
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(content, indent=2) + "\n"
