"""COCO JSON, and the project file, which is COCO JSON with ``reviewed``.

``bbox`` is [x, y, width, height] in pixels, and ``iscrowd`` 1 is a box to ignore. COCO cannot
tell "looked at, nothing there" from "not looked at"; ``"reviewed": true`` on an image does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from goldeneye.data.annotations import AnnotationSet
from goldeneye.data.formats.json_file import JSON_HINT, Entry, load_object, unused_id
from goldeneye.data.formats.names import relative_name
from goldeneye.data.formats.raw import RawAnnotations, RawBox, RawPhoto, not_read
from goldeneye.data.formats.shapes import require_unrotated
from goldeneye.errors import AnnotationError

_IMAGE_FIELDS = frozenset({"id", "file_name", "width", "height", "reviewed"})
# box_id is of the project file, which other tools skip as we skip theirs.
_BOX_FIELDS = frozenset({"id", "box_id", "image_id", "category_id", "bbox", "area", "iscrowd"})


def read_coco(path: Path) -> RawAnnotations:
    """Read COCO JSON.

    Raises:
        AnnotationError: a field is missing or of another kind, or an id leads nowhere.
    """
    top = load_object(path, path.name)
    labels = _labels(top)
    left_out: Counter[str] = Counter()
    images: dict[int, Entry] = {}
    for entry in top.entries("images"):
        images[unused_id(entry, images)] = entry
        _note_fields(entry, _IMAGE_FIELDS, left_out)
    boxes: dict[int, list[RawBox]] = {image_id: [] for image_id in images}
    annotation_ids: set[int] = set()
    for entry in top.entries("annotations"):
        annotation_ids.add(unused_id(entry, annotation_ids))
        if entry.whole("image_id") not in images:
            entry.refuse("image_id", "the id of an image in this file")
        if labels is not None and entry.whole("category_id") not in labels:
            entry.refuse("category_id", "the id of a category in this file")
        boxes[entry.fields["image_id"]].append(_box(entry, labels))
        _note_fields(entry, _BOX_FIELDS, left_out)
    photos = [_photo(entry, boxes[image_id]) for image_id, entry in images.items()]
    ordered = None if labels is None else tuple(labels[category_id] for category_id in sorted(labels))
    return RawAnnotations("coco", path.name, tuple(photos), ordered, (path.parent,), not_read(left_out))


def coco_text(annotations: AnnotationSet, folder: Path) -> str:
    """The set as COCO JSON in which file names start from ``folder``."""
    category_ids = {label: number for number, label in enumerate(annotations.labels, start=1)}
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for image in annotations:
        height, width = image.size_hw
        name = relative_name(image.path, folder)
        # Ids count from 1 because pycocotools scores a box with id 0 as missed.
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        images[-1]["reviewed"] = image.reviewed
        for box in image.boxes:
            sides = (box.x2 - box.x1, box.y2 - box.y1)
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": len(images),
                    "category_id": category_ids[box.label],
                    "bbox": [box.x1, box.y1, *sides],
                    "area": sides[0] * sides[1],
                    "iscrowd": int(box.ignore),
                }
            )
    categories = [{"id": number, "name": label} for label, number in category_ids.items()]
    coco = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
    # ASCII, as a file name on Linux may hold bytes that no UTF-8 text can.
    return json.dumps(coco, indent=1) + "\n"


def _labels(top: Entry) -> dict[int, str] | None:
    """Labels by category id; none for a file without categories, which may have one class."""
    if top.fields.get("categories", []) == []:
        used = {entry.whole("category_id") for entry in top.entries("annotations")}
        if len(used) > 1:
            raise AnnotationError(f"{top.where}: {len(used)} category ids and no categories", hint=JSON_HINT)
        return None
    labels: dict[int, str] = {}
    for entry in top.entries("categories"):
        labels[unused_id(entry, labels)] = entry.text("name")
    return labels


def _box(entry: Entry, labels: dict[int, str] | None) -> RawBox:
    attributes = entry.fields.get("attributes")  # of CVAT, which states the rotation beside the upright box
    if isinstance(attributes, dict) and "rotation" in attributes:
        require_unrotated(entry.entry("attributes").number("rotation"), entry.where)
    x, y, width, height = entry.numbers("bbox", 4)
    label = None if labels is None else labels[entry.fields["category_id"]]
    return RawBox(entry.where, (x, y, x + width, y + height), label, entry.flag("iscrowd"))


def _photo(entry: Entry, boxes: list[RawBox]) -> RawPhoto:
    size_hw = entry.size_hw("height", "width")
    return RawPhoto(entry.where, entry.text("file_name"), tuple(boxes), entry.flag("reviewed"), size_hw)


def _note_fields(entry: Entry, known: Collection[str], left_out: Counter[str]) -> None:
    left_out.update(field[:40] for field, value in entry.fields.items() if field not in known and value)
