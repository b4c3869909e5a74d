"""What cells with one score a class learn: the published losses, with object and class in one.

A novel head answers for each class whether the cell shows it (there is no score of any object beside
it), so the background is told to every class, as the publication tells it to the object's score alone.

Ge et al., "YOLOX", 2021. Letters in shapes: N views, A cells, C classes, P matched cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fewbox.finetuning.adapt.cache import ViewTruth
from fewbox.models.boxes import paired_iou
from fewbox.models.yolox.loss import Batch, _in_ignored, simota_assign
from fewbox.models.yolox.network import decode_cells

BOX_WEIGHT = 5.0  # by the public release


@dataclass(frozen=True)
class AdaptLoss:
    """The losses of some views, summed over cells, and how many cells learnt a box."""

    box: Tensor
    classes: Tensor
    object: Tensor
    num_matched: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised: the mean over matched cells."""
        return (self.box + self.classes + self.object) / self.num_matched.clamp(min=1)


def adapt_loss(
    codes: Tensor,
    logits: Tensor,
    cells: Tensor,
    truths: Sequence[ViewTruth],
    of_objects: Tensor | None = None,
) -> AdaptLoss:
    """The losses of the network's outputs.

    Args:
        codes: ``[N, A, 4]``.
        logits: ``[N, A, C]``.
        cells: ``[A, 4]``.
        truths: of the N views.
        of_objects: ``[N, A]`` logits of a cell's showing any object, if those are learnt beside.
    """
    batch = Batch.of([(torch.zeros(0), truth.boxes, truth.class_ids) for truth in truths])
    predicted = decode_cells(codes.flatten(0, 1), cells.repeat(len(codes), 1)).view_as(codes)
    with torch.no_grad():
        ids = batch.class_ids.clamp(min=0)[..., None].expand(-1, -1, len(cells))
        log_likely = F.logsigmoid(logits).transpose(1, 2).gather(1, ids)  # [N, M, A]
        matches = simota_assign(predicted, log_likely, cells, batch.boxes, batch.class_ids >= 0)
        is_matched = matches >= 0
        counts = is_matched | ~_in_ignored(batch, cells)
        view, cell = is_matched.nonzero(as_tuple=True)  # [P]
        box = matches[view, cell]
    overlap = paired_iou(predicted[view, cell], batch.boxes[view, box])
    wanted = torch.zeros_like(logits)
    # How certain a class should be is how well the box fits, as in the release.
    wanted[view, cell, batch.class_ids[view, box]] = overlap.detach()
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    of_object = torch.zeros(())
    if of_objects is not None:
        each_object = F.binary_cross_entropy_with_logits(of_objects, is_matched.float(), reduction="none")
        of_object = (each_object * counts).sum()
    return AdaptLoss(
        object=of_object,
        box=BOX_WEIGHT * (1 - overlap**2).sum(),
        classes=(each * counts[..., None]).sum(),
        num_matched=is_matched.sum(),
    )
