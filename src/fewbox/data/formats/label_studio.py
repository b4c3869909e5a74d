"""Label Studio JSON: a list of tasks, as its export "JSON" writes it.

Boxes are in percent of the photo. A task whose annotation is empty says "looked at, nothing
there"; a task without annotation was not looked at. What a model proposed is not read. The
note ``ignore`` on a region (``meta``) is a box to ignore.

A task names its photo by a URL. What is uploaded gets eight digits and a hyphen in front:
``/data/upload/1/0a1b2c3d-cup.jpg``; what is served from a folder stands after ``?d=``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats.folders import written_names
from fewbox.data.formats.json_file import Entry, entries, load_json
from fewbox.data.formats.raw import (
    NO_INSIDE,
    OUTLINED,
    Corners,
    Points,
    RawAnnotations,
    RawBox,
    RawPhoto,
    labels_in_use,
    not_read,
    outer_box,
    refuse_rotated,
    turned_corners,
)
from fewbox.data.formats.text_file import WRITE_AGAIN_HINT
from fewbox.data.images import PHOTO_SUFFIXES
from fewbox.errors import AnnotationError

_ANNOTATIONS = ("annotations", "completions")  # the latter until version 0.9
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
_LINES = ("keypointlabels", "vectorlabels", "keypoint", "vector")
_LABELLED = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_UNLABELLED = ("rectangle", "polygon", "ellipse", "brush")
# They say something of the photo, of a region that stands beside them, or of a text. Of all others, those
# that may mark a place are refused: left out, they would make the photo count as empty.
_PLACELESS = (
    "choices",
    "textarea",
    "relation",
    "rating",
    "number",
    "datetime",
    "taxonomy",
    "pairwise",
    "ranker",
    "chatmessage",
)
_OF_TEXTS = ("hypertextlabels", "paragraphlabels", "timeserieslabels")
# What the value of a region has that marks a place.
_PLACE_FIELDS = frozenset({"x", "y", "points", "vertices", "rle", "sequence", "bbox", "imageDataURL"})
_EXPORT_HINT = "export the project again as 'JSON'"


def read_label_studio(path: Path) -> RawAnnotations:
    """Read an export.

    Raises:
        AnnotationError: it is another kind of export, a photo has two annotations, or a
            region is not understood.
    """
    top = load_json(path, path.name)
    left_out: Counter[str] = Counter()
    tasks = entries(top if isinstance(top, list) else [top], f"{path.name}: task")
    photos = tuple(_photo(task, left_out) for task in tasks)
    labels = labels_in_use(photos, [])
    return RawAnnotations("labelstudio", path.name, photos, labels, (path.parent,), not_read(left_out))


def label_studio_text(annotations: AnnotationSet) -> str:
    """The set as tasks to import; ``data.image`` is the name of the photo, with folders if it repeats."""
    names = written_names([image.path for image in annotations])
    pairs = enumerate(zip(names, annotations, strict=True), start=1)
    tasks = [_task(image, number, name) for number, (name, image) in pairs]
    return json.dumps(tasks, indent=1) + "\n"


def _photo(task: Entry, left_out: Counter[str]) -> RawPhoto:
    if "data" not in task.fields:
        message = f"{task.where}: data is missing: not Label Studio's export 'JSON'"
        raise AnnotationError(message, hint=_EXPORT_HINT)
    data = task.entry("data")
    annotation = _annotation(task, left_out)
    regions = [] if annotation is None else annotation.entries("result")
    marked = {str(region.fields.get("to_name", "image")) for region in regions if _marks_place(region)}
    url = _url(data, marked)
    if (
        len(marked) > 1
        or any(isinstance(other, str) and other != url for other in map(data.fields.get, marked))
        or any(region.fields.get("item_index") for region in regions)
    ):
        message = f"{task.where}: regions of several photos"
        raise AnnotationError(message, hint="a task must have one photo: label each in a task of its own")
    labelled_ids = {str(region.fields.get("id")) for region in regions if region.text("type") == "labels"}
    boxes = [box for region in regions if (box := _box(region, labelled_ids, left_out)) is not None]
    sizes = [region.size_hw("original_height", "original_width") for region in regions]
    stated = {size_hw for size_hw in sizes if size_hw is not None}
    if len(stated) > 1:
        raise AnnotationError(
            f"{task.where}: regions state different sizes of the photo", hint=WRITE_AGAIN_HINT
        )
    names = _names(url)
    size_hw = stated.pop() if stated else None
    # Points mark objects: a photo with nothing else is not empty.
    reviewed = annotation is not None and (bool(boxes) or all(r.text("type") not in _LINES for r in regions))
    return RawPhoto(task.where, names[0], tuple(boxes), reviewed, size_hw, tuple(names[1:]))


def _url(data: Entry, marked: set[str]) -> str:
    """The value of ``image``, or else the only photo that is named: projects call the value as they like.

    Photos in a list may be the pages of the task, or others that are shown beside its own. They count where
    regions are ``marked`` in them, where no value is a photo itself, and where it is one of them.
    """
    if "image" in data.fields and not isinstance(data.fields["image"], list):
        return data.text("image")
    photos = {key: _photos_of(value) for key, value in data.fields.items()}
    plain = {key: photos[key] for key, value in data.fields.items() if isinstance(value, str)}
    in_lists = [url for key in photos if key not in plain for url in photos[key]]
    if "image" in data.fields:
        counted = {"image": photos["image"]}
    elif len(marked) == 1 and any(photos.get(key) for key in marked):
        counted = {key: photos[key] for key in marked}
    elif any(plain.values()) and not any(url in in_lists for urls in plain.values() for url in urls):
        counted = plain
    else:
        counted = photos
    urls = list(dict.fromkeys(url for of_key in counted.values() for url in of_key))
    if len(urls) != 1:
        message = f"{data.where}: {len(urls)} photos are named"
        raise AnnotationError(message, hint="a task has one photo; call it 'image' in the labelling setup")
    return urls[0]


def _photos_of(value: object) -> list[str]:
    """The photos that a value names, or those in a list."""
    return [
        one
        for one in (value if isinstance(value, list) else [value])
        if isinstance(one, str) and _is_photo(one)
    ]


def _is_photo(url: str) -> bool:
    return any(PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES for name in _names(url))


def _names(url: str) -> list[str]:
    """What the photo of a URL may be called, best first."""
    names = [url]
    try:
        parts = urlsplit(url)
        served = parse_qs(parts.query).get("d", [])
    except ValueError:  # no URL, but it may still be a name
        return names
    names += served or [unquote(parts.path).lstrip("/")]
    *folders, last = PurePosixPath(names[-1].replace("\\", "/")).parts or ("",)
    # Elsewhere eight digits are part of the name, as a date is.
    is_plain = not folders and not parts.netloc and not last[:8].isdecimal()
    is_uploaded = not served and ("upload" in folders or is_plain)
    if is_uploaded and _UPLOADED.match(last):
        names += [last, _UPLOADED.sub("", last, count=1)]
    return list(dict.fromkeys(names))


def _annotation(task: Entry, left_out: Counter[str]) -> Entry | None:
    """What a person drew, or none: those they skipped do not count."""
    if task.fields.get("predictions"):
        left_out["predictions"] += 1
    if task.fields.get("drafts"):
        left_out["drafts"] += 1
    both = [key for key in _ANNOTATIONS if task.fields.get(key)]
    if len(both) > 1:
        raise AnnotationError(f"{task.where}: both {' and '.join(both)}", hint=_EXPORT_HINT)
    key = both[0] if both else next((key for key in _ANNOTATIONS if key in task.fields), _ANNOTATIONS[0])
    drawn = [entry for entry in task.entries(key) if not entry.flag("was_cancelled")]
    chosen = [entry for entry in drawn if entry.flag("ground_truth")] or drawn
    if len(chosen) > 1:
        message = f"{task.where}: {len(chosen)} annotations of one photo"
        raise AnnotationError(
            message, hint="mark one as the ground truth in Label Studio, or delete the others"
        )
    return chosen[0] if chosen else None


def _box(region: Entry, labelled_ids: set[str], left_out: Counter[str]) -> RawBox | None:
    kind = region.text("type")
    if kind in _UNLABELLED and str(region.fields.get("id")) in labelled_ids:
        return None  # the region "labels" of the same id repeats its place
    if kind in _LINES:
        left_out[NO_INSIDE] += 1
        return None
    if kind not in (*_LABELLED, *_UNLABELLED):
        if kind in (*_PLACELESS, *_OF_TEXTS) or not _may_mark_place(region):
            left_out[kind[:40]] += 1
            return None
        message = f"{region.where}: {kind[:40]!r} is no box"
        raise AnnotationError(message, hint="draw a box around the object instead")
    value = region.entry("value")
    corners = _corners(value)
    if "width" not in value.fields:
        left_out[OUTLINED] += 1
    if region.fields.get("image_rotation") and region.number("image_rotation") % 360:
        refuse_rotated(region.where)
    ignore = "ignore" in _notes(region)
    if region.fields.get("score") is not None:
        left_out["score"] += 1
    turned = _turned(region, value, corners)
    return RawBox(region.where, corners, _label(kind, value), ignore, unit=True, turned=turned)


def _marks_place(region: Entry) -> bool:
    value = region.fields.get("value")
    return isinstance(value, dict) and not _PLACE_FIELDS.isdisjoint(value)


def _may_mark_place(region: Entry) -> bool:
    """Whether a region of a kind that is not known has the size of a photo, or any number in its value."""
    within = [region.fields.get("value")]
    for one in within:  # which grows meanwhile
        within += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    numbers = [one for one in within if isinstance(one, int | float) and not isinstance(one, bool)]
    return bool(numbers) or "original_width" in region.fields or _marks_place(region)


def _corners(value: Entry) -> Corners:
    """The box of a region, or the one around it, in parts of the photo."""
    if "points" in value.fields:
        return outer_box([(x / 100, y / 100) for x, y in value.points("points")], value.where)
    if "radiusX" in value.fields:
        x, y, across, down = (value.number(key) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        return x - across, y - down, x + across, y + down
    x, y, width, height = (value.number(key) / 100 for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _turned(region: Entry, value: Entry, corners: Corners) -> Points:
    """The corners of a region that is turned, in parts of the photo: a box about its left upper corner."""
    degrees = value.number("rotation") if value.fields.get("rotation") else 0.0
    if degrees % 360 == 0:
        return ()
    size_hw = region.size_hw("original_height", "original_width")
    if size_hw is None:  # without it nobody can turn parts of a photo
        refuse_rotated(value.where)
    height, width = size_hw
    x1, y1, x2, y2 = corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height
    about = (x1, y1) if "width" in value.fields else None
    points = turned_corners((x1, y1, x2, y2), degrees, value.where, about=about)
    return tuple((x / width, y / height) for x, y in points)


def _label(kind: str, value: Entry) -> str:
    key = kind if kind.endswith("labels") else "labels"
    expected = "a list with one label"
    labels = value.value(key, list, expected)
    if len(labels) != 1 or not isinstance(labels[0], str):
        value.refuse(key, expected)
    return str(labels[0])


def _notes(region: Entry) -> list[Any]:
    meta = region.fields.get("meta")
    notes = meta.get("text") if isinstance(meta, dict) else None
    return notes if isinstance(notes, list) else [notes]


def _task(image: AnnotatedImage, number: int, name: str) -> dict[str, Any]:
    regions = [_region(box, image.size_hw, str(i)) for i, box in enumerate(image.boxes, start=1)]
    annotations = [{"id": number, "was_cancelled": False, "result": regions}] if image.reviewed else []
    return {"id": number, "data": {"image": name}, "annotations": annotations, "predictions": []}


def _region(box: Box, size_hw: tuple[int, int], region_id: str) -> dict[str, Any]:
    height, width = size_hw
    region = {
        "id": region_id,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": box.x1 / width * 100,
            "y": box.y1 / height * 100,
            "width": (box.x2 - box.x1) / width * 100,
            "height": (box.y2 - box.y1) / height * 100,
            "rotation": 0,
            "rectanglelabels": [box.label],
        },
    }
    return {**region, "meta": {"text": ["ignore"]}} if box.ignore else region
