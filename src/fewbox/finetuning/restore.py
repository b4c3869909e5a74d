"""What a new detector takes from its base model: everything but the class head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewbox.errors import CheckpointError
from fewbox.models.architectures import network_type, weight_shapes
from fewbox.models.base import BaseModel
from fewbox.models.families import Config


@dataclass(frozen=True)
class RestoreReport:
    """Which weights came from where, by name; every weight of the network is in the first two."""

    base: str
    restored: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"restored {len(self.restored)} tensors from {self.base}; new, for your classes: "
            f"{_in_short(self.new)}; left over, for the base's own classes: {_in_short(self.left_over)}"
        )


def _in_short(names: tuple[str, ...]) -> str:
    """One or two names; of more, how many and the first and last."""
    if len(names) <= 2:
        return ", ".join(names)
    return f"{len(names)} tensors, {min(names)} to {max(names)}"


def restore(base: BaseModel, num_classes: int, seed: int) -> tuple[Config, dict[str, Tensor], RestoreReport]:
    """The settings and weights of a network for ``num_classes`` new classes, and a report.

    The new class head is drawn from ``seed``; all other weights are the base's.

    Raises:
        CheckpointError: the base lacks a weight, has one of another shape, or has one that no part
            of the network takes.
    """
    config = replace(base.config, num_classes=num_classes)
    new = network_type(config).new_class_head(config, torch.Generator().manual_seed(seed))
    weights, report = take_weights(base, config, new)
    return config, weights, report


def take_weights(
    base: BaseModel, config: Config, new: dict[str, Tensor]
) -> tuple[dict[str, Tensor], RestoreReport]:
    """The weights of a network as ``config`` says: those in ``new``, all others from the base.

    Raises:
        CheckpointError: as for :func:`restore`.
    """
    shapes = weight_shapes(config)
    restored = {name: weight for name, weight in base.weights.items() if name not in new}
    for name in shapes.keys() - new.keys():
        if name not in restored:
            raise CheckpointError(f"base model {base.name}: tensor missing: {name}")
        if tuple(restored[name].shape) != shapes[name]:
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
    return restored | new, report
