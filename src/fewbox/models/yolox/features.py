"""AnchorFeatures from a YOLOX: what its class and object heads answer, and both towers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.models.network import AnchorFeatures, Coefficients
from fewbox.models.yolox.network import STRIDES, YoloxDetector, decode_cells

OBJECTNESS_SCALE = 3.0
"""The one column that already says 'there is something here, and this box fits it'."""


class YoloxFeatureExtractor:
    """Reads the cells of a YOLOX; a group is a level.

    The columns are linear in the towers, so what is learnt on them is a 1x1 convolution of both.

    Args:
        network: the base's own, folded.
    """

    num_groups = len(STRIDES)

    def __init__(self, network: YoloxDetector) -> None:
        self.network = network
        self.column_scale = torch.ones(network.config.num_classes + 1)
        self.column_scale[-1] = OBJECTNESS_SCALE

    @torch.no_grad()
    def read(self, image: NDArray[np.uint8]) -> AnchorFeatures:
        """One pass over a picture ``[H, W, 3]``; the last base logit is the base's objectness."""
        network = self.network
        pixels = network.batch_of([image])
        maps = network.towers(network.features(pixels))
        codes, logits = network.heads(maps)
        logits = logits[0].float()
        towers = [torch.cat(pair, 1)[0].flatten(1).T for pair in zip(*maps, strict=True)]
        size_hw = (pixels.shape[2], pixels.shape[3])
        return AnchorFeatures(
            base_logits=torch.cat((logits[:, 1:], logits[:, :1]), 1),
            tower_features=torch.cat(towers).float(),
            groups=torch.repeat_interleave(
                torch.arange(len(towers)), torch.tensor([len(level) for level in towers])
            ),
            boxes=decode_cells(codes[0].float().cpu(), network.anchors(size_hw)),
            base_score=logits[:, 0].cpu(),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Tensor]:
        """The 1x1 convolution of both towers for every level; the base's heads are others, kept or not."""
        of_classes, of_object = (
            coefficients.base_logits[:-1],
            coefficients.base_logits[-1:],
        )  # [Cb, C], [1, C]
        base = {name: weight.float().cpu() for name, weight in self.network.head.state_dict().items()}
        weights = {}
        for level in range(self.num_groups):
            class_kernel, object_kernel = (
                base[f"{kind}_preds.{level}.weight"].flatten(1) for kind in ("cls", "obj")
            )
            class_bias, object_bias = (base[f"{kind}_preds.{level}.bias"] for kind in ("cls", "obj"))
            through = torch.cat((of_classes.T @ class_kernel, of_object.T @ object_kernel), 1)  # [C, 2 * D]
            kernel = through + coefficients.tower_features[level].T
            bias = class_bias @ of_classes + object_bias @ of_object + coefficients.bias
            weights[f"head.novel_preds.{level}.weight"] = kernel[:, :, None, None]
            weights[f"head.novel_preds.{level}.bias"] = bias
        return weights


def base_columns(network: YoloxDetector) -> list[tuple[Tensor, Tensor]]:
    """The kernels ``[S, 2 * D]`` and biases ``[S]`` that make base logits of both towers, for each level."""
    weights = {name: weight.float().cpu() for name, weight in network.head.state_dict().items()}
    columns = []
    for level in range(len(STRIDES)):
        class_kernel, object_kernel = (
            weights[f"{kind}_preds.{level}.weight"].flatten(1) for kind in ("cls", "obj")
        )
        biases = [weights[f"{kind}_preds.{level}.bias"] for kind in ("cls", "obj")]
        both = torch.block_diag(class_kernel, object_kernel)  # type: ignore[no-untyped-call]
        columns.append((both, torch.cat(biases)))
    return columns
