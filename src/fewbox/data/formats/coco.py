"""COCO JSON, and the project file, which is COCO JSON with ``reviewed`` and ``left_out``.

``bbox`` is [x, y, width, height] in pixels, and ``iscrowd`` 1 is a box to ignore. ``area``, which COCO's
own files state of the outline, is kept as it stands, as pycocotools takes it. COCO cannot
tell "looked at, nothing there" from "not looked at"; ``"reviewed": true`` on an image does.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats.folders import relative_names
from fewbox.data.formats.json_file import Entry, load_object, number_of, refuse_unread
from fewbox.data.formats.raw import (
    OUTLINED,
    Corners,
    Points,
    RawAnnotations,
    RawBox,
    RawPhoto,
    not_read,
    outer_box,
    turned_corners,
)
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT
from fewbox.errors import AnnotationError

_IMAGE_FIELDS = frozenset({"id", "file_name", "width", "height", "reviewed", "left_out"})
_LISTS = ("annotations", "categories", "images")
# box_id is of the project file, which other tools skip as we skip theirs.
_BOX_FIELDS = frozenset({"id", "box_id", "image_id", "category_id", "bbox", "area", "iscrowd"})
# What turns a box by its name, in degrees or radians as in tables: tools have no word for it in common.
_ANGLES = {"rotation": 1.0, "angle": math.degrees(1), "theta": math.degrees(1)}
_BOX_OR_SHAPE = frozenset({"bbox", "segmentation", "keypoints", "area", "caption"})
_NUMBER = re.compile(r"-?[0-9]{1,18}")


def read_coco(path: Path) -> RawAnnotations:
    """Read COCO JSON.

    Raises:
        AnnotationError: a field is missing or of another kind, or an id leads nowhere.
    """
    top = load_object(path, path.name)
    refuse_unread(top, _LISTS)
    remarks, left_out = list[str](), Counter[str]()
    labels = _labels(top, remarks)
    images: dict[str, Entry] = {}
    for entry in top.entries("images"):
        same = images.setdefault(entry.id("id"), entry)
        if same is not entry and same.text("file_name") != entry.text("file_name"):
            entry.refuse("id", "different from the ids before it, which are of other photos")
        refuse_unread(entry, ())
        _note_fields(entry, _IMAGE_FIELDS, left_out)
    boxes: dict[str, list[RawBox]] = {image_id: [] for image_id in images}
    unplaced: dict[str, Entry] = {}  # camera traps: what is in a photo without where
    for entry in top.entries("annotations"):
        image_id = entry.id("image_id")
        if image_id not in images:
            entry.refuse("image_id", "the id of an image in this file")
        if labels is not None and entry.id("category_id") not in labels:
            entry.refuse("category_id", "the id of a category in this file")
        if not _BOX_OR_SHAPE & entry.fields.keys():
            unplaced[image_id] = entry
            left_out["labels of whole photos"] += 1
            continue
        boxes[image_id].append(_box(entry, labels, left_out))
        _note_fields(entry, _BOX_FIELDS, left_out)
        if entry.fields.get("area") is not None and entry.stated_area() is None:
            left_out["area that is no number from 0"] += 1
    for image_id, entry in unplaced.items():
        if boxes[image_id] or images[image_id].flag("reviewed"):
            entry.value("bbox", list, "four numbers")
    photos = [_photo(entry, boxes[image_id]) for image_id, entry in images.items()]
    ordered = None if labels is None else tuple(dict.fromkeys(labels.values()))
    remarks += (*not_read(left_out), *_odd_areas(photos))
    return RawAnnotations("coco", path.name, tuple(photos), ordered, (path.parent,), tuple(remarks))


def coco_text(annotations: AnnotationSet, folder: Path) -> str:
    """The set as COCO JSON in which file names start from ``folder``."""
    category_ids = {label: number for number, label in enumerate(annotations.labels, start=1)}
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    names = relative_names([image.path for image in annotations], folder)
    for image, name in zip(annotations, names, strict=True):
        height, width = image.size_hw
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
                    "area": sides[0] * sides[1] if box.area is None else box.area,
                    "iscrowd": int(box.ignore),
                }
            )
    categories = [{"id": number, "name": label} for label, number in category_ids.items()]
    coco = {"info": {}, "images": images, "annotations": boxes, "categories": categories}
    # ASCII, as a file name on Linux may hold bytes that no UTF-8 text can.
    return json.dumps(coco, indent=1) + "\n"


def _labels(top: Entry, remarks: list[str]) -> dict[str, str] | None:
    """Labels by category id, in the order of the ids; none if there are no categories, as with one class.

    Categories of one name are one class: VIA repeats them, and Roboflow gives the parent of all classes
    the name of the project, which may be that of a class. A parent that no box has is no class.
    """
    used = {entry.id("category_id") for entry in top.entries("annotations")}
    if top.fields.get("categories", []) == []:
        if len(used) > 1:
            raise AnnotationError(
                f"{top.where}: {len(used)} category ids and no categories", hint=WRITE_AGAIN_HINT
            )
        remarks += [f"category {one} has no name, and counts as the only class" for one in used - {"0", "1"}]
        return None
    categories: dict[str, Entry] = {}
    for entry in top.entries("categories"):
        same = categories.setdefault(entry.id("id"), entry)
        if same.text("name").strip() != entry.text("name").strip():
            entry.refuse("id", "different from the ids before it, which are of other categories")
    labels = {key: categories[key].text("name").strip() for key in sorted(categories, key=_numbers_first)}
    for label, count in Counter(labels.values()).items():
        keys = [key for key in labels if labels[key] == label]
        if count > 1:
            _require_one_class([categories[key] for key in keys if key in used], label)
            remarks.append(f"{count} categories are called {label!r}: read as one class")
        elif keys[0] not in used and any(
            entry.fields.get("supercategory") == label for key, entry in categories.items() if key != keys[0]
        ):
            del labels[keys[0]]
            remarks.append(
                f"category {label!r} has no box and is only the parent of others: read as no class"
            )
    return labels


def _require_one_class(entries: list[Entry], label: str) -> None:
    """Refuse two categories of one name that have boxes and different parents, such as bat and bat."""
    parents = {str(entry.fields.get("supercategory") or "none") for entry in entries}
    if len(parents - {"none", label}) > 1:
        both = " and ".join(entry.where for entry in entries[:2])
        message = f"{both}: two classes have one label: {label}"
        raise AnnotationError(message, hint="rename one of them, or give both the same supercategory")


def _numbers_first(key: str) -> tuple[bool, int]:
    """Ids that are numbers in their order, then the others in that of the file."""
    return (False, int(key)) if _NUMBER.fullmatch(key) else (True, 0)


def _box(entry: Entry, labels: dict[str, str] | None, left_out: Counter[str]) -> RawBox:
    corners = _corners(entry, left_out)
    turned = corners_as_turned(entry, corners)
    label = None if labels is None else labels[entry.id("category_id")]
    return RawBox(entry.where, corners, label, entry.flag("iscrowd"), turned=turned, area=entry.stated_area())


def corners_as_turned(entry: Entry, corners: Corners) -> Points:
    """The four corners of an annotation that is turned; none if it is not.

    Raises:
        AnnotationError: it is turned far.
    """
    degrees = [
        to_degrees * (number_of(entry.fields.get(field)) or 0) for field, to_degrees in _ANGLES.items()
    ]
    if _attributes(entry).get("rotation") is not None:  # CVAT states it beside the upright box
        degrees.append(entry.entry("attributes").number("rotation"))
    return turned_corners(corners, next(filter(None, degrees), 0.0), entry.where)


def _attributes(entry: Entry) -> dict[str, Any]:
    """The attributes that CVAT gives an annotation; none in files of other tools."""
    attributes = entry.fields.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _odd_areas(photos: Iterable[RawPhoto]) -> tuple[str, ...]:
    """The remark about areas that no object in its box can have, if there are any."""
    stated = [(box.area, box.corners) for photo in photos for box in photo.boxes if box.area is not None]
    # A tool may count the last pixel of a side too, and round.
    most = ((x2 - x1 + 1) * (y2 - y1 + 1) * 1.01 for _, (x1, y1, x2, y2) in stated)
    odd = sum(not 0 < area <= limit for (area, _), limit in zip(stated, most, strict=True))
    if not odd:
        return ()
    return (f"areas of 0 or larger than the box: {odd}; they count as they stand, as in pycocotools",)


def _corners(entry: Entry, left_out: Counter[str]) -> Corners:
    """The corners of ``bbox``, or of the box around the outline of an object that has none."""
    if entry.fields.get("bbox") or not entry.fields.get("segmentation"):
        x, y, width, height = entry.numbers("bbox", 4)
        return x, y, x + width, y + height
    outlines = entry.value("segmentation", list, "a list of outlines, where bbox is missing")
    points: list[tuple[float, float]] = []
    for number, outline in enumerate(outlines):
        one = Entry(f"{entry.where}: segmentation", {str(number): outline})
        numbers = one.numbers(str(number))
        if len(numbers) % 2:
            one.refuse(str(number), "pairs of numbers, x and y")
        points += zip(numbers[::2], numbers[1::2], strict=True)
    left_out[OUTLINED] += 1
    return outer_box(points, entry.where)


def _photo(entry: Entry, boxes: list[RawBox]) -> RawPhoto:
    size_hw = entry.size_hw("height", "width")
    name, left_out = entry.text("file_name"), entry.flag("left_out")
    return RawPhoto(entry.where, name, tuple(boxes), entry.flag("reviewed"), size_hw, left_out=left_out)


def _note_fields(entry: Entry, known: Collection[str], left_out: Counter[str]) -> None:
    left_out.update(field[:40] for field, value in entry.fields.items() if field not in known and value)
