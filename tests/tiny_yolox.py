"""A YOLOX made and run in a moment: thin, on a small input, with random weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewbox.models.layers import FrozenBatchNorm
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.network import YoloxDetector


def tiny_yolox_config(size: str = "nano") -> YoloxConfig:
    return replace(YOLOX_SIZES[size], width=0.125, num_classes=3, size_hw=(64, 96))


def random_yolox(config: YoloxConfig, seed: int = 0) -> YoloxDetector:
    """Weights scaled so that activations neither vanish nor explode; no two channels of a norm are alike."""
    generator = torch.Generator().manual_seed(seed)
    network = YoloxDetector(config)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            spread = (2.5 / module.weight[0].numel()) ** 0.5
            if "stem" in name and "backbone" in name:
                spread /= 255  # its input is pixels
            module.weight.normal_(std=spread, generator=generator)
            if module.bias is not None:
                module.bias.normal_(std=0.1, generator=generator)
        elif isinstance(module, FrozenBatchNorm):
            module.weight.uniform_(0.7, 1, generator=generator)
            module.bias.normal_(std=0.7, generator=generator)
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.8, 2, generator=generator)
    return network
