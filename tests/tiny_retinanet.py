"""A RetinaNet made and run in a moment: thin behind its backbone, on a small input, with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewbox.models.layers import FrozenBatchNorm
from fewbox.models.retinanet import RETINANET_V1, RETINANET_V2, RetinanetConfig
from fewbox.models.retinanet.network import RetinanetDetector

VERSIONS = {"v1": RETINANET_V1, "v2": RETINANET_V2}


def tiny_retinanet_config(published: RetinanetConfig) -> RetinanetConfig:
    return replace(published, num_classes=3, tower_channels=64, tower_layers=2, min_side=90, max_side=150)


def random_retinanet(config: RetinanetConfig, seed: int = 0) -> RetinanetDetector:
    """Weights scaled so that activations neither vanish nor explode; no two channels of a norm are alike."""
    generator = torch.Generator().manual_seed(seed)
    network = RetinanetDetector(config)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.normal_(std=(2 / module.weight[0].numel()) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.normal_(std=0.1, generator=generator)
        elif isinstance(module, FrozenBatchNorm):
            module.weight.uniform_(0.7, 1, generator=generator)
            if name.endswith("bn3"):
                module.weight.mul_(0.3)  # the end of a residual branch: their sum grows from block to block
            module.bias.normal_(std=0.1, generator=generator)
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.8, 2, generator=generator)
    network.head.classification_head.cls_logits.bias.sub_(3)
    network.head.regression_head.bbox_reg.weight.mul_(0.1)
    return network
