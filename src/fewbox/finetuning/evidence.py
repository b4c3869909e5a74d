"""What the frozen network knows of every anchor of a picture.

Everything before the novel head is frozen, so for one picture this is a constant. Two kinds of
columns speak for the novel classes:

* aligned: what the base's own heads answer, such as the logits of its classes. They mean the same at
  every level of the pyramid, so that what was learnt from a large object holds for a small one.
* raw: what those heads read. A level's tower has channels of its own, so each level (a group) has its
  own coefficients, which have fewer objects to learn from and are held back more.

Letters in shapes: A anchors, M boxes, C novel classes, S aligned and D raw columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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
class Coefficients:
    """One number per column and class, and one per class."""

    aligned: Tensor
    """``[S, C]``."""
    raw: Tensor
    """``[G, D, C]``."""
    bias: Tensor
    """``[C]``."""

    def logits(self, aligned: Tensor, raw: Tensor, group_sizes: Sequence[int]) -> Tensor:
        """``[R, C]`` of rows as in :class:`Rows`."""
        of_groups = [
            part @ own for part, own in zip(torch.split(raw, list(group_sizes)), self.raw, strict=True)
        ]
        return aligned @ self.aligned + torch.cat(of_groups) + self.bias


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
