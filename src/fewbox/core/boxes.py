"""Boxes as numpy arrays: change form, clip, compare, keep the best of those that overlap; tiles of a photo.

In this package a box is ``(x1, y1, x2, y2)`` in pixels of the upright image, with
``0 <= x1 < x2 <= W`` and ``0 <= y1 < y2 <= H``. Edges are continuous: a box over one whole
pixel is ``(0, 0, 1, 1)``. Any other form carries its name in the variable (``boxes_cxcywh``).
Detectors compute in float32; where truth is compared, in float64.

Functions here give back the dtype they are given, float32 or float64, and change none of their
arguments. ``models/boxes.py`` has the same for torch's tensors, where gradients are needed; an
exported detector needs no torch for what is here.

Tiles are boxes that a large photo is cut into; what is found in them becomes one list of detections. A
network sees a photo of 4000 x 3000 pixels at a tenth of its size, and an object of 80 pixels as 8. Looked at
in overlapping tiles, the same object keeps 40 pixels or more. Tiles lie in a grid of columns and rows; tiles
of a photo that needs none are an empty array.

Letters in shapes: M and K boxes of one image, T tiles, C classes, H and W pixels.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbox.core.arguments import AUTO, in_short
from fewbox.errors import SettingError

Real = TypeVar("Real", np.float32, np.float64)
FoundArrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes ``[K, 4]`` in pixels of an image, clipped to it, scores ``[K]``, best first, class ids ``[K]``."""

_SAME_IOU = 0.5  # overlap from which on boxes of two looks at a photo are one detection


def xyxy_to_cxcywh(boxes: NDArray[Real]) -> NDArray[Real]:
    """Corners ``[..., 4]`` to centre, width, height ``[..., 4]``."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate(((low + high) / 2, high - low), -1)


def cxcywh_to_xyxy(boxes_cxcywh: NDArray[Real]) -> NDArray[Real]:
    """Centre, width, height ``[..., 4]`` to corners ``[..., 4]``."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate((centre - half, centre + half), -1)


def clip_boxes(boxes: NDArray[Real], size_hw: tuple[int, int]) -> NDArray[Real]:
    """Move every edge that lies outside an image of ``size_hw`` onto its border.

    Args:
        boxes: ``[..., 4]``; one that lies wholly outside comes back without an inside.
        size_hw: height and width in the boxes' own pixels.
    """
    height, width = size_hw
    clipped: NDArray[Real] = np.clip(boxes, 0, np.array((width, height, width, height), boxes.dtype))
    return clipped


def box_areas(boxes: NDArray[Real]) -> NDArray[Real]:
    """Areas ``[...]`` of ``boxes`` ``[..., 4]``.

    Not clipped at 0: as in pycocotools, a box that is inside out along one side has a negative area.
    """
    areas: NDArray[Real] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def intersection_areas(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """The areas that boxes share, 0 where they do not overlap.

    Args:
        first: ``[..., 4]``.
        second: ``[..., 4]``; the leading axes of both are broadcast, and are those of the result.
    """
    low = np.maximum(first[..., :2], second[..., :2])
    sides = np.maximum(np.minimum(first[..., 2:], second[..., 2:]) - low, 0)
    areas: NDArray[Real] = sides[..., 0] * sides[..., 1]
    return areas


def paired_iou(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """Intersection over union, 0 to 1, of each box with the one in its place; 0 where a box has no area.

    Args:
        first: ``[..., 4]``.
        second: ``[..., 4]``; the leading axes of both are broadcast, and are those of the result.
    """
    shared = intersection_areas(first, second)
    union = box_areas(first) + box_areas(second) - shared
    iou: NDArray[Real] = shared / np.maximum(union, 1e-12)
    return iou


SAME_BOX_IOU = 0.9  # two people, or one twice, draw one object like this; two that touch never overlap so


def are_same_boxes(
    classes: ArrayLike, boxes: NDArray[Real], their_classes: ArrayLike, theirs: NDArray[Real]
) -> NDArray[np.bool_]:
    """Whether each of the photos ``[...]`` has the objects of one, each once, in whatever order; also none.

    Args:
        classes: ``[M]``, by name or number.
        boxes: ``[M, 4]``.
        their_classes: ``[..., K]``.
        theirs: ``[..., K, 4]``.
    """
    is_free = np.ones(theirs.shape[:-1], bool)
    are_same = np.full(theirs.shape[:-2], len(boxes) == theirs.shape[-2])
    for own, box in zip(np.asarray(classes), boxes, strict=True):
        if not are_same.any():
            break
        iou = np.where(is_free & (np.asarray(their_classes) == own), paired_iou(box, theirs), 0)
        are_same &= iou.max(-1) >= SAME_BOX_IOU
        np.put_along_axis(is_free, iou.argmax(-1, keepdims=True), False, -1)
    return are_same


def pairwise_iou(first: NDArray[Real], second: NDArray[Real]) -> NDArray[Real]:
    """IoU ``[M, K]`` of every box of ``first`` ``[M, 4]`` with every one of ``second`` ``[K, 4]``."""
    return paired_iou(first[:, None], second[None])


_CHUNK = 1000  # candidates looked at together; measured: one greedy pass over 1000 takes about 6 ms


def nms(
    boxes: NDArray[Real], scores: NDArray[np.float32], *, iou_threshold: float, max_kept: int
) -> NDArray[np.int64]:
    """Non-maximum suppression: indices ``[K]`` of the boxes to keep, best score first, at most ``max_kept``.

    Greedy: a box is kept unless its IoU with one already kept is *above* ``iou_threshold``. The
    result is that of one pass over all boxes, but candidates are taken in chunks of falling
    score, so a thousand useless boxes at the end cost nothing once ``max_kept`` is reached.

    Args:
        boxes: ``[M, 4]``.
        scores: ``[M]``; equal scores keep their order.
        iou_threshold: 0 to 1.
        max_kept: how many to return at the most.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    for start in range(0, len(order), _CHUNK):
        rest = order[start : start + _CHUNK]
        if kept:
            rest = rest[(pairwise_iou(boxes[rest], boxes[kept]) <= iou_threshold).all(1)]
        while len(rest) and len(kept) < max_kept:
            best, rest = rest[0], rest[1:]
            kept.append(int(best))
            rest = rest[pairwise_iou(boxes[rest], boxes[best : best + 1])[:, 0] <= iou_threshold]
        if len(kept) >= max_kept:
            break
    return np.array(kept, dtype=np.int64)


def nms_per_class(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    score_threshold: float,
    iou_threshold: float,
    max_per_class: int,
    max_detections: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Non-maximum suppression within each class; box indices ``[K]`` and class ids ``[K]``, best score first.

    Boxes of different classes never suppress each other.

    Args:
        boxes: ``[M, 4]``, shared by all classes.
        scores: ``[M, C]``.
        score_threshold: only scores above it count.
        iou_threshold: as in :func:`nms`.
        max_per_class: boxes kept of one class at the most.
        max_detections: boxes kept in all at the most.
    """
    indices, class_ids = [], []
    for class_id in np.flatnonzero((scores > score_threshold).any(0)):
        candidates = np.flatnonzero(scores[:, class_id] > score_threshold)
        kept = nms(
            boxes[candidates],
            scores[candidates, class_id],
            iou_threshold=iou_threshold,
            max_kept=max_per_class,
        )
        indices.append(candidates[kept])
        class_ids.append(np.full(len(kept), class_id, dtype=np.int64))
    if not indices:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index, class_id_of = np.concatenate(indices), np.concatenate(class_ids)
    best = np.argsort(-scores[index, class_id_of], kind="stable")[:max_detections]
    return index[best], class_id_of[best]


def vote_boxes(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    kept: NDArray[np.int64],
    class_ids: NDArray[np.int64],
    vote_iou: float,
) -> NDArray[np.float32]:
    """Each kept box as the mean ``[K, 4]`` of the boxes of its class that overlap it well.

    A box weighs as much as its score times its IoU with the kept one. Neighbouring cells guess the
    same outline with errors of their own, which the mean evens out; Gidaris and Komodakis,
    "Object detection via a multi-region and semantic segmentation-aware CNN model", 2015, section 4.

    Args:
        boxes: ``[M, 4]``.
        scores: ``[M, C]``.
        kept: ``[K]`` rows of ``boxes`` that were not suppressed.
        class_ids: ``[K]`` the class that each was kept for.
        vote_iou: from which IoU on a box has a say, 0 to 1.
    """
    iou = pairwise_iou(boxes[kept], boxes)  # [K, M]
    weights = np.where(iou >= vote_iou, iou * scores[:, class_ids].T, 0)
    means: NDArray[np.float32] = weights @ boxes / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return means.astype(np.float32)


def merge_looks(first: FoundArrays, second: FoundArrays) -> FoundArrays:
    """What two looks at a photo find as one; best first, each takes the best partner that overlaps it.

    A score is the mean of both, where a look that did not find it counts as 0; a box is the mean of both,
    weighted by score. They come in no order. Shapes as :data:`FoundArrays` says.
    """
    boxes, scores, class_ids = first
    their_boxes, their_scores, their_ids = second
    partners = pairwise_iou(boxes, their_boxes) >= _SAME_IOU
    partners &= class_ids[:, None] == their_ids[None]
    means, totals, taken = boxes.copy(), scores.copy(), np.zeros(len(their_scores), bool)
    for row in range(len(scores)):
        free = np.flatnonzero(partners[row] & ~taken)
        if len(free):
            partner = free[0]  # of the highest score, as they are sorted
            taken[partner] = True
            totals[row] += their_scores[partner]
            share = scores[row] / totals[row]
            means[row] = share * boxes[row] + (1 - share) * their_boxes[partner]
    alone = ~taken
    return (
        np.concatenate((means, their_boxes[alone])).astype(np.float32),
        (np.concatenate((totals, their_scores[alone])) / 2).astype(np.float32),
        np.concatenate((class_ids, their_ids[alone])),
    )


MIN_TILES, MAX_TILES = 2, 8
"""Along the longer side of a photo. With 8, whatever is too long for the overlap of two tiles still is a
twenty-fifth of the photo's side: 16 pixels of an input of 416, which a network finds without tiles."""
MAX_REDUCTION = 2.0
"""How many pixels of the photo become one of the input at the most, where tiles are chosen by themselves.
Up to a half, bilinear resizing uses every pixel; and a camera makes up two of the three colours of each, so
hardly anything is lost. Beyond, pixels are skipped."""
OVERLAP = 0.25
"""Of neighbouring tiles, as a part of a tile's side: what is no longer than that lies whole in a tile."""

_EDGE = 0.01  # of a tile's side: a box that ends nearer to its edge may be cut; networks err by 1 to 4 pixels
_COVERED = 0.5  # of the smaller of two boxes, from which on a piece and the whole are one object
_INSIDE = 0.8  # of a box, from which on it is a part of a large object around it
_RIVAL = 0.5  # so much of its score a better view must have to replace a worse one


def checked_tiles(tiles: Any) -> int | str:
    """How many tiles along the longer side: a whole number from 2 to 8, or ``"auto"``; digits are a number.

    Raises:
        SettingError: it is something else.
    """
    if isinstance(tiles, str) and tiles == AUTO:
        return AUTO
    number = int(tiles) if isinstance(tiles, str) and tiles.isdecimal() and len(tiles) < 9 else tiles
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or not MIN_TILES <= number <= MAX_TILES:
        hint = f"leave the number out: {AUTO} chooses by the photo's size"
        raise SettingError(
            f"tiles must be {AUTO} or a number from {MIN_TILES} to {MAX_TILES}: {in_short(tiles)}", hint=hint
        )
    return int(number)


def tile_grid(
    photo_size_hw: tuple[int, int], input_hw: tuple[float, float], tiles: int | str
) -> NDArray[np.int64]:
    """The tiles ``[T, 4]`` of a photo, row by row; none where the photo whole shows as much.

    They have one size, cover every pixel, and overlap their neighbours by ``OVERLAP`` or more, up to a pixel
    lost to rounding. None is smaller than the input: enlarging shows nothing new.

    Args:
        photo_size_hw: height and width of the photo.
        input_hw: height and width, in the photo's proportions, of what the network's input holds when a
            pixel of the photo is a pixel of the input.
        tiles: along the longer side at the most, or ``"auto"``: so many that ``MAX_REDUCTION`` is kept.
    """
    long = int(photo_size_hw[1] >= photo_size_hw[0])
    times = photo_size_hw[long] / input_hw[long]
    if tiles == AUTO:
        wanted = math.ceil(_count(times / MAX_REDUCTION))
    else:
        wanted = min(int(tiles), math.floor(_count(times)))
    count = min(wanted, MAX_TILES)
    if count < MIN_TILES:
        return np.zeros((0, 4), np.int64)
    reduction = times / (count - (count - 1) * OVERLAP)
    (top, height), (left, width) = (
        _along(length, reduction * side) for length, side in zip(photo_size_hw, input_hw, strict=True)
    )
    y1, x1 = (each.ravel() for each in np.meshgrid(top, left, indexing="ij"))
    return np.stack((x1, y1, x1 + width, y1 + height), 1)


def _count(lengths: float) -> float:
    """How many overlapping tiles cover so many lengths of a tile, not yet a whole number."""
    return (lengths - OVERLAP) / (1 - OVERLAP) - 1e-9  # rounding must not ask for one more


def _along(length: int, side: float) -> tuple[NDArray[np.int64], int]:
    """Where the tiles begin along one side of a photo, spread evenly, and how long each is."""
    whole = min(math.ceil(side - 1e-9), length)
    count = max(math.ceil(_count(length / whole)), 1)
    return np.linspace(0, length - whole, count).round().astype(np.int64), whole


def is_cut(
    boxes: NDArray[np.float32], tile: NDArray[np.int64], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which boxes ``[M, 4]`` found in a tile touch an edge of it beyond which the photo goes on."""
    width, height = tile[2:] - tile[:2]
    margins = np.array((width, height)) * _EDGE
    low = (boxes[:, :2] < tile[:2] + margins) & (tile[:2] > 0)
    high = (boxes[:, 2:] > tile[2:] - margins) & (tile[2:] < np.array(size_hw[::-1]))
    return np.asarray((low | high).any(1))


def seen_whole(
    boxes: NDArray[np.float32], tiles: NDArray[np.int64], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which boxes ``[M, 4]`` lie in one of the tiles ``[T, 4]`` without being cut by its edges."""
    seen = np.zeros(len(boxes), bool)
    for tile in tiles:
        inside = (boxes[:, :2] >= tile[:2]).all(1) & (boxes[:, 2:] <= tile[2:]).all(1)
        seen |= inside & ~is_cut(boxes, tile, size_hw)
    return seen


def merge_views(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    doubtful: NDArray[np.bool_],
    too_large: NDArray[np.bool_],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Which boxes ``[K]`` of one class to keep of those found in the photo whole and in its tiles.

    NMS joins what two views show alike. A doubtful box shows a piece of an object, or was found in the photo
    whole where tiles see more: it yields to a good view of the same object that scores at least half as
    much. So does what lies within an object too large for a tile, of which tiles see only parts.

    Args:
        boxes: ``[M, 4]``.
        scores: ``[M]``.
        doubtful: ``[M]``.
        too_large: ``[M]`` found in the photo whole, and longer or higher than a tile.
        iou_threshold: of NMS.
    """
    good = np.flatnonzero(~doubtful)
    good = good[nms(boxes[good], scores[good], iou_threshold=iou_threshold, max_kept=len(good))]
    large = good[too_large[good]]
    if len(large):
        inside = _shared(boxes[good], boxes[large], smaller=False) >= _INSIDE
        inside &= _rivals(scores[good], scores[large]) & (good[:, None] != large)
        good = good[too_large[good] | ~inside.any(1)]
    kept = list(good)
    rest = np.flatnonzero(doubtful)
    for row in rest[np.argsort(-scores[rest], kind="stable")]:
        same = _shared(boxes[row : row + 1], boxes[kept], smaller=True)[0] >= _COVERED
        if not (same & _rivals(scores[row : row + 1], scores[kept])[0]).any():
            kept.append(row)
    return np.array(kept, np.int64)


def _rivals(scores: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each of ``others`` ``[K]`` may replace each of ``scores`` ``[M]``, ``[M, K]``."""
    may: NDArray[np.bool_] = others[None] >= _RIVAL * scores[:, None]
    return may


def _shared(boxes: NDArray[np.float32], others: NDArray[np.float32], *, smaller: bool) -> NDArray[np.float32]:
    """The part ``[M, K]`` of each of ``boxes``, or of the smaller one, that it shares with each other."""
    areas = np.broadcast_to(box_areas(boxes)[:, None], (len(boxes), len(others)))
    if smaller:
        areas = np.minimum(areas, box_areas(others)[None])
    shared: NDArray[np.float32] = intersection_areas(boxes[:, None], others[None])
    shared /= np.maximum(areas, 1e-12)
    return shared
