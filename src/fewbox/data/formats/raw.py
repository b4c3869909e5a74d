"""What a file of boxes says, before it is held against the photos.

Every reader gives :class:`RawAnnotations`, whatever the format. Whoever wants all faults of
a data set, and not only the first, begins here: nothing is known yet about whether the
photos are there, have the stated sizes, and hold the boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewbox.core import counted, some_of
from fewbox.core.progress import console

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


def labels_in_use(photos: list[RawPhoto] | tuple[RawPhoto, ...], first: list[str]) -> tuple[str, ...]:
    """The labels ``first``, then those of boxes that are not among them, in the order of first use."""
    used = [box.label for photo in photos for box in photo.boxes if box.label is not None]
    return tuple(dict.fromkeys([*first, *used]))
