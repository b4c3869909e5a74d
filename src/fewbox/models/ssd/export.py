"""What an exported SSD does before and after the network, in steps of ONNX."""

from __future__ import annotations

import numpy as np

from fewbox.models.graph_builder import (
    GraphBuilder,
    Prepared,
    Rows,
    classes_first,
    neighbours_within,
    nms_steps,
)
from fewbox.models.ssd import SsdConfig
from fewbox.models.ssd.network import CHANNEL_MEANS


def prepare(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: SsdConfig) -> Prepared:
    """As ``SsdDetector.prepare``: see its ``resize_bilinear_legacy``."""
    size_hw = config.size_hw
    image = photos
    for axis, (length, out) in enumerate(zip(photo_hw, size_hw, strict=True), start=1):
        counted = g.constant(np.arange(out, dtype=np.float32))
        position = g.op("Mul", counted, g.op("Div", g.to_float(length), g.real(out)))
        low = g.op("Floor", position)
        fraction = g.op("Unsqueeze", g.op("Sub", position, low), g.numbers(*range(1, 4 - axis)))
        first, second = (
            g.to_float(g.op("Gather", image, rows, axis=axis))
            for rows in neighbours_within(g, g.to_int(low), length)
        )
        image = g.op("Add", first, g.op("Mul", g.op("Sub", second, first), fraction))
    centred = g.op("Sub", image, g.constant(np.array(CHANNEL_MEANS, np.float32)))
    height, width = (
        g.op("Div", g.to_float(length), g.real(side)) for length, side in zip(photo_hw, size_hw, strict=True)
    )
    covered_hw = (g.number(size_hw[0]), g.number(size_hw[1]))
    images = g.op("Transpose", centred, perm=[0, 3, 1, 2])
    return Prepared(images, photo_hw, covered_hw, g.row([width, height, width, height]))


def select(g: GraphBuilder, _: Prepared, boxes: str, scores: str, threshold: str, config: SsdConfig) -> Rows:
    """As ``SsdDetector.find``."""
    return nms_steps(g, boxes, classes_first(g, scores), threshold, config, config.max_per_class)
