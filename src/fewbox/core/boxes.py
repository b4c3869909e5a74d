"""Boxes as numpy arrays: change form, clip, compare, and keep the best of those that overlap.

In this package a box is ``(x1, y1, x2, y2)`` in pixels of the upright image, with
``0 <= x1 < x2 <= W`` and ``0 <= y1 < y2 <= H``. Edges are continuous: a box over one whole
pixel is ``(0, 0, 1, 1)``. Any other form carries its name in the variable (``boxes_cxcywh``,
``boxes_yxyx_unit``). Detectors compute in float32; where truth is compared, in float64.

Functions here give back the dtype they are given, float32 or float64, and change none of their
arguments. ``models/boxes.py`` has the same for torch's tensors, where gradients are needed; an
exported detector needs no torch for what is here.

Letters in shapes: M and K boxes of one image, C classes, H and W pixels.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
    weighted by score. They come in no order.
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
