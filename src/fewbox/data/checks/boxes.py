"""Check what a file says about one photo: does its size fit, and what is wrong with its boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from fewbox.core.boxes import pairwise_iou
from fewbox.core.tiles import AUTO, tile_grid
from fewbox.data.annotations import MAX_OUTSIDE, MIN_SIDE
from fewbox.data.checks.findings import Finding, finding
from fewbox.data.formats.fitting import (
    MAX_MOVED,
    are_of_turned_photo,
    cut,
    is_flat,
    may_be_cut,
    moved,
    reach,
)
from fewbox.data.formats.raw import Corners, RawBox, RawPhoto

SMALLEST_CELL = 8
"""The finest cells of all networks here have this side, in pixels of their input."""

SMALL_SIDE = 12
"""In pixels of the input: one and a half of the finest cells, so that in most places an object is seen by one
cell alone. Of the demo's ducks the starter finds none at 10 and at 15 pixels, and two of three at 23."""

# Two people, or one twice, draw one object with an overlap like this; two objects that touch never do.
_TWICE_IOU = 0.9


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
    for box, edges in learnt:
        yield from _tiny(box, edges, name, size_hw, input_side)


def count_small(stated: RawPhoto, size_hw: tuple[int, int], input_side: int) -> tuple[int, int]:
    """How many boxes there are, and how many are smaller than ``SMALL_SIDE`` that tiles would make larger."""
    corners = [box.corners_in(size_hw) for box in stated.boxes if not box.ignore]
    tiles = tile_grid(size_hw, (input_side, input_side), AUTO)
    if not len(tiles):
        return len(corners), 0
    in_whole, in_tile = (input_side / max(side) for side in (size_hw, (tiles[0, 2:] - tiles[0, :2]).tolist()))
    sides = [math.sqrt(max(x2 - x1, 0) * max(y2 - y1, 0)) for x1, y1, x2, y2 in corners]
    return len(corners), sum(side * in_whole < SMALL_SIDE <= side * in_tile for side in sides)


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
    iou = pairwise_iou(corners, corners)
    for i, j in np.argwhere(np.triu(iou >= _TWICE_IOU, k=1)).tolist():
        first, second = boxes[i][0], boxes[j][0]
        overlap = "the very same" if boxes[i][1] == boxes[j][1] else f"IoU {iou[i, j]:.2f}"
        if first.label == second.label:
            what = f"{overlap} as another box" + (f" of {first.label}" if first.label else "")
            yield finding("box-twice", name, what, place=second.where)
        else:
            what = f"{overlap}: {first.label} and {second.label}"
            yield finding("box-two-labels", name, what, place=second.where)


def _tiny(
    box: RawBox, edges: Corners, name: str, size_hw: tuple[int, int], input_side: int
) -> Iterator[Finding]:
    x1, y1, x2, y2 = edges
    scale = input_side / max(size_hw)
    if math.sqrt((x2 - x1) * (y2 - y1)) * scale < SMALLEST_CELL:
        seen = f"{(x2 - x1) * scale:.1f} x {(y2 - y1) * scale:.1f}"
        what = f"{x2 - x1:.0f} x {y2 - y1:.0f} pixels, of which the network sees {seen}"
        yield finding("box-tiny", name, what, place=box.where)
