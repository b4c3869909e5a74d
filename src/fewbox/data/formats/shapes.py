"""Shapes that are no boxes: which of them a box may stand for, and which not.

The box around an outline is what a person would draw around the same object, so it is taken.
A rotated box is drawn to hold less than its own outer box, and several outlines of one object
have one box together: both are refused, as any choice would be a guess. A box turned so little
that no corner moves by more than a pixel is taken as upright. Points and lines have no inside
and are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NoReturn

from fewbox.errors import AnnotationError

Corners = tuple[float, float, float, float]

OUTLINES = "outlines and masks, but for the box around each"
NO_INSIDE = "points and lines"

Points = tuple[tuple[float, float], ...]

# Beyond this a box is turned for certain; below, whether it moves a corner is known with the photo.
_MAX_DEGREES = 45.0


def outer_box(points: Sequence[tuple[float, float]], where: str) -> Corners:
    """The box around points.

    Raises:
        AnnotationError: there are fewer than two.
    """
    if len(points) < 2:
        raise AnnotationError(f"{where}: an outline of {len(points)} points", hint="draw it again")
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def is_upright(points: Sequence[tuple[float, float]]) -> bool:
    """Tell whether four corners are those of an upright box."""
    return len({x for x, _ in points}) <= 2 and len({y for _, y in points}) <= 2


def upright_box(points: Sequence[tuple[float, float]]) -> Corners:
    """The upright box of four corners that may be turned a little: each edge between its two corners."""
    across, down = sorted(x for x, _ in points), sorted(y for _, y in points)
    return sum(across[:2]) / 2, sum(down[:2]) / 2, sum(across[2:]) / 2, sum(down[2:]) / 2


def refuse_rotated(where: str) -> NoReturn:
    """Say that a rotated box is not read."""
    message = f"{where}: the box is rotated, and boxes here are upright"
    raise AnnotationError(message, hint="draw it again without rotation, or remove it")


def turned_corners(
    corners: Corners, degrees: float, where: str, *, about: tuple[float, float] | None = None
) -> Points:
    """The four corners of a box that is turned about its centre or another point; none if it is not.

    Raises:
        AnnotationError: it is turned far, be it by a quarter turn: tools disagree about its corners then.
    """
    turn = math.remainder(degrees, 360)
    if turn == 0:
        return ()
    if abs(turn) > _MAX_DEGREES:
        refuse_rotated(where)
    x1, y1, x2, y2 = corners
    x, y = about or ((x1 + x2) / 2, (y1 + y2) / 2)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    offsets = [(x1 - x, y1 - y), (x2 - x, y1 - y), (x2 - x, y2 - y), (x1 - x, y2 - y)]
    return tuple((x + across * cos - down * sin, y + across * sin + down * cos) for across, down in offsets)


def require_single_outlines(groups: Iterable[Hashable], where: str) -> None:
    """Refuse outlines of which several are one object.

    Args:
        groups: for each outline that belongs to a group, which.
        where: the photo.

    Raises:
        AnnotationError: a group has more than one outline.
    """
    for group, count in Counter(groups).items():
        if count > 1:
            message = f"{where}: {count} outlines are in one group, {group!r}, so one object may have several"
            raise AnnotationError(message, hint="draw one box around each object, or undo the group")
