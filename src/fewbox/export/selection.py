"""The last part of an exported graph: boxes and scores of all anchors become the detections of each photo.

The same as ``select`` and ``find`` of each network, in steps of ONNX, for many photos at once. Detections
are rows: the photo they are of, the anchor, the class. One row too many, of score -1, goes along, since
steps over no rows at all are where runtimes differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbox.export.preparation import Prepared
from fewbox.models.families import Config
from fewbox.models.graph_builder import GraphBuilder
from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.ssd import SsdConfig
from fewbox.models.yolox import YoloxConfig


@dataclass(frozen=True)
class _Rows:
    """Names of the detections' columns, the best first."""

    photo_ids: str
    """``[K]`` int64."""
    class_ids: str
    """``[K]`` int64."""
    scores: str
    """``[K]`` float32."""
    boxes: str
    """``[K, 4]``."""
    ranks: str
    """``[K]`` int64: how many of its photo are better; -1 of the row that is none."""


def select(
    graph: GraphBuilder, prepared: Prepared, boxes: str, scores: str, score_threshold: str, config: Config
) -> None:
    """The steps to the outputs ``boxes``, ``scores`` and ``class_ids``.

    Args:
        graph: where the steps go.
        prepared: what the first part of the graph knows of the photos.
        boxes: ``[N, A, 4]`` in pixels of the input.
        scores: ``[N, A, C]``.
        score_threshold: without a shape; only higher scores are returned.
        config: of the network.
    """
    g = graph
    threshold = g.op("Max", score_threshold, g.real(config.score_threshold))
    if isinstance(config, YoloxConfig):
        scores = _one_class_a_cell(g, scores, config)
        rows = _suppress(g, boxes, _classes_first(g, scores), threshold, config, config.max_detections)
        if config.vote_iou is not None and config.num_novel:
            rows = _vote(g, rows, boxes, scores, threshold, config)
    elif isinstance(config, SsdConfig):
        rows = _suppress(g, boxes, _classes_first(g, scores), threshold, config, config.max_per_class)
    else:
        boxes, scores = _best_of_levels(g, prepared, boxes, scores, config)
        rows = _suppress(g, boxes, scores, threshold, config, config.max_detections)
    _write(g, prepared, rows, g.size(boxes, 0), config.max_detections)


def _classes_first(g: GraphBuilder, scores: str) -> str:
    return g.op("Transpose", scores, perm=[0, 2, 1])


def _one_class_a_cell(g: GraphBuilder, scores: str, config: YoloxConfig) -> str:
    """Scores with all but the highest of each cell 0, among the base's classes and among the novel ones."""
    parts = []
    for start, count in ((0, config.num_base), (config.num_base, config.num_novel)):
        if count == 0:
            continue
        part = g.op("Slice", scores, g.numbers(start), g.numbers(start + count), g.numbers(2))
        if count > 1:
            best = g.op("ArgMax", part, axis=2, keepdims=1)
            is_best = g.op("Equal", best, g.constant(np.arange(count)[None, None]))
            part = g.op("Where", is_best, part, g.real(0))
        parts.append(part)
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=2)


def _suppress(
    g: GraphBuilder, boxes: str, class_scores: str, threshold: str, config: Config, max_per_class: int
) -> _Rows:
    """What is left of candidates ``[N, M, 4]``, ``[N, C, M]``: not more than ``max_detections`` a photo."""
    chosen = g.op(
        "NonMaxSuppression",
        boxes,
        class_scores,
        g.numbers(max_per_class),
        g.constant(np.array([config.iou_threshold], np.float32)),
        g.op("Unsqueeze", threshold, g.numbers(0)),
    )  # [K, 3]: photo, class, candidate
    of_chosen = g.op("GatherND", class_scores, chosen)
    unsorted = g.op("Concat", of_chosen, g.constant(np.array([-1], np.float32)), axis=0)
    chosen = g.op("Concat", chosen, g.number_row(0, 0, 0), axis=0)
    scores, order = g.ops("TopK", unsorted, g.op("Shape", unsorted), outputs=2)
    chosen = g.op("Gather", chosen, order, axis=0)
    is_one = g.op("Greater", scores, g.real(0))
    ranks = _ranks(g, g.op("Gather", chosen, g.number(0), axis=1), is_one, g.size(boxes, 0))
    kept = _true_rows(g, g.op("Less", ranks, g.number(config.max_detections)))
    chosen = g.op("Gather", chosen, kept, axis=0)
    return _Rows(
        photo_ids=g.op("Gather", chosen, g.number(0), axis=1),
        class_ids=g.op("Gather", chosen, g.number(1), axis=1),
        scores=g.op("Gather", scores, kept),
        boxes=g.op("GatherND", boxes, g.op("Gather", chosen, g.numbers(0, 2), axis=1)),
        ranks=g.op("Gather", ranks, kept),
    )


def _ranks(g: GraphBuilder, photo_ids: str, counted: str, num_photos: str) -> str:
    """How many of the rows before each ``[K]`` that are ``counted`` are of its photo; -1 if it is not."""
    of_photo = g.op("Equal", g.op("Unsqueeze", photo_ids, g.numbers(1)), g.count_up(num_photos))  # [K, N]
    counts = g.to_int(g.op("And", of_photo, g.op("Unsqueeze", counted, g.numbers(1))))
    so_far = g.op("Mul", g.op("CumSum", counts, g.number(0)), counts)
    return g.op("Sub", g.op("ReduceSum", so_far, g.numbers(1), keepdims=0), g.number(1))


def _true_rows(g: GraphBuilder, mask: str) -> str:
    """The numbers of the rows ``[K]`` where ``mask`` is true."""
    return g.op("Squeeze", g.op("NonZero", mask), g.numbers(0))


def _vote(
    g: GraphBuilder, rows: _Rows, boxes: str, scores: str, threshold: str, config: YoloxConfig
) -> _Rows:
    """Each box of a novel class as the mean of those that overlap it well: ``models/suppression.py``."""
    is_candidate = g.op("Greater", g.op("ReduceMax", scores, g.numbers(2), keepdims=0), threshold)
    where = g.op("Transpose", g.op("NonZero", is_candidate), perm=[1, 0])  # [M, 2]: photo, cell
    # One candidate too many here too, of score 0.
    nothing = g.constant(np.zeros((1, config.num_classes), np.float32))
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
    return _Rows(rows.photo_ids, rows.class_ids, rows.scores, voted, rows.ranks)


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
    return _clipped(g, their_boxes, prepared.covered_hw), class_scores


def _clipped(g: GraphBuilder, boxes: str, size_hw: tuple[str, str]) -> str:
    """Boxes ``[..., 4]`` with every edge inside."""
    height, width = map(g.to_float, size_hw)
    return g.op("Min", g.op("Max", boxes, g.real(0)), g.row([width, height, width, height]))


def _write(g: GraphBuilder, prepared: Prepared, rows: _Rows, num_photos: str, max_detections: int) -> None:
    """Rows become the graph's outputs; those without an inside, once clipped to the photo, are dropped."""
    in_photo = _clipped(g, g.op("Mul", rows.boxes, prepared.photo_per_input), prepared.photo_hw)
    low, high = (
        g.op("Slice", in_photo, g.numbers(start), g.numbers(start + 2), g.numbers(1)) for start in (0, 2)
    )
    spans = g.op("ReduceMin", g.op("Sub", high, low), g.numbers(1), keepdims=0)
    is_kept = g.op("And", g.op("GreaterOrEqual", rows.ranks, g.number(0)), g.op("Greater", spans, g.real(0)))
    ranks = _ranks(g, rows.photo_ids, is_kept, num_photos)
    # What is dropped goes to a place after the last, which is cut off.
    places = g.op("Where", is_kept, ranks, g.number(max_detections))
    index = g.op(
        "Concat", *(g.op("Unsqueeze", ids, g.numbers(1)) for ids in (rows.photo_ids, places)), axis=1
    )
    for output, values, filling, rest in (
        ("boxes", in_photo, np.zeros(1, np.float32), (4,)),
        ("scores", rows.scores, np.zeros(1, np.float32), ()),
        ("class_ids", rows.class_ids, np.full(1, -1, np.int64), ()),
    ):
        shape = g.row([num_photos, g.number(max_detections + 1), *map(g.number, rest)])
        empty = g.op("Expand", g.constant(filling), shape)
        filled = g.op("ScatterND", empty, index, values)
        g.rename(g.op("Slice", filled, g.numbers(0), g.numbers(max_detections), g.numbers(1)), output)
