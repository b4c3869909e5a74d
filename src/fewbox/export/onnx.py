"""A network as PyTorch's exporter writes it, and the model of a whole detector for the package onnx."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from fewbox.core.files import output_error, temporary_folder
from fewbox.export import Anchors, AnchorsOf
from fewbox.export.graph import ANCHORS, IMAGES, Core, core_of_weights, detector_content
from fewbox.models.families import Config, family_of
from fewbox.models.graph_builder import IR_VERSION, OPSET
from fewbox.models.network import Network
from fewbox.runtimes import HEADER_KEY
from fewbox.runtimes.onnxruntime import open_session

# PyTorch takes a length of 1, of any map, as one that never changes.
_TRIED_BATCH = 2
_TRIED_SIZE_HW = (320, 448)
# PyTorch means to give it up some day; then networks go the slower way.
_HAS_TRACER = importlib.util.find_spec("torch.onnx._internal.torchscript_exporter") is not None


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


def export_core(network: Network, config: Config) -> onnx.ModelProto:
    """The network as a graph: ``images`` ``[batch, 3, h, w]`` to ``boxes`` and ``scores`` of all anchors.

    ``h`` and ``w`` are numbers where the network has one size of input, else multiples of 32.
    """
    is_flexible = config.input_size_hw is None
    core = _Core(network, config.input_size_hw).eval()
    size_hw = config.input_size_hw or _TRIED_SIZE_HW
    images = torch.zeros(_TRIED_BATCH, 3, *size_hw)
    with _quiet():
        if _HAS_TRACER:
            model = _by_tracing(core, images, is_flexible)
        else:
            model = _by_compiler(core, images, is_flexible)
    del model.graph.value_info[:]  # shapes in between, of which nobody needs to know
    _name_axes(model.graph, is_flexible)
    return model


def _by_tracing(core: nn.Module, images: Tensor, is_flexible: bool) -> onnx.ModelProto:
    """By PyTorch's first exporter, in a tenth of the time.

    It follows a size only as long as nothing makes a Python number of it.
    """
    flexible = _flexible_axes(is_flexible)
    with torch.no_grad(), temporary_folder() as folder:
        written = Path(folder) / "core.onnx"
        try:
            torch.onnx.export(
                core,
                (images,),
                written,
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["boxes", "scores"],
                dynamic_axes={name: {0: "batch", **axes} for name, axes in flexible.items()},
            )
        except OSError as error:
            raise output_error(Path(folder), error) from error
        model = onnx.load(written)
    steps = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            node.attribute[0].t.name = node.output[0]
            model.graph.initializer.append(node.attribute[0].t)
        else:
            steps.append(node)
    del model.graph.node[:]
    model.graph.node.extend(steps)
    return model


def _by_compiler(core: nn.Module, images: Tensor, is_flexible: bool) -> onnx.ModelProto:
    """By the exporter on top of PyTorch's compiler, which follows sizes wherever they are computed with."""
    batch: Any = torch.export.Dim("batch", min=1)
    axes: dict[int, Any] = {0: batch}
    if is_flexible:
        axes |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        core,
        (images,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamic_shapes=(axes,),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _flexible_axes(is_flexible: bool) -> dict[str, dict[int, str]]:
    """The axes of each input and output that follow the size of the photo, and their names."""
    images, anchors = ({2: "height", 3: "width"}, {1: "anchors"}) if is_flexible else ({}, {})
    return {"images": images, "boxes": anchors, "scores": anchors}


def _name_axes(graph: onnx.GraphProto, is_flexible: bool) -> None:
    """Put words where the exporter has formulas."""
    names = _flexible_axes(is_flexible)
    for value in (*graph.input, *graph.output):
        for axis, name in names[value.name].items():
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


def make_model(network: Network, config: Config, header: Mapping[str, Any], *, raw: bool) -> onnx.ModelProto:
    """The whole model; with ``raw`` only the network, from its own input to the boxes of all anchors."""
    if raw:
        model = export_core(network, config)
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "fewbox", str(header["fewbox_version"])
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
    else:
        if family_of(config).writes_graphs:
            weights = {name: weight.numpy() for name, weight in network.state_dict().items()}
            core = core_of_weights(cast(Any, network).config, weights)
        else:
            core = _core_of(export_core(network, config))
        model = onnx.load_model_from_string(detector_content(core, config, header))
    onnx.checker.check_model(model)
    return model


def _core_of(model: onnx.ModelProto) -> Core:
    """The part that PyTorch's exporter wrote, with the names that it has between the others."""
    graph = onnx.compose.add_prefix_graph(model.graph, "network/")
    assert (graph.input[0].name, *(output.name for output in graph.output)) == (IMAGES, *ANCHORS)
    nodes, constants = ([one.SerializeToString() for one in some] for some in (graph.node, graph.initializer))
    return Core(nodes, constants)


def anchors_of(path: Path, *, raw: bool) -> AnchorsOf:
    """What ONNX Runtime computes with a file, ``raw`` or not, before anything is suppressed."""
    if raw:
        session = open_session(path)
        return lambda _image, pixels: _first(session.run(["boxes", "scores"], {"images": pixels.numpy()}))
    model = onnx.load(path)
    model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, ANCHORS))
    session = open_session(model.SerializeToString())
    threshold = np.array(1, np.float32)
    return lambda image, _pixels: _first(
        session.run(list(ANCHORS), {"photos": image[None], "score_threshold": threshold})
    )


def _first(outputs: Sequence[Any]) -> Anchors:
    """The anchors of the one photo of a batch."""
    boxes, scores = outputs
    return boxes[0], scores[0]
