"""Look at every photo twice, as it is and mirrored: a little more is found, in twice the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import pairwise_iou
from fewbox.detection.photo_detector import FoundArrays, PhotoDetector

SAME_IOU = 0.5
"""Overlap from which on a box in the photo and one in its mirror image are one detection."""
_LOWEST_SCORE = 0.01  # a partner below it changes a mean by less than half of it


class TtaDetector(PhotoDetector):
    """Another detector that sees each photo twice.

    A detection's score is the mean of both looks, 0 where one of them did not find it; its box is their mean,
    weighted by score.

    Args:
        once: the detector that looks.
    """

    def __init__(self, once: PhotoDetector) -> None:
        self.once = once
        self.config, self.labels, self.base = once.config, once.labels, once.base
        self.provenance, self.precision = once.provenance, once.precision
        self.score_threshold = once.score_threshold

    def _find(self, image: NDArray[np.uint8], score_threshold: float) -> FoundArrays:
        low = min(score_threshold, _LOWEST_SCORE)
        seen = self.once.detect(image, score_threshold=low)
        mirrored = self.once.detect(np.ascontiguousarray(image[:, ::-1]), score_threshold=low)
        their_boxes = mirrored.boxes.copy()
        their_boxes[:, [0, 2]] = image.shape[1] - mirrored.boxes[:, [2, 0]]
        boxes, scores, class_ids = _merged(
            (seen.boxes, seen.scores, seen.class_ids), (their_boxes, mirrored.scores, mirrored.class_ids)
        )
        order = np.argsort(-scores, kind="stable")
        kept = order[scores[order] > score_threshold]
        return boxes[kept], scores[kept], class_ids[kept]


def _merged(ours: FoundArrays, theirs: FoundArrays) -> FoundArrays:
    """The detections of two looks as one; each takes the likeliest partner that overlaps it, best first."""
    boxes, scores, class_ids = ours
    their_boxes, their_scores, their_ids = theirs
    partners = pairwise_iou(boxes, their_boxes) >= SAME_IOU
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
