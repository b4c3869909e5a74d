"""What a YOLOX learns from a batch, and SimOTA, which decides which cell learns which box.

Which cells of a YOLOX answer for which box: SimOTA, for a whole batch at once.

Ge et al., "YOLOX", 2021, section 2.1: a box is learnt by the cells around its centre that already do
best, and by more of them the better they do. The numbers are the public release's.

What a whole YOLOX learns from a batch: its published losses, summed so that parts of a batch add up.

Ge et al., "YOLOX", 2021, and the public release. What is our own: places to ignore. A cell inside one is
not told that it shows nothing.

Letters in shapes: N images, M boxes of one image, A cells, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fewbox.models.boxes import paired_iou, pairwise_iou
from fewbox.models.network import IGNORED_ID, Batch, BatchLoss
from fewbox.models.yolox.network import decode_cells

_CENTRE_REACH = 1.5  # sides of a cell from a box's centre, within which its cells may learn the box
_MOST_CELLS = 10  # of one box
_IOU_COST = 3.0
_NEVER = 1e9


def simota_assign(
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


_BOX_WEIGHT = 5.0  # by the public release


def yolox_loss(codes: Tensor, logits: Tensor, cells: Tensor, batch: Batch) -> BatchLoss:
    """The losses of the network's outputs.

    Args:
        codes: ``[N, A, 4]``.
        logits: ``[N, A, 1 + C]``.
        cells: ``[A, 4]``.
        batch: the truth.
    """
    codes, logits = codes.float(), logits.float()
    log_object = F.logsigmoid(logits[:, None, :, 0].detach())
    is_matched, image, cell, ids, overlap = _matched(codes, logits[..., 1:], cells, batch, log_object)
    counts = is_matched | ~_in_ignored(batch, cells)
    # How certain a class should be is how well the box fits, as in the release.
    wanted = F.one_hot(ids, logits.shape[2] - 1) * overlap.detach()[:, None]
    of_objects = F.binary_cross_entropy_with_logits(logits[..., 0], is_matched.float(), reduction="none")
    return BatchLoss(
        box=_BOX_WEIGHT * (1 - overlap**2).sum(),
        object=(of_objects * counts).sum(),
        classes=F.binary_cross_entropy_with_logits(logits[image, cell, 1:], wanted, reduction="sum"),
        num_matched=is_matched.sum(),
    )


def novel_loss(codes: Tensor, logits: Tensor, cells: Tensor, batch: Batch) -> BatchLoss:
    """The losses of a network whose classes are all novel: one score for each, and none of any object.

    So the background is told to every class, as the publication tells it to the object's score alone.

    Args:
        codes: ``[N, A, 4]``.
        logits: ``[N, A, C]``.
        cells: ``[A, 4]``.
        batch: the ground truth.
    """
    is_matched, image, cell, ids, overlap = _matched(codes, logits, cells, batch)
    counts = is_matched | ~_in_ignored(batch, cells)
    wanted = torch.zeros_like(logits)
    # How certain a class should be is how well the box fits, as in the release.
    wanted[image, cell, ids] = overlap.detach()
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return BatchLoss(
        box=_BOX_WEIGHT * (1 - overlap**2).sum(),
        object=logits.new_zeros(()),
        classes=(each * counts[..., None]).sum(),
        num_matched=is_matched.sum(),
    )


def _matched(
    codes: Tensor, of_classes: Tensor, cells: Tensor, batch: Batch, log_object: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The cells that learn a box, by SimOTA.

    Whether each does, ``[N, A]``; and of the P that do: image, cell, class id, and IoU with its box, ``[P]``.

    Args:
        codes: ``[N, A, 4]``.
        of_classes: logits ``[N, A, C]``.
        cells: ``[A, 4]``.
        batch: the ground truth.
        log_object: how likely a cell shows any object, ``[N, 1, A]``, where that is a score of its own.
    """
    predicted = decode_cells(codes.flatten(0, 1), cells.repeat(len(codes), 1)).view_as(codes)
    with torch.no_grad():
        ids = batch.class_ids.clamp(min=0)[..., None].expand(-1, -1, len(cells))
        log_likely = F.logsigmoid(of_classes).transpose(1, 2).gather(1, ids) + log_object  # [N, M, A]
        matches = simota_assign(predicted, log_likely, cells, batch.boxes, batch.class_ids >= 0)
    is_matched = matches >= 0
    image, cell = is_matched.nonzero(as_tuple=True)
    box = matches[image, cell]
    overlap = paired_iou(predicted[image, cell], batch.boxes[image, box])
    return is_matched, image, cell, batch.class_ids[image, box], overlap


def _in_ignored(batch: Batch, cells: Tensor) -> Tensor:
    """Whether the centres of cells ``[A, 4]`` lie in a box to ignore: ``[N, A]``."""
    centres = (cells[:, :2] + cells[:, 2:]) / 2
    boxes = batch.boxes[:, :, None]  # [N, M, 1, 4]
    inside = ((centres > boxes[..., :2]) & (centres < boxes[..., 2:])).all(3)  # [N, M, A]
    return (inside & (batch.class_ids == IGNORED_ID)[..., None]).any(1)
