"""What the whole network learns: which cells answer for which object, and what it costs them to be wrong.

The losses and the assignment are YOLOX's.

What is our own: each cell has one family, so families compete (softmax). They come in any colour and
pattern here, so telling them apart teaches the class tower to look past both, while a new object is
often known by just these. So the tower has tutors, who see nothing but its features. One asks who of the
cast it is, see ``starter_cast.py``: that takes form and finish together. The other has it paint a portrait
of what lies in the box: a linear map must give the colours of a few places in it, and how strong the edges
there are in four directions (after Wei et al., "Masked Feature Prediction", 2022, whose targets are HOG).

Letters in shapes: N images, M boxes of one image, A cells, C classes, P cells with a box to learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.boxes import paired_iou
from fewbox.models.network import PADDING_ID, Batch
from fewbox.models.yolox.loss import simota_assign
from fewbox.models.yolox.network import decode_cells
from starter_samples import CastBatch

BOX_WEIGHT = 5.0
"""Weight of the box loss, by the public release."""

PORTRAIT_SIDE = 6
PORTRAIT_NUMBERS = (3 + 4) * PORTRAIT_SIDE**2
"""How many numbers a portrait is: three colours and edges in four directions at so many places."""
PORTRAIT_WEIGHT = 8.0


class Tutors(nn.Module):
    """What asks the class tower's features for more than families; of no use once it has learnt."""

    def __init__(self, channels: int, num_characters: int) -> None:
        super().__init__()
        self.portraits = nn.Linear(channels, PORTRAIT_NUMBERS)
        self.characters = nn.Linear(channels, num_characters)


@dataclass(frozen=True)
class StarterLoss:
    """The losses of a batch, per learnt cell, and how many such cells there are."""

    box: Tensor
    object: Tensor
    classes: Tensor
    characters: Tensor
    portraits: Tensor
    num_matched: int

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.box + self.object + self.classes + self.characters + self.portraits


def starter_loss(
    codes: Tensor,
    logits: Tensor,
    cells: Tensor,
    batch: CastBatch,
    class_rows: Tensor,
    tutors: Tutors,
    character_weight: float = 1.0,
) -> StarterLoss:
    """The loss of the network's outputs.

    Args:
        codes: ``[N, A, 4]``.
        logits: ``[N, A, 1 + C]``.
        cells: ``[A, 4]``.
        batch: the truth.
        class_rows: ``[N, A, D]`` what the class heads read.
        tutors: what reads them too.
        character_weight: of one of the tutors' losses.
    """
    predicted = decode_cells(codes.flatten(0, 1), cells.repeat(len(codes), 1)).view_as(codes)
    with torch.no_grad():
        matches = assign(predicted, logits, cells, batch)
    image, cell = (matches >= 0).nonzero(as_tuple=True)  # [P]
    box = matches[image, cell]
    overlap = paired_iou(predicted[image, cell], batch.boxes[image, box])
    of_objects = F.binary_cross_entropy_with_logits(logits[..., 0], (matches >= 0).float(), reduction="sum")
    of_classes = F.cross_entropy(logits[image, cell, 1:], batch.class_ids[image, box], reduction="sum")
    rows = class_rows[image, cell]
    of_characters = F.cross_entropy(tutors.characters(rows), batch.characters[image, box], reduction="sum")
    portraits = portraits_of(batch)[image, box]
    of_portraits = (tutors.portraits(rows) - portraits).abs().mean(1).sum()
    count = max(len(image), 1)
    return StarterLoss(
        box=(1 - overlap**2).sum() * (BOX_WEIGHT / count),
        object=of_objects / count,
        classes=of_classes / count,
        characters=of_characters * (character_weight / count),
        portraits=of_portraits * (PORTRAIT_WEIGHT / count),
        num_matched=len(image),
    )


def assign(predicted: Tensor, logits: Tensor, cells: Tensor, batch: Batch) -> Tensor:
    """The box that each cell learns, ``[N, A]``, or -1; see :func:`simota_assign`.

    Args:
        predicted: ``[N, A, 4]``, the cells' boxes as they are now.
        logits: ``[N, A, 1 + C]``.
        cells: ``[A, 4]``.
        batch: the truth.
    """
    classes = batch.class_ids.clamp(min=0)[..., None].expand(-1, -1, len(cells))
    of_class = logits[..., 1:].log_softmax(2).transpose(1, 2).gather(1, classes)  # [N, M, A]
    log_likely = of_class + F.logsigmoid(logits[:, None, :, 0])
    return simota_assign(predicted, log_likely, cells, batch.boxes, batch.class_ids != PADDING_ID)


def portraits_of(batch: Batch) -> Tensor:
    """What lies in each box, ``[N, M, PORTRAIT_NUMBERS]``: colours from -1 to 1, edges about 0.5."""
    pixels = batch.pixels.float() / 127.5 - 1
    colours = _pooled(_patches(pixels, batch.boxes, 2 * PORTRAIT_SIDE, margin=0.0))
    grey = _patches(pixels.mean(1, keepdim=True), batch.boxes, 4 * PORTRAIT_SIDE + 1, margin=0.1)
    corner, right = grey[..., :-1, :-1], grey[..., :-1, 1:]
    below, across = grey[..., 1:, :-1], grey[..., 1:, 1:]
    steps = torch.cat((right - corner, below - corner, across - corner, right - below), 2).abs()
    edges = _pooled(steps) / (2 * steps.mean((2, 3, 4))[..., None] + 0.02)  # of any contrast
    return torch.cat((colours, edges), 2)


def _patches(images: Tensor, boxes: Tensor, side: int, *, margin: float) -> Tensor:
    """Images ``[N, D, H, W]`` at ``side x side`` places in each box ``[N, M, 4]``: ``[N, M, D, side, side]``.

    ``margin`` is how much further than the box they reach, in parts of its sides.
    """
    height, width = images.shape[2:]
    places = (torch.arange(side, device=boxes.device) + 0.5) / side
    places = places * (1 + 2 * margin) - margin
    sides = boxes[..., 2:] - boxes[..., :2]
    x = (boxes[..., :1] + sides[..., :1] * places) / width * 2 - 1  # [N, M, side]
    y = (boxes[..., 1:2] + sides[..., 1:] * places) / height * 2 - 1
    shape = (*boxes.shape[:2], side, side)
    grid = torch.stack((x[:, :, None, :].expand(shape), y[..., None].expand(shape)), -1)
    seen = F.grid_sample(images, grid.flatten(1, 2), padding_mode="border", align_corners=False)
    return seen.unflatten(2, shape[1:3]).transpose(1, 2)  # [N, M, D, side, side]


def _pooled(patches: Tensor) -> Tensor:
    """``[N, M, D, side, side]`` to means over a portrait's places, ``[N, M, D * PORTRAIT_SIDE**2]``."""
    pooled = F.adaptive_avg_pool2d(patches.flatten(0, 1), PORTRAIT_SIDE)
    return pooled.flatten(1).unflatten(0, patches.shape[:2])
