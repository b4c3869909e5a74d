"""Which anchors of a picture teach what.

Letters in shapes: A anchors, R of them that are learnt from, M boxes, C novel classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewbox.models.boxes import pairwise_iou
from fewbox.models.network import AnchorFeatures

MATCHED_IOU = 0.6
"""Overlap of an anchor's own box with an annotation from which on the anchor shows it."""
NEAR_IOU = 0.2
"""Overlap from which on an anchor is always learnt from: its box is easily taken for right."""
IGNORED_IOU = 0.3
"""Overlap with a region to ignore from which on an anchor teaches nothing."""
OBJECT_WEIGHT = 20.0
"""What all anchors of one object weigh together, where an anchor of the background weighs 1."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The anchors of one picture that are learnt from."""

    features: AnchorFeatures
    targets: Tensor
    """``[R, C]``."""
    weights: Tensor
    """``[R, C]``: how many anchors of the background each counts as."""


def assign_targets(
    features: AnchorFeatures,
    boxes: Tensor,
    class_ids: Tensor,
    ignored: Tensor,
    num_classes: int,
    rows: int,
    generator: torch.Generator,
) -> Sample:
    """Decide which anchors of a picture teach what.

    An anchor shows the annotation that its box overlaps most, if by enough; the best anchor of an
    annotation shows it in any case. All others are background, but for those on ignored regions.

    Args:
        features: all anchors of the picture.
        boxes: ``[M, 4]`` annotations in pixels of the input; M may be 0.
        class_ids: ``[M]`` int64.
        ignored: ``[K, 4]`` regions that teach neither way.
        num_classes: C.
        rows: of the anchors without an object, the so many that the base finds likeliest to show
            anything are learnt from, and as many drawn from the others, to stand for them.
        generator: draws those.
    """
    count = len(features.boxes)
    targets, weights = torch.zeros(count, num_classes), torch.ones(count)
    near = torch.zeros(count, dtype=torch.bool)
    if len(ignored):
        on_region = pairwise_iou(ignored, features.boxes).amax(0) >= IGNORED_IOU
        weights[on_region] = 0
    if len(boxes):
        overlap = pairwise_iou(boxes, features.boxes)  # [M, A]
        best, whose = overlap.max(0)
        shows = best >= MATCHED_IOU
        for box, anchor in reversed(list(enumerate(overlap.argmax(1).tolist()))):
            shows[anchor], whose[anchor] = True, box
        targets[shows, class_ids[whose[shows]]] = 1
        per_object = torch.bincount(whose[shows], minlength=len(boxes)).clamp(min=1)
        weights[shows] = OBJECT_WEIGHT / per_object[whose[shows]].float()
        near = shows | (best >= NEAR_IOU)
    certain = near | (features.base_score >= _nth_highest(features.base_score, rows))
    rest = (~certain & (weights > 0)).nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=generator)[:rows]]
    weights[drawn] *= len(rest) / max(len(drawn), 1)
    chosen = certain & (weights > 0)
    chosen[drawn] = True
    learnt = chosen.nonzero()[:, 0]
    return Sample(features.at(learnt), targets[learnt], weights[learnt, None].expand(-1, num_classes))


def _nth_highest(values: Tensor, n: int) -> Tensor:
    return values.topk(min(n, len(values))).values[-1]
