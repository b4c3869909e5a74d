"""The settings of a YOLOX, and the six sizes it is published in with COCO weights.

Ge et al., "YOLOX: Exceeding YOLO Series in 2021", by the numbers of the public release. All sizes
are one network: made deeper, made wider, and for the smallest built of depthwise convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fewbox.models.letterbox import letterbox_ratio
from fewbox.models.settings import Settings


@dataclass(frozen=True)
class YoloxConfig(Settings):
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
    def num_base(self) -> int:
        """How many of the classes, the first ones, are found as published: class times object."""
        return self.num_classes - self.num_novel

    @property
    def is_folded(self) -> bool:
        """Whether the weights are those of a network without batch-norms."""
        return self.norm_epsilon is None

    @property
    def blocks(self) -> int:
        """What the published number of 3 blocks becomes."""
        return max(round(3 * self.depth), 1)

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
