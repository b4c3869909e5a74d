"""The two convolutions that are tuned, applied to cached features, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldeneye.finetuning.features import PhotoFeatures
from goldeneye.models.losses import huber_loss, sigmoid_focal_loss
from goldeneye.models.ssd import HEAD_NAMES, flatten_cells
from goldeneye.models.ssd_config import SsdConfig


@dataclass(frozen=True)
class Losses:
    """The two parts of the loss of one step; their sum is what is minimised."""

    classification: Tensor
    localization: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.classification + self.localization


class Heads(nn.Module):
    """The last 3x3 convolution of each branch, shared by all levels.

    Args:
        config: gives the number of classes and the losses' settings.
        weights: the four tensors of :data:`HEAD_NAMES`; copied.
    """

    def __init__(self, config: SsdConfig, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.box_weight, self.box_bias, self.class_weight, self.class_bias = (
            nn.Parameter(weights[name].detach().float().clone()) for name in HEAD_NAMES
        )

    def tensors(self) -> dict[str, Tensor]:
        """The weights under their names in the network, detached."""
        values = (self.box_weight, self.box_bias, self.class_weight, self.class_bias)
        return {name: value.detach().contiguous() for name, value in zip(HEAD_NAMES, values, strict=True)}

    def class_logits(self, photo: PhotoFeatures) -> Tensor:
        """Logits of every anchor of a photo, ``[A, 1 + C]`` float32."""
        dtype = photo.class_maps[0].dtype
        weight = self.class_weight.to(dtype).contiguous(memory_format=torch.channels_last)
        bias = self.class_bias.to(dtype)
        maps = [F.conv2d(x, weight, bias, padding=1) for x in photo.class_maps]
        return torch.cat([flatten_cells(x, self.config.num_classes + 1)[0] for x in maps]).float()

    def box_codes(self, photo: PhotoFeatures) -> Tensor:
        """Codes of the matched anchors of a photo, ``[P, 4]``."""
        all_slots = F.linear(photo.box_patches, self.box_weight.flatten(1), self.box_bias)  # [P, k * 4]
        per_slot = all_slots.reshape(photo.num_matched, self.config.anchors_per_cell, 4)
        return per_slot[torch.arange(photo.num_matched), photo.box_slots]

    def loss(self, batch: Sequence[PhotoFeatures]) -> Losses:
        """The loss over a batch; positives are counted over the whole batch, as the original does."""
        c = self.config
        classification, localization = [], []
        for photo in batch:
            loss = sigmoid_focal_loss(
                self.class_logits(photo), photo.class_targets, alpha=c.focal_alpha, gamma=c.focal_gamma
            )
            classification.append((loss * photo.class_weights).sum())
            localization.append(
                huber_loss(self.box_codes(photo), photo.box_targets, delta=c.huber_delta).sum()
            )
        matched = max(sum(photo.num_matched for photo in batch), 1) if c.normalize_by_matches else 1
        code_size = 4 if c.normalize_by_code_size else 1
        return Losses(
            classification=torch.stack(classification).sum() * (c.class_weight / matched),
            localization=torch.stack(localization).sum() * (c.box_weight / (matched * code_size)),
        )
