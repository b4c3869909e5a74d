"""Non-maximum suppression: of boxes that overlap too much, keep the one scored highest.

Plain numpy, so that an exported detector needs no torch for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1000  # candidates looked at together; measured: one greedy pass over 1000 takes about 6 ms


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], *, iou_threshold: float, max_kept: int
) -> NDArray[np.int64]:
    """Indices ``[K]`` of the boxes to keep, best score first, at most ``max_kept``.

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
    """Suppress within each class; box indices ``[K]`` and class ids ``[K]``, best score first.

    Boxes of different classes never suppress each other.

    Args:
        boxes: ``[M, 4]``, shared by all classes.
        scores: ``[M, C]``.
        score_threshold: only scores above it count.
        iou_threshold: as in :func:`suppress`.
        max_per_class: boxes kept of one class at the most.
        max_detections: boxes kept in all at the most.
    """
    indices, class_ids = [], []
    for class_id in np.flatnonzero((scores > score_threshold).any(0)):
        candidates = np.flatnonzero(scores[:, class_id] > score_threshold)
        kept = suppress(
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


def pairwise_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU ``[M, K]`` of boxes ``[M, 4]`` and ``[K, 4]``; 0 where a box has no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    iou: NDArray[np.float32] = overlap / np.maximum(union, 1e-12)
    return iou
