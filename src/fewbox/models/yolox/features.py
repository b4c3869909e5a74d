"""AnchorFeatures from a YOLOX: what its class and object heads answer, and both towers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fewbox.models.features import Coefficients, Floats
from fewbox.models.network import NetworkExtractor, TensorFeatures
from fewbox.models.yolox import STRIDES
from fewbox.models.yolox.graph import column_scale, novel_head
from fewbox.models.yolox.network import YoloxDetector, decode_cells


class YoloxFeatureExtractor(NetworkExtractor):
    """Reads the cells of a YOLOX; a group is a level.

    The columns are linear in the towers, so what is learnt on them is a 1x1 convolution of both.

    Args:
        network: the base's own, folded.
    """

    num_groups = len(STRIDES)

    def __init__(self, network: YoloxDetector) -> None:
        super().__init__(network)
        self.column_scale = column_scale(network.config.num_classes)

    def _read(self, image: NDArray[np.uint8]) -> TensorFeatures:
        """One pass over a picture ``[H, W, 3]``; the last base logit is the base's objectness."""
        network = self.network
        pixels = network.batch_of([image])
        maps = network.towers(network.features(pixels))
        codes, logits = network.heads(maps)
        logits = logits[0].float()
        towers = [torch.cat(pair, 1)[0].flatten(1).T for pair in zip(*maps, strict=True)]
        size_hw = (pixels.shape[2], pixels.shape[3])
        return TensorFeatures(
            base_logits=torch.cat((logits[:, 1:], logits[:, :1]), 1),
            cells=torch.cat(towers),
            groups=np.repeat(np.arange(len(towers)), [len(level) for level in towers]),
            boxes=decode_cells(codes[0].float().cpu(), network.anchors(size_hw)).numpy(),
            base_score=logits[:, 0].cpu().numpy(),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """The 1x1 convolution of both towers for every level; the base's heads are others, kept or not."""
        state = self.network.state_dict()
        return novel_head(
            coefficients, {name: weight.float().cpu().numpy() for name, weight in state.items()}
        )
