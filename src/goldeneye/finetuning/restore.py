"""What a new detector takes from its base model: everything but the class head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from goldeneye.errors import CheckpointError
from goldeneye.models.base import BaseModel
from goldeneye.models.ssd import SsdDetector
from goldeneye.models.ssd_config import SsdConfig


@dataclass(frozen=True)
class RestoreReport:
    """Which weights came from where, by name; every weight of the network is in the first two."""

    base: str
    restored: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"restored {len(self.restored)} tensors from {self.base}; "
            f"new: {', '.join(self.new)}; left over: {', '.join(self.left_over)} of the base's own classes"
        )


def restore(
    base: BaseModel, num_classes: int, seed: int
) -> tuple[SsdConfig, dict[str, Tensor], RestoreReport]:
    """The settings and weights of a network for ``num_classes`` new classes, and a report.

    The new class head is drawn from ``seed``; all other weights are the base's.

    Raises:
        CheckpointError: the base lacks a weight, has one of another shape, or has one that no part
            of the network takes.
    """
    config = replace(base.config, num_classes=num_classes)
    new = new_class_head(config, seed)
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in SsdDetector(config).state_dict().items()}
    restored = {name: weight for name, weight in base.weights.items() if name not in new}
    for name in shapes.keys() - new.keys():
        if name not in restored:
            raise CheckpointError(f"base model {base.name}: tensor missing: {name}")
        if restored[name].shape != shapes[name]:
            found, wanted = list(restored[name].shape), list(shapes[name])
            raise CheckpointError(f"base model {base.name}: {name} has shape {found}, expected {wanted}")
    if surplus := sorted(restored.keys() - shapes.keys()):
        raise CheckpointError(
            f"base model {base.name}: tensor that no part of the network takes: {surplus[0]}"
        )
    report = RestoreReport(
        base=base.name,
        restored=tuple(restored),
        new=tuple(new),
        left_over=tuple(name for name in base.weights if name in new),
    )
    return config, restored | new, report


def new_class_head(config: SsdConfig, seed: int) -> dict[str, Tensor]:
    """A class head for ``config.num_classes`` that has seen nothing: it finds everything unlikely.

    Kernels are drawn from a normal distribution and the bias starts low (Lin et al., "Focal
    Loss", 2017, section 4.1), both as the base's ``pipeline.config`` says.
    """
    channels = config.anchors_per_cell * (config.num_classes + 1)
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn((channels, config.tower_channels, 3, 3), generator=generator)
    return {
        "class_head.weight": kernel * config.head_init_std,
        "class_head.bias": torch.full((channels,), config.class_bias),
    }
