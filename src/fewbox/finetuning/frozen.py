"""What runs a frozen base for the linear probe: its graph in ONNX Runtime, or its network in PyTorch.

On the processor a pass of a small base takes ONNX Runtime a third to a half of the time, and to import it a
tenth of what PyTorch takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewbox.core import importing_torch, num_cores
from fewbox.core.extras import require_packages
from fewbox.models.base import BaseModel
from fewbox.models.device import is_processor
from fewbox.models.families import build_network, family_of
from fewbox.models.features import (
    SMALL_NETWORK,
    AnchorFeatures,
    BaseGraph,
    Coefficients,
    FeatureExtractor,
    Floats,
)
from fewbox.runtimes.onnxruntime import open_session

if TYPE_CHECKING:
    import torch


def require_runnable(base: BaseModel, precision: str, device: torch.device | None) -> None:
    """Refuse, before any work, a base that only PyTorch runs where that is missing.

    Raises:
        SettingError: it is.
    """
    if not _runs_as_graph(base, precision, device):
        require_packages(["torch"], f"learning from {base.name}")


def _runs_as_graph(base: BaseModel, precision: str, device: torch.device | None) -> bool:
    return is_processor(device) and precision == "float32" and family_of(base.config).writes_graphs


def feature_extractor(
    base: BaseModel, precision: str = "float32", device: torch.device | None = None
) -> FeatureExtractor:
    """What reads features with ``base``.

    Args:
        base: frozen.
        precision: of what it computes: ``"float32"`` or ``"bfloat16"``.
        device: where it computes; on the processor if not given.

    Raises:
        SettingError: that needs PyTorch, and it is not installed.
    """
    require_runnable(base, precision, device)
    family = family_of(base.config)
    if _runs_as_graph(base, precision, device):
        return GraphExtractor(base, family.base_graph(base.config, base.weights))
    with importing_torch():
        import torch

    network = build_network(base.config, base.weights, getattr(torch, precision), device)
    return family.feature_extractor(network)


class GraphExtractor:
    """Reads the anchors of a base whose family writes it as a graph; see :class:`FeatureExtractor`.

    Args:
        base: frozen.
        graph: made of it.
    """

    def __init__(self, base: BaseModel, graph: BaseGraph) -> None:
        self.base, self.family = base, family_of(base.config)
        self.num_groups, self.column_scale = len(graph.group_sizes), graph.column_scale
        self.reads_beside = sum(weight.size for weight in base.weights.values()) <= SMALL_NETWORK
        self._session = open_session(graph.content, num_threads=1 if self.reads_beside else num_cores())
        self._groups = np.repeat(np.arange(self.num_groups), graph.group_sizes)

    def read(self, image: NDArray[np.uint8]) -> AnchorFeatures:
        """One pass over a picture ``[H, W, 3]``."""
        pixels = self.family.prepared_array(image, self.base.config)
        names = ["base_logits", "tower_features", "boxes", "base_score"]
        of_picture = (output[0] for output in self._session.run(names, {"pixels": pixels}))
        base_logits, tower_features, boxes, base_score = of_picture
        return AnchorFeatures(base_logits, tower_features, self._groups, boxes, base_score)

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """A head beside the base's own, which are kept or not."""
        return self.family.novel_head(coefficients, self.base.weights)
