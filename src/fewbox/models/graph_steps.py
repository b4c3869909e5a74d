"""Steps of an exported graph that families of networks have in common.

Before the network photos become its input; after it the boxes and scores of all anchors become the detections
of each photo, the same as ``find`` of each network, for many photos at once. Detections are rows: the photo
they are of, the anchor, the class. One row too many, of score -1, goes along, since steps over no rows at all
are where runtimes differ.
"""

from __future__ import annotations

import numpy as np

from fewbox.models.families import Config
from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows


def touching(
    g: GraphBuilder, photo_hw: tuple[str, str], within_hw: tuple[int, int] | tuple[str, str]
) -> tuple[str, str]:
    """The size that photos have inside a frame that they touch on one side, cut to whole pixels."""
    h, w = (g.number(side) if isinstance(side, int) else side for side in within_hw)
    height, width = photo_hw
    is_tall = g.op("LessOrEqual", g.op("Mul", h, width), g.op("Mul", w, height))
    one = g.number(1)
    low = g.op("Max", g.divide(g.op("Mul", height, w), width)[0], one)
    thin = g.op("Max", g.divide(g.op("Mul", width, h), height)[0], one)
    return g.op("Where", is_tall, h, low), g.op("Where", is_tall, thin, w)


def neighbours_within(g: GraphBuilder, first: str, length: str) -> list[str]:
    """Positions and those after them; beyond the border the last pixel is repeated."""
    last = g.op("Sub", length, g.number(1))
    return [
        g.op("Max", g.op("Min", position, last), g.number(0))
        for position in (first, g.op("Add", first, g.number(1)))
    ]


def classes_first(g: GraphBuilder, scores: str) -> str:
    """Scores ``[N, A, C]`` as ``[N, C, A]``, which ``NonMaxSuppression`` takes."""
    return g.op("Transpose", scores, perm=[0, 2, 1])


def nms_steps(
    g: GraphBuilder, boxes: str, class_scores: str, threshold: str, config: Config, max_per_class: int
) -> Rows:
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
    return Rows(
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


def clipped(g: GraphBuilder, boxes: str, size_hw: tuple[str, str]) -> str:
    """Boxes ``[..., 4]`` with every edge inside."""
    height, width = map(g.to_float, size_hw)
    return g.op("Min", g.op("Max", boxes, g.real(0)), g.row([width, height, width, height]))


def write_outputs(
    g: GraphBuilder, prepared: Prepared, rows: Rows, num_photos: str, max_detections: int
) -> None:
    """Rows become the graph's outputs; those without an inside, once clipped to the photo, are dropped."""
    in_photo = clipped(g, g.op("Mul", rows.boxes, prepared.photo_per_input), prepared.photo_hw)
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
