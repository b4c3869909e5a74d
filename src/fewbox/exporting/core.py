"""The middle part of an exported graph: the network itself, as PyTorch's exporter writes it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from fewbox.exporting.graph_builder import OPSET
from fewbox.models.network import Network
from fewbox.models.retinanet_config import RetinanetConfig

# PyTorch takes a length of 1, of any map, as one that never changes.
_TRIED_BATCH = 2
_TRIED_SIZE_HW = (320, 448)


class _Core(nn.Module):
    """Pixels to the boxes and scores of all anchors."""

    def __init__(self, network: Network, input_size_hw: tuple[int, int] | None) -> None:
        super().__init__()
        self.network = cast(nn.Module, network)
        # Computed here where they are always the same: a network may remember anchors, and those of a
        # graph that is being written are no numbers.
        self.anchors = None if input_size_hw is None else network.anchors(input_size_hw)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        network = cast(Network, self.network)
        codes, logits = network.forward(images)
        height, width = images.shape[-2:]
        anchors = network.anchors((height, width)) if self.anchors is None else self.anchors
        return network.decode(codes.float(), anchors), network.scores(logits)


def export_core(network: Network, config: Any) -> onnx.ModelProto:
    """The network as a graph: ``images`` ``[batch, 3, h, w]`` to ``boxes`` and ``scores`` of all anchors.

    ``h`` and ``w`` are numbers where the network has one size of input, else multiples of 32.
    """
    is_flexible = isinstance(config, RetinanetConfig)
    size_hw = _TRIED_SIZE_HW if is_flexible else config.size_hw
    core = _Core(network, None if is_flexible else size_hw).eval()
    batch: Any = torch.export.Dim("batch", min=1)
    axes: dict[int, Any] = {0: batch}
    if is_flexible:
        axes |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with _quiet():
        program = torch.onnx.export(
            core,
            (torch.zeros(_TRIED_BATCH, 3, *size_hw),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["boxes", "scores"],
            dynamic_shapes=(axes,),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.graph.value_info[:]  # shapes in between, of which nobody needs to know
    _name_axes(model.graph, is_flexible)
    return model


def _name_axes(graph: onnx.GraphProto, is_flexible: bool) -> None:
    """Put words where the exporter has formulas."""
    flexible = {2: "height", 3: "width"} if is_flexible else {}
    of_anchors = {1: "anchors"} if is_flexible else {}
    for value, names in ((graph.input[0], flexible), *((output, of_anchors) for output in graph.output)):
        for axis, name in names.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are about libraries we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
