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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fewbox.core import counted, some_of
from fewbox.core.arguments import checked_path, kind_of, names_of_classes, require_distinct
from fewbox.data.images import StrPath, find_photos, photo_path, read_size_hw
from fewbox.data.remote import is_remote, short_names
from fewbox.errors import AnnotationError, SettingError

# A narrower box is a slip of the mouse or a rounding error; its logarithm, for the coder, would be no use.
MIN_SIDE = 1e-3

# Tools that count pixels from 1, or include the last one, end up to one pixel outside.
MAX_OUTSIDE = 1.0

_REDRAW_HINT = "draw the box again, or remove it"
_SAVE_HINT = "an image in memory is saved first: PIL.Image.fromarray(image).save('photo.png')"
_OUTSIDE_HINT = (
    "check that the boxes belong to this photo as it is now: not to another size of it, "
    "nor to the photo before it was turned upright"
)
_TURNED_HINT = (
    "the boxes were drawn on the photo before its EXIF orientation turned it upright: "
    "draw them again, remove the orientation from the photo, or leave it out"
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
        boxes, size_hw = tuple(self.boxes), tuple(map(int, self.size_hw))
        values = Path(self.path), size_hw, boxes, bool(self.reviewed or boxes)
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
            box is inside out, too small, not finite, or outside its photo, or its area is no number from 0.

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
        object.__setattr__(self, "labels", _checked_labels(self.labels, self.source))
        object.__setattr__(self, "images", tuple(self.images))
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
            AnnotationError: the boxes do not fit their photos, or a label is no text.

        Examples:
            >>> paths = ["ducks/train/duck_01.jpg", "ducks/train/duck_02.jpg"]
            >>> photos = fewbox.AnnotationSet.from_arrays(paths, [[(10, 20, 110, 140)], []], "duck")
            >>> [image.reviewed for image in photos]
            [True, True]
        """
        for given, what in ((paths, "paths"), (boxes, "boxes"), (labels, "labels")):
            if not hasattr(given, "__len__") or (isinstance(given, str) and what != "labels"):
                raise AnnotationError(f"{what} must be a list, one for each photo: {kind_of(given)}")
        per_photo = [labels] * len(paths) if isinstance(labels, str) else labels
        if not len(paths) == len(boxes) == len(per_photo):
            raise ValueError(f"{len(paths)} paths, {len(boxes)} arrays of boxes, {len(per_photo)} of labels")
        images = []
        paths = [photo_path(path) if is_remote(path) else path for path in paths]
        places = [checked_path(path, "a photo", AnnotationError, _SAVE_HINT) for path in paths]
        for path, corners, names in zip(places, boxes, per_photo, strict=True):
            of_photo = _boxes_from_array(corners, names, path.name)
            images.append(AnnotatedImage(path, read_size_hw(path), of_photo, reviewed=True))
        used = dict.fromkeys(box.label for image in images for box in image.boxes)
        return cls(tuple(images), (labels,) if isinstance(labels, str) else tuple(used))

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
        if isinstance(chosen, str):
            raise SettingError(f"photos are not chosen by a name: {chosen!r}", hint=_CHOOSE_HINT)
        if not isinstance(chosen, slice):
            chosen = np.asarray(chosen, None if len(chosen) else np.int64)
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
        from fewbox.data.similar import divided, groups_alike

        if not (isinstance(share, int | float) and 0 < share < 1):
            raise SettingError(f"a share must be above 0 and below 1: {share!r}", hint="0.8, for example")
        groups = groups_alike([image.path for image in self.images])
        if len(groups) < 2:
            what = f"all {len(self)} photos look alike" if len(self) > 1 else counted(len(self), "photo")
            hint = "add photos of other moments or places"
            raise AnnotationError(f"{self.source}: cannot be divided: {what}", hint=hint)
        labels = [{box.label for box in image.objects} for image in self.images]
        is_first = np.isin(np.arange(len(self)), divided(groups, labels, share, seed))
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
        paths = find_photos(photos) if photos else ()
        empty = (AnnotatedImage(path, read_size_hw(path), (), reviewed=True) for path in paths)
        return replace(self, images=(*self.images, *empty))

    def require_reviewed(self) -> None:
        """Refuse a set that cannot be learnt from as it is.

        Raises:
            AnnotationError: a photo has not been looked at, or no photo has a box.
        """
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


def _boxes_from_array(corners: npt.ArrayLike, labels: str | Sequence[str], name: str) -> tuple[Box, ...]:
    boxes = np.asarray(corners, dtype=np.float64)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        told = "None" if corners is None else list(boxes.shape)
        raise ValueError(f"{name}: boxes must be [M, 4]: {told}; one box is [(x1, y1, x2, y2)], none is []")
    is_one = isinstance(labels, str) or not hasattr(labels, "__iter__")
    of_boxes: list[Any] = [labels] * len(boxes) if is_one else list(labels)
    if len(of_boxes) != len(boxes):
        raise ValueError(f"{name}: {counted(len(boxes), 'box')}, {counted(len(of_boxes), 'label')}")
    edges: list[list[float]] = boxes.tolist()
    return tuple(Box(x1, y1, x2, y2, label) for (x1, y1, x2, y2), label in zip(edges, of_boxes, strict=True))


def _checked_labels(given: Any, source: str) -> tuple[str, ...]:
    labels = names_of_classes(given, source, AnnotationError)
    require_distinct(labels, source, AnnotationError)
    return labels


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
    if box.label not in labels:
        hint = "the labels of this set are: " + (", ".join(labels) or "none")
        raise AnnotationError(f"{where}: unknown label: {box.label!r}", hint=hint)
    x1, x2 = _checked_side(box.x1, box.x2, size_hw[1], ("x1", "x2", "width"), where)
    y1, y2 = _checked_side(box.y1, box.y2, size_hw[0], ("y1", "y2", "height"), where)
    area = None if box.area is None else float(box.area)
    if area is not None and not 0 <= area < math.inf:
        raise AnnotationError(f"{where}: area must be a number from 0: {area}", hint="leave the area out")
    return replace(box, x1=x1, y1=y1, x2=x2, y2=y2, ignore=bool(box.ignore), area=area)


def _checked_side(
    low: float, high: float, length: int, names: tuple[str, str, str], where: str
) -> tuple[float, float]:
    low_name, high_name, length_name = names
    values = f"{low_name}={low}, {high_name}={high}"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise AnnotationError(f"{where}: every edge must be a number: {values}", hint=_REDRAW_HINT)
    if high <= low:
        told = f"{where}: {high_name} must be greater than {low_name}: {values}"
        raise AnnotationError(told, hint=f"{_REDRAW_HINT}; x1,y1 and x2,y2 are corners, not sides")
    if low < -MAX_OUTSIDE or high > length + MAX_OUTSIDE:
        raise AnnotationError(
            f"{where}: lies outside the photo: {values}, {length_name} of the photo {length}",
            hint=_OUTSIDE_HINT,
        )
    low_inside, high_inside = max(float(low), 0.0), min(float(high), float(length))
    if high_inside - low_inside < MIN_SIDE:
        raise AnnotationError(
            f"{where}: less than {MIN_SIDE:g} pixels of it are in the photo: {values}", hint=_REDRAW_HINT
        )
    return low_inside, high_inside
