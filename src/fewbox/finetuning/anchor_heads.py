"""The two convolutions of an anchor network that are tuned, applied to cached features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fewbox.finetuning.anchor_features import PhotoFeatures, extract_features
from fewbox.finetuning.heads import Losses
from fewbox.models.anchors import flatten_cells
from fewbox.models.network import AnchorNetwork


class AnchorHeads:
    """The last 3x3 convolution of each branch of an anchor network, shared by all levels.

    Args:
        network: gives the losses.
        weights: the four tensors of ``network.head_names``; copied.
    """

    step_scale: ClassVar[float] = 1.0

    def __init__(self, network: AnchorNetwork, weights: Mapping[str, Tensor]) -> None:
        self.network = network
        self.parameters = [
            weights[name].detach().float().clone().requires_grad_(True) for name in network.head_names
        ]
        self.box_weight, self.box_bias, self.class_weight, self.class_bias = self.parameters

    def features(
        self, image: NDArray[np.uint8], boxes: Tensor, class_ids: Tensor, ignored: Tensor
    ) -> PhotoFeatures:
        """What the heads need of a photo; see :func:`extract_features`."""
        return extract_features(self.network, image, boxes, class_ids, ignored)

    def tensors(self) -> dict[str, Tensor]:
        """The weights under their names in the network, detached."""
        pairs = zip(self.network.head_names, self.parameters, strict=True)
        return {name: value.detach().contiguous() for name, value in pairs}

    def class_logits(self, photo: PhotoFeatures) -> Tensor:
        """Logits of every anchor of a photo, ``[A, B + C]`` float32."""
        dtype = photo.class_maps[0].dtype
        weight = self.class_weight.to(dtype).contiguous(memory_format=torch.channels_last)
        bias = self.class_bias.to(dtype)
        maps = [F.conv2d(x, weight, bias, padding=1) for x in photo.class_maps]
        return torch.cat([flatten_cells(x, photo.class_targets.shape[1])[0] for x in maps]).float()

    def box_codes(self, photo: PhotoFeatures) -> Tensor:
        """Codes of the matched anchors of a photo, ``[P, 4]``."""
        all_slots = F.linear(photo.box_patches, self.box_weight.flatten(1), self.box_bias)  # [P, k * 4]
        per_slot = all_slots.reshape(photo.num_matched, self.network.config.anchors_per_cell, 4)
        return per_slot[torch.arange(photo.num_matched), photo.box_slots]

    def loss(self, batch: Sequence[PhotoFeatures]) -> Losses:
        """The loss over a batch; matched anchors are counted over the whole batch, as the seed does."""
        classification, localization = [], []
        for photo in batch:
            loss = self.network.class_loss(self.class_logits(photo), photo.class_targets)
            classification.append((loss * photo.class_weights).sum())
            localization.append(self.network.box_loss(self.box_codes(photo), photo.box_targets).sum())
        normalizer = self.network.normalizer(sum(photo.num_matched for photo in batch))
        return Losses(
            classification=torch.stack(classification).sum() / normalizer,
            localization=torch.stack(localization).sum() / normalizer,
        )
