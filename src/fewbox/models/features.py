"""What fine-tuning keeps of a photo that a frozen network has seen, and what it learns of it.

Everything before the heads is frozen, so for one picture it is a constant. Two kinds of columns speak for
novel classes:

* base logits: what the base's own heads answer, such as the logits of its classes. They mean the same at
  every level of the pyramid, so that what was learnt from a large object holds for a small one.
* tower features: what those heads read. A level's tower has channels of its own, so each level (a group)
  has its own coefficients, which have fewer objects to learn from and are held back more.

All of it is numpy, whatever computed it; no torch is imported here.

Letters in shapes: A anchors, C classes, S base logits, D channels, G groups, R rows: anchors of any number of
pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SMALL_NETWORK = 6_000_000
"""Numbers in its weights up to which a network is small: one pass has too little work for two threads."""


@dataclass(frozen=True, eq=False)
class AnchorFeatures:
    """Anchors of one picture, those of one group together, in the order of the groups."""

    base_logits: Floats
    """``[A, S]``."""
    tower_features: Floats
    """``[A, D]``."""
    groups: NDArray[np.int64]
    """``[A]``, ascending."""
    boxes: Floats
    """``[A, 4]``: the boxes that the frozen network predicts, in pixels of the input."""
    base_score: Floats
    """``[A]``: higher where the base finds it likelier that there is any object."""

    def at(self, rows: NDArray[np.int64]) -> AnchorFeatures:
        """Only the anchors ``rows`` ``[R]``, ascending."""
        return AnchorFeatures(
            self.base_logits[rows],
            self.tower_features[rows],
            self.groups[rows],
            self.boxes[rows],
            self.base_score[rows],
        )

    def group_sizes(self, num_groups: int) -> list[int]:
        """How many anchors each group has."""
        sizes: list[int] = np.bincount(self.groups, minlength=num_groups).tolist()
        return sizes


class PictureFeatures(Protocol):
    """All anchors of a picture; of their columns, which are many, those that are asked for."""

    @property
    def boxes(self) -> Floats:
        """``[A, 4]``."""

    @property
    def base_score(self) -> Floats:
        """``[A]``."""

    def at(self, rows: NDArray[np.int64]) -> AnchorFeatures:
        """The anchors ``rows`` ``[R]``, ascending."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """One number per column and class, and one per class."""

    base_logits: Floats
    """``[S, C]``."""
    tower_features: Floats
    """``[G, D, C]``."""
    bias: Floats
    """``[C]``."""

    def logits(self, base_logits: Floats, tower_features: Floats, group_sizes: Sequence[int]) -> Floats:
        """``[R, C]`` of rows as in :class:`Rows`."""
        logits: Floats = base_logits @ self.base_logits
        logits += self.bias
        for part, own in zip(group_slices(group_sizes), self.tower_features, strict=True):
            logits[part] += tower_features[part] @ own
        return logits


def group_slices(group_sizes: Sequence[int]) -> list[slice]:
    """The rows of each group, of rows in the order of the groups."""
    ends = np.cumsum(group_sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, group_sizes, strict=True)]


@dataclass(frozen=True, eq=False)
class BaseGraph:
    """A frozen base as an ONNX file: ``pixels`` ``[1, 3, h, w]`` to the arrays of :class:`AnchorFeatures`.

    Its outputs have the names of those arrays, but for ``groups``, and an axis of length 1 before the others.
    """

    content: bytes
    group_sizes: list[int]
    column_scale: Floats
    """As of a :class:`FeatureExtractor`."""


class FeatureExtractor(Protocol):
    """Reads features with a frozen base, and writes coefficients back as a head of it."""

    num_groups: int
    column_scale: Floats
    """``[S]``: what standardised base logits are multiplied with; larger ones are trusted sooner."""
    reads_beside: bool
    """Whether several pictures are read faster beside each other than one after the other."""

    def read(self, image: NDArray[np.uint8]) -> PictureFeatures:
        """One pass of the frozen network over a picture ``[H, W, 3]``."""
        ...

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """The weights of the head that gives the logits of ``coefficients`` on features as read.

        With ``keep_classes`` it stands beside the base's own, whose logits come first.
        """
        ...
