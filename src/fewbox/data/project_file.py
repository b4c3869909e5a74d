"""What the project file says, as an object: read, changed box by box, written again.

The file is COCO JSON with fields of our own: on an image ``reviewed``, as everywhere in fewbox, and
``left_out``, which is there only where it is true; on an annotation ``box_id``, the name that whoever
drew the box gave it, so that saying the same thing twice changes nothing. A box without one is called
``coco-`` and its id.

It is changed in place: a field that is not understood, an id and the order of entries stay as
they are. Every entry has a line of its own, so that a diff shows which boxes have changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fewbox.core import counted
from fewbox.data import checked_label, photo_key, plain_label, plain_path
from fewbox.data.annotations import Box, checked_box, require_size
from fewbox.data.formats.coco import corners_as_turned
from fewbox.data.formats.fitting import MAX_MOVED, moved, require_pixels
from fewbox.data.formats.json_file import Entry, parse_object, unused_id
from fewbox.data.formats.raw import RawBox, refuse_rotated
from fewbox.errors import AnnotationError

_BOX_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Finer than a hand can draw on any screen, and short enough to be read in a diff.
_DECIMALS = 2

_NEW = '{"info": {}, "images": [], "annotations": [], "categories": []}'

# JSON has no word for infinity and the like. Not ASCII, so that a diff shows names as they are.
_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True)
class DrawnBox:
    """A box and the name it goes by in its photo: up to 64 letters, digits, ``-`` and ``_``."""

    id: str
    box: Box

    def __post_init__(self) -> None:
        if not _BOX_ID.fullmatch(self.id):
            raise AnnotationError(
                f"not an id of a box: {self.id[:80]!r}", hint="use letters, digits, - and _"
            )


@dataclass(frozen=True)
class PhotoState:
    """What the file says about one photo; the states are those of :mod:`fewbox.data.annotations`."""

    boxes: tuple[DrawnBox, ...] = ()
    reviewed: bool = False
    size_hw: tuple[int, int] | None = None
    """As the file states it."""
    left_out: bool = False
    """Somebody has left the photo out: it is neither learnt from nor to be looked at."""


class ProjectFile:
    """The content of a project file.

    Args:
        text: what is in the file; None for a file that is not there yet.
        source: what messages call the file.

    Raises:
        AnnotationError: the text is not COCO JSON, or another program's boxes are rotated or in parts of the
            photo; the message says where.
    """

    def __init__(self, text: str | None, source: str) -> None:
        self._source = source
        top = parse_object(_NEW if text is None else text, source)
        self._top = top.fields
        self._labels: dict[int, str] = {}
        for entry in top.entries("categories"):
            label = entry.text("name")
            if label in self._labels.values():
                entry.refuse("name", "different from the names before it")
            self._labels[unused_id(entry, self._labels)] = label
        self._images: dict[str, Entry] = {}
        self._boxes: dict[int, dict[str, Entry]] = {}
        # Of photos asked for and entries written, as long as they stay as they are: so that with thousands of
        # photos a change costs no more than with ten.
        self._states: dict[str, PhotoState] = {}
        self._lines: dict[int, str] = {}
        for entry in top.entries("images"):
            self._read_image(entry)
        annotation_ids: set[int] = set()
        for entry in top.entries("annotations"):
            annotation_ids.add(unused_id(entry, annotation_ids))
            self._read_box(entry)
        self._last_id = max(annotation_ids, default=0)
        entries = [entry for boxes in self._boxes.values() for entry in boxes.values()]
        if not any("box_id" in entry.fields for entry in entries):  # nobody has drawn here yet
            require_pixels(map(_edges, map(self._box, entries)), source)

    def _read_image(self, entry: Entry) -> None:
        name = entry.text("file_name")
        if photo_key(name) in self._images:
            entry.refuse("file_name", "different from the names before it")
        entry.flag("reviewed"), entry.flag("left_out")
        entry.size_hw("height", "width")
        self._boxes[unused_id(entry, self._boxes)] = {}
        self._images[photo_key(name)] = entry

    def _read_box(self, entry: Entry) -> None:
        image_id = entry.whole("image_id")
        if image_id not in self._boxes:
            entry.refuse("image_id", "the id of an image in this file")
        if entry.whole("category_id") not in self._labels:
            entry.refuse("category_id", "the id of a category in this file")
        edges = _edges(self._box(entry))
        turned = RawBox(entry.where, edges, None, turned=corners_as_turned(entry, edges))
        if moved(turned, (1, 1)) > MAX_MOVED:
            refuse_rotated(entry.where)
        box_id = _box_id(entry)
        if not _BOX_ID.fullmatch(box_id):
            entry.refuse("box_id", "letters, digits, - and _")
        if box_id in self._boxes[image_id]:
            raise AnnotationError(
                f"{entry.where}: another box of this photo has the box_id {box_id}", hint="remove this box_id"
            )
        self._boxes[image_id][box_id] = entry

    @property
    def labels(self) -> list[str]:
        """The labels in the order of their category ids."""
        return [self._labels[category_id] for category_id in sorted(self._labels)]

    @property
    def names(self) -> list[str]:
        """The photos that the file speaks of, in its order."""
        return [plain_path(entry.text("file_name")) for entry in self._images.values()]

    def photo(self, name: str) -> PhotoState:
        """What is said about a photo; of one that the file does not know, that nobody has looked at it."""
        key = photo_key(name)
        if key not in self._images:
            return PhotoState()
        if key not in self._states:
            self._states[key] = self._state(self._images[key])
        return self._states[key]

    def _state(self, entry: Entry) -> PhotoState:
        boxes = tuple(
            DrawnBox(box_id, self._box(box)) for box_id, box in self._boxes[entry.fields["id"]].items()
        )
        reviewed = entry.flag("reviewed") or bool(boxes)
        return PhotoState(boxes, reviewed, entry.size_hw("height", "width"), entry.flag("left_out"))

    def _box(self, entry: Entry) -> Box:
        x, y, width, height = entry.numbers("bbox", 4)
        label = self._labels[entry.fields["category_id"]]
        # Rounded, as a sum of floats is: 0.1 + 0.2 is 0.30000000000000004.
        x2, y2 = round(x + width, 6), round(y + height, 6)
        return Box(x, y, x2, y2, label, entry.flag("iscrowd"), entry.stated_area())

    def change_photo(
        self,
        name: str,
        size_hw: tuple[int, int] | None,
        *,
        put: Sequence[DrawnBox] = (),
        delete: Iterable[str] = (),
        reviewed: bool | None = None,
        left_out: bool | None = None,
    ) -> None:
        """Add, replace and remove boxes of a photo by their ids; the same change twice is one change.

        Args:
            name: the photo's path below the folder of the file, with ``/``.
            size_hw: the size of the upright photo; None if it cannot be read, when nothing can be put.
            put: each replaces the box of its id, or is added. Labels that are new are added too.
            delete: ids of boxes to remove; unknown ones may have been removed by somebody else.
            reviewed: whether the photo has been looked at; left out, that stays as it is. A photo with
                boxes always has been.
            left_out: whether the photo is left out; None keeps that as it is. A photo without boxes that
                is left out counts as not reviewed, so that no other program takes it for background.

        Raises:
            AnnotationError: a box does not fit the photo, or has no proper label. Or the photo had another
                size when its boxes were drawn: then it can be left out, or all of them be deleted.
        """
        before = self.photo(name)
        self._states.pop(photo_key(name), None)
        where = f"{self._source}: {name}"
        is_out = before.left_out if left_out is None else left_out
        stay = {drawn.id for drawn in before.boxes} - {*delete}
        if before.boxes and before.size_hw and size_hw:
            if put or (stay and not is_out):
                require_size(before.size_hw, size_hw, where)
            if stay:  # the size that they were drawn on, so that taking the photo in again still notices
                size_hw = before.size_hw
        entry = self._image_entry(name, size_hw)
        boxes = self._boxes[entry["id"]]
        gone = {boxes.pop(box_id).fields["id"] for box_id in set(delete) & boxes.keys()}
        if gone:
            self._top["annotations"] = [box for box in self._top["annotations"] if box["id"] not in gone]
        for drawn in put:
            assert size_hw is not None
            label = checked_label(drawn.box.label)
            box = checked_box(drawn.box, size_hw, [drawn.box.label], f"{where}: box {drawn.id}")
            self._put(entry["id"], drawn.id, box, self._category_id(label))
        looked_at = before.reviewed if reviewed is None else reviewed
        entry["reviewed"] = (looked_at and not is_out) or bool(boxes)
        entry.pop("left_out", None)
        if is_out:
            entry["left_out"] = True
        self._lines.pop(id(entry), None)

    def _image_entry(self, name: str, size_hw: tuple[int, int] | None) -> dict[str, Any]:
        """The photo's entry, made if there is none, with the photo's size if that is known."""
        if photo_key(name) not in self._images:
            fields = {"id": max(self._boxes, default=0) + 1, "file_name": name}
            self._images[photo_key(name)] = Entry(f"{self._source}: {name}", fields)
            self._boxes[fields["id"]] = {}  # type: ignore[index]
            self._top["images"].append(fields)
        entry = self._images[photo_key(name)].fields
        if size_hw is not None:
            entry["width"], entry["height"] = size_hw[1], size_hw[0]
        return entry

    def _put(self, image_id: int, box_id: str, box: Box, category_id: int) -> None:
        entry = self._boxes[image_id].get(box_id)
        if entry is None:
            self._last_id += 1
            fields = {"id": self._last_id, "image_id": image_id, "category_id": 0, "bbox": [], "area": 0}
            entry = Entry(f"{self._source}: box {box_id}", fields | {"iscrowd": 0, "box_id": box_id})
            self._boxes[image_id][box_id] = entry
            self._top["annotations"].append(entry.fields)
        edges = (box.x1, box.y1, box.x2, box.y2)
        if not entry.fields["bbox"] or edges != _edges(self._box(entry)):
            # Else it keeps the digits that another program wrote.
            x1, y1, x2, y2 = map(_short, edges)
            sides = (_short(x2 - x1), _short(y2 - y1))
            if min(sides) <= 0:
                raise AnnotationError(f"{entry.where}: too small: {edges}", hint="draw the box again")
            entry.fields.update(bbox=[x1, y1, *sides], area=_short(sides[0] * sides[1]))
            if isinstance(attributes := entry.fields.get("attributes"), dict):
                attributes.pop("rotation", None)  # what is drawn here is upright
        self._lines.pop(id(entry.fields), None)
        entry.fields["category_id"] = category_id
        if box.ignore != entry.flag("iscrowd"):
            entry.fields["iscrowd"] = int(box.ignore)

    def _category_id(self, label: str, wanted: int | None = None) -> int:
        """The id of a class, which is added if it is not there; under the id ``wanted`` if that is free."""
        same = [category_id for category_id, known in self._labels.items() if plain_label(known) == label]
        if same:
            return same[0]
        next_id = max(self._labels, default=0) + 1
        category_id = next_id if wanted is None or wanted in self._labels else wanted
        self._labels[category_id] = label
        entry = {"id": category_id, "name": label}
        categories = self._top["categories"]
        categories.insert(sum(other["id"] < category_id for other in categories), entry)
        self._lines.pop(id(entry), None)
        return category_id

    def add_labels(self, labels: Iterable[str]) -> None:
        """Add those classes that are not there yet.

        Raises:
            AnnotationError: a label is empty or too long.
        """
        for label in labels:
            self._category_id(checked_label(label))

    def category_id(self, label: str) -> int:
        """The id of a class; an AnnotationError if there is no such class."""
        return int(self._category(label)["id"])

    def restore_label(self, label: str, category_id: int) -> None:
        """Add a class that was removed, under the id that it had, so that it comes back to its place."""
        self._category_id(checked_label(label), category_id)

    def rename_label(self, old: str, new: str) -> None:
        """Give a class another name; its boxes follow.

        Raises:
            AnnotationError: there is no class ``old``, or there is one called ``new``.
        """
        entry = self._category(old)
        new = checked_label(new)
        if new != old and new in self._labels.values():
            raise AnnotationError(f"two classes would have one label: {new}", hint="choose another name")
        self._labels[entry["id"]] = entry["name"] = new
        self._lines.pop(id(entry), None)
        self._states.clear()

    def merge_label(self, old: str, new: str) -> None:
        """Give the boxes of a class another one that is there, and remove the first.

        Raises:
            AnnotationError: there is no class ``old``, or none ``new``, or they are one.
        """
        gone, kept = self._category(old), self._category(new)
        if gone is kept:
            raise AnnotationError(f"one class cannot be merged with itself: {old}", hint="name two classes")
        for entry in self._top["annotations"]:
            if entry["category_id"] == gone["id"]:
                entry["category_id"] = kept["id"]
                self._lines.pop(id(entry), None)
        self._states.clear()
        self.remove_label(old)

    def delete_label(self, label: str) -> None:
        """Remove a class with its boxes; a photo that had no others counts as not reviewed.

        Nobody has said that the photo is empty.

        Raises:
            AnnotationError: there is no such class.
        """
        category_id = self._category(label)["id"]
        kept = [box for box in self._top["annotations"] if box["category_id"] != category_id]
        self._top["annotations"] = kept
        for image in self._images.values():
            boxes = self._boxes[image.fields["id"]]
            left = {key: box for key, box in boxes.items() if box.fields["category_id"] != category_id}
            if boxes and not left:
                image.fields["reviewed"] = False
                self._lines.pop(id(image.fields), None)
            self._boxes[image.fields["id"]] = left
        self._states.clear()
        self.remove_label(label)

    def remove_label(self, label: str) -> None:
        """Remove a class that no box has.

        Raises:
            AnnotationError: there is no such class, or a box has it.
        """
        entry = self._category(label)
        used = sum(box["category_id"] == entry["id"] for box in self._top["annotations"])
        if used:
            hint = "remove its boxes, or give them another class, first"
            raise AnnotationError(f"{counted(used, 'box has', 'boxes have')} the label {label}", hint=hint)
        self._top["categories"].remove(entry)
        del self._labels[entry["id"]]

    def _category(self, label: str) -> dict[str, Any]:
        for entry in self._top["categories"]:
            if entry["name"] == label:
                found: dict[str, Any] = entry
                return found
        raise AnnotationError(f"no class has the label {label!r}", hint=f"labels: {', '.join(self.labels)}")

    def to_bytes(self) -> bytes:
        """The file's bytes, UTF-8."""
        parts = []
        for key, value in self._top.items():
            if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
                text = "[\n  " + ",\n  ".join(map(self._line, value)) + "\n ]"
            else:
                text = _to_json(value)
            parts.append(f" {_to_json(key)}: {text}")
        text = "{\n" + ",\n".join(parts) + "\n}\n"
        # A file name on Linux may hold bytes that are no text. Python keeps them as lone surrogates, and
        # its escape for those is JSON's.
        return text.encode("utf-8", "backslashreplace")

    def _line(self, entry: dict[str, Any]) -> str:
        # By where the entry is in memory: another one may be there later, so whatever makes or changes
        # an entry removes its line.
        line = self._lines.get(id(entry))
        if line is None:
            line = self._lines[id(entry)] = _to_json(entry)
        return line


def _box_id(entry: Entry) -> str:
    return entry.text("box_id") if "box_id" in entry.fields else f"coco-{entry.fields['id']}"


def _edges(box: Box) -> tuple[float, float, float, float]:
    return (box.x1, box.y1, box.x2, box.y2)


def _short(number: float) -> float:
    """Rounded, and without the ``.0`` of a whole number."""
    rounded = round(number, _DECIMALS)
    return int(rounded) if rounded == int(rounded) else rounded
