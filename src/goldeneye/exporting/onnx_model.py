"""A detector as one ONNX model: three parts of a graph, and a header that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import onnx

from goldeneye.engines.header import HEADER_KEY
from goldeneye.exporting.core import export_core
from goldeneye.exporting.graph_builder import OPSET, GraphBuilder
from goldeneye.exporting.preparation import prepare
from goldeneye.exporting.selection import select
from goldeneye.models.configs import Config
from goldeneye.models.network import Network

_IR_VERSION = 10  # what ONNX Runtime 1.18, of 2024, reads already


def make_model(network: Network, config: Config, header: Mapping[str, Any], *, raw: bool) -> onnx.ModelProto:
    """The whole model; with ``raw`` only the network, from its own input to the boxes of all anchors."""
    core = export_core(network, config)
    model = core if raw else _with_photos(core, config)
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "goldeneye", str(header["goldeneye_version"])
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
    onnx.checker.check_model(model)
    return model


def _with_photos(core: onnx.ModelProto, config: Config) -> onnx.ModelProto:
    """The core between the part that prepares photos and the one that selects detections."""
    before, after = GraphBuilder("prepare"), GraphBuilder("select")
    prepared = prepare(before, "photos", config)
    middle = onnx.compose.add_prefix_graph(core.graph, "network/")
    images, raw_boxes, raw_scores = (value.name for value in (*middle.input, *middle.output))
    before.rename(prepared.images, images)
    select(after, prepared, raw_boxes, raw_scores, "score_threshold", config)
    f32, i64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    described = onnx.helper.make_tensor_value_info
    rows: list[str | int] = ["batch", config.max_detections]
    graph = onnx.helper.make_graph(
        [*before.nodes, *middle.node, *after.nodes],
        "goldeneye",
        [
            described("photos", onnx.TensorProto.UINT8, ["batch", "height", "width", 3]),
            described("score_threshold", f32, []),
        ],
        [
            described("boxes", f32, [*rows, 4]),
            described("scores", f32, rows),
            described("class_ids", i64, rows),
        ],
        [*before.constants, *middle.initializer, *after.constants],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
