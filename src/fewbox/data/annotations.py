"""What a person says is in the photos: boxes, and which photos they have looked at.

A box is ``(x1, y1, x2, y2)`` as in ``core/boxes.py``: pixels of the upright image,
continuous edges. A photo is in one of three states, because a photo that is empty teaches
the detector something and a photo nobody has looked at must not:

    not looked at           ``reviewed`` false, no boxes
    looked at and empty     ``reviewed`` true, no boxes
    has boxes               whoever drew them has looked: ``reviewed`` is true

Everything is checked when an :class:`AnnotationSet` is made, so that no other code has to.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fewbox.core import counted, some_of
from fewbox.core.arguments import all_of_kind, as_number, checked_path, kind_of
from fewbox.data import checked_labels
from fewbox.data.images import StrPath, find_photos, given_places, read_size_hw
from fewbox.data.remote import short_names
from fewbox.errors import AnnotationError, SettingError

# A narrower box is a slip of the mouse or a rounding error; its logarithm, for the coder, would be no use.
MIN_SIDE = 1e-3

# Tools that count pixels from 1, or include the last one, end up to one pixel outside.
MAX_OUTSIDE = 1.0

_BOX_HINT = 'boxes=[fewbox.Box(x1, y1, x2, y2, "duck")]'
_IMAGES_HINT = "a list of AnnotatedImage; AnnotationSet.from_arrays(paths, boxes, labels) takes paths"
_REDRAW_HINT = "draw the box again, or remove it"
SAVE_HINT = "an image in memory is saved first: PIL.Image.fromarray(image).save('photo.png')"
_OUTSIDE_HINT = (
    "check that the boxes belong to this photo as it is now: not to another size of it, "
    "nor to the photo before it was turned upright"
)
_TURNED_HINT = (
    "the boxes were drawn on the photo before its EXIF orientation turned it upright: "
    "draw them again, remove the orientation from the photo, or leave it out; in Python size_hw is "
    "(height, width)"
)
_RESIZED_HINT = "its boxes are of another size of it: use the photos they were drawn on, or leave it out"
_CHOOSE_HINT = "by number, slice or mask, such as photos[[p.path.name == 'cup1.jpg' for p in photos]]"
_REVIEW_HINT = (
    'draw their boxes; or mark them as reviewed and empty (COCO: "reviewed": true on the image; '
    "CSV: a row with the photo name and empty box columns); or leave them out with --reviewed-only "
    "(photos.reviewed_only() in Python)"
)


@dataclass(frozen=True)
class Box:
    """One object in one photo.

    ``ignore`` marks a place that is neither object nor background, such as a reflection or
    a crowd (``iscrowd`` in COCO): it is not learnt from and does not count when scoring.

    ``area`` in square pixels is what a file states, such as COCO's of the object's outline; left out, it is
    that of the box. It only decides whether the object counts as small, medium or large, and two boxes are
    equal whatever it is. Whoever moves the edges of a box sets it to None.

    Examples:
        >>> box = fewbox.Box(504, 279, 607, 402, "duck")
        >>> box.x2 - box.x1, box.label
        (103, 'duck')
    """

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    ignore: bool = False
    area: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AnnotatedImage:
    """One photo, its upright size in pixels, and the boxes in it.

    Examples:
        >>> empty = fewbox.AnnotatedImage("table.jpg", size_hw=(480, 640), boxes=(), reviewed=True)
        >>> empty.path.name, len(empty.boxes), empty.reviewed
        ('table.jpg', 0, True)
    """

    path: Path
    size_hw: tuple[int, int]
    boxes: tuple[Box, ...]
    reviewed: bool

    def __post_init__(self) -> None:
        path, said = checked_path(self.path, "a photo", AnnotationError, SAVE_HINT), self.size_hw
        boxes = all_of_kind(Box, self.boxes, f"{path.name}: box", AnnotationError, _BOX_HINT)
        size_hw = [*map(as_number, said)] if isinstance(said, Iterable) else []
        if len(size_hw) != 2 or not all(side.is_integer() and side > 0 for side in size_hw):
            told = f"size_hw must be height and width, whole numbers above 0: {reprlib.repr(said)}"
            raise AnnotationError(f"{path.name}: {told}", hint="size_hw=image.shape[:2]")
        reviewed = _truth(
            self.reviewed, f"{path.name}: reviewed", "False: nobody has looked at the photo yet"
        )
        values = path, tuple(map(int, size_hw)), boxes, reviewed or bool(boxes)
        for name, value in zip(("path", "size_hw", "boxes", "reviewed"), values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def objects(self) -> tuple[Box, ...]:
        """The boxes that are learnt from and have to be found: all but those to ignore."""
        return tuple(box for box in self.boxes if not box.ignore)

    def __repr__(self) -> str:
        height, width = self.size_hw
        boxes = counted(len(self.boxes), "box") if self.reviewed else "not reviewed"
        return f"AnnotatedImage({self.path.name!r}, {width} x {height}, {boxes})"


@dataclass(frozen=True)
class AnnotationSet:
    """Annotated photos and the labels of their classes: class ``c`` is ``labels[c]``.

    Edges up to one pixel outside their photo are moved onto its border. ``source`` names
    where the annotations come from and begins every message.

    Raises:
        AnnotationError: a photo is listed twice, a label is unknown, empty or double, or a
            box is inside out, too small, not finite, or outside its photo, or its area is no number from 0,
            or ``ignore`` or ``reviewed`` is neither true nor false.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/boxes.json")
        >>> photos[:5]
        AnnotationSet(5 photos, 8 boxes; rubber_duck)
        >>> train, test = photos.split(0.8, seed=1)
        >>> len(train + test) == len(photos)
        True
    """

    images: tuple[AnnotatedImage, ...]
    labels: tuple[str, ...]
    source: str = field(default="photos", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", checked_labels(self.labels, self.source))
        images = all_of_kind(
            AnnotatedImage, self.images, f"{self.source}: photo", AnnotationError, _IMAGES_HINT
        )
        object.__setattr__(self, "images", images)
        _check_listed_once(self.images, self.source)
        images = tuple(
            _checked_image(image, self.labels, f"{self.source}: {name}")
            for name, image in zip(self.names, self.images, strict=True)
        )
        object.__setattr__(self, "images", images)

    @classmethod
    def from_arrays(
        cls,
        paths: Sequence[StrPath],
        boxes: Sequence[npt.ArrayLike],
        labels: Sequence[Sequence[str]] | str,
    ) -> AnnotationSet:
        """Make a set from arrays; a photo with no boxes counts as looked at and empty.

        Args:
            paths: N photos.
            boxes: N arrays ``[M, 4]``, each with an M of its own.
            labels: N sequences of M labels; one string stands for all boxes of a photo, or of the whole set.

        Returns:
            A set of N images in the same order; its labels are in the order of first use.

        Raises:
            ValueError: the lengths or shapes do not fit together.
            PhotoError: a photo cannot be read.
            AnnotationError: the boxes do not fit their photos, are in parts of them, or are a DataFrame; what
                was given has no order; or a label is no text.

        Examples:
            >>> paths = ["ducks/train/duck_01.jpg", "ducks/train/duck_02.jpg"]
            >>> photos = fewbox.AnnotationSet.from_arrays(paths, [[(10, 20, 110, 140)], []], "duck")
            >>> [image.reviewed for image in photos]
            [True, True]
        """
        from fewbox.data.formats.fitting import images_from_arrays, require_set_in_pixels

        images = images_from_arrays(paths, boxes, labels)
        used = dict.fromkeys(box.label for image in images for box in image.boxes)
        made = cls(tuple(images), (labels,) if isinstance(labels, str) else tuple(used))
        require_set_in_pixels(made)
        return made

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return iter(self.images)

    def __repr__(self) -> str:
        photos, boxes = counted(len(self), "photo"), counted(self.num_boxes, "box")
        return f"AnnotationSet({photos}, {boxes}; {', '.join(self.labels) or 'no classes'})"

    @overload
    def __getitem__(self, chosen: int) -> AnnotatedImage: ...

    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | npt.NDArray[Any]) -> AnnotationSet: ...

    def __getitem__(self, chosen: Any) -> AnnotatedImage | AnnotationSet:
        """One photo by its number, or a set of those in a slice, a mask ``[N]`` or numbers; labels stay."""
        if isinstance(chosen, int | np.integer):
            return self.images[chosen]
        if not isinstance(chosen, slice):
            given, chosen = chosen, np.asarray(chosen)
            chosen = chosen if chosen.size else chosen.astype(np.int64)
            if chosen.ndim != 1 or chosen.dtype.kind not in "biu":
                by = f"a name: {reprlib.repr(given)}" if chosen.dtype.kind == "U" else kind_of(given)
                raise SettingError(f"photos are not chosen by {by}", hint=_CHOOSE_HINT)
        return replace(self, images=tuple(self.images[row] for row in np.arange(len(self))[chosen]))

    def __add__(self, other: AnnotationSet) -> AnnotationSet:
        """The photos of both sets, none in both; the labels of the first, then the second's others."""
        if not isinstance(other, AnnotationSet):
            return NotImplemented
        labels = tuple(dict.fromkeys((*self.labels, *other.labels)))
        sources = dict.fromkeys((self.source, other.source))
        return AnnotationSet((*self.images, *other.images), labels, " and ".join(sources))

    def split(self, share: float, seed: int = 0) -> tuple[AnnotationSet, AnnotationSet]:
        """Divide the photos at random, to learn from the first part and evaluate on the second, say.

        Photos that look nearly the same, such as frames of one film, stay together, and every class comes
        into both parts, as far as that can be near the share: one that is in no second photo, into the first.

        Args:
            share: of the photos, that go into the first part: above 0 and below 1.
            seed: another one gives another division.

        Raises:
            AnnotationError: there are not two photos that look different.
            PhotoError: a photo cannot be read.
            SettingError: ``share`` is no number above 0 and below 1.
        """
        from fewbox.data.similar import numbers_of_first_part

        is_first = np.isin(np.arange(len(self)), numbers_of_first_part(self, share, seed))
        return self[is_first], self[~is_first]

    @property
    def names(self) -> tuple[str, ...]:
        """What each photo is called: its name, with as many folders before it as tell it from the others."""
        return tuple(short_names([image.path for image in self.images]))

    @property
    def num_boxes(self) -> int:
        """How many boxes there are to learn from: those to ignore do not count."""
        return sum(len(image.objects) for image in self.images)

    def reviewed_only(self) -> AnnotationSet:
        """The same set without the photos nobody has looked at; the labels stay."""
        return replace(self, images=tuple(image for image in self.images if image.reviewed))

    def with_negatives(self, photos: StrPath | Sequence[StrPath]) -> AnnotationSet:
        """The same set and photos, or folders of them, with none of its objects; each counts as looked at.

        Raises:
            PhotoError: a photo cannot be read.
            AnnotationError: a photo has the name of another one.
        """
        paths = find_photos(given) if (given := given_places(photos)) else ()
        empty = (AnnotatedImage(path, read_size_hw(path), (), reviewed=True) for path in paths)
        return replace(self, images=(*self.images, *empty))

    def require_reviewed(self) -> None:
        """Refuse a set that cannot be learnt from as it is.

        Raises:
            AnnotationError: a photo has not been looked at, no photo has a box, or all boxes are in parts of
                the photo, 0 to 1.
        """
        from fewbox.data.formats.fitting import require_set_in_pixels

        missing = [name for name, image in zip(self.names, self, strict=True) if not image.reviewed]
        if missing:
            are = "have no boxes and are" if len(missing) > 1 else "has no boxes and is"
            raise AnnotationError(
                f"{self.source}: {len(missing)} of {counted(len(self), 'photo')} {are} "
                f"not marked as reviewed: " + some_of(missing),
                hint=_REVIEW_HINT,
            )
        if self.num_boxes == 0:
            raise AnnotationError(
                f"{self.source}: no box in any of {counted(len(self), 'photo')}",
                hint="draw a box around the object in at least one photo",
            )
        require_set_in_pixels(self)


def _truth(given: Any, what: str, hint: str) -> bool:
    """Not whatever Python takes for true: a score is no truth, nor is the NaN of an empty cell."""
    plain = given.item() if getattr(given, "ndim", None) == 0 else given  # numpy's and torch's
    if not isinstance(plain, int) or plain not in (0, 1):
        if isinstance(plain, float) and plain in (0, 1):  # of a table with empty cells; or a score
            hint = f"if that is what it means, bool({plain})"
        raise AnnotationError(f"{what} is True or False: {reprlib.repr(given)}", hint=hint)
    return bool(plain)


def _check_listed_once(images: tuple[AnnotatedImage, ...], source: str) -> None:
    """By whatever spelling: boxes in one and none in the other would teach that the object is background."""
    seen, real = set(), cache(os.path.realpath)  # folders are few, and looking them up takes time
    for image in images:
        if (place := (real(image.path.parent), image.path.name)) in seen:
            raise AnnotationError(f"{source}: a photo is listed twice: {image.path}", hint="list it once")
        seen.add(place)


def _checked_image(image: AnnotatedImage, labels: tuple[str, ...], where: str) -> AnnotatedImage:
    boxes = tuple(
        checked_box(box, image.size_hw, labels, f"{where}: box {number}")
        for number, box in enumerate(image.boxes, start=1)
    )
    return replace(image, boxes=boxes)


def require_size(said_hw: tuple[int, int], size_hw: tuple[int, int], where: str) -> None:
    """Refuse boxes that were drawn on a photo of another size, or on one that was not upright.

    Args:
        said_hw: the size that a file of boxes states.
        size_hw: the size of the upright photo.
        where: the place in the file, with which the message begins.

    Raises:
        AnnotationError: the two differ.
    """
    if said_hw != size_hw:
        sizes = f"{said_hw[1]} x {said_hw[0]} in the file, {size_hw[1]} x {size_hw[0]} upright"
        hint = _TURNED_HINT if said_hw == size_hw[::-1] else _RESIZED_HINT
        raise AnnotationError(f"{where}: width x height differ: {sizes}", hint=hint)


def checked_box(box: Box, size_hw: tuple[int, int], labels: Sequence[str], where: str) -> Box:
    """Return ``box`` inside its photo, its coordinates plain floats, or say what is wrong with it.

    Raises:
        AnnotationError: as for an :class:`AnnotationSet`; the message begins with ``where``.
    """
    if not isinstance(box.label, str) or box.label not in labels:
        hint = "the labels of this set are: " + (", ".join(labels) or "none")
        raise AnnotationError(f"{where}: unknown label: {box.label!r}", hint=hint)
    x1, x2 = _checked_side(box.x1, box.x2, size_hw[1], ("x1", "x2", "width"), where)
    y1, y2 = _checked_side(box.y1, box.y2, size_hw[0], ("y1", "y2", "height"), where)
    area = None if box.area is None else as_number(box.area)
    if area is not None and not 0 <= area < math.inf:
        told = f"{where}: area must be a number from 0: {reprlib.repr(box.area)}"
        raise AnnotationError(told, hint="leave the area out")
    ignore = _truth(box.ignore, f"{where}: ignore", "a Box has no score: leave it out")
    label = str.__str__(box.label)
    return Box(x1, y1, x2, y2, label, ignore, area)


def _checked_side(
    low: float, high: float, length: int, names: tuple[str, str, str], where: str
) -> tuple[float, float]:
    low_name, high_name, length_name = names
    values = f"{low_name}={low}, {high_name}={high}"
    given, (low, high) = (low, high), map(as_number, (low, high))
    if not (math.isfinite(low) and math.isfinite(high)):
        told = ", ".join(f"{name}={reprlib.repr(edge)}" for name, edge in zip(names, given, strict=False))
        raise AnnotationError(f"{where}: every edge must be a number: {told}", hint=_REDRAW_HINT)
    if high <= low:
        told = f"{where}: {high_name} must be greater than {low_name}: {values}"
        raise AnnotationError(told, hint=f"{_REDRAW_HINT}; x1,y1 and x2,y2 are corners, not sides")
    if low < -MAX_OUTSIDE or high > length + MAX_OUTSIDE:
        raise AnnotationError(
            f"{where}: lies outside the photo: {values}, {length_name} of the photo {length}",
            hint=_OUTSIDE_HINT,
        )
    low_inside, high_inside = max(low, 0.0), min(high, float(length))
    if high_inside - low_inside < MIN_SIDE:
        raise AnnotationError(
            f"{where}: less than {MIN_SIDE:g} pixels of it are in the photo: {values}", hint=_REDRAW_HINT
        )
    return low_inside, high_inside
