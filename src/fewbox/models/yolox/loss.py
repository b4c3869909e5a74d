"""What a YOLOX learns, and which cell learns which box: of its heads alone, and of the whole of it.

The heads are 1x1 convolutions over frozen maps. Which cell learns which box is decided once per photo, by
the boxes that the frozen network already predicts: its box head has learnt what an object's outline is, of
whatever class. A cell whose box overlaps an annotation well learns it, and so does the best cell of each
annotation.

The whole of it learns by its published losses, summed so that parts of a batch add up. Which cell learns
which box is decided for a batch at once, by SimOTA (Ge et al., "YOLOX", 2021, section 2.1): a box is learnt
by the cells around its centre that already do best, and by more of them the better they do. The numbers are
the public release's. What is our own: places to ignore. A cell inside one is not told that it shows nothing.

Letters in shapes: N images, M boxes of one image, A cells, C classes, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fewbox.models.boxes import IGNORED, NEGATIVE, match_anchors, paired_iou, pairwise_iou
from fewbox.models.device import device_of
from fewbox.models.network import IGNORED_ID, Batch, BatchLoss, Losses
from fewbox.models.weights import Weight
from fewbox.models.yolox.network import YoloxDetector, decode_cells

MATCHED_IOU = 0.6
"""Overlap of a cell's box with an annotation from which on the cell learns it."""
IGNORED_IOU = 0.5
"""Overlap with a region to ignore from which on a cell learns nothing."""
BOX_WEIGHT = 5.0
"""Weight of the box loss; Ge et al., "YOLOX", 2021, by the public release."""

_CENTRE_REACH = 1.5  # sides of a cell from a box's centre, within which its cells may learn the box
_MOST_CELLS = 10  # of one box
_IOU_COST = 3.0
_NEVER = 1e9


@dataclass(frozen=True)
class CellFeatures:
    """One photo's frozen features and targets. P is the number of its matched cells."""

    box_rows: list[Tensor]
    """``[cells, D]`` float32 per level, finest first: what the box and object heads read."""
    object_targets: Tensor
    """``[A]``, 1 for matched cells."""
    object_weights: Tensor
    """``[A]``, 0 for ignored cells, else 1."""
    matched: list[Tensor]
    """Per level which cells are matched, in all P."""
    class_rows: list[Tensor]
    """Per level what the class head reads at the matched cells."""
    cells: Tensor
    """``[P, 4]``: the matched cells as boxes in pixels of the input."""
    boxes: Tensor
    """``[P, 4]``: the boxes they learn, in pixels of the input."""
    class_targets: Tensor
    """``[P, C]``, 1 for the class of the box."""


class CellHeads:
    """The box, object and class heads of each level.

    Args:
        network: folded.
        weights: those of ``network.head_names``; copied.
    """

    # The losses are larger than the SSD's (12 against 2 at the start, box weight 5) and steps of its
    # size overshoot. Measured with the nano network on five ducks, AP on 49 others: 0.37, 0.53, 0.51
    # with learning rates of 0.01, 0.003, 0.001.
    step_scale: ClassVar[float] = 0.3

    def __init__(self, network: YoloxDetector, weights: Mapping[str, Weight]) -> None:
        self.network = network
        device = device_of(network)
        self.by_name = {
            name: torch.tensor(weights[name], dtype=torch.float32, device=device, requires_grad=True)
            for name in network.head_names
        }
        self.parameters = list(self.by_name.values())

    def tensors(self) -> dict[str, Tensor]:
        """The weights under their names in the network, detached, on the processor."""
        return {name: value.detach().contiguous().cpu() for name, value in self.by_name.items()}

    @torch.no_grad()
    def features(
        self, image: NDArray[np.uint8], boxes: Tensor, class_ids: Tensor, ignored: Tensor
    ) -> CellFeatures:
        """Run the frozen network once on a photo and keep what the heads need."""
        network, size_hw = self.network, (image.shape[0], image.shape[1])
        maps = network.towers(network.features(network.batch_of([image])))
        box_rows, class_rows = (
            [x[0].flatten(1).T.float() for x in side] for side in (maps.box_maps, maps.class_maps)
        )
        device = box_rows[0].device
        cells = network.anchors(network.input_size_hw(size_hw)).to(device)
        boxes, ignored = (network.to_input(some, size_hw).to(device) for some in (boxes, ignored))
        class_ids = class_ids.to(device)
        codes = torch.cat([self._apply("reg", level, rows) for level, rows in enumerate(box_rows)])
        predicted = decode_cells(codes, cells)
        matches = match_anchors(
            predicted, boxes, matched_iou=MATCHED_IOU, unmatched_iou=MATCHED_IOU, force_match=True
        )
        if len(ignored):
            overlap = pairwise_iou(ignored, predicted).amax(0)
            matches = torch.where((overlap >= IGNORED_IOU) & (matches == NEGATIVE), IGNORED, matches)
        per_level = torch.split(matches, [len(rows) for rows in box_rows])
        matched = [(m >= 0).nonzero()[:, 0] for m in per_level]
        chosen = matches[matches >= 0]
        return CellFeatures(
            box_rows=box_rows,
            object_targets=(matches >= 0).float(),
            object_weights=(matches != IGNORED).float(),
            matched=matched,
            class_rows=[rows[m] for rows, m in zip(class_rows, matched, strict=True)],
            cells=cells[matches >= 0],
            boxes=boxes[chosen],
            class_targets=F.one_hot(class_ids[chosen], network.config.num_classes).float(),
        )

    def loss(self, batch: Sequence[CellFeatures]) -> Losses:
        """The release's three losses; matched cells are counted over the whole batch."""
        classification, localization = [], []
        for photo in batch:
            overlap = paired_iou(decode_cells(self._codes(photo), photo.cells), photo.boxes)
            localization.append((1 - overlap**2).sum())
            # A class is as certain as its box is right, so that the score ranks boxes too.
            class_targets = photo.class_targets * overlap.detach()[:, None]
            of_class = F.binary_cross_entropy_with_logits(
                self._class_logits(photo), class_targets, reduction="sum"
            )
            of_object = F.binary_cross_entropy_with_logits(
                self._object_logits(photo), photo.object_targets, photo.object_weights, reduction="sum"
            )
            classification.append(of_class + of_object)
        normalizer = max(sum(len(photo.boxes) for photo in batch), 1)
        return Losses(
            classification=torch.stack(classification).sum() / normalizer,
            localization=torch.stack(localization).sum() * (BOX_WEIGHT / normalizer),
        )

    def _codes(self, photo: CellFeatures) -> Tensor:
        """Codes of the matched cells ``[P, 4]``."""
        levels = enumerate(zip(photo.box_rows, photo.matched, strict=True))
        return torch.cat([self._apply("reg", level, rows[matched]) for level, (rows, matched) in levels])

    def _object_logits(self, photo: CellFeatures) -> Tensor:
        """Whether each cell shows any object, ``[A]``."""
        return torch.cat([self._apply("obj", level, rows)[:, 0] for level, rows in enumerate(photo.box_rows)])

    def _class_logits(self, photo: CellFeatures) -> Tensor:
        """Class logits of the matched cells ``[P, C]``."""
        return torch.cat([self._apply("cls", level, rows) for level, rows in enumerate(photo.class_rows)])

    def _apply(self, kind: str, level: int, rows: Tensor) -> Tensor:
        """One head of one level on rows ``[M, D]``: a 1x1 convolution is a matrix product."""
        name = f"head.{kind}_preds.{level}"
        return F.linear(rows, self.by_name[f"{name}.weight"].flatten(1), self.by_name[f"{name}.bias"])


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
        box=BOX_WEIGHT * (1 - overlap**2).sum(),
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
        box=BOX_WEIGHT * (1 - overlap**2).sum(),
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
