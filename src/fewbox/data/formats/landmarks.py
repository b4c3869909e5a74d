"""Lines of YOLO that are longer than a box: outlines, or a box and then landmarks.

Both are nothing but numbers: ``x y x y ...``, or ``cx cy width height x y ...`` as for faces and licence
plates. ``kpt_shape`` in data.yaml says that it is the latter, but those who make such files by hand
often have none. Then all lines together tell: landmarks lie in their box, and ``width height`` read as
a corner lies far from them; the corners of an outline are near each other, and in no such box.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fewbox.data.formats.raw import is_upright

OUTLINES, LANDMARKS, UNCLEAR = "outlines", "landmarks", "unclear"

_Point = tuple[float, float]

# So many lines must be landmarks in a box before it is believed: a few faces are drawn carelessly.
_NEARLY_ALL = 0.9

# So many times more lines must speak for one than for the other.
_CLEARLY = 10

# How far landmarks may lie outside their box, in parts of its sides, and a box outside its photo.
_SLACK = 0.1

# Landmarks fill their box more than this; so small an outline would be a coincidence in a box.
_MIN_FILLED = 0.1

# A corner of an outline lies at its rim, this far from the middle, in parts of the outline's sides.
_MIN_OFF_CENTRE = 0.35

# Outlines of fewer corners have corners so far apart that nothing can be told.
_MIN_CORNERS = 6


def kind_of(lines: Sequence[Sequence[float]]) -> str:
    """Tell what lines are that have more than four numbers: ``OUTLINES``, ``LANDMARKS`` or ``UNCLEAR``.

    Args:
        lines: the numbers of each, without the class; all of one data set.
    """
    if len({len(numbers) for numbers in lines}) != 1:
        return OUTLINES  # every skeleton has the same points
    count = len(lines[0]) - 4
    if count % 3 == 0 and all(_has_flags(numbers) and _is_box_of(numbers, 3) for numbers in lines):
        return LANDMARKS
    if count % 2:
        return OUTLINES  # of which this is none, and it is refused as such
    consistent = [numbers for numbers in lines if _is_box_of(numbers, 2)]
    if len(consistent) == len(lines) and any(min(numbers) <= -_SLACK for numbers in lines):
        return LANDMARKS  # -1 is a point that is not seen
    apart = sum(_has_size_apart(numbers) for numbers in consistent)
    outlines = sum(_is_outline(numbers) for numbers in consistent)
    if len(consistent) < _NEARLY_ALL * len(lines):
        return UNCLEAR if apart > len(lines) / 2 else OUTLINES
    if apart > _CLEARLY * outlines and count > 4:  # two points may be two corners of a turned box
        return LANDMARKS
    return OUTLINES if outlines > _CLEARLY * apart and outlines * 2 >= len(lines) else UNCLEAR


def _points(numbers: Sequence[float], step: int) -> list[_Point]:
    """The landmarks that are seen: others are written as -1 or 0."""
    pairs = zip(numbers[4::step], numbers[5::step], strict=True)
    return [(x, y) for x, y in pairs if min(x, y) > -_SLACK and (x, y) != (0, 0)]


def _has_flags(numbers: Sequence[float]) -> bool:
    """Whether every third number says how well a point is seen."""
    return all(flag in (-1, 0, 1, 2) for flag in numbers[6::3])


def _is_box_of(numbers: Sequence[float], step: int) -> bool:
    """Whether the first four numbers are a box in the photo, and the others points in it."""
    x, y, width, height = numbers[:4]
    sides = ((x, width), (y, height))
    if any(side <= 0 or abs(centre - 0.5) + side / 2 > 0.5 + _SLACK * side for centre, side in sides):
        return False
    return all(
        abs(value - centre) <= side * (0.5 + _SLACK)
        for point in _points(numbers, step)
        for value, (centre, side) in zip(point, sides, strict=True)
    )


def _extents(points: Sequence[_Point]) -> tuple[float, float, float, float]:
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def _has_size_apart(numbers: Sequence[float]) -> bool:
    """Whether width or height, taken for a place, lies farther from the points than these from each other."""
    x1, y1, x2, y2 = _extents([(numbers[0], numbers[1]), *_points(numbers, 2)])
    width, height = numbers[2:4]
    return max(x1 - width, width - x2) > x2 - x1 or max(y1 - height, height - y2) > y2 - y1


def _is_outline(numbers: Sequence[float]) -> bool:
    """Whether the numbers are corners of an outline, and hardly landmarks in a box."""
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    if len(corners) == 4 and is_upright(corners):
        return True
    if len(corners) < 4:
        return False
    x1, y1, x2, y2 = _extents(corners[2:])
    if max((x2 - x1) / numbers[2], (y2 - y1) / numbers[3]) < _MIN_FILLED:
        return True
    sides = ((x1, x2, numbers[0]), (y1, y2, numbers[1]))
    off = [abs((low + high) / 2 - first) / (high - low) for low, high, first in sides if high > low]
    steps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in pairwise([*corners, corners[0]])]
    is_smooth = max(steps[:2]) <= 2 * max(steps[2:])
    return len(corners) >= _MIN_CORNERS and is_smooth and max(off, default=0.0) >= _MIN_OFF_CENTRE
