"""Whether a detector may compute in bfloat16.

In bfloat16 a detector is three to four times faster, but bfloat16 keeps only eight bits of a number. Whether
that moves the boxes depends on the weights, so it is tried on photos rather than assumed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewbox.core import counted
from fewbox.data.images import read_reduced, read_size_hw
from fewbox.detection import Detections, Photo
from fewbox.detection.detector import Detector
from fewbox.detection.photo_detector import PhotoDetector

MAX_SHIFT_PX = 0.5
"""How far an edge of a box may move, in pixels of the photo."""
MIN_SCORE = 0.05
"""Detections below it are not compared: nobody would look at them."""
_MIN_SCORE_AFTER = 0.03  # a score may move too; a box is not lost because it fell just below the line


@dataclass(frozen=True)
class PrecisionCheck:
    """What bfloat16 did to the boxes of some photos."""

    tried: bool
    """False where the device does not compute in bfloat16: then nothing would be gained."""
    num_boxes: int
    max_shift_px: float
    """The furthest any edge moved; infinite if a box vanished or changed its class."""

    @property
    def holds(self) -> bool:
        """Whether bfloat16 may be used: some boxes were compared, and none moved too far."""
        return self.tried and self.num_boxes > 0 and self.max_shift_px <= MAX_SHIFT_PX

    def __str__(self) -> str:
        if not self.tried:
            return "detecting in float32: this device does not compute in bfloat16"
        if self.num_boxes == 0:
            return "detecting in float32: nothing was found, so nobody knows what bfloat16 does to boxes"
        chosen = "bfloat16" if self.holds else "float32"
        boxes = counted(self.num_boxes, "box")
        if math.isinf(self.max_shift_px):
            return f"detecting in {chosen}: of {boxes} bfloat16 does not find all"
        moved = f"bfloat16 moves {boxes} by up to {self.max_shift_px:.2f} pixels"
        return f"detecting in {chosen}: {moved} (allowed: {MAX_SHIFT_PX})"


def check_bfloat16(detector: Detector, photos: Sequence[Photo]) -> PrecisionCheck:
    """Detect in ``photos`` in float32 and in bfloat16 and compare.

    Raises:
        PhotoError: a photo cannot be read.
    """
    if not detector.has_bfloat16():
        return PrecisionCheck(False, 0, 0.0)
    exact, rounded = detector.tried_in("float32"), detector.tried_in("bfloat16")
    num_boxes, furthest = 0, 0.0
    for photo in photos:
        if isinstance(photo, str | os.PathLike):  # read once, not by each of the two
            photo = read_reduced(photo, exact.enough_hw(read_size_hw(photo)))
        count, shift_px = moved_boxes(exact, rounded, photo)
        num_boxes += count
        furthest = max(furthest, shift_px)
        if furthest > MAX_SHIFT_PX:
            break
    return PrecisionCheck(True, num_boxes, furthest)


def moved_boxes(exact: PhotoDetector, rounded: PhotoDetector, photo: Photo) -> tuple[int, float]:
    """How many boxes ``exact`` finds in a photo, and the furthest an edge moves in ``rounded``, in pixels."""
    # Both with the lower threshold: a box that is just above it may come out just below.
    before, after = (one.detect(photo, threshold=_MIN_SCORE_AFTER) for one in (exact, rounded))
    compared = before.above(MIN_SCORE)
    return len(compared), max_shift_px(compared, after)


def max_shift_px(before: Detections, after: Detections) -> float:
    """The furthest an edge moved between ``before`` and the nearest box of the class in ``after``.

    0 where there is nothing to compare, infinite where a box has no counterpart.
    """
    return max(shifts_px(before, after), default=0.0)


def shifts_px(before: Detections, after: Detections) -> list[float]:
    """How far an edge of each box of ``before`` moved, as :func:`max_shift_px` says of the furthest."""
    shifts = []
    for box, class_id in zip(before.boxes, before.class_ids, strict=True):
        candidates = after.boxes[after.class_ids == class_id]
        shifts.append(float(np.abs(candidates - box).max(1).min()) if len(candidates) else float("inf"))
    return shifts
