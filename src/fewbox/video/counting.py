"""Count the objects of a video that cross a line, or go into and out of a zone.

An object is where the centre of its box is. It is on a side of a line only once it is clearly beyond it, by
a part of its own size, so that a box that trembles on the line is not counted again and again. An object
counts once in each direction, however often it goes to and fro: counts are numbers of objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fewbox.core.arguments import in_short
from fewbox.errors import SettingError
from fewbox.video.tracking import TrackedBox

_BEYOND = 0.15
"""An object has changed sides when its centre is beyond the line by this part of its mean side: about
three times as far as boxes tremble."""
_MAX_REMEMBERED = 10_000  # objects, so that memory does not grow with a stream that runs for days

Point: TypeAlias = npt.NDArray[np.float64]
"""``[2]``, x and y."""
Points: TypeAlias = npt.NDArray[np.float64]
"""``[P, 2]``."""


@dataclass
class _Passage:
    """What is remembered of an object."""

    point: Point
    """Where it was last."""
    was_beyond: bool
    """On which side that was, however near the line."""
    is_beyond: bool
    """On which side it was last clearly."""
    step: tuple[Point, Point] | None = None
    """Where it was before and after it last changed sides."""
    done: list[str] = field(default_factory=list)
    """What it has done, each once, also before it had a number."""
    num_counted: int = 0


class PassCounter(ABC):
    """What lines and zones have in common.

    Attributes:
        counts: for each direction, how many objects of each label have gone that way.
    """

    kind: str

    def __init__(self, points: Points, directions: Sequence[str]) -> None:
        self.points = points
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in directions}
        self._passages: dict[int, _Passage] = {}

    def update(self, tracked: Iterable[TrackedBox]) -> None:
        """Count what has passed, given the objects of the next frame.

        Args:
            tracked: what ``Tracker.update`` gave. A box without a number counts once it has one, and a
                predicted one does not count: the next detection shows where the object is.
        """
        for each in tracked:
            if each.score is not None and (each.track_id, each.candidate) != (None, None):
                self._follow(each)

    def _follow(self, each: TrackedBox) -> None:
        x1, y1, x2, y2 = each.box
        point = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        key = each.candidate if each.candidate is not None else -int(each.track_id or 0)
        passage = self._passages.pop(key, None)
        distance = self._distance(point)
        is_beyond = distance > 0
        if passage is not None:
            if passage.was_beyond != is_beyond:
                passage.step = passage.point, point
            passage.point, passage.was_beyond = point, is_beyond
        if abs(distance) >= _BEYOND * (x2 - x1 + y2 - y1) / 2:
            done = self._done(passage, is_beyond)
            if passage is None:
                passage = _Passage(point, is_beyond, is_beyond)
            passage.is_beyond = is_beyond
            passage.done += [name for name in done if name not in passage.done]
        if passage is None:
            return
        if each.track_id is not None:
            for name in passage.done[passage.num_counted :]:
                self.counts[name][each.label] += 1
            passage.num_counted = len(passage.done)
        self._passages[key] = passage  # at the end: the first is the one not seen for longest
        if len(self._passages) > _MAX_REMEMBERED:
            del self._passages[next(iter(self._passages))]

    @abstractmethod
    def _distance(self, point: Point) -> float:
        """How far, in pixels, ``point`` is beyond; negative on this side."""

    @abstractmethod
    def _done(self, before: _Passage | None, is_beyond: bool) -> list[str]:
        """What an object has done that is now clearly on a side: some of the keys of ``counts``."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the JSON of a video."""
        points = [[round(float(x), 2), round(float(y), 2)] for x, y in self.points]
        return {self.kind: points, "counts": {name: dict(found) for name, found in self.counts.items()}}

    def __str__(self) -> str:
        return ", ".join(f"{name} {_in_words(found)}" for name, found in self.counts.items())


class LineCounter(PassCounter):
    """Counts the objects that cross a line, by direction and label.

    Directions are as a viewer sees them: ``down`` and ``up`` if the line is more level than steep, else
    ``right`` and ``left``. Which end comes first makes no difference.

    Attributes:
        counts: for each direction, how many objects of each label have gone that way.

    Args:
        line: ``(x1, y1, x2, y2)`` in pixels of the upright frame; what passes beside its ends is not counted.

    Raises:
        SettingError: it is not a list of four numbers, or has no length.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> tracker = fewbox.Tracker(detector.threshold, rate=25)
        >>> line = fewbox.LineCounter((0, 240, 640, 240))
        >>> for frame in fewbox.find_photos("ducks/test/duck_0*.jpg"):
        ...     found = detector.detect(frame, threshold=tracker.lowest_score)
        ...     line.update(tracker.update(found))
        >>> list(line.counts)
        ['down', 'up']
    """

    kind = "line"

    def __init__(self, line: Sequence[float]) -> None:
        start, end = _checked_points("line", line, at_least=2, at_most=2)
        across, along = end - start
        self._length = float(np.hypot(across, along))
        if self._length == 0:
            raise SettingError(f"the two ends of a line are one point: {_as_text(line)}", hint=_LINE_HINT)
        is_level = abs(across) >= abs(along)
        if across < 0 if is_level else along > 0:  # so that beyond is down, or right
            start, end = end, start
        super().__init__(np.stack([start, end]), ("down", "up") if is_level else ("right", "left"))

    def _distance(self, point: Point) -> float:
        start, end = self.points
        return _cross(end - start, point - start) / self._length

    def _done(self, before: _Passage | None, is_beyond: bool) -> list[str]:
        if before is None or before.is_beyond == is_beyond or before.step is None:
            return []
        # Before it was clearly beyond, it may have gone along the line for long, and past its end.
        begin, after = before.step
        way, (start, end) = after - begin, self.points - begin
        beside = _cross(way, start) * _cross(way, end) > 0
        onward, back = self.counts
        return [] if beside else [onward if is_beyond else back]


class ZoneCounter(PassCounter):
    """Counts the objects that go into a zone and out of it, by label.

    Attributes:
        counts: how many objects of each label went ``in``, how many went ``out``, and how many were
            ``inside`` at any time, those included that were there when they were first seen.

    Args:
        zone: ``(x1, y1, x2, y2, x3, y3, ...)``, its corners one after the other, in pixels of the upright
            frame.

    Raises:
        SettingError: it is not a list of numbers, or has fewer than three corners, or no area, or its edges
            cross.

    Examples:
        >>> zone = fewbox.ZoneCounter((0, 0, 320, 0, 320, 240, 0, 240))
        >>> print(zone)
        in 0, out 0, inside 0
    """

    kind = "zone"

    def __init__(self, zone: Sequence[float]) -> None:
        points = _checked_points("zone", zone, at_least=3)
        (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
        edges = list(zip(points, np.roll(points, -1, axis=0), strict=True))
        if any(_cut(*one, *other) for one, other in combinations(edges, 2)):
            raise SettingError(f"a zone whose edges cross: {_as_text(zone)}", hint=_ROUND_HINT)
        if abs((x * next_y - y * next_x).sum()) < 1e-9:
            raise SettingError(f"a zone without an area: {_as_text(zone)}", hint=_ZONE_HINT)
        super().__init__(points, ("in", "out", "inside"))

    def _distance(self, point: Point) -> float:
        begin, along = self.points, np.roll(self.points, -1, axis=0) - self.points
        part = ((point - begin) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-12)
        nearest = begin + np.clip(part, 0, 1)[:, None] * along
        distance = float(np.hypot(*(point - nearest).T).min())
        return distance if self._is_inside(point) else -distance

    def _is_inside(self, point: Point) -> bool:
        """By the number of edges to the right of the point: if it is odd, the point is inside."""
        (x, y), begin, end = point, self.points, np.roll(self.points, -1, axis=0)
        spans = (begin[:, 1] > y) != (end[:, 1] > y)
        (x1, y1), (x2, y2) = begin[spans].T, end[spans].T
        return bool(np.count_nonzero(x1 + (y - y1) * (x2 - x1) / (y2 - y1) > x) % 2)

    def _done(self, before: _Passage | None, is_beyond: bool) -> list[str]:
        entered_or_left = before is not None and before.is_beyond != is_beyond
        return [
            *(["in" if is_beyond else "out"] if entered_or_left else []),
            *(["inside"] if is_beyond else []),
        ]


_LINE_HINT = "two points of the frame, as x1,y1,x2,y2"
_ROUND_HINT = "give its corners in the order in which one meets them on the way round it"
_ZONE_HINT = "three corners or more, one after the other, as x1,y1,x2,y2,x3,y3"


def require_well_formed(option: str, text: str) -> None:
    """Refuse what is no line or zone in any frame; whether it fits into one, :func:`read_points` says.

    Args:
        option: ``--count-line`` or ``--count-zone``.
        text: as for :func:`read_points`.

    Raises:
        SettingError: the numbers are none, too few, of parts and pixels, or of a line or zone that cannot be.
    """
    numbers = _numbers_in(option, text)
    if max(numbers) <= 1:  # parts of a frame, whose size does not matter here
        numbers = [1000 * part for part in numbers]
    try:
        LineCounter(numbers) if "line" in option else ZoneCounter(numbers)
    except SettingError as error:  # which tells the numbers in pixels
        raise SettingError(f"{option}: {error.message.partition(':')[0]}: {text}", hint=error.hint) from error


def read_points(option: str, text: str, size_hw: tuple[int, int]) -> list[float]:
    """The numbers of ``--count-line`` and ``--count-zone`` in pixels.

    Args:
        option: its name in messages.
        text: ``x1,y1,x2,y2,...``: parts of the frame's width and height if none is above 1, else pixels.
        size_hw: of the frame.

    Raises:
        SettingError: they are not numbers, outside the frame, or some are parts and some are pixels.
    """
    numbers = _numbers_in(option, text)
    height, width = size_hw
    limits = [width, height] * (len(numbers) // 2)
    if max(numbers) <= 1:
        numbers = [part * limit for part, limit in zip(numbers, limits, strict=True)]
    if any(not 0 <= number <= limit for number, limit in zip(numbers, limits, strict=True)):
        raise SettingError(
            f"{option}: outside the frame, which is {width}x{height}: {text}",
            hint="in pixels from its upper left corner, or in parts of it, from 0 to 1",
        )
    return numbers


def _numbers_in(option: str, text: str) -> list[float]:
    """The numbers as they stand, which are all parts or all pixels."""
    hint = _LINE_HINT if "line" in option else _ZONE_HINT
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise SettingError(f"{option}: not numbers with commas between them: {text}", hint=hint) from error
    if len(numbers) % 2 or not np.isfinite(numbers).all():
        raise SettingError(f"{option}: a point is two numbers, x and y: {text}", hint=hint)
    if max(numbers) > 1 and any(0 < number < 1 for number in numbers):
        raise SettingError(
            f"{option}: some numbers are parts of the frame and some are pixels: {text}",
            hint="all from 0 to 1, or all in pixels",
        )
    return numbers


def _checked_points(
    kind: str, numbers: Sequence[float], *, at_least: int, at_most: int | None = None
) -> Points:
    try:
        # A text may be one of the command line, in parts of a frame, whose size nobody knows here.
        values = np.asarray(None if isinstance(numbers, str | bytes) else numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.array(np.nan)
    if values.ndim == 1 and values.size % 2 == 0 and np.isfinite(values).all():
        points = values.reshape(-1, 2)
        if points.size and (points >= 0).all() and (points <= 1).all():  # one pixel, which nothing crosses
            hint = "multiply x by the width and y by the height of the frame"
            raise SettingError(
                f"a {kind} is in pixels, not in parts of the frame: {_as_text(numbers)}", hint=hint
            )
        if at_least <= len(points) <= (at_most or len(points)):
            return points
    hint = _LINE_HINT if kind == "line" else _ZONE_HINT
    told = f"these numbers are no {kind}: {_as_text(numbers)}" if values.ndim == 1 else None
    raise SettingError(told or f"a {kind} is a list of numbers: {in_short(numbers)}", hint=hint)


def _as_text(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" if isinstance(number, int | float) else str(number) for number in numbers)


def _cross(first: Point, second: Point) -> float:
    """Above 0 if ``second`` points to the right of ``first``, where y goes down."""
    return float(first[0] * second[1] - first[1] * second[0])


def _cut(start: Point, end: Point, other_start: Point, other_end: Point) -> bool:
    """Whether two edges go through each other; not where they only touch, as those of one corner do."""
    way, other_way = end - start, other_end - other_start
    parted = _cross(way, other_start - start) * _cross(way, other_end - start) < 0
    return parted and _cross(other_way, start - other_start) * _cross(other_way, end - other_start) < 0


def _in_words(found: Counter[str]) -> str:
    """``3``, and if there are several labels ``3 (2 duck, 1 cup)``."""
    parts = ", ".join(f"{number} {label}" for label, number in found.most_common())
    return f"{found.total()} ({parts})" if len(found) > 1 else f"{found.total()}"
