from __future__ import annotations

from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows, classes_first, nms_steps
from toy_family import SIDE, ToyConfig


def prepare(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], _: ToyConfig) -> Prepared:
    squeezed = photos
    for axis, length in enumerate(photo_hw, start=1):
        positions, _ = g.divide(g.op("Mul", g.count_up(g.number(SIDE)), length), g.number(SIDE))
        squeezed = g.op("Gather", squeezed, positions, axis=axis)
    images = g.to_float(g.op("Transpose", squeezed, perm=[0, 3, 1, 2]))
    height, width = (g.op("Div", g.to_float(length), g.real(SIDE)) for length in photo_hw)
    return Prepared(images, photo_hw, (g.number(SIDE), g.number(SIDE)), g.row([width, height] * 2))


def select(g: GraphBuilder, _: Prepared, boxes: str, scores: str, threshold: str, config: ToyConfig) -> Rows:
    return nms_steps(g, boxes, classes_first(g, scores), threshold, config, config.max_detections)
