"""Which cells of a YOLOX answer for which box: SimOTA, for a whole batch at once.

Ge et al., "YOLOX", 2021, section 2.1: a box is learnt by the cells around its centre that already do
best, and by more of them the better they do. The numbers are the public release's.

Letters in shapes: N images, M boxes of one image, A cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewbox.models.boxes import pairwise_iou

_CENTRE_REACH = 1.5  # sides of a cell from a box's centre, within which its cells may learn the box
_MOST_CELLS = 10  # of one box
_IOU_COST = 3.0
_NEVER = 1e9


def assign_cells(
    predicted: Tensor, log_likely: Tensor, cells: Tensor, boxes: Tensor, is_learnt: Tensor
) -> Tensor:
    """The box that each cell learns, ``[N, A]``, or -1; every box to learn gets at least one cell.

    Unless another box, for which the same cell costs less, takes its last one.

    Args:
        predicted: ``[N, A, 4]``, the cells' boxes as they are now.
        log_likely: ``[N, M, A]``, the logarithm of each cell's score for the class of each box.
        cells: ``[A, 4]``.
        boxes: ``[N, M, 4]``.
        is_learnt: ``[N, M]``, false for rows that are no boxes to learn.
    """
    iou = torch.vmap(pairwise_iou)(boxes, predicted)  # [N, M, A]
    near = _is_near(boxes, cells) & is_learnt[..., None]
    # Half, as the release multiplies the root of the two probabilities.
    cost = -0.5 * log_likely - _IOU_COST * (iou + 1e-8).log()
    cost = cost.masked_fill(~near, _NEVER)
    most = min(_MOST_CELLS, len(cells))
    wanted = (iou * near).topk(most, 2).values.sum(2).int().clamp(min=1)  # [N, M]
    cheapest = cost.topk(most, 2, largest=False)
    ranks = torch.arange(most, device=cost.device)
    taken = (ranks < wanted[..., None]) & (cheapest.values < _NEVER)
    chosen = torch.zeros_like(near).scatter(2, cheapest.indices, taken)
    best = cost.masked_fill(~chosen, _NEVER).argmin(1)  # [N, A]
    return torch.where(chosen.any(1), best, -1)


def _is_near(boxes: Tensor, cells: Tensor) -> Tensor:
    """Whether cells ``[A, 4]`` lie around the centres of boxes ``[N, M, 4]``: ``[N, M, A]``."""
    sides = cells[:, 2] - cells[:, 0]
    gaps = (
        boxes[..., None, :2] + boxes[..., None, 2:] - cells[:, :2] - cells[:, 2:]
    ).abs() / 2  # [N, M, A, 2]
    return gaps.amax(3) < _CENTRE_REACH * sides
