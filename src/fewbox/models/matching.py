"""Which anchor learns which box."""

from __future__ import annotations

import torch
from torch import Tensor

from fewbox.models.boxes import pairwise_iou

NEGATIVE = -1
IGNORED = -2


def match_anchors(
    anchors: Tensor, boxes: Tensor, *, matched_iou: float, unmatched_iou: float, force_match: bool
) -> Tensor:
    """The index of the box each anchor learns, ``NEGATIVE`` or ``IGNORED``: ``[A]`` int64.

    An anchor takes the box it overlaps most if their IoU is at least ``matched_iou``; below
    ``unmatched_iou`` it is a negative, between the two it is ignored. With ``force_match``
    every box also gets the one anchor that overlaps it most, whatever their IoU; where two
    boxes want the same anchor the first has it (the Object Detection API's ``ArgMaxMatcher``).

    Args:
        anchors: ``[A, 4]``.
        boxes: ``[M, 4]`` in the same pixels; M may be 0.
        matched_iou: at or above it, a match.
        unmatched_iou: below it, a negative.
        force_match: give every box its best anchor.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), NEGATIVE)
    iou = pairwise_iou(boxes, anchors)  # [M, A]
    best_iou, matches = iou.max(0)
    matches[best_iou < matched_iou] = IGNORED
    matches[best_iou < unmatched_iou] = NEGATIVE
    if force_match:
        # Backwards, so that the first box writes last and wins.
        for box, anchor in reversed(list(enumerate(iou.argmax(1).tolist()))):
            matches[anchor] = box
    return matches
