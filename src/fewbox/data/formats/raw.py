"""What a file of boxes says, before it is held against the photos; and shapes that are no boxes.

Shapes that are no boxes: which of them a box may stand for, and which not.

The box around an outline is what a person would draw around the same object, so it is taken.
A rotated box is drawn to hold less than its own outer box, and several outlines of one object
have one box together: both are refused, as any choice would be a guess. A box turned so little
that no corner moves by more than a pixel is taken as upright. Points and lines have no inside
and are left out.

What a file of boxes says, before it is held against the photos.

Every reader gives :class:`RawAnnotations`, whatever the format. Whoever wants all faults of
a data set, and not only the first, begins here: nothing is known yet about whether the
photos are there, have the stated sizes, and hold the boxes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
    """

    where: str
    name: str
    boxes: tuple[RawBox, ...]
    reviewed: bool
    size_hw: tuple[int, int] | None = None
    other_names: tuple[str, ...] = ()
    file: Path | None = None
    paths: tuple[str, ...] = ()

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


def labels_in_use(photos: list[RawPhoto] | tuple[RawPhoto, ...], first: list[str]) -> tuple[str, ...]:
    """The labels ``first``, then those of boxes that are not among them, in the order of first use."""
    used = [box.label for photo in photos for box in photo.boxes if box.label is not None]
    return tuple(dict.fromkeys([*first, *used]))
