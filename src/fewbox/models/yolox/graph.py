"""A YOLOX as steps of ONNX, made of its weights alone: what ``network.py`` computes, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewbox.models.features import BaseGraph, Coefficients, Floats
from fewbox.models.graph_builder import GraphBuilder, Shape
from fewbox.models.protobuf import OnnxGraph, onnx_graph
from fewbox.models.yolox import STRIDES, YoloxConfig, weight_shapes

OBJECTNESS_SCALE = 3.0
"""Of the one column that already says 'there is something here, and this box fits it'."""
_POOLS = (5, 9, 13)  # as in ``csp_darknet.py``
_NORM = ("weight", "bias", "running_mean", "running_var")
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class TowerMaps:
    """Names of what the heads read, ``[N, D, h, w]`` for each level."""

    class_maps: list[str]
    box_maps: list[str]


class YoloxGraph:
    """Adds a network to a graph.

    Args:
        graph: where the steps go.
        config: of the network.
        weights: by name; batch-norms are folded into the convolutions before them.
        prefix: before the names of kernels and biases.
        rounds: round to bfloat16 what a network that computes in it does: weights, and what each layer gives.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        config: YoloxConfig,
        weights: Mapping[str, Floats],
        prefix: str = "network/network.",
        *,
        rounds: bool = False,
    ) -> None:
        self.g, self.config, self.weights, self.prefix = graph, config, weights, prefix
        self._rounded = graph.rounded if rounds else lambda name: name
        self._of_weights = rounded_to_bfloat16 if rounds else lambda weight: weight

    def towers(self, pixels: str) -> TowerMaps:
        """What the heads read of ``pixels`` ``[N, 3, H, W]``."""
        class_maps: list[str] = []
        box_maps: list[str] = []
        for level, features in enumerate(self._pyramid(pixels)):
            stem = self._layer(features, f"head.stems.{level}")
            for maps, kind in ((class_maps, "cls"), (box_maps, "reg")):
                tower = stem
                for number in range(2):
                    tower = self._layer3x3(tower, f"head.{kind}_convs.{level}.{number}")
                maps.append(tower)
        return TowerMaps(class_maps, box_maps)

    def head(self, kind: str, maps: Sequence[str]) -> str:
        """What one kind of head answers on the maps of all levels, ``[N, A, columns]``."""
        answers = [self._conv(x, f"head.{kind}_preds.{level}") for level, x in enumerate(maps)]
        return self.rows(answers)

    def both(self, maps: TowerMaps) -> list[str]:
        """Both towers of each level as one map."""
        pairs = zip(maps.class_maps, maps.box_maps, strict=True)
        return [self.g.op("Concat", *pair, axis=1) for pair in pairs]

    def rows(self, maps: Sequence[str]) -> str:
        """Maps ``[N, D, h, w]`` of all levels as one row for each cell, ``[N, A, D]``."""
        return self.g.op("Concat", *map(self.g.cells, maps), axis=1)

    def boxes(self, codes: str) -> str:
        """Boxes ``[N, A, 4]`` in pixels of the input; as ``decode_cells``."""
        g, cells = self.g, grid_cells(self.config.size_hw)
        sides = g.constant(cells[:, 2:] - cells[:, :2])
        shifts, stretches = g.ops("Split", codes, g.numbers(2, 2), outputs=2, axis=2)
        centres = g.op("Add", g.op("Mul", shifts, sides), g.constant(cells[:, :2].copy()))
        halves = g.op("Mul", g.op("Mul", g.op("Exp", stretches), sides), g.real(0.5))
        return g.op("Concat", g.op("Sub", centres, halves), g.op("Add", centres, halves), axis=2)

    def _pyramid(self, pixels: str) -> list[str]:
        """As ``Pafpn``."""
        g, name = self.g, "backbone"
        c3, c4, c5 = self._backbone(pixels)
        p5 = self._layer(c5, f"{name}.lateral_conv0")
        p4 = self._csp(g.op("Concat", self._doubled(p5), c4, axis=1), f"{name}.C3_p4", 1)
        p4 = self._layer(p4, f"{name}.reduce_conv1")
        n3 = self._csp(g.op("Concat", self._doubled(p4), c3, axis=1), f"{name}.C3_p3", 1)
        down = self._layer3x3(n3, f"{name}.bu_conv2", stride=2)
        n4 = self._csp(g.op("Concat", down, p4, axis=1), f"{name}.C3_n3", 1)
        down = self._layer3x3(n4, f"{name}.bu_conv1", stride=2)
        n5 = self._csp(g.op("Concat", down, p5, axis=1), f"{name}.C3_n4", 1)
        return [n3, n4, n5]

    def _backbone(self, pixels: str) -> list[str]:
        """As ``CspDarknet``."""
        g, name = self.g, "backbone.backbone"
        axes, steps, ends = g.numbers(2, 3), g.numbers(2, 2), g.numbers(_LAST, _LAST)
        corners = [
            g.op("Slice", pixels, g.numbers(row, column), ends, axes, steps)
            for column in (0, 1)
            for row in (0, 1)
        ]
        x = self._layer(g.op("Concat", *corners, axis=1), f"{name}.stem.conv")
        x = self._stage(x, f"{name}.dark2", 1)
        c3 = self._stage(x, f"{name}.dark3", 3)
        c4 = self._stage(c3, f"{name}.dark4", 3)
        x = self._layer3x3(c4, f"{name}.dark5.0", stride=2)
        x = self._layer(x, f"{name}.dark5.1.conv1")
        pools = [
            g.op("MaxPool", x, kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[1, 1])
            for side in _POOLS
        ]
        x = self._layer(g.op("Concat", x, *pools, axis=1), f"{name}.dark5.1.conv2")
        return [c3, c4, self._csp(x, f"{name}.dark5.2", 1)]

    def _stage(self, x: str, name: str, times: int) -> str:
        return self._csp(self._layer3x3(x, f"{name}.0", stride=2), f"{name}.1", times, shortcut=True)

    def _csp(self, x: str, name: str, times: int, *, shortcut: bool = False) -> str:
        """As ``CspLayer``, of ``times`` as many blocks as the config says."""
        inside = self._layer(x, f"{name}.conv1")
        for number in range(times * self.config.blocks):
            block = self._layer(inside, f"{name}.m.{number}.conv1")
            block = self._layer3x3(block, f"{name}.m.{number}.conv2")
            inside = self._rounded(self.g.op("Add", block, inside)) if shortcut else block
        around = self._layer(x, f"{name}.conv2")
        return self._layer(self.g.op("Concat", inside, around, axis=1), f"{name}.conv3")

    def _layer3x3(self, x: str, name: str, *, stride: int = 1) -> str:
        """As ``conv3x3``."""
        if not self.config.depthwise:
            return self._layer(x, name, stride=stride)
        return self._layer(self._layer(x, f"{name}.dconv", stride=stride, depthwise=True), f"{name}.pconv")

    def _layer(self, x: str, name: str, *, stride: int = 1, depthwise: bool = False) -> str:
        """As ``ConvLayer``: convolution, folded batch-norm, activation."""
        g, config, weights = self.g, self.config, self.weights
        kernel = weights[f"{name}.conv.weight"]
        if config.norm_epsilon is None:
            bias = weights[f"{name}.conv.bias"]
        else:
            norm = {part: weights[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean")}
            scale = norm["weight"] / np.sqrt(
                weights[f"{name}.bn.running_var"] + np.float32(config.norm_epsilon)
            )
            kernel, bias = kernel * scale[:, None, None, None], norm["bias"] - norm["running_mean"] * scale
        groups = len(kernel) if depthwise else 1
        y = self._convolved(x, f"{name}.conv", kernel, bias, stride, groups)
        if config.activation == "silu":
            return self._rounded(g.op("Mul", y, g.op("Sigmoid", y)))
        return self._rounded(
            g.op("Relu", y) if config.activation == "relu" else g.op("LeakyRelu", y, alpha=0.1)
        )

    def _conv(self, x: str, name: str) -> str:
        return self._convolved(x, name, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1, 1)

    def _convolved(
        self,
        x: str,
        name: str,
        kernel: Floats,
        bias: Floats,
        stride: int,
        groups: int,
    ) -> str:
        side = kernel.shape[-1]
        convolved = self.g.op(
            "Conv",
            x,
            self.g.constant(self._of_weights(kernel), f"{self.prefix}{name}.weight"),
            self.g.constant(self._of_weights(bias), f"{self.prefix}{name}.bias"),
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
            group=groups,
        )
        return self._rounded(convolved)

    def _doubled(self, x: str) -> str:
        scales = self.g.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.g.op("Resize", x, "", scales, **how)


def grid_cells(size_hw: tuple[int, int]) -> Floats:
    """Every cell ``[A, 4]`` as a box in pixels of an input of ``size_hw``: level by level, row by row."""
    cells = []
    for stride in STRIDES:
        y, x = np.indices([side // stride for side in size_hw])
        cells.append(np.stack((x, y, x + 1, y + 1), -1).reshape(-1, 4) * stride)
    return np.concatenate(cells).astype(np.float32)


def column_scale(num_classes: int) -> Floats:
    """What standardised base logits are multiplied with: of so many classes, then of any object."""
    scale = np.ones(num_classes + 1, np.float32)
    scale[-1] = OBJECTNESS_SCALE
    return scale


def base_graph(config: YoloxConfig, weights: Mapping[str, Floats]) -> BaseGraph:
    """The base as far as the linear probe reads it; a group is a level."""
    g = GraphBuilder("base")
    network = YoloxGraph(g, config, weights)
    maps = network.towers("pixels")
    objectness = network.head("obj", maps.box_maps)
    logits = g.op("Concat", network.head("cls", maps.class_maps), objectness, axis=2)
    g.rename(network.boxes(network.head("reg", maps.box_maps)), "boxes")
    g.rename(logits, "base_logits")
    g.rename(network.rows(network.both(maps)), "tower_features")
    g.rename(g.op("Squeeze", objectness, g.numbers(2)), "base_score")
    height, width = config.size_hw
    outputs: dict[str, Shape] = {"base_score": (1, "A"), "boxes": (1, "A", 4)}
    outputs |= {"base_logits": (1, "A", config.num_classes + 1), "tower_features": (1, "A", "D")}
    return BaseGraph(
        content=g.model({"pixels": (1, 3, height, width)}, outputs),
        group_sizes=[(height // stride) * (width // stride) for stride in STRIDES],
        column_scale=column_scale(config.num_classes),
    )


def add_network(
    g: GraphBuilder, images: str, config: YoloxConfig, weights: Mapping[str, Floats], *, rounds: bool
) -> tuple[str, str]:
    """The whole network, with the scores of the base's classes, of novel ones, or of both."""
    network = YoloxGraph(g, config, weights, rounds=rounds)
    maps = network.towers(images)
    boxes, scores = network.boxes(network.head("reg", maps.box_maps)), []
    if config.num_base:
        of_any, of_classes = network.head("obj", maps.box_maps), network.head("cls", maps.class_maps)
        scores.append(g.op("Mul", g.op("Sigmoid", of_any), g.op("Sigmoid", of_classes)))
    if config.num_novel:
        scores.append(g.op("Sigmoid", network.head("novel", network.both(maps))))
    return boxes, scores[0] if len(scores) == 1 else g.op("Concat", *scores, axis=2)


def own_graph(config: YoloxConfig) -> tuple[OnnxGraph, dict[str, str]]:
    """The network up to the heads without its weights, and the names of its convolutions by their outputs."""
    # Of a kernel the steps need the channels it gives and its side: no numbers.
    empty = {name: np.zeros((s[0], 0, *s[2:]), np.float32) for name, s in weight_shapes(config).items()}
    g = GraphBuilder("own")
    network = YoloxGraph(g, config, empty, prefix="")
    maps = network.towers("pixels")
    for kind, of_tower in (("reg", maps.box_maps), ("obj", maps.box_maps), ("cls", maps.class_maps)):
        network.head(kind, of_tower)  # in the order of the release's exports, which tells two of them apart
    graph = onnx_graph(g.model({"pixels": (1, 3, *config.size_hw)}, {}))
    convolutions = (node for node in graph.nodes if node.kind == "Conv")
    return graph, {node.outputs[0]: node.inputs[1].removesuffix(".weight") for node in convolutions}


def novel_head(coefficients: Coefficients, weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """The 1x1 convolution of both towers for every level that gives the logits of ``coefficients``.

    Args:
        coefficients: of the columns of :func:`base_graph`.
        weights: of the base.
    """
    head = {}
    for level, (kernel, bias) in enumerate(base_columns(weights)):
        through = coefficients.base_logits.T @ kernel  # [C, 2 * D]
        own = coefficients.tower_features[level].T
        head[f"head.novel_preds.{level}.weight"] = (through + own)[:, :, None, None]
        head[f"head.novel_preds.{level}.bias"] = bias @ coefficients.base_logits + coefficients.bias
    return head


def base_columns(weights: Mapping[str, Floats]) -> list[tuple[Floats, Floats]]:
    """The kernels ``[S, 2 * D]`` and biases ``[S]`` that make base logits of both towers, for each level."""
    columns = []
    for level in range(len(STRIDES)):
        of_classes, of_object = (
            weights[f"head.{kind}_preds.{level}.weight"][:, :, 0, 0] for kind in ("cls", "obj")
        )
        kernel = np.zeros((len(of_classes) + 1, 2 * of_classes.shape[1]), np.float32)
        kernel[:-1, : of_classes.shape[1]], kernel[-1:, of_classes.shape[1] :] = of_classes, of_object
        biases = [weights[f"head.{kind}_preds.{level}.bias"] for kind in ("cls", "obj")]
        columns.append((kernel, np.concatenate(biases)))
    return columns


def rounded_to_bfloat16(values: Floats) -> Floats:
    """The nearest numbers of 8 binary digits; of two that are as near, the even one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return rounded.view(np.float32)
