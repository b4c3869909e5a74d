"""The kinds of network, by the name that files call them, and their settings. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.ssd import SsdConfig
from fewbox.models.yolox import YoloxConfig

Config = SsdConfig | RetinanetConfig | YoloxConfig

CONFIG_TYPES: dict[str, type[Config]] = {
    "ssd_resnet_fpn": SsdConfig,
    "retinanet_resnet50_fpn": RetinanetConfig,
    "yolox": YoloxConfig,
}


def config_from_dict(architecture: str, values: Mapping[str, Any]) -> Config:
    """The settings of a network as a file's header states them.

    Raises:
        ValueError: there is no such kind of network.
        TypeError: a field is missing or unknown.
    """
    if architecture not in CONFIG_TYPES:
        raise ValueError(f"unknown kind of network: {architecture!r}")
    return CONFIG_TYPES[architecture].from_dict(values)
