"""What the frozen network knows of every anchor of a picture, and which anchors teach what.

Everything before the novel head is frozen, so for one picture this is a constant. Two kinds of
columns speak for the novel classes:

* aligned: what the base's own heads answer, such as the logits of its classes. They mean the same at
  every level of the pyramid, so that what was learnt from a large object holds for a small one.
* raw: what those heads read. A level's tower has channels of its own, so each level (a group) has its
  own coefficients, which have fewer objects to learn from and are held back more.

Letters in shapes: A anchors, M boxes, C novel classes, S aligned and D raw columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.finetuning.logistic import Coefficients
from fewbox.models.boxes import pairwise_iou

MATCHED_IOU = 0.6
"""Overlap of an anchor's own box with an annotation from which on the anchor shows it."""
NEAR_IOU = 0.2
"""Overlap from which on an anchor is always learnt from: its box is easily taken for right."""
IGNORED_IOU = 0.3
"""Overlap with a region to ignore from which on an anchor teaches nothing."""
OBJECT_WEIGHT = 20.0
"""What all anchors of one object weigh together, where an anchor of the background weighs 1."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The anchors of one picture, those of one group together, in the order of the groups."""

    aligned: Tensor
    """``[A, S]``."""
    raw: Tensor
    """``[A, D]``."""
    groups: Tensor
    """``[A]`` int64, ascending."""
    boxes: Tensor
    """``[A, 4]``: the boxes that the frozen network predicts, in pixels of the input."""
    prior: Tensor
    """``[A]``: higher where the base finds it likelier that there is any object."""

    def at(self, rows: Tensor) -> Evidence:
        """Only the anchors ``rows`` ``[R]``, ascending."""
        return Evidence(
            self.aligned[rows], self.raw[rows], self.groups[rows], self.boxes[rows], self.prior[rows]
        )

    def group_sizes(self, num_groups: int) -> list[int]:
        """How many anchors each group has."""
        sizes: list[int] = torch.bincount(self.groups, minlength=num_groups).tolist()
        return sizes


@dataclass(frozen=True, eq=False)
class Lesson:
    """The anchors of one picture that are learnt from."""

    evidence: Evidence
    targets: Tensor
    """``[R, C]``."""
    weights: Tensor
    """``[R, C]``: how many anchors of the background each counts as."""


class Reader(Protocol):
    """Reads evidence from a kind of network, and writes coefficients back as a head of it."""

    num_groups: int
    caution: Tensor
    """``[S]``: what standardised aligned columns are multiplied with; larger ones are trusted sooner."""

    def read(self, image: NDArray[np.uint8]) -> Evidence:
        """One pass of the frozen network over a picture ``[H, W, 3]``."""
        ...

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Tensor]:
        """The weights of the head that gives the logits of ``coefficients`` on evidence as read.

        With ``keep_classes`` it stands beside the base's own, whose logits come first.
        """
        ...


def take_lesson(
    evidence: Evidence,
    boxes: Tensor,
    class_ids: Tensor,
    ignored: Tensor,
    num_classes: int,
    rows: int,
    generator: torch.Generator,
) -> Lesson:
    """Decide which anchors of a picture teach what.

    An anchor shows the annotation that its box overlaps most, if by enough; the best anchor of an
    annotation shows it in any case. All others are background, but for those on ignored regions.

    Args:
        evidence: all anchors of the picture.
        boxes: ``[M, 4]`` annotations in pixels of the input; M may be 0.
        class_ids: ``[M]`` int64.
        ignored: ``[K, 4]`` regions that teach neither way.
        num_classes: C.
        rows: of the anchors without an object, the so many that the base finds likeliest to show
            anything are learnt from, and as many drawn from the others, to stand for them.
        generator: draws those.
    """
    count = len(evidence.boxes)
    targets, weights = torch.zeros(count, num_classes), torch.ones(count)
    near = torch.zeros(count, dtype=torch.bool)
    if len(ignored):
        on_region = pairwise_iou(ignored, evidence.boxes).amax(0) >= IGNORED_IOU
        weights[on_region] = 0
    if len(boxes):
        overlap = pairwise_iou(boxes, evidence.boxes)  # [M, A]
        best, whose = overlap.max(0)
        shows = best >= MATCHED_IOU
        for box, anchor in reversed(list(enumerate(overlap.argmax(1).tolist()))):
            shows[anchor], whose[anchor] = True, box
        targets[shows, class_ids[whose[shows]]] = 1
        per_object = torch.bincount(whose[shows], minlength=len(boxes)).clamp(min=1)
        weights[shows] = OBJECT_WEIGHT / per_object[whose[shows]].float()
        near = shows | (best >= NEAR_IOU)
    certain = near | (evidence.prior >= _nth_highest(evidence.prior, rows))
    rest = (~certain & (weights > 0)).nonzero()[:, 0]
    drawn = rest[torch.randperm(len(rest), generator=generator)[:rows]]
    weights[drawn] *= len(rest) / max(len(drawn), 1)
    chosen = certain & (weights > 0)
    chosen[drawn] = True
    learnt = chosen.nonzero()[:, 0]
    return Lesson(evidence.at(learnt), targets[learnt], weights[learnt, None].expand(-1, num_classes))


def _nth_highest(values: Tensor, n: int) -> Tensor:
    return values.topk(min(n, len(values))).values[-1]
