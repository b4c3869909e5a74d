"""What a file of boxes says, before it is held against the photos; and which shapes a box may stand for.

Every reader gives :class:`RawAnnotations`, whatever the format. Whoever wants all faults of
a data set, and not only the first, begins here: nothing is known yet about whether the
photos are there, have the stated sizes, and hold the boxes.

Shapes that are no boxes: the box around an outline is what a person would draw around the same
object, so it is taken. A rotated box is drawn to hold less than its own outer box, and several
outlines of one object have one box together: both are refused, as any choice would be a guess. A box
turned so little that no corner moves by more than a pixel is taken as upright. Points and lines are left out.

Landmarks, as of faces and licence plates, come after the box they belong to, so that box is read.
YOLO writes both as nothing but numbers, outlines as ``x y x y ...`` and landmarks as ``cx cy width
height x y ...``. ``kpt_shape`` in data.yaml says that it is the latter, but those who make such files
by hand often have none. Then all lines together tell: landmarks lie in their box, and ``width height``
read as a corner lies far from them; the corners of an outline are near each other, and in no such box.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from fewbox.core import counted, some_of
from fewbox.core.progress import console
from fewbox.errors import AnnotationError

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class RawBox:
    """One box as a file states it; it may be inside out, or outside its photo.

    Attributes:
        where: the file and the place in it, for messages.
        corners: ``(x1, y1, x2, y2)``, finite, in pixels of the upright photo.
        label: none if the file names no class.
        ignore: whether it marks neither object nor background, see ``Box``.
        unit: the corners are parts of the photo, 0 to 1, instead of pixels.
        area: in square pixels, if the file states it; see ``Box``.
        turned: where the file states a turned box, its four corners, of which ``corners`` are the
            upright form; whether that will do is known once the photo is.
    """

    where: str
    corners: tuple[float, float, float, float]
    label: str | None
    ignore: bool = False
    unit: bool = False
    area: float | None = None
    turned: tuple[tuple[float, float], ...] = ()

    def corners_in(self, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """The corners in pixels of a photo of this size."""
        if not self.unit:
            return self.corners
        height, width = size_hw
        x1, y1, x2, y2 = self.corners
        return x1 * width, y1 * height, x2 * width, y2 * height


@dataclass(frozen=True)
class RawPhoto:
    """One photo as a file speaks of it.

    Attributes:
        where: the file and the place in it, for messages.
        name: what the file calls it: a path, a name, or a name without suffix.
        boxes: in the order of the file.
        reviewed: whether the file says that somebody has looked at it.
        size_hw: none if the file does not state it.
        other_names: what it may be called if there is no photo ``name``, best first.
        file: the file of boxes; none if there is none.
        paths: other paths of the photo in the file, which are often those of another machine: they
            only help to tell photos of one name apart.
        left_out: whether somebody has left it out on the page: it is neither learnt from nor missing.
        may_be_none: whether the file may be of something else, as an empty text: then no photo is missing.
    """

    where: str
    name: str
    boxes: tuple[RawBox, ...]
    reviewed: bool
    size_hw: tuple[int, int] | None = None
    other_names: tuple[str, ...] = ()
    file: Path | None = None
    paths: tuple[str, ...] = ()
    left_out: bool = False
    may_be_none: bool = False

    def told_from(self, folder: Path) -> RawPhoto:
        """The same, where messages say that its file is in ``folder``."""
        boxes = tuple(replace(box, where=(folder / box.where).as_posix()) for box in self.boxes)
        return replace(self, where=(folder / self.where).as_posix(), boxes=boxes)


@dataclass(frozen=True)
class RawAnnotations:
    """All that a file, or a folder of files, says.

    Attributes:
        format: one of ``FORMATS``.
        source: its name, with which messages begin.
        photos: in the order of the file; files of a folder in the order of their names.
        labels: of the classes in their order; none if the file names no class.
        places: the folders in which the photos are looked for if nobody says where they are; the
            first is that of the files of boxes.
        remarks: what the file says and an ``AnnotationSet`` cannot hold, for people to read.
    """

    format: str
    source: str
    photos: tuple[RawPhoto, ...]
    labels: tuple[str, ...] | None
    places: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def merged(parts: Sequence[RawAnnotations], folder: Path) -> RawAnnotations:
    """What the files of several parts of a data set say together, each in a folder of its own in ``folder``.

    The places that messages name then begin with these folders, as such files are often called alike.
    """
    if len(parts) == 1:
        return parts[0]
    photos, remarks, labels = list[RawPhoto](), list[str](), list[str]()
    for part in parts:
        inner = part.places[0].relative_to(folder)
        photos += [photo.told_from(inner) for photo in part.photos]
        remarks += [f"{inner.as_posix()}: {remark}" for remark in part.remarks]
        labels += part.labels or ()
    return RawAnnotations(
        parts[0].format,
        folder.resolve().name,
        tuple(photos),
        tuple(dict.fromkeys(labels)) if any(part.labels is not None for part in parts) else None,
        tuple(dict.fromkeys(place for part in parts for place in part.places)),
        tuple(remarks),
    )


def not_read(what: Counter[str]) -> tuple[str, ...]:
    """The remark about what a file says and is left out, if there is anything."""
    listed = ", ".join(f"{n if n.isprintable() else repr(n)} ({count})" for n, count in what.items())
    return (f"not read: {listed}",) if listed else ()


def left_out_in_words(names: Sequence[str]) -> str:
    """That photos were left out on the page, as one line."""
    return f"{counted(len(names), 'photo')} left out on the page: {some_of(names)}"


def tell_left_out(names: Sequence[str]) -> None:
    """Say on stderr which photos were left out, if there are any: nothing is to vanish in silence."""
    if names:
        console.print(left_out_in_words(names))


def tell_unused(label: str, raw: RawAnnotations) -> None:
    """Say on stderr that a label somebody gave is not used, as the file has labels of its own."""
    if raw.labels and label not in ("object", *raw.labels):
        own = some_of(raw.labels, 3)
        console.print(f"{raw.source}: its boxes have classes already, {own}; the label {label} is not used")


def labels_in_use(photos: list[RawPhoto] | tuple[RawPhoto, ...], first: list[str]) -> tuple[str, ...]:
    """The labels ``first``, then those of boxes that are not among them, in the order of first use."""
    used = [box.label for photo in photos for box in photo.boxes if box.label is not None]
    return tuple(dict.fromkeys([*first, *used]))


Points = tuple[tuple[float, float], ...]
_Point = tuple[float, float]

# How those that are left out are called in the remark about what was not read.
OUTLINED = "outlines and masks, but for the box around each"
NO_INSIDE = "points and lines"

# Beyond this a box is turned for certain; below, whether it moves a corner is known with the photo.
_MAX_DEGREES = 45.0


def outer_box(points: Sequence[tuple[float, float]], where: str) -> Corners:
    """The box around points.

    Raises:
        AnnotationError: there are fewer than two.
    """
    if len(points) < 2:
        raise AnnotationError(f"{where}: an outline of {counted(len(points), 'point')}", hint="draw it again")
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


# The last: landmarks of a model, each with its score, and perhaps the score of the box behind them.
OUTLINES, LANDMARKS, UNCLEAR, COMPUTED = "outlines", "landmarks", "unclear", "computed"

# So many lines must be landmarks in a box before it is believed: a few faces are drawn carelessly.
# Where it is fewer, and many, nothing is believed.
_NEARLY_ALL = 0.9
_MANY = 0.8

# So many times more lines must speak for one than for the other.
_CLEARLY = 10

# How far landmarks may lie outside their box, in parts of its sides, and a box outside its photo.
_SLACK = 0.1

# Landmarks fill their box more than this; so small an outline would be a coincidence in a box.
_MIN_FILLED = 0.1

# A corner of an outline lies at its rim, this far from the middle, in parts of the outline's sides.
_MIN_OFF_CENTRE = 0.35

# The way round most outlines is hardly longer than that round the upright box around them. It is 1.2 to 8
# times as long where landmarks with scores are read as corners: those of tests/test_landmarks.py.
_MAX_ROUND = 1.2

# Outlines of fewer corners have corners so far apart that nothing can be told.
_MIN_CORNERS = 6


def kind_of(lines: Sequence[Sequence[float]]) -> str:
    """Tell what lines are that have more than four numbers: one of the kinds above.

    Args:
        lines: the numbers of each, without the class; all of one data set.
    """
    if len({len(numbers) for numbers in lines}) != 1:
        return OUTLINES  # every skeleton has the same points
    count = len(lines[0]) - 4
    if count % 3 == 0 and all(map(_has_flags, lines)):
        if _most(lines, _is_flagged_box):
            return LANDMARKS
        return OUTLINES if count % 2 else UNCLEAR  # no outlines, but drawn carelessly
    consistent = [] if count % 2 else [numbers for numbers in lines if _is_box_of(numbers, 2)]
    are_boxes = len(consistent) >= _NEARLY_ALL * len(lines)
    has_scores = not are_boxes and count > 5 and count % 3 < 2 and _most(lines, _is_scored)
    if has_scores and (count % 2 or sum(map(_goes_round, lines)) * 2 < len(lines)):
        return COMPUTED
    if count % 2:
        return OUTLINES  # of which this is none, and it is refused as such
    if are_boxes and any(min(numbers) <= -_SLACK for numbers in lines):
        return LANDMARKS  # -1 is a point that is not seen
    # Two points may be two corners of a turned box, which is refused as such.
    may_be_boxes = count > 4 and len(consistent) >= _MANY * len(lines) and _most(lines, _begins_with_box)
    apart = sum(map(_has_size_apart, consistent))
    outlines = sum(map(_is_outline, consistent))
    if are_boxes and apart > _CLEARLY * outlines and count > 4:
        return LANDMARKS
    if not are_boxes and not may_be_boxes and apart * 2 <= len(lines):
        return OUTLINES
    return OUTLINES if outlines > _CLEARLY * apart and outlines * 2 >= len(consistent) else UNCLEAR


def _most(lines: Sequence[Sequence[float]], is_so: Callable[[Sequence[float]], bool]) -> bool:
    """Whether something holds for nearly all lines."""
    return sum(map(is_so, lines)) >= _NEARLY_ALL * len(lines)


def _points(numbers: Sequence[float], step: int) -> list[_Point]:
    """The landmarks that are seen: others are written as -1 or 0."""
    pairs = zip(numbers[4::step], numbers[5::step], strict=True)
    return [(x, y) for x, y in pairs if min(x, y) > -_SLACK and (x, y) != (0, 0)]


def _has_flags(numbers: Sequence[float]) -> bool:
    """Whether every third number says how well a point is seen."""
    return all(flag in (-1, 0, 1, 2) for flag in numbers[6::3])


def _is_flagged_box(numbers: Sequence[float]) -> bool:
    return _is_box_of(numbers, 3)


def _begins_with_box(numbers: Sequence[float]) -> bool:
    return _is_box_of(numbers[:4], 2)


def _is_scored(numbers: Sequence[float]) -> bool:
    """Whether a box comes before points of which each has a score."""
    points = numbers[: len(numbers) - (len(numbers) - 4) % 3]
    return all(0 <= score <= 1 for score in numbers[6::3]) and _is_box_of(points, 3)


def is_tracked(numbers: Sequence[float]) -> bool:
    """Whether numbers end as a tracker's do: with a score, and the number of the track."""
    *_, score, track = numbers
    is_end = 0 < score < 1 <= track and track == int(track)
    has_flags = len(numbers) % 3 == 1 and _has_flags(numbers)
    return is_end and not has_flags and (len(numbers) > 6 or _begins_with_box(numbers))


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


def _goes_round(numbers: Sequence[float]) -> bool:
    """Whether points follow each other as corners do: hardly farther than once round all of them."""
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    way = sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise([*points, points[0]]))
    x1, y1, x2, y2 = _extents(points)
    return way <= _MAX_ROUND * 2 * (x2 - x1 + y2 - y1)


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
