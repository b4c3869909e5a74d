"""Boxes that nearly fit their photo: cut at its edge, taken as upright, or left out as flat.

Tools let a box reach over the edge of the photo, keep an angle of a tenth of a degree that a slip
of the mouse made, and write boxes without width. None of that is a reason to refuse a data set.
What is far outside or truly turned is: such boxes belong to another photo or are no upright boxes.
``strict`` refuses all of it. docs/decisions/0052 has the reasons for the limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewbox.core import counted
from fewbox.data.annotations import MAX_OUTSIDE, MIN_SIDE, AnnotatedImage, Box, require_size
from fewbox.data.decoding import lies_sideways
from fewbox.data.formats.raw import Corners, RawAnnotations, RawBox, RawPhoto, refuse_rotated
from fewbox.data.images import read_size_hw
from fewbox.data.photo_file import opened
from fewbox.errors import AnnotationError

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


def require_pixels(corners: Iterable[Corners], source: str, hint: str = _PARTS_HINT) -> None:
    """Refuse boxes that a file gives in parts of the photo where pixels are expected.

    One that reaches over the edge, such as to 1.0000001, is in parts as well; a flat one tells nothing.

    Raises:
        AnnotationError: no box reaches beyond the first two pixels of its photo.
    """
    solid = [(x1, y1, x2, y2) for x1, y1, x2, y2 in corners if x2 > x1 and y2 > y1]
    if solid and all(max(b[:2]) < _PARTS_BEGIN and max(map(abs, b)) < _PARTS_END for b in solid):
        message = f"{source}: every box lies within the first two pixels of its photo"
        raise AnnotationError(message, hint=hint)


def require_pixels_in(raw: RawAnnotations) -> None:
    """The same of what a file says, without the boxes that it says are in parts."""
    boxes = (box for photo in raw.photos for box in photo.boxes if not box.unit)
    require_pixels((box.corners for box in boxes), raw.source)


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
