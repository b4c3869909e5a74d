"""Shapes that are no boxes: which of them a box may stand for, and which not.

The box around an outline is what a person would draw around the same object, so it is taken.
A rotated box is drawn to hold less than its own outer box, and several outlines of one object
have one box together: both are refused, as any choice would be a guess. Points and lines have
no inside and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NoReturn

from goldeneye.errors import AnnotationError

Corners = tuple[float, float, float, float]

OUTLINES = "outlines and masks, but for the box around each"
NO_INSIDE = "points and lines"

# Tools store angles as floats; less than this moves no corner of a photo by a pixel.
_MAX_DEGREES = 1e-3


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


def refuse_rotated(where: str) -> NoReturn:
    """Say that a rotated box is not read."""
    message = f"{where}: the box is rotated, and boxes here are upright"
    raise AnnotationError(message, hint="draw it again without rotation, or remove it")


def require_unrotated(degrees: float, where: str) -> None:
    """Refuse the box of an object that is rotated.

    Raises:
        AnnotationError: it is rotated, be it by a quarter turn: tools disagree about its corners then.
    """
    if abs(degrees % 360) > _MAX_DEGREES and 360 - degrees % 360 > _MAX_DEGREES:
        refuse_rotated(where)


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
