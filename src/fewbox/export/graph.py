"""A detector as one graph of ONNX, put together of three parts: before the network, the network, after it.

What comes before and after is a matter of the network's family. So may be the network itself, made of its
weights: then neither PyTorch nor the package onnx is needed. Else ``onnx.py`` has PyTorch write it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from fewbox.models.families import Config, family_of
from fewbox.models.graph_builder import (
    FLOAT,
    INT64,
    UINT8,
    GraphBuilder,
    Prepared,
    model_message,
    value_message,
    write_outputs,
)
from fewbox.models.weights import Weight
from fewbox.runtimes import HEADER_KEY, NETWORK_INPUT

ANCHORS = ("network/boxes", "network/scores")
"""The tensors between the network and what selects detections, in every exported file."""


class Core(NamedTuple):
    """The network: nodes from ``NETWORK_INPUT`` to ``ANCHORS``, and their constants, as a file holds them."""

    nodes: list[bytes]
    constants: list[bytes]


def core_of_weights(config: Config, weights: Mapping[str, Weight], *, rounds: bool = False) -> Core:
    """The network as its family writes it, if that writes graphs.

    With ``rounds`` its numbers are rounded as those of one that computes in bfloat16.
    """
    graph = GraphBuilder("network")
    anchors = family_of(config).add_network(graph, NETWORK_INPUT, config, weights, rounds=rounds)
    for name, output in zip(anchors, ANCHORS, strict=True):
        graph.rename(name, output)
    return Core(graph.node_bytes, graph.constant_bytes)


def prepare(graph: GraphBuilder, photos: str, config: Config) -> Prepared:
    """The steps from ``photos`` ``[N, H, W, 3]`` uint8, RGB, upright, to the input of a network."""
    photo_hw = (graph.size(photos, 1), graph.size(photos, 2))
    return family_of(config).prepare(graph, photos, photo_hw, config)


def detector_content(core: Core, config: Config, header: Mapping[str, Any]) -> bytes:
    """The content of a detector's file: photos in, boxes out. See ``docs/export.md``."""
    before, after = GraphBuilder("prepare"), GraphBuilder("select")
    prepared = prepare(before, "photos", config)
    before.rename(prepared.images, NETWORK_INPUT)
    threshold = after.op("Max", "score_threshold", after.real(config.score_threshold))
    found = family_of(config).select(after, prepared, *ANCHORS, threshold, config)
    write_outputs(after, prepared, found, after.size(ANCHORS[0], 0), config.max_detections)
    rows: list[str | int] = ["batch", config.max_detections]
    return model_message(
        [*before.node_bytes, *core.nodes, *after.node_bytes],
        [*before.constant_bytes, *core.constants, *after.constant_bytes],
        [
            value_message("photos", UINT8, ["batch", "height", "width", 3]),
            value_message("score_threshold", FLOAT, []),
        ],
        [
            value_message("boxes", FLOAT, [*rows, 4]),
            value_message("scores", FLOAT, rows),
            value_message("class_ids", INT64, rows),
        ],
        version=str(header.get("fewbox_version", "")),
        metadata={HEADER_KEY: json.dumps(header)},
    )
