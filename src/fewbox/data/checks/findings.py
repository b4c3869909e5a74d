"""What can be wrong with a data set: kinds of findings, how bad each is and its cure; and the check of boxes.

The check of boxes holds what a file says about one photo against it: does its size fit, and its boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewbox.core.arguments import AUTO
from fewbox.core.boxes import SAME_BOX_IOU, Real, box_areas, paired_iou, tile_grid
from fewbox.data.annotations import MAX_OUTSIDE, MIN_SIDE
from fewbox.data.formats.fitting import (
    MAX_MOVED,
    are_of_turned_photo,
    cut,
    is_flat,
    may_be_cut,
    moved,
    reach,
)
from fewbox.data.formats.photos import AmbiguousPhotoError
from fewbox.data.formats.raw import Corners, RawBox, RawPhoto
from fewbox.errors import AnnotationError

ERROR, WARNING, NOTE = "error", "warning", "note"
"""An error stops fine-tuning or teaches something wrong; a warning may; a note is worth a look."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        title: what it is, of many.
        cure: what to do about it.
    """

    severity: str
    title: str
    cure: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of ``KINDS``.
        file: the photo it is about, or the file of boxes.
        place: where in the file of boxes it stands; empty if nowhere.
        what: what is wrong.
        severity: that of its kind.
        cure: what to do about it.
    """

    kind: str
    file: str
    place: str
    what: str
    severity: str
    cure: str


def finding(kind: str, file: str, what: str, *, place: str = "", cure: str | None = None) -> Finding:
    """A finding; its cure is that of its kind unless there is a better one."""
    known = KINDS[kind]
    return Finding(kind, file, place, what, known.severity, known.cure if cure is None else cure)


def photo_not_found(photo: RawPhoto, error: AnnotationError, *, is_drawn: bool) -> Finding:
    """A photo that a file speaks of and that is not there, or may be one of two.

    Args:
        photo: what the file says of it.
        error: what finding it has said.
        is_drawn: the file is that of the project, from which photos may go: they are left out.
    """
    hint = error.hint or ""
    if isinstance(error, AmbiguousPhotoError):
        what = error.message.removeprefix(f"{photo.where}: ")
        return finding("photo-ambiguous", photo.name, what, place=photo.where, cure=hint)
    near = hint if hint.startswith(("did you mean", "there is")) else ""
    what = "; ".join(filter(None, ("no such photo", near)))
    return finding("photo-gone" if is_drawn else "photo-missing", photo.name, what, place=photo.where)


KINDS = {
    "boxes-malformed": Kind(
        ERROR, "files of boxes that cannot be read", "write the file again with the tool it comes from"
    ),
    "boxes-none": Kind(ERROR, "no boxes at all", "draw a box around the object in at least one photo"),
    "photo-missing": Kind(
        ERROR,
        "photos that are not there",
        "put the photo back, correct its name in the file of boxes, or remove it there; or leave out all "
        "that are not there: --skip-missing (skip_missing=True in Python)",
    ),
    "photo-ambiguous": Kind(
        ERROR, "names that may mean two photos", "rename one of the two, or name the folder of the right one"
    ),
    "photo-unreadable": Kind(ERROR, "photos that cannot be read", "copy the photo again, or leave it out"),
    "photo-listed-twice": Kind(
        ERROR, "photos listed twice", "keep one of the two entries, with the boxes of both"
    ),
    "photo-turned": Kind(
        ERROR,
        "photos whose boxes were drawn before they were turned upright",
        "draw the boxes again on the upright photo; or, to keep them, remove the EXIF orientation from "
        "the photo, which then lies on its side: exiftool -Orientation= PHOTO",
    ),
    "photo-resized": Kind(
        ERROR,
        "photos that had another size when their boxes were drawn",
        "use the photos that the boxes were drawn on, or draw the boxes again",
    ),
    "photo-in-both": Kind(
        ERROR,
        "photos that are for learning and for testing",
        "take each out of one of the two: a detector knows the photos it has learnt from",
    ),
    "box-outside": Kind(
        ERROR,
        "boxes outside their photo",
        "draw the box again; if there are many, check that the boxes belong to these photos",
    ),
    "box-rotated": Kind(ERROR, "boxes that are rotated", "draw the box again without rotation, or remove it"),
    "box-degenerate": Kind(ERROR, "boxes without an inside", "draw the box again, or remove it"),
    "label-empty": Kind(ERROR, "boxes without a label", "name the class of every box"),
    "label-refused": Kind(ERROR, "labels that are refused", "rename the class, in visible characters"),
    "photo-gone": Kind(
        WARNING,
        "photos of the project that are no longer there, and are left out",
        "nothing, if nobody wants them; else put the photo back, or correct its name in the file",
    ),
    "box-cut": Kind(
        WARNING,
        "boxes that reach over the edge of their photo, and are cut there",
        "nothing, if the object goes on beyond the edge; else check that the boxes belong to these photos "
        "(--strict refuses them)",
    ),
    "box-tilted": Kind(
        WARNING,
        "boxes that are turned by a pixel or less, and read as upright",
        "nothing; draw the box again if it matters (--strict refuses them)",
    ),
    "box-flat": Kind(
        WARNING,
        "boxes without width or height, which are left out",
        "draw the box again, or remove it: a photo with no other box counts as not looked at "
        "(--strict refuses them)",
    ),
    "box-twice": Kind(WARNING, "boxes drawn twice around one object", "remove one of the two"),
    "box-two-labels": Kind(
        WARNING, "boxes that give one object two classes", "remove the box with the wrong label"
    ),
    "box-tiny": Kind(
        WARNING,
        "boxes that the network hardly sees",
        "take photos from nearer, cut the photos into parts (to detect in them: --tiles), or choose a base "
        "with a larger input",
    ),
    "boxes-small": Kind(
        WARNING,
        "large photos with small objects",
        "look at parts of the photos too: fewbox detect DETECTOR PHOTOS -o found/ --tiles; and learn from "
        "photos taken nearer, or from parts of these",
    ),
    "label-alike": Kind(
        WARNING, "labels that differ only in how they are written", "use one spelling for one class"
    ),
    "label-rare": Kind(
        WARNING,
        "classes with few boxes beside the others",
        "add photos of the rare class: ten times fewer boxes are easily outvoted",
    ),
    "label-unused": Kind(WARNING, "classes without a box", "remove the class, or draw its boxes"),
    "label-not-learnt": Kind(
        WARNING,
        "classes to be tested that are not learnt",
        "add photos with boxes of the class, or give both files the same name for it",
    ),
    "photo-nearly-in-both": Kind(
        WARNING,
        "photos for testing that look like one for learning",
        "take copies out of one of the two, and test on photos of other moments, or the result looks better "
        "than it is; if a fixed camera took them and only small things change, all is well",
    ),
    "photo-twice": Kind(
        WARNING,
        "photos that look the same",
        "keep one: the other teaches nothing, and if they part ways it spoils the test",
    ),
    "photo-dark": Kind(
        WARNING,
        "photos that are almost black",
        "make them brighter, all by the same factor, here and where you detect: a camera that uses 12 bits "
        "of a 16-bit file leaves such photos",
    ),
    "photo-not-reviewed": Kind(
        WARNING,
        "photos that nobody has looked at",
        "draw their boxes, or mark them as reviewed and empty (fewbox annotate); "
        "or leave them out: fewbox finetune --reviewed-only",
    ),
    "photo-name-twice": Kind(
        NOTE,
        "photos that share a name",
        "nothing, if their folders tell them apart; fewbox detect draws pictures of one folder at a time",
    ),
    "photo-flipped": Kind(
        NOTE,
        "photos with boxes that the camera stored upside down, mirrored or on their side",
        "look at their boxes once: a tool that ignores the EXIF orientation leaves them in the wrong "
        "place, and from the numbers nobody can tell",
    ),
    "photo-without-end": Kind(
        NOTE, "photos whose file lacks its end", "copy it again from where it came, if it is still there"
    ),
    "photo-cleaned": Kind(NOTE, "photos found by a name without its signs", "rename one that is another"),
    "not-read": Kind(NOTE, "things the file says that fewbox does not use", ""),
}
"""The kinds, worst first."""


SMALLEST_CELL = 8
"""The finest cells of all networks here have this side, in pixels of their input."""

TILES_BELOW = 12
"""In pixels of the input: one and a half of the finest cells, so that in most places an object is seen by one
cell alone. Of the demo's ducks the starter finds none at 10 and at 15 pixels, and two of three at 23."""


def check_boxes(
    stated: RawPhoto,
    name: str,
    size_hw: tuple[int, int],
    input_side: int,
    *,
    strict: bool = False,
    is_sideways: bool = False,
) -> Iterator[Finding]:
    """Hold what a file says about a photo against the photo, which is called ``name``.

    Where the photo has another size than the file states, the boxes are of some other picture, and
    no more is said about them. ``strict`` as for ``read_annotations``; ``is_sideways`` if the EXIF
    orientation of the photo trades height and width.
    """
    corners = [box.corners_in(size_hw) for box in stated.boxes]
    wrong_size = _size_finding(stated, name, size_hw, corners, refused=strict or is_sideways)
    if wrong_size is not None:
        yield wrong_size
        return
    sound: list[tuple[RawBox, Corners]] = []
    for box, edges in zip(stated.boxes, corners, strict=True):
        may_cut = not strict and may_be_cut(edges, size_hw, stated)
        found = _box_finding(box, edges, name, size_hw, strict=strict, may_cut=may_cut)
        if found is None or found.kind in ("box-cut", "box-tilted"):
            sound.append((box, cut(edges, size_hw) if may_cut else edges))
        if found is not None:
            yield found
        if box.label is not None and not box.label.strip():
            yield finding("label-empty", name, "its label is empty", place=box.where)
    learnt = [(box, edges) for box, edges in sound if not box.ignore]
    yield from _doubles(learnt, name)
    yield from _tiny(learnt, name, input_side / max(size_hw))


def may_be_of_stored_photo(stated: RawPhoto, size_hw: tuple[int, int], is_sideways: bool) -> bool:
    """Whether nobody can tell if boxes are those of the upright photo, or of it as the camera stored it.

    Args:
        stated: what the file says of the photo.
        size_hw: the size of the upright photo.
        is_sideways: what is stored has width for height. Then a size in the file tells, and so do boxes in
            pixels that fit only one of the two.
    """
    if not stated.boxes or not is_sideways or size_hw[0] == size_hw[1]:
        return bool(stated.boxes)
    pixels = [box.corners for box in stated.boxes if not box.unit]
    fit_both = (reach(edges, size) <= MAX_OUTSIDE for edges in pixels for size in (size_hw, size_hw[::-1]))
    return stated.size_hw is None and all(fit_both)


def count_small(stated: RawPhoto, size_hw: tuple[int, int], input_side: int) -> tuple[int, int]:
    """How many boxes there are, and how many are below ``TILES_BELOW`` that tiles would make larger."""
    corners = [box.corners_in(size_hw) for box in stated.boxes if not box.ignore]
    tiles = tile_grid(size_hw, (input_side, input_side), AUTO)
    if not len(tiles):
        return len(corners), 0
    in_whole, in_tile = (input_side / max(side) for side in (size_hw, (tiles[0, 2:] - tiles[0, :2]).tolist()))
    sides = [math.sqrt(max(x2 - x1, 0) * max(y2 - y1, 0)) for x1, y1, x2, y2 in corners]
    return len(corners), sum(side * in_whole < TILES_BELOW <= side * in_tile for side in sides)


def are_tiny(boxes: npt.NDArray[Real]) -> npt.NDArray[np.bool_]:
    """Which boxes ``[..., 4]``, in pixels of the network's input, have a smaller area than a finest cell."""
    return np.asarray(box_areas(boxes) < SMALLEST_CELL**2)


def _size_finding(
    stated: RawPhoto, name: str, size_hw: tuple[int, int], corners: list[Corners], *, refused: bool
) -> Finding | None:
    height, width = size_hw
    now = f"{width} x {height} upright"
    if stated.size_hw is not None:
        if stated.size_hw == size_hw:
            return None
        then = f"{stated.size_hw[1]} x {stated.size_hw[0]} in the file of boxes"
        kind = "photo-turned" if stated.size_hw == size_hw[::-1] else "photo-resized"
        return finding(kind, name, f"{now}, {then}", place=stated.where)
    # A file that states no size gives itself away by boxes that fit the photo only as it lay.
    if are_of_turned_photo(stated, corners, size_hw) and (
        refused or any(not (is_flat(edges) or may_be_cut(edges, size_hw, stated)) for edges in corners)
    ):
        what = f"{now}, and its boxes fit only {height} x {width}"
        return finding("photo-turned", name, what, place=stated.where)
    return None


def _box_finding(
    box: RawBox, edges: Corners, name: str, size_hw: tuple[int, int], *, strict: bool, may_cut: bool
) -> Finding | None:
    """What would make reading refuse the box, or change it."""
    x1, y1, x2, y2 = edges
    if not all(map(math.isfinite, edges)):
        return finding("box-degenerate", name, "an edge is not a number", place=box.where)
    if is_flat(edges) and not strict:
        return finding("box-flat", name, f"({x1:g}, {y1:g}, {x2:g}, {y2:g})", place=box.where)
    for low, high, side in ((x1, x2, "x"), (y1, y2, "y")):
        if high <= low:
            what = f"{side}2 is not greater than {side}1: {side}1={low:g}, {side}2={high:g}"
            return finding("box-degenerate", name, what, place=box.where)
    distance = moved(box, size_hw)
    if distance > (0 if strict else MAX_MOVED):
        what = f"a corner lies {distance:.1f} pixels from that of the upright box"
        return finding("box-rotated", name, what, place=box.where)
    over = reach(edges, size_hw)
    height, width = size_hw
    where = f"({x1:g}, {y1:g}, {x2:g}, {y2:g}) in a photo of {width} x {height}"
    if over > MAX_OUTSIDE and not may_cut:
        return finding("box-outside", name, where, place=box.where)
    for low, high, length in ((x1, x2, width), (y1, y2, height)):
        if min(high, length) - max(low, 0.0) < MIN_SIDE:
            what = f"less than {MIN_SIDE:g} pixels wide or high in the photo"
            return finding("box-degenerate", name, what, place=box.where)
    if over > MAX_OUTSIDE:
        return finding("box-cut", name, where, place=box.where)
    if distance:
        return finding("box-tilted", name, f"a corner moves by {distance:.2g} pixels", place=box.where)
    return None


def _doubles(boxes: list[tuple[RawBox, Corners]], name: str) -> Iterator[Finding]:
    if len(boxes) < 2:
        return
    corners = np.array([edges for _, edges in boxes])
    pairs = _near_pairs(corners)
    iou = paired_iou(corners[pairs[:, 0]], corners[pairs[:, 1]])
    is_twice = iou >= SAME_BOX_IOU
    for (i, j), overlaps in zip(pairs[is_twice].tolist(), iou[is_twice].tolist(), strict=True):
        first, second = boxes[i][0], boxes[j][0]
        overlap = "the very same" if boxes[i][1] == boxes[j][1] else f"IoU {overlaps:.2f}"
        if first.label == second.label:
            what = f"{overlap} as another box" + (f" of {first.label}" if first.label else "")
            yield finding("box-twice", name, what, place=second.where)
        else:
            what = f"{overlap}: {first.label} and {second.label}"
            yield finding("box-two-labels", name, what, place=second.where)


def _near_pairs(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The pairs ``[P, 2]`` of boxes ``[M, 4]`` that may be one twice, in their order; all are too many.

    Two with an IoU of T share T of the sides of each: left and top edges are no farther apart than the rest.
    """
    order = np.argsort(corners[:, 0], kind="stable")
    left, top = corners[order, :2].T
    across, down = (1 - SAME_BOX_IOU) * (corners[order, 2:] - corners[order, :2]).T + 1e-6
    near = list[tuple[int, int]]()
    for i, end in enumerate(np.searchsorted(left, left + across, side="right").tolist()):
        is_near = np.abs(top[i + 1 : end] - top[i]) <= np.maximum(down[i + 1 : end], down[i])
        near += [(i, i + 1 + after) for after in np.flatnonzero(is_near).tolist()]
    pairs = np.sort(order[np.array(near, np.int64).reshape(-1, 2)], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _tiny(boxes: list[tuple[RawBox, Corners]], name: str, scale: float) -> Iterator[Finding]:
    corners = np.array([edges for _, edges in boxes]).reshape(-1, 4)
    for place in np.flatnonzero(are_tiny(corners * scale)).tolist():
        box, (x1, y1, x2, y2) = boxes[place]
        seen = f"{(x2 - x1) * scale:.1f} x {(y2 - y1) * scale:.1f}"
        what = f"{x2 - x1:.0f} x {y2 - y1:.0f} pixels, of which the network sees {seen}"
        yield finding("box-tiny", name, what, place=box.where)
