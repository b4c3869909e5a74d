"""Boxes as tensors: forms, IoU, anchors, and which anchor learns which box.

What a box is, ``core/boxes.py`` says; here all are float32. Anchors are the boxes that a detector
starts from, a few shapes at every cell of every level. Their order is part of the weights: level
(finest first), row, column, aspect ratio, scale. Here the scale changes fastest; a port that loops
the other way scrambles the heads.

Letters in shapes: N images, M boxes of one image, A anchors, C classes, D channels,
H and W pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def clip_boxes(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Move every edge that lies outside an image of ``size_hw`` onto its border.

    Args:
        boxes: ``[..., 4]``.
        size_hw: height and width in the boxes' own pixels.
    """
    height, width = size_hw
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)


def nonempty(boxes: Tensor) -> Tensor:
    """Which of ``boxes`` ``[M, 4]`` have an inside, ``[M]`` bool; clipping leaves none to one outside."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 > x1) & (y2 > y1)


def box_areas(boxes: Tensor) -> Tensor:
    """Areas ``[...]`` of ``boxes`` ``[..., 4]``; an inside-out box has none."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union ``[M, K]`` of every box in ``[M, 4]`` with every box in ``[K, 4]``.

    A pair in which both boxes have no area has IoU 0.
    """
    corners_low = first[:, None, :2].maximum(second[None, :, :2])  # [M, K, 2]
    corners_high = first[:, None, 2:].minimum(second[None, :, 2:])
    overlap = (corners_high - corners_low).clamp(min=0).prod(-1)  # [M, K]
    union = box_areas(first)[:, None] + box_areas(second)[None, :] - overlap
    return overlap / union.clamp(min=1e-12)


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union ``[M]`` of each box in ``[M, 4]`` with the one in its place in ``[M, 4]``."""
    corners_low, corners_high = first[:, :2].maximum(second[:, :2]), first[:, 2:].minimum(second[:, 2:])
    overlap = (corners_high - corners_low).clamp(min=0).prod(-1)
    return overlap / (box_areas(first) + box_areas(second) - overlap).clamp(min=1e-12)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners ``[..., 4]`` to centre, width, height ``[..., 4]``."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), -1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Centre, width, height ``[..., 4]`` to corners ``[..., 4]``."""
    cx, cy, w, h = boxes_cxcywh.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), -1)


NEGATIVE = -1
IGNORED = -2


def match_anchors(
    anchors: Tensor, boxes: Tensor, *, matched_iou: float, unmatched_iou: float, force_match: bool
) -> Tensor:
    """The index of the box each anchor learns, ``NEGATIVE`` or ``IGNORED``: ``[A]`` int64.

    An anchor takes the box it overlaps most if their IoU is at least ``matched_iou``; below
    ``unmatched_iou`` it is a negative, between the two it is ignored. With ``force_match``
    every box also gets the one anchor that overlaps it most, whatever their IoU; where two
    boxes want the same anchor the first has it (the Object Detection API's ``ArgMaxMatcher``).

    Args:
        anchors: ``[A, 4]``.
        boxes: ``[M, 4]`` in the same pixels; M may be 0.
        matched_iou: at or above it, a match.
        unmatched_iou: below it, a negative.
        force_match: give every box its best anchor.
    """
    if len(boxes) == 0:
        return torch.full((len(anchors),), NEGATIVE, device=anchors.device)
    iou = pairwise_iou(boxes, anchors)  # [M, A]
    best_iou, matches = iou.max(0)
    matches[best_iou < matched_iou] = IGNORED
    matches[best_iou < unmatched_iou] = NEGATIVE
    if force_match:
        # Backwards, so that the first box writes last and wins.
        for box, anchor in reversed(list(enumerate(iou.argmax(1).tolist()))):
            matches[anchor] = box
    return matches


@functools.lru_cache(maxsize=4)
def make_anchors(
    size_hw: tuple[int, int],
    levels: range,
    *,
    anchor_scale: float,
    aspect_ratios: tuple[float, ...],
    scales_per_octave: int,
) -> Tensor:
    """All anchors ``[A, 4]`` of an input of ``size_hw``, as boxes in pixels of the input, not clipped.

    The last few results are remembered: do not write into them.

    At level ``l`` (stride ``2**l``) a square anchor has side ``anchor_scale * 2**l`` times
    ``2**(i / scales_per_octave)``; an aspect ratio (width over height) keeps the area.
    Cell centres lie half a stride in, or at 0 along a side that the stride does not divide
    (Object Detection API, ``multiscale_grid_anchor_generator``).
    """
    scales = [2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
    shapes = [(s * math.sqrt(r), s / math.sqrt(r)) for r in aspect_ratios for s in scales]
    shapes_wh = torch.tensor(shapes, dtype=torch.float64)  # [anchors per cell, 2]
    anchors = []
    for level in levels:
        stride = 2**level
        rows, columns = (
            torch.arange(-(-side // stride), dtype=torch.float64) * stride
            + (0 if side % stride else stride / 2)
            for side in size_hw
        )
        centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(-1, 1, 2)
        half = shapes_wh * (anchor_scale * stride / 2)  # [anchors per cell, 2]
        anchors.append(torch.cat((centres - half, centres + half), -1).reshape(-1, 4))
    return torch.cat(anchors).float()


def flatten_cells(head_output: Tensor, columns: int) -> Tensor:
    """A head's map ``[N, k * columns, h, w]`` as rows ``[N, h * w * k, columns]`` in anchor order."""
    return head_output.permute(0, 2, 3, 1).reshape(head_output.shape[0], -1, columns)


def encode_boxes(boxes: Tensor, anchors: Tensor, coder_scales: Sequence[float]) -> Tensor:
    """Codes ``(ty, tx, th, tw)`` ``[M, 4]`` of ``boxes`` ``[M, 4]`` against ``anchors`` ``[M, 4]``.

    Girshick et al., "R-CNN", 2014, appendix C, scaled per component and y first as the
    Object Detection API stores them; 1e-8 keeps the logarithm of an empty box finite.
    """
    box_wh, anchor_wh = (b[:, 2:] - b[:, :2] + 1e-8 for b in (boxes, anchors))
    shift = ((boxes[:, :2] + boxes[:, 2:]) - (anchors[:, :2] + anchors[:, 2:])) / 2 / anchor_wh
    stretch = torch.log(box_wh / anchor_wh)
    codes = torch.cat((shift.flip(-1), stretch.flip(-1)), -1)
    return codes * codes.new_tensor(coder_scales)


def decode_boxes(codes: Tensor, anchors: Tensor, coder_scales: Sequence[float]) -> Tensor:
    """The inverse of :func:`encode_boxes`: boxes ``[..., A, 4]`` from codes ``[..., A, 4]``."""
    ty, tx, th, tw = (codes / codes.new_tensor(coder_scales)).unbind(-1)
    x1, y1, x2, y2 = anchors.unbind(-1)
    w, h = x2 - x1, y2 - y1
    centre_x, centre_y = tx * w + (x1 + x2) / 2, ty * h + (y1 + y2) / 2
    half_w, half_h = torch.exp(tw) * w / 2, torch.exp(th) * h / 2
    return torch.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), -1)
