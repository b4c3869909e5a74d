"""Boxes of a RetinaNet as torchvision computes them: anchors, codes, and which detections remain.

An anchor is centred on its cell's corner, its edges are whole pixels away, and the step from one
cell to the next is a whole number of pixels too. Codes are the SSD's in another order: x first.

Which detections remain is here twice: computed by PyTorch, and as the last steps of an exported graph.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fewbox.core.boxes import nms
from fewbox.models.boxes import decode_boxes, encode_boxes
from fewbox.models.graph_builder import GraphBuilder, Prepared, Rows, clipped, nms_steps
from fewbox.models.retinanet import RetinanetConfig

_MAX_STRETCH = math.log(1000 / 16)  # logarithm of how many times its anchor's side a box's may be
_OTHER_AXIS_FIRST = [1, 0, 3, 2]  # (y, x, h, w) to (x, y, w, h), and back
_UNSCALED = (1.0, 1.0, 1.0, 1.0)
_FEW = 1000  # boxes; see suppress_within_classes


def make_corner_anchors(input_size_hw: tuple[int, int], config: RetinanetConfig) -> list[Tensor]:
    """The anchors ``[cells * k, 4]`` of every level, finest first, not clipped.

    At level ``l`` a square anchor has side ``anchor_scale * 2**l`` times ``2**(i / scales_per_octave)``,
    cut to whole pixels; an aspect ratio keeps the area, up to rounding. Cells start at ``(0, 0)``
    and lie apart by the side of the input over their number, rounded down: where that side is no
    multiple of the stride, closer than the stride. Order: row, column, aspect ratio, scale.
    """
    octave, ratios = config.scales_per_octave, torch.tensor(config.aspect_ratios)
    anchors = []
    for level in config.levels:
        sides = [int(config.anchor_scale * 2**level * 2 ** (i / octave)) for i in range(octave)]
        heights = (ratios.sqrt()[:, None] * torch.tensor(sides)).flatten()  # [k]
        widths = ((1 / ratios.sqrt())[:, None] * torch.tensor(sides)).flatten()
        shapes = (torch.stack((-widths, -heights, widths, heights), 1) / 2).round()  # [k, 4]
        rows, columns = (_positions(side, 2**level) for side in input_size_hw)
        centres_xy = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 1, 2)
        anchors.append((centres_xy.repeat(1, 1, 2) + shapes).reshape(-1, 4))
    return anchors


def _positions(side: int, stride: int) -> Tensor:
    """Where the cells of a level lie along a side of the input."""
    cells = (side + stride - 1) // stride
    return torch.arange(cells, dtype=torch.float32) * (side // cells)


def encode_corner_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Codes ``(tx, ty, tw, th)`` ``[M, 4]`` of ``boxes`` ``[M, 4]`` against ``anchors`` ``[M, 4]``."""
    return encode_boxes(boxes, anchors, _UNSCALED)[:, _OTHER_AXIS_FIRST]


def decode_corner_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Inverse of :func:`encode_corner_boxes`, ``[M, 4]``; sides grow at most to 62.5 times an anchor's."""
    limited = torch.cat((codes[..., :2], codes[..., 2:].clamp(max=_MAX_STRETCH)), -1)
    return decode_boxes(limited[..., _OTHER_AXIS_FIRST], anchors, _UNSCALED)


def best_candidates(
    scores: Tensor, *, score_threshold: float, max_kept: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``[K]``, scores ``[K]`` and class ids ``[K]`` of one level, best score first, on the processor.

    An anchor is a candidate once for every class whose score is above the threshold. Equal scores keep
    their order, as with ONNX: a sort, for ``topk`` promises none.

    Args:
        scores: ``[A, C]``.
        score_threshold: only higher scores count.
        max_kept: how many to return at the most.
    """
    all_scores = scores.flatten()  # [A * C]
    candidates = (all_scores > score_threshold).nonzero()[:, 0]
    # Few are left; what follows is done on the processor.
    best, order = all_scores[candidates].cpu().sort(descending=True, stable=True)
    chosen = candidates.cpu()[order[:max_kept]]
    return chosen // scores.shape[1], best[:max_kept], chosen % scores.shape[1]


def suppress_within_classes(
    boxes: Tensor, scores: Tensor, class_ids: Tensor, *, iou_threshold: float, max_kept: int
) -> Tensor:
    """Indices ``[K]`` of the boxes to keep, best score first; boxes of two classes never meet.

    They are moved apart by their class, so that one pass serves all.

    Args:
        boxes: ``[M, 4]``, none with a negative corner.
        scores: ``[M]``.
        class_ids: ``[M]``.
        iou_threshold: 0 to 1.
        max_kept: how many to return at the most.
    """
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    # torchvision moves up to 1000 boxes in float32, which rounds those of a late class to about 1/128
    # pixel and can decide a close case; more than that it handles class by class, not rounded.
    exact = boxes if len(boxes) <= _FEW else boxes.double()
    apart = exact + (class_ids.to(exact.dtype) * (exact.max() + 1))[:, None]
    return torch.from_numpy(
        nms(apart.numpy(), scores.numpy(), iou_threshold=iou_threshold, max_kept=max_kept)
    )


def select_steps(
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
    assert prepared.covered_hw is not None
    return clipped(g, their_boxes, prepared.covered_hw), class_scores
