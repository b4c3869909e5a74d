"""Boxes held against their photo; those that nearly fit are cut at its edge, taken as upright, or left out.

Tools let a box reach over the edge of the photo, keep an angle of a tenth of a degree that a slip
of the mouse made, and write boxes without width. None of that is a reason to refuse a data set.
What is far outside or truly turned is: such boxes belong to another photo or are no upright boxes.
``strict`` refuses all of it, and so does a set of arrays: who computes boxes can clip them.
docs/decisions/0052 has the reasons for the limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewbox.core import counted
from fewbox.core.arguments import checked_path, kind_of
from fewbox.data.annotations import (
    MAX_OUTSIDE,
    MIN_SIDE,
    SAVE_HINT,
    AnnotatedImage,
    AnnotationSet,
    Box,
    require_size,
)
from fewbox.data.decoding import lies_sideways
from fewbox.data.formats.raw import Corners, RawAnnotations, RawBox, RawPhoto, refuse_rotated
from fewbox.data.images import StrPath, photo_path, read_size_hw
from fewbox.data.photo_file import opened
from fewbox.data.remote import is_remote
from fewbox.errors import AnnotationError

_NO_LISTS = (Mapping, set, frozenset)  # the keys and the values of a dict have an order
# Of its area: a box of which no more is in the photo says little about what is in the photo.
MIN_INSIDE = 0.5

# Of a side: where a file counts in pixels and states no size, boxes that reach further may be of another
# photo.
MAX_REACH = 0.05

# Pixels by which a corner of a turned box may lie beside that of the upright one.
MAX_MOVED = 1.0

# Parts of a photo begin below the first of these, and end below the second, also if one reaches over the
# edge. In pixels nobody draws so small a box, in that corner.
_PARTS_BEGIN, _PARTS_END = 1.0, 2.0
_PARTS_HINT = "these seem to be parts of the photo: multiply by its width and height"

# Less than this is rounding: not worth a word, and no reason to refuse.
_ROUNDING = 0.05


def require_pixels(
    corners: Iterable[Corners], source: str, hint: str = _PARTS_HINT, such_as: str = ""
) -> None:
    """Refuse boxes that a file gives in parts of the photo where pixels are expected.

    One that reaches over the edge, such as to 1.0000001, is in parts as well; a flat one tells nothing.

    Raises:
        AnnotationError: no box reaches beyond the first two pixels of its photo.
    """
    solid = [(x1, y1, x2, y2) for x1, y1, x2, y2 in corners if x2 > x1 and y2 > y1]
    if solid and all(max(b[:2]) < _PARTS_BEGIN and max(map(abs, b)) < _PARTS_END for b in solid):
        message = f"{source}: every box lies within the first two pixels of its photo{such_as}"
        raise AnnotationError(message, hint=hint)


def require_pixels_in(raw: RawAnnotations) -> None:
    """The same of what a file says, without the boxes that it says are in parts."""
    boxes = (box for photo in raw.photos for box in photo.boxes if not box.unit)
    require_pixels((box.corners for box in boxes), raw.source)


def require_set_in_pixels(annotations: AnnotationSet) -> None:
    """The same of a set, where it is made of arrays, learnt from or written.

    Not of every set: one may hold the only photo of a larger one with so small a box.
    """
    boxes = [
        (f": {name}: box {number}: ", (box.x1, box.y1, box.x2, box.y2))
        for name, image in zip(annotations.names, annotations, strict=True)
        for number, box in enumerate(image.boxes, start=1)
    ]
    such_as = "{}({:g}, {:g}, {:g}, {:g})".format(boxes[0][0], *boxes[0][1]) if boxes else ""
    require_pixels((corners for _, corners in boxes), annotations.source, such_as=such_as)


def is_flat(corners: Corners) -> bool:
    """Tell whether a box has no width or no height."""
    x1, y1, x2, y2 = corners
    return (0 <= x2 - x1 < MIN_SIDE and y2 >= y1) or (0 <= y2 - y1 < MIN_SIDE and x2 >= x1)


def reach(corners: Corners, size_hw: tuple[int, int]) -> float:
    """By how many pixels a box reaches over the edge of its photo."""
    x1, y1, x2, y2 = corners
    return max(-x1, -y1, x2 - size_hw[1], y2 - size_hw[0], 0.0)


def moved(box: RawBox, size_hw: tuple[int, int]) -> float:
    """By how many pixels the corners of a turned box lie beside those of the upright one; 0 if rounding."""
    height, width = size_hw if box.unit else (1, 1)
    x1, y1, x2, y2 = box.corners
    upright = [(x * width, y * height) for x in (x1, x2) for y in (y1, y2)]
    stated = [(x * width, y * height) for x, y in box.turned]
    farthest = max((min(math.dist(point, corner) for corner in upright) for point in stated), default=0.0)
    return farthest if farthest > _ROUNDING else 0.0


def may_be_cut(corners: Corners, size_hw: tuple[int, int], photo: RawPhoto) -> bool:
    """Tell whether a box that reaches over the edge of its photo may be cut there."""
    x1, y1, x2, y2 = corners
    height, width = size_hw
    across, down = min(x2, width) - max(x1, 0.0), min(y2, height) - max(y1, 0.0)
    if not all(map(math.isfinite, corners)) or min(across, down, x2 - x1, y2 - y1) <= 0:
        return False
    # Quotients, as the area of a box of absurd size is infinite.
    if across / (x2 - x1) * (down / (y2 - y1)) <= MIN_INSIDE:
        return False
    if _is_size_known(photo):
        return True
    reaches = (max(-x1, x2 - width) / width, max(-y1, y2 - height) / height)
    return max(reaches) <= MAX_REACH


def cut(corners: Corners, size_hw: tuple[int, int]) -> Corners:
    """The part of a box that is in its photo."""
    x1, y1, x2, y2 = corners
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(size_hw[1])), min(y2, float(size_hw[0]))


def are_of_turned_photo(photo: RawPhoto, corners: Sequence[Corners], size_hw: tuple[int, int]) -> bool:
    """Tell whether boxes in pixels of a photo whose size is not stated fit it only as it lies on its side."""
    solid = [edges for edges in corners if not is_flat(edges)]  # a flat box is left out wherever it lies
    if _is_size_known(photo) or all(reach(edges, size_hw) <= MAX_OUTSIDE for edges in solid):
        return False
    return size_hw[0] != size_hw[1] and all(reach(edges, size_hw[::-1]) <= MAX_OUTSIDE for edges in solid)


def _is_size_known(photo: RawPhoto) -> bool:
    """Whether the boxes are for certain those of a photo of this size, or fit any."""
    return photo.size_hw is not None or all(box.unit for box in photo.boxes)


@dataclass
class Fitting:
    """Makes the boxes of a set fit their photos, and counts what it did; ``strict`` changes nothing."""

    strict: bool = False
    cut: int = 0
    farthest: float = 0.0
    flat: int = 0
    only_flat: int = 0
    tilted: int = 0

    def fitted(self, photo: RawPhoto, path: Path, size_hw: tuple[int, int]) -> list[tuple[RawBox, Corners]]:
        """The boxes of a photo that remain, each with its corners in pixels.

        Args:
            photo: what the file says of it.
            path: the photo itself.
            size_hw: its upright size.

        Raises:
            AnnotationError: a box is turned too far. A box too far outside is returned as it is.
        """
        corners = [box.corners_in(size_hw) for box in photo.boxes]
        stays = self.strict or (are_of_turned_photo(photo, corners, size_hw) and _lies_sideways(path))
        kept: list[tuple[RawBox, Corners]] = []
        for box, edges in zip(photo.boxes, corners, strict=True):
            distance = moved(box, size_hw)
            if distance > (0 if self.strict else MAX_MOVED):
                refuse_rotated(box.where)
            self.tilted += distance > 0
            if not self.strict and is_flat(edges):
                self.flat += 1
                continue
            over = reach(edges, size_hw)
            if over > MAX_OUTSIDE and not stays and may_be_cut(edges, size_hw, photo):
                self.cut, self.farthest = self.cut + 1, max(self.farthest, over)
                edges = cut(edges, size_hw)
            kept.append((box, edges))
        self.only_flat += bool(corners) and not kept
        return kept

    def remark(self) -> str | None:
        """What was done, in one line; none if it was nothing."""
        parts = []
        if self.cut:
            reach_out = counted(self.cut, "box reaches", "boxes reach")
            parts.append(
                f"{reach_out} over the edge of the photo: cut there (by up to {self.farthest:.3g} pixels)"
            )
        if self.tilted:
            parts.append(f"{counted(self.tilted, 'box')} turned by a pixel or less: read as upright")
        if self.flat:
            parts.append(f"{counted(self.flat, 'box')} without width or height: left out")
        if self.only_flat:
            photos = counted(self.only_flat, "photo has", "photos have")
            parts.append(f"{photos} no other box: not looked at")
        return "; ".join(parts) or None


def _lies_sideways(path: Path) -> bool:
    with opened(path) as image:
        return lies_sideways(image)


def annotated_image(raw: RawPhoto, path: Path, label: str, fitting: Fitting) -> AnnotatedImage:
    """Hold what a file says of one photo against it; ``label`` is the class where the file names none.

    Raises:
        AnnotationError: the photo has another size, or a box does not fit at all.
        PhotoError: the photo cannot be read.
    """
    size_hw = read_size_hw(path)
    if raw.size_hw is not None:
        require_size(raw.size_hw, size_hw, f"{raw.where}: {path.name}")
    boxes = [
        Box(x1, y1, x2, y2, label if box.label is None else box.label.strip(), box.ignore, box.area)
        for box, (x1, y1, x2, y2) in fitting.fitted(raw, path, size_hw)
    ]
    # A flat box that is left out leaves no empty photo: something was drawn there.
    return AnnotatedImage(path, size_hw, tuple(boxes), raw.reviewed and bool(boxes) == bool(raw.boxes))


def images_from_arrays(
    paths: Sequence[StrPath], boxes: Sequence[Any], labels: Sequence[Any] | str
) -> list[AnnotatedImage]:
    """The photos of ``AnnotationSet.from_arrays``; arguments and errors as there."""
    for given, what in ((paths, "paths"), (boxes, "boxes"), (labels, "labels")):
        is_list = hasattr(given, "__len__") and not isinstance(given, _NO_LISTS) and not _is_table(given)
        if not is_list or (isinstance(given, str) and what != "labels"):
            raise AnnotationError(f"{what} must be a list, one for each photo: {kind_of(given)}")
    per_photo = [labels] * len(paths) if isinstance(labels, str) else labels
    if not len(paths) == len(boxes) == len(per_photo):
        raise ValueError(f"{len(paths)} paths, {len(boxes)} arrays of boxes, {len(per_photo)} of labels")
    paths = [photo_path(path) if is_remote(path) else path for path in paths]
    places = [checked_path(path, "a photo", AnnotationError, SAVE_HINT) for path in paths]
    return [
        AnnotatedImage(path, read_size_hw(path), _boxes_from_array(corners, names, path.name), reviewed=True)
        for path, corners, names in zip(places, boxes, per_photo, strict=True)
    ]


def _is_table(given: Any) -> bool:
    """Whether it is a DataFrame: its columns have names, and their order may be any."""
    return hasattr(given, "columns")


def _boxes_from_array(corners: Any, labels: Any, name: str) -> tuple[Box, ...]:
    if _is_table(corners):
        hint = 'choose them in this order: df[["x1", "y1", "x2", "y2"]].to_numpy()'
        raise AnnotationError(f"{name}: boxes are an array, not {kind_of(corners)}", hint=hint)
    if isinstance(labels, _NO_LISTS):
        hint = "a list has them in the order of the boxes"
        raise AnnotationError(f"{name}: labels are a list, not {kind_of(labels)}", hint=hint)
    told: object = "None"
    try:
        # A tensor of torch may be on a GPU, or be learnt through.
        given = corners.detach().cpu() if hasattr(corners, "detach") else corners
        boxes = np.asarray(given, dtype=np.float64)
        told = told if corners is None else list(boxes.shape)
    except (TypeError, ValueError):
        boxes, told = np.zeros(1), f"{kind_of(corners)} of other things than rows of four numbers"
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: boxes must be [M, 4]: {told}; one box is [(x1, y1, x2, y2)], none is []")
    is_one = isinstance(labels, str) or not hasattr(labels, "__iter__")
    of_boxes: list[Any] = [labels] * len(boxes) if is_one else list(labels)
    if len(of_boxes) != len(boxes):
        raise ValueError(f"{name}: {counted(len(boxes), 'box')}, {counted(len(of_boxes), 'label')}")
    edges: list[list[float]] = boxes.tolist()
    return tuple(Box(x1, y1, x2, y2, label) for (x1, y1, x2, y2), label in zip(edges, of_boxes, strict=True))
