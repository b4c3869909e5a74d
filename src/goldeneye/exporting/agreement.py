"""Does an exported detector find what the original finds? Both look at the same photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from goldeneye.engines.engine import Engine
from goldeneye.models.network import Network
from goldeneye.models.suppression import pairwise_iou

MIN_IOU = 0.99
"""How well each box must lie on its counterpart."""
MAX_SCORE_DIFFERENCE = 1e-3
MIN_SCORE = 0.05
"""Detections below it are not compared: nobody would look at them."""

_MIN_ANCHORS = 100  # compared in each photo of a network alone, where no score reaches MIN_SCORE

Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes ``[K, 4]``, scores ``[K]``, class ids ``[K]``."""


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute one detector's boxes are apart."""

    num_photos: int
    num_boxes: int
    lowest_iou: float
    """Of a box and its counterpart; 0 if a box has none."""
    largest_score_difference: float

    @property
    def holds(self) -> bool:
        """Whether some boxes were compared, and all are the same."""
        return (
            self.num_boxes > 0
            and self.lowest_iou >= MIN_IOU
            and self.largest_score_difference <= MAX_SCORE_DIFFERENCE
        )

    def __str__(self) -> str:
        return (
            f"{self.num_boxes} boxes in {self.num_photos} photos: IoU {self.lowest_iou:.4f} or more "
            f"(at least {MIN_IOU}), scores {self.largest_score_difference:.1e} apart at the most "
            f"(up to {MAX_SCORE_DIFFERENCE:.0e})"
        )


def compare_detector(network: Network, engine: Engine, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """What ``network`` and ``engine`` find in photos ``[H, W, 3]``."""
    results, threshold = [], MIN_SCORE - MAX_SCORE_DIFFERENCE
    for image in images:
        found = network.find(image, threshold)
        expected = (found.boxes.numpy(), found.scores.numpy(), found.class_ids.numpy())
        boxes, scores, class_ids = (part[0] for part in engine.run(image[None], threshold))
        is_one = class_ids >= 0
        results.append(compare_found(expected, (boxes[is_one], scores[is_one], class_ids[is_one])))
    return _total(results)


def compare_found(expected: Arrays, actual: Arrays) -> Agreement:
    """The detections of one photo: each of either side with the nearest of its class on the other.

    Both should have been looked for down to a score of ``MIN_SCORE - MAX_SCORE_DIFFERENCE``.
    """
    lowest, furthest, count = 1.0, 0.0, 0
    for one, other in ((expected, actual), (actual, expected)):
        (boxes, scores, class_ids), (others, their_scores, their_ids) = one, other
        same_class = class_ids[:, None] == their_ids[None, :]
        iou = np.where(same_class, pairwise_iou(boxes, others), 0.0)
        for row in np.flatnonzero(scores > MIN_SCORE):
            count += 1
            best = int(iou[row].argmax()) if len(others) else 0
            lowest = min(lowest, float(iou[row, best]) if len(others) else 0.0)
            furthest = max(furthest, float(abs(scores[row] - their_scores[best])) if len(others) else 1.0)
    return Agreement(1, -(-count // 2), lowest, furthest)


@torch.inference_mode()
def compare_network(network: Network, session: Any, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """The boxes and scores of all anchors, of a file that holds the network alone.

    Boxes are compared where a score reaches ``MIN_SCORE``, and of the likeliest anchors.
    """
    results = []
    for image in images:
        pixels = network.batch_of([image])
        codes, logits = network.forward(pixels)
        anchors = network.anchors((pixels.shape[-2], pixels.shape[-1]))
        scores = network.scores(logits)[0].numpy()
        boxes = network.decode(codes.float(), anchors)[0].numpy()
        their_boxes, their_scores = (
            part[0] for part in session.run(["boxes", "scores"], {"images": pixels.contiguous().numpy()})
        )
        best = scores.max(1)
        chosen = np.union1d(np.flatnonzero(best > MIN_SCORE), np.argsort(-best)[:_MIN_ANCHORS])
        iou = _paired_iou(boxes[chosen], their_boxes[chosen])
        difference = float(np.abs(scores - their_scores).max())
        results.append(Agreement(1, len(chosen), float(iou.min()), difference))
    return _total(results)


def _total(results: Iterable[Agreement]) -> Agreement:
    each = list(results)
    return Agreement(
        len(each),
        sum(one.num_boxes for one in each),
        min((one.lowest_iou for one in each), default=1.0),
        max((one.largest_score_difference for one in each), default=0.0),
    )


def _paired_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU ``[M]`` of each box with the one in its place."""
    return np.concatenate([pairwise_iou(a[None], b[None])[0] for a, b in zip(first, second, strict=True)])
