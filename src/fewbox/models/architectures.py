"""The kinds of network: from their settings to themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fewbox.models.families import Config
from fewbox.models.network import Network
from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.retinanet.network import RetinanetDetector
from fewbox.models.ssd import SsdConfig
from fewbox.models.ssd.network import SsdDetector
from fewbox.models.yolox import YoloxConfig
from fewbox.models.yolox.network import YoloxDetector

# Each network class fits Network, and is made from the settings beside it.
_NETWORKS: dict[type[Config], Any] = {
    SsdConfig: SsdDetector,
    RetinanetConfig: RetinanetDetector,
    YoloxConfig: YoloxDetector,
}


def network_type(config: Config) -> Any:
    """The class of the network that ``config`` describes; a :class:`Network`."""
    return _NETWORKS[type(config)]


def weight_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a network, by name."""
    with torch.device("meta"):
        network = network_type(config)(config)
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def build_network(
    config: Config, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> Network:
    """The network with ``weights``, folded and laid out for inference; ``weights`` stay as they are.

    Raises:
        RuntimeError: the weights do not fit ``config``.
    """
    with torch.device("meta"):
        network = network_type(config)(config)
    network.load_state_dict(weights, assign=True)
    folded: Network = network.fold().to(dtype)  # folded in full precision, then rounded
    return folded
