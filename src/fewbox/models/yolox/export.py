"""What an exported YOLOX does before and after the network, in steps of ONNX."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fewbox.models.graph_builder import (
    GraphBuilder,
    Prepared,
    Rows,
    classes_first,
    neighbours_within,
    nms_steps,
    touching,
)
from fewbox.models.letterbox import PADDING_GREY
from fewbox.models.yolox import YoloxConfig


def prepare(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: YoloxConfig) -> Prepared:
    """As ``YoloxDetector.prepare``: see ``models/letterbox.py``."""
    size_hw = config.size_hw
    covered_hw = touching(g, photo_hw, size_hw)
    resized = _resize_fixed_point(g, photos, photo_hw, covered_hw)  # [N, h', w', 3]
    nothing = g.number(0)
    missing = [
        g.op("Sub", g.number(side), covered) for side, covered in zip(size_hw, covered_hw, strict=True)
    ]
    pads = g.row([nothing] * 5 + [*missing, nothing])
    padded = g.op("Pad", resized, pads, g.real(PADDING_GREY))
    blue_first = g.op("Gather", g.op("Transpose", padded, perm=[0, 3, 1, 2]), g.numbers(2, 1, 0), axis=1)
    ratios = [
        g.op("Div", g.real(side), g.to_float(length)) for side, length in zip(size_hw, photo_hw, strict=True)
    ]
    per_input = g.op("Reciprocal", g.op("Min", *ratios))
    return Prepared(blue_first, photo_hw, covered_hw, g.op("Expand", per_input, g.numbers(4)))


def _resize_fixed_point(
    g: GraphBuilder, photos: str, photo_hw: tuple[str, str], size_hw: tuple[str, str]
) -> str:
    """As ``resize_bilinear`` of ``models/letterbox.py``, to the last bit: whole numbers, kept as float32."""
    top, bottom, *row_weights = _neighbours(g, photo_hw[0], size_hw[0])
    left, right, *column_weights = _neighbours(g, photo_hw[1], size_hw[1])
    # A row's pixels and channels are one axis below, along which weights lie as the numbers do: fast.
    low_rows, high_rows = (g.op("Unsqueeze", weights, g.numbers(1)) for weights in row_weights)
    low_columns, high_columns = (
        g.op("Reshape", g.op("Expand", g.op("Unsqueeze", part, g.numbers(1)), g.numbers(1, 3)), g.numbers(-1))
        for part in (g.op("Mul", weights, g.real(1 / 16)) for weights in column_weights)
    )

    def across(rows: str) -> str:
        """The given rows, resized along the width, over 16: up to 15 bits, ``[N, h, w * 3]``."""
        chosen = g.op("Gather", photos, rows, axis=1)
        parts = []
        for columns, weights in ((left, low_columns), (right, high_columns)):
            pixels = g.op("Reshape", g.op("Gather", chosen, columns, axis=2), g.numbers(0, 0, -1))
            parts.append(g.op("Mul", g.to_float(pixels), weights))
        return g.op("Floor", g.op("Add", *parts))

    def weighed(values: str, weights: str) -> str:
        """``values * weights >> 16``. The product has 26 bits and float32 only 24, so it is made of two."""
        high = g.op("Floor", g.op("Mul", weights, g.real(1 / 64)))
        low = g.op("Sub", g.op("Mul", weights, g.real(1 / 64)), high)
        carried = g.op("Floor", g.op("Mul", values, low))
        both = g.op("Add", g.op("Mul", values, high), carried)
        return g.op("Floor", g.op("Mul", both, g.real(1 / 1024)))

    both = g.op("Add", weighed(across(top), low_rows), weighed(across(bottom), high_rows))
    rounded = g.op("Floor", g.op("Mul", g.op("Add", both, g.real(2)), g.real(1 / 4)))
    return g.op("Reshape", rounded, g.row([g.size(photos, 0), *size_hw, g.number(3)]))


def _neighbours(g: GraphBuilder, length: str, out: str) -> list[str]:
    """The two pixels each of ``out`` pixels lies between, ``[out]``, and their weights, of 2048 in all."""
    # (i + 0.5) * length / out - 0.5 as one division of whole numbers, rounded once, to a float32.
    doubled = g.op("Add", g.op("Mul", g.count_up(out), g.number(2)), g.number(1))
    numerator = g.op("Sub", g.op("Mul", doubled, length), out)
    denominator = g.op("Mul", out, g.number(2))
    low, fraction = _divided(g, numerator, denominator)
    weights = [
        g.op("Round", g.op("Mul", share, g.real(2048)))
        for share in (g.op("Sub", g.real(1), fraction), fraction)
    ]
    return [*neighbours_within(g, low, length), *weights]


def _divided(g: GraphBuilder, numerator: str, denominator: str) -> tuple[str, str]:
    """A quotient of whole numbers, rounded to float32, in two parts: int64, and a float32 from 0 to 1.

    By hand, digit after digit: OpenVINO divides real numbers by multiplying with the reciprocal, which
    is rounded twice, and is off in the last bit for every second quotient. Denominators up to 2**13.
    """
    whole, rest = g.divide(numerator, denominator)
    high, rest = g.divide(g.op("Mul", rest, g.number(1 << 12)), denominator)
    low, rest = g.divide(g.op("Mul", rest, g.number(1 << 11)), denominator)
    # 23 binary digits, and one more that says whether anything is left: enough to round the sum rightly.
    digits = g.op("Add", g.op("Mul", high, g.number(1 << 12)), g.op("Mul", low, g.number(2)))
    digits = g.op("Add", digits, g.to_int(g.op("Greater", rest, g.number(0))))
    fraction = g.op("Mul", g.to_float(digits), g.real(2**-24))
    # A float32 of 2 and more has fewer digits than that after the point. Below, all are kept, which in
    # 2048ths comes to the same.
    beyond = g.to_float(whole)
    rounded = g.op("Sub", g.op("Add", beyond, fraction), beyond)
    return whole, g.op("Where", g.op("Less", whole, g.number(2)), fraction, rounded)


def select(
    g: GraphBuilder, _: Prepared, boxes: str, scores: str, threshold: str, config: YoloxConfig
) -> Rows:
    """As ``YoloxDetector.find``: one class a cell, NMS, and the vote of boxes that overlap."""
    scores = _one_class_a_cell(g, scores, config)
    rows = nms_steps(g, boxes, classes_first(g, scores), threshold, config, config.max_detections)
    if config.vote_iou is not None and config.num_novel:
        rows = _vote(g, rows, boxes, scores, config)
    return rows


def _one_class_a_cell(g: GraphBuilder, scores: str, config: YoloxConfig) -> str:
    """Scores with all but the highest of each cell 0, among the base's classes and among the novel ones."""
    if config.num_base == 0 or config.num_novel == 0:
        return _likeliest_alone(g, scores)
    edges = (0, config.num_base, config.num_classes)
    parts = [
        g.op("Slice", scores, g.numbers(start), g.numbers(end), g.numbers(2))
        for start, end in pairwise(edges)
    ]
    return g.op("Concat", *(_likeliest_alone(g, part) for part in parts), axis=2)


def _likeliest_alone(g: GraphBuilder, scores: str) -> str:
    """Scores ``[N, A, C]`` with all but the highest of each cell 0.

    For one class too, and without its number in the graph, as all that follows: then a head for other classes
    fits into the same graph, which the page that learns in a browser relies on.
    """
    best = g.op("ArgMax", scores, axis=2, keepdims=1)
    is_best = g.op("Equal", best, g.count_up(g.size(scores, 2)))
    return g.op("Where", is_best, scores, g.real(0))


def _vote(g: GraphBuilder, rows: Rows, boxes: str, scores: str, config: YoloxConfig) -> Rows:
    """Each box of a novel class as the mean of those that overlap it well: as in ``core/boxes.py``."""
    best = g.op("ReduceMax", scores, g.numbers(2), keepdims=0)
    is_candidate = g.op("Greater", best, g.real(config.score_threshold))
    where = g.op("Transpose", g.op("NonZero", is_candidate), perm=[1, 0])  # [M, 2]: photo, cell
    # One candidate too many here too, of score 0.
    nothing = g.op(
        "Expand", g.constant(np.zeros((1, 1), np.float32)), g.row([g.number(1), g.size(scores, 2)])
    )
    their_scores = g.op("Concat", g.op("GatherND", scores, where), nothing, axis=0)  # [M, C]
    where = g.op("Concat", where, g.number_row(0, 0), axis=0)
    their_boxes = g.op("GatherND", boxes, where)
    theirs = g.op("Gather", where, g.number(0), axis=1)
    of_photo = g.op("Equal", g.op("Unsqueeze", rows.photo_ids, g.numbers(1)), theirs)  # [K, M]
    iou = _pairwise_iou(g, rows.boxes, their_boxes)
    vote_iou = config.vote_iou or 0.0
    has_say = g.op("And", of_photo, g.op("GreaterOrEqual", iou, g.real(vote_iou)))
    of_class = g.op("Transpose", g.op("Gather", their_scores, rows.class_ids, axis=1), perm=[1, 0])
    weights = g.op("Where", has_say, g.op("Mul", iou, of_class), g.real(0))
    total = g.op("Max", g.op("ReduceSum", weights, g.numbers(1), keepdims=1), g.real(1e-12))
    means = g.op("Div", g.op("MatMul", weights, their_boxes), total)
    is_novel = g.op("GreaterOrEqual", rows.class_ids, g.number(config.num_base))
    voted = g.op("Where", g.op("Unsqueeze", is_novel, g.numbers(1)), means, rows.boxes)
    return Rows(rows.photo_ids, rows.class_ids, rows.scores, voted, rows.ranks)


def _pairwise_iou(g: GraphBuilder, first: str, second: str) -> str:
    """IoU ``[K, M]`` of boxes ``[K, 4]`` and ``[M, 4]``; 0 where a box has no area."""
    split = g.numbers(1, 1, 1, 1)
    x1, y1, x2, y2 = g.ops("Split", first, split, outputs=4, axis=1)  # [K, 1] each
    rows = g.op("Transpose", second, perm=[1, 0])
    u1, v1, u2, v2 = g.ops("Split", rows, split, outputs=4, axis=0)  # [1, M] each
    nothing = g.real(0)

    def side(low: str, high: str) -> str:
        return g.op("Max", g.op("Sub", high, low), nothing)

    overlap = g.op(
        "Mul",
        side(g.op("Max", x1, u1), g.op("Min", x2, u2)),
        side(g.op("Max", y1, v1), g.op("Min", y2, v2)),
    )
    areas = g.op("Add", g.op("Mul", side(x1, x2), side(y1, y2)), g.op("Mul", side(u1, u2), side(v1, v2)))
    return g.op("Div", overlap, g.op("Max", g.op("Sub", areas, overlap), g.real(1e-12)))
