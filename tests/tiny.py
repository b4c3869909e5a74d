"""A network small enough to make in a moment, and photos for it: what tests use where no base is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from fewbox.data.annotations import AnnotationSet
from fewbox.models.base import BaseModel
from fewbox.models.families import Config
from fewbox.models.layers import BLOCKS_PER_STAGE
from fewbox.models.ssd import SsdConfig
from fewbox.models.ssd.network import SsdDetector
from fewbox.models.ssd.pipeline_config import parse_ssd_config
from fewbox.models.weights import hash_weights

FEW_BLOCKS = 14
"""How many layers a ResNet of one block a stage has; nobody publishes weights of one, so none may be read."""
BLOCKS_PER_STAGE[FEW_BLOCKS] = (1, 1, 1, 1)
PIPELINE = (Path(__file__).parent / "pipeline.config").read_text()


def tiny_config(num_classes: int = 3, side: int = 128) -> SsdConfig:
    """A ResNet of one block a stage, on a small input and with thin towers.

    As published it would have a hundred megabytes, which tests would fold, hash and write again and again.
    """
    config = parse_ssd_config(PIPELINE)
    return replace(
        config,
        num_classes=num_classes,
        size_hw=(side, side),
        backbone_depth=FEW_BLOCKS,
        fpn_channels=32,
        tower_channels=32,
        tower_layers=2,
    )


@lru_cache(maxsize=2)  # it takes a second to make, and nobody changes it
def tiny_base(config: SsdConfig | None = None, seed: int = 0) -> BaseModel:
    """A base model with random weights, scaled so that activations neither vanish nor explode."""
    config = config or tiny_config()
    torch.manual_seed(seed)
    network = SsdDetector(config)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for name, buffer in network.named_buffers():
        if name.endswith("norm.weight") and ".conv3." in name:
            buffer.fill_(0.3)  # keep the sum of many residual branches in the range ReLU6 passes
    torch.nn.init.normal_(network.box_head.weight, std=0.01)
    return make_base(config, network.state_dict())


def make_base(config: Config, weights: Mapping[str, torch.Tensor]) -> BaseModel:
    """A base model of these weights, as if it had been read from a file."""
    kept = {name: tensor.detach().clone().numpy() for name, tensor in weights.items()}
    return BaseModel(
        name="tiny",
        config=config,
        weights=kept,
        weights_sha256=hash_weights(kept),
        source="tests",
        source_sha256="0" * 64,
        licence="none",
    )


def make_photos(folder: Path, count: int = 3, size_hw: tuple[int, int] = (120, 160)) -> AnnotationSet:
    """Grey noise with one bright square each, and the squares' boxes."""
    generator = np.random.default_rng(7)
    paths, boxes = [], []
    for number in range(count):
        noise = generator.integers(60, 120, (*size_hw, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        x, y = (int(v) for v in generator.integers(10, 60, 2))
        ImageDraw.Draw(picture).rectangle((x, y, x + 39, y + 39), fill=(250, 220, 30))
        path = folder / f"photo{number}.png"
        picture.save(path)
        paths.append(path)
        boxes.append(np.array([[x, y, x + 40, y + 40]]))
    return AnnotationSet.from_arrays(paths, boxes, "square")
