"""Boxes as tensors: change form, clip, compare.

In this package a box is ``(x1, y1, x2, y2)`` in pixels of the upright image, float32,
with ``0 <= x1 < x2 <= W`` and ``0 <= y1 < y2 <= H``. Edges are continuous: a box over
one whole pixel is ``(0, 0, 1, 1)``. Any other form carries its name in the variable
(``boxes_cxcywh``, ``boxes_yxyx_unit``).

Letters in shapes: N images, M boxes of one image, A anchors, C classes, D channels,
H and W pixels.
"""

from __future__ import annotations

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
