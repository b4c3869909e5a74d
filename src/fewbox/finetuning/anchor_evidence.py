"""Evidence from a network with anchors: what its class head answers, and the class tower under it.

The box tower is left out: the class head, whose place the novel head takes, does not read it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.finetuning.evidence import Coefficients, Evidence
from fewbox.models.network import AnchorNetwork


class AnchorReader:
    """Reads the anchors of an SSD or a RetinaNet; the head is shared by all levels, so there is one group.

    Raw columns are the cell of the class tower that the anchor lies on. The base's class head reads
    the eight cells around it too; what is learnt on its answers reads them in the same way.

    Args:
        network: the base's own, folded.
    """

    num_groups = 1

    def __init__(self, network: AnchorNetwork) -> None:
        self.network = network
        self.caution = torch.ones(network.config.num_classes)

    @torch.no_grad()
    def read(self, image: NDArray[np.uint8]) -> Evidence:
        """One pass over a picture ``[H, W, 3]``; the aligned columns are the logits of the base's classes."""
        network = self.network
        maps = network.towers(network.features(network.batch_of([image])))
        codes, logits = network.heads(maps)
        anchors = network.anchors(network.input_size_hw((image.shape[0], image.shape[1])))
        aligned = logits[0, :, network.background_columns :].float()
        cells = torch.cat([level[0].flatten(1).T for level in maps.class_maps]).float()
        return Evidence(
            aligned=aligned,
            raw=cells.repeat_interleave(network.config.anchors_per_cell, 0),
            groups=torch.zeros(len(anchors), dtype=torch.int64),
            boxes=network.decode(codes[0].float(), anchors),
            prior=aligned.amax(1),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Tensor]:
        """The 3x3 class head, or the one beside it; its background, which no score reads, is 0."""
        network, state = self.network, self.network.state_dict()
        names = network.head_names[2:]
        background, slots = network.background_columns, network.config.anchors_per_cell
        weight, bias = (state[name].float() for name in names)
        weight = weight.reshape(slots, -1, *weight.shape[1:])[:, background:]  # [k, Cb, D, 3, 3]
        bias = bias.reshape(slots, -1)[:, background:]  # [k, Cb]
        kernel = torch.einsum("bc,kbdyx->kcdyx", coefficients.aligned, weight)
        kernel[..., 1, 1] += coefficients.raw[0].T
        offset = bias @ coefficients.aligned + coefficients.bias  # [k, C]
        if not keep_classes:
            kernel = torch.cat((kernel.new_zeros(slots, background, *kernel.shape[2:]), kernel), 1)
            offset = torch.cat((offset.new_zeros(slots, background), offset), 1)
        values = kernel.flatten(0, 1), offset.flatten()
        return dict(zip(network.novel_names if keep_classes else names, values, strict=True))
