"""A detector as one ONNX model: three parts of a graph, and a header that says what it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fewbox.engines.header import HEADER_KEY
from fewbox.engines.onnxruntime_engine import open_session
from fewbox.exporting.agreement import Anchors, AnchorsOf
from fewbox.exporting.core import export_core
from fewbox.exporting.graph_builder import OPSET, GraphBuilder
from fewbox.exporting.preparation import prepare
from fewbox.exporting.selection import select
from fewbox.models.configs import Config
from fewbox.models.network import Network

ANCHORS = ("network/boxes", "network/scores")
"""The tensors between the network and what selects detections, in every exported file."""
_IR_VERSION = 10  # what ONNX Runtime 1.18, of 2024, reads already


def make_model(network: Network, config: Config, header: Mapping[str, Any], *, raw: bool) -> onnx.ModelProto:
    """The whole model; with ``raw`` only the network, from its own input to the boxes of all anchors."""
    core = export_core(network, config)
    model = core if raw else _with_photos(core, config)
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "fewbox", str(header["fewbox_version"])
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
    onnx.checker.check_model(model)
    return model


def anchors_of(path: Path, *, raw: bool) -> AnchorsOf:
    """What ONNX Runtime computes with a file, ``raw`` or not, before anything is suppressed."""
    if raw:
        session = open_session(path)
        return lambda _image, pixels: _first(session.run(["boxes", "scores"], {"images": pixels.numpy()}))
    model = onnx.load(path)
    model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, ANCHORS))
    with tempfile.TemporaryDirectory(prefix="fewbox-") as folder:
        shown = Path(folder) / path.name
        onnx.save(model, shown)
        session = open_session(shown)
    threshold = np.array(1, np.float32)
    return lambda image, _pixels: _first(
        session.run(list(ANCHORS), {"photos": image[None], "score_threshold": threshold})
    )


def _first(outputs: Sequence[Any]) -> Anchors:
    """The anchors of the one photo of a batch."""
    boxes, scores = outputs
    return boxes[0], scores[0]


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
        "fewbox",
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
