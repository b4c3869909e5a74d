"""What an exported RetinaNet does before and after the network, in steps of ONNX."""

from __future__ import annotations

import numpy as np

from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows, clipped, nms_steps, touching
from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.retinanet.network import CHANNEL_MEANS, CHANNEL_STDS


def prepare(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: RetinanetConfig) -> Prepared:
    """As ``RetinanetDetector.prepare``."""
    height, width = photo_hw
    is_low = g.op("LessOrEqual", height, width)
    short, long = g.number(config.min_side), g.number(config.max_side)
    frame_hw = g.op("Where", is_low, short, long), g.op("Where", is_low, long, short)
    covered_hw = touching(g, photo_hw, frame_hw)
    planes = g.to_float(g.op("Transpose", photos, perm=[0, 3, 1, 2]))
    batch, channels = g.size(photos, 0), g.number(3)
    resized = g.op(
        "Resize",
        planes,
        "",
        "",
        g.row([batch, channels, *covered_hw]),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    means, stds = (np.array(values, np.float32)[:, None, None] for values in (CHANNEL_MEANS, CHANNEL_STDS))
    normalised = g.op("Div", g.op("Sub", resized, g.constant(means * 255)), g.constant(stds * 255))
    nothing, multiple = g.number(0), g.number(config.side_multiple)
    missing = [
        g.op("Mod", g.op("Sub", multiple, g.op("Mod", side, multiple)), multiple) for side in covered_hw
    ]
    images = g.op("Pad", normalised, g.row([nothing] * 6 + missing), g.real(0))
    down, across = (
        g.op("Div", g.to_float(length), g.to_float(side))
        for length, side in zip(photo_hw, covered_hw, strict=True)
    )
    return Prepared(images, photo_hw, covered_hw, g.row([across, down, across, down]))


def select(
    g: GraphBuilder, prepared: Prepared, boxes: str, scores: str, threshold: str, config: RetinanetConfig
) -> Rows:
    """As ``RetinanetDetector.find``."""
    boxes, scores = _best_of_levels(g, prepared, boxes, scores, config)
    return nms_steps(g, boxes, scores, threshold, config, config.max_detections)


def _best_of_levels(
    g: GraphBuilder, prepared: Prepared, boxes: str, scores: str, config: RetinanetConfig
) -> tuple[str, str]:
    """The candidates ``[N, M, 4]``, clipped, and their scores ``[N, C, M]``: so many of each level.

    A candidate is an anchor and a class, and has a score for that class only.
    """
    num_classes = g.number(config.num_classes)
    input_hw = (g.size(prepared.images, 2), g.size(prepared.images, 3))
    start = g.number(0)
    best, anchor_ids, class_ids = [], [], []
    for level in config.levels:
        up, stride = g.number(2**level - 1), g.number(2**level)
        rows, columns = (g.op("Div", g.op("Add", side, up), stride) for side in input_hw)
        count = g.op("Mul", g.op("Mul", rows, columns), g.number(config.anchors_per_cell))
        end = g.op("Add", start, count)
        part = g.op("Slice", scores, g.row([start]), g.row([end]), g.numbers(1))
        flat = g.op("Reshape", part, g.numbers(0, -1))  # [N, A * C]
        most = g.op("Min", g.op("Mul", count, num_classes), g.number(config.max_per_level))
        values, index = g.ops("TopK", flat, g.row([most]), outputs=2, axis=1)
        best.append(values)
        anchor_ids.append(g.op("Add", g.op("Div", index, num_classes), start))
        class_ids.append(g.op("Mod", index, num_classes))
        start = end
    scores, anchors, classes = (g.op("Concat", *parts, axis=1) for parts in (best, anchor_ids, class_ids))
    their_boxes = g.op("GatherND", boxes, g.op("Unsqueeze", anchors, g.numbers(2)), batch_dims=1)
    counted = g.constant(np.arange(config.num_classes)[None, :, None])
    of_class = g.op("Equal", g.op("Unsqueeze", classes, g.numbers(1)), counted)  # [N, C, M]
    class_scores = g.op("Where", of_class, g.op("Unsqueeze", scores, g.numbers(1)), g.real(0))
    return clipped(g, their_boxes, prepared.covered_hw), class_scores
