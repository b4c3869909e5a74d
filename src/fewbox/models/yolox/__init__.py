"""The settings of a YOLOX, the six sizes it is published in with COCO weights, and all its weights by name.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", by the numbers of the public release. All sizes
are one network: made deeper, made wider, and for the smallest built of depthwise convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fewbox.models.families import Config, Family
from fewbox.models.letterbox import letterbox, letterbox_ratio

if TYPE_CHECKING:
    from torch import Tensor

    from fewbox.models.features import BaseGraph, Coefficients, FeatureExtractor
    from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows
    from fewbox.models.network import Adapter, Batch, BatchLoss, Heads
    from fewbox.models.weights import Weight

STRIDES = (8, 16, 32)
"""Side of a cell at each level, in pixels of the input."""
STAGE_CHANNELS = (256, 512, 1024)
"""Of the maps C3, C4, C5, before the width multiplier."""
HEAD_CHANNELS = 256
"""Of both towers, likewise."""
VOTE_IOU = 0.65
"""From which overlap on the boxes of neighbouring cells are averaged; measured: +2 to +4 AP."""


@dataclass(frozen=True)
class YoloxConfig(Config):
    """What shapes the network and its post-processing."""

    depth: float
    """How many times the published number of blocks is built."""
    width: float
    """How many times the published number of channels."""
    depthwise: bool
    """Whether a 3x3 convolution is one per channel and a 1x1 that mixes them."""
    size_hw: tuple[int, int]
    """Height and width of the input, multiples of 32."""
    num_classes: int = 80
    num_novel: int = 0
    """How many of the classes, the last ones, are found by a head that reads both towers."""
    activation: Literal["silu", "relu", "lrelu"] = "silu"
    """What follows every layer, by the release's names; ``lrelu`` has a slope of 0.1 below 0."""
    norm_epsilon: float | None = 1e-3
    """Of the batch-norms; None where they are part of the convolutions already."""
    class_bias: float = -math.log(99)
    """What the bias of a new class head starts at: a score of 0.01."""
    score_threshold: float = 0.001
    iou_threshold: float = 0.65
    max_detections: int = 300
    vote_iou: float | None = None
    """If given, a box of a novel class is the mean of the boxes that overlap it so much, by score."""

    @property
    def is_folded(self) -> bool:
        """Whether the weights are those of a network without batch-norms."""
        return self.norm_epsilon is None

    @property
    def blocks(self) -> int:
        """What the published number of 3 blocks becomes."""
        return max(round(3 * self.depth), 1)

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Height and width of the network's input."""
        return self.size_hw

    def covered_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        """How much of the input a photo covers, before it is cut to whole pixels."""
        ratio = letterbox_ratio(photo_size_hw, self.size_hw)
        return photo_size_hw[0] * ratio, photo_size_hw[1] * ratio

    def channels(self, published: int) -> int:
        """What a published number of channels becomes."""
        return int(published * self.width)


def _published(depth: float, width: float, side: int, *, depthwise: bool = False) -> YoloxConfig:
    return YoloxConfig(depth=depth, width=width, depthwise=depthwise, size_hw=(side, side))


YOLOX_SIZES: dict[str, YoloxConfig] = {
    "nano": _published(0.33, 0.25, 416, depthwise=True),
    "tiny": _published(0.33, 0.375, 416),
    "s": _published(0.33, 0.50, 640),
    "m": _published(0.67, 0.75, 640),
    "l": _published(1.00, 1.00, 640),
    "x": _published(1.33, 1.25, 640),
}
"""All published sizes by name, from the smallest; no two have the same width."""


Shape = tuple[int, ...]


def weight_shapes(config: YoloxConfig) -> dict[str, Shape]:
    """The shape of every weight, by its name in the public release."""
    shapes = _Shapes(config)
    _backbone(shapes, config)
    _neck(shapes, config)
    _heads(shapes, config)
    return shapes.of


def head_names(config: YoloxConfig) -> tuple[str, ...]:
    """The weights and biases of the heads that fine-tuning changes."""
    kinds = ("novel",) if config.num_novel else ("reg", "obj", "cls")
    return tuple(
        f"head.{kind}_preds.{level}.{part}"
        for kind in kinds
        for level in range(len(STRIDES))
        for part in ("weight", "bias")
    )


class _Shapes:
    """Collects the weights of layers."""

    def __init__(self, config: YoloxConfig) -> None:
        self.config = config
        self.of: dict[str, Shape] = {}

    def layer(self, name: str, channels_in: int, channels_out: int, side: int, *, groups: int = 1) -> None:
        """As ``ConvLayer``."""
        self.of[f"{name}.conv.weight"] = (channels_out, channels_in // groups, side, side)
        if self.config.is_folded:
            self.of[f"{name}.conv.bias"] = (channels_out,)
        else:
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.of[f"{name}.bn.{part}"] = (channels_out,)

    def layer3x3(self, name: str, channels_in: int, channels_out: int) -> None:
        """As ``conv3x3``."""
        if self.config.depthwise:
            self.layer(f"{name}.dconv", channels_in, channels_in, 3, groups=channels_in)
            self.layer(f"{name}.pconv", channels_in, channels_out, 1)
        else:
            self.layer(name, channels_in, channels_out, 3)

    def csp(self, name: str, channels_in: int, channels_out: int, times: int = 1) -> None:
        """As ``CspLayer``, of ``times`` as many blocks as the config says."""
        half = channels_out // 2
        self.layer(f"{name}.conv1", channels_in, half, 1)
        self.layer(f"{name}.conv2", channels_in, half, 1)
        self.layer(f"{name}.conv3", 2 * half, channels_out, 1)
        for number in range(times * self.config.blocks):
            self.layer(f"{name}.m.{number}.conv1", half, half, 1)
            self.layer3x3(f"{name}.m.{number}.conv2", half, half)


def _backbone(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``CspDarknet``."""
    name = "backbone.backbone"
    stem, c2, c3, c4, c5 = map(config.channels, (64, 128, *STAGE_CHANNELS))
    shapes.layer(f"{name}.stem.conv", 4 * 3, stem, 3)
    for stage, channels_in, channels, times in (
        ("dark2", stem, c2, 1),
        ("dark3", c2, c3, 3),
        ("dark4", c3, c4, 3),
    ):
        shapes.layer3x3(f"{name}.{stage}.0", channels_in, channels)
        shapes.csp(f"{name}.{stage}.1", channels, channels, times)
    shapes.layer3x3(f"{name}.dark5.0", c4, c5)
    shapes.layer(f"{name}.dark5.1.conv1", c5, c5 // 2, 1)
    shapes.layer(f"{name}.dark5.1.conv2", c5 // 2 * 4, c5, 1)
    shapes.csp(f"{name}.dark5.2", c5, c5)


def _neck(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``Pafpn``."""
    c3, c4, c5 = map(config.channels, STAGE_CHANNELS)
    shapes.layer("backbone.lateral_conv0", c5, c4, 1)
    shapes.csp("backbone.C3_p4", 2 * c4, c4)
    shapes.layer("backbone.reduce_conv1", c4, c3, 1)
    shapes.csp("backbone.C3_p3", 2 * c3, c3)
    shapes.layer3x3("backbone.bu_conv2", c3, c3)
    shapes.csp("backbone.C3_n3", 2 * c3, c4)
    shapes.layer3x3("backbone.bu_conv1", c4, c4)
    shapes.csp("backbone.C3_n4", 2 * c4, c5)


def _heads(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``Head``."""
    channels = config.channels(HEAD_CHANNELS)
    levels = range(len(STRIDES))
    for level, published in enumerate(STAGE_CHANNELS):
        shapes.layer(f"head.stems.{level}", config.channels(published), channels, 1)
    for kind in ("cls", "reg"):
        for level in levels:
            for number in range(2):
                shapes.layer3x3(f"head.{kind}_convs.{level}.{number}", channels, channels)
    columns = {"cls": (channels, config.num_base), "reg": (channels, 4)}
    columns |= {"obj": (channels, min(config.num_base, 1)), "novel": (2 * channels, config.num_novel)}
    for kind, (channels_in, count) in columns.items():
        for level in levels if count else ():
            shapes.of[f"head.{kind}_preds.{level}.weight"] = (count, channels_in, 1, 1)
            shapes.of[f"head.{kind}_preds.{level}.bias"] = (count,)


class _Yolox(Family):
    """See :class:`Family`."""

    architecture = "yolox"
    config_type = YoloxConfig
    writes_graphs = True
    trained_layers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "towers": ("head.",),
        "neck": ("head.", *(f"backbone.{name}" for name in ("lateral", "C3", "reduce", "bu"))),
        "all": ("",),
    }
    input_sides = (416, 512, 640, 768, 896, 1024)
    one_class_per_anchor = True

    def network_type(self) -> Any:
        from fewbox.models.yolox.network import YoloxDetector

        return YoloxDetector

    def reads(self, path: Path) -> bool:
        return path.suffix.lower() in (".pth", ".pt", ".onnx")

    def read(self, path: Path) -> tuple[YoloxConfig, dict[str, Weight]]:
        from fewbox.models.yolox.checkpoint import read_yolox

        return read_yolox(path)

    def feature_extractor(self, network: Any) -> FeatureExtractor:
        from fewbox.models.yolox.network import YoloxFeatureExtractor

        return YoloxFeatureExtractor(network)

    def weight_shapes(self, config: YoloxConfig) -> dict[str, tuple[int, ...]]:
        return weight_shapes(config)

    def head_names(self, config: YoloxConfig) -> tuple[str, ...]:
        return head_names(config)

    def base_graph(self, config: YoloxConfig, weights: Mapping[str, Weight]) -> BaseGraph:
        from fewbox.models.yolox.graph import base_graph

        return base_graph(config, weights)

    def add_network(
        self,
        graph: GraphBuilder,
        images: str,
        config: YoloxConfig,
        weights: Mapping[str, Weight],
        *,
        rounds: bool = False,
    ) -> tuple[str, str]:
        from fewbox.models.yolox.graph import add_network

        return add_network(graph, images, config, weights, rounds=rounds)

    def novel_head(self, coefficients: Coefficients, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        from fewbox.models.yolox.graph import novel_head

        return novel_head(coefficients, weights)

    def base_columns(self, weights: Mapping[str, Weight]) -> list[tuple[Weight, Weight]]:
        from fewbox.models.yolox.graph import base_columns

        return base_columns(weights)

    def probe_config(self, config: YoloxConfig, num_novel: int, *, keep_classes: bool) -> YoloxConfig:
        config = super().probe_config(config, num_novel, keep_classes=keep_classes)
        # The novel head reads both towers, so it is never the base's own with other weights.
        return config.changed(num_novel=num_novel, vote_iou=VOTE_IOU)

    def with_input_size(self, config: YoloxConfig, side: int) -> YoloxConfig:
        # Every layer is a convolution or a pooling: the same weights serve any multiple of the last stride.
        return config.changed(size_hw=(side, side))

    def heads(self, network: Any, weights: Mapping[str, Weight]) -> Heads[Any]:
        from fewbox.models.yolox.loss import CellHeads

        return CellHeads(network, weights)

    def batch_loss(self, codes: Tensor, logits: Tensor, anchors: Tensor, batch: Batch) -> BatchLoss:
        from fewbox.models.yolox.loss import yolox_loss

        return yolox_loss(codes, logits, anchors, batch)

    def adapts(self, config: YoloxConfig) -> bool:
        return config.num_base == 0

    def adapter(self, network: Any) -> Adapter:
        from fewbox.models.yolox.adapting import YoloxAdapter

        return YoloxAdapter(network)

    def adapted_weights(
        self, folded: Mapping[str, Weight], before: Mapping[str, Weight], config: YoloxConfig
    ) -> dict[str, Weight]:
        from fewbox.models.yolox.adapting import unfolded

        return unfolded(folded, before, config)

    def calibrated_weights(
        self, weights: Mapping[str, Weight], stretch: float, shift: float
    ) -> dict[str, Weight]:
        from fewbox.models.yolox.adapting import calibrated

        return calibrated(weights, stretch, shift)

    def prepare(
        self, graph: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: YoloxConfig
    ) -> Prepared:
        from fewbox.models.yolox.export import prepare

        return prepare(graph, photos, photo_hw, config)

    def select(
        self,
        graph: GraphBuilder,
        prepared: Prepared,
        boxes: str,
        scores: str,
        threshold: str,
        config: YoloxConfig,
    ) -> Rows:
        from fewbox.models.yolox.export import select

        return select(graph, prepared, boxes, scores, threshold, config)

    def prepared_array(self, photo: NDArray[np.uint8], config: YoloxConfig) -> NDArray[np.float32]:
        # Measured: in half the time of the same steps in OpenVINO.
        blue_first = letterbox(photo, config.size_hw)[..., ::-1]
        return np.ascontiguousarray(blue_first.transpose(2, 0, 1), np.float32)[None]


FAMILY = _Yolox()
