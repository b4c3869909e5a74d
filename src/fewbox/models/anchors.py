"""Anchors: the boxes a detector starts from, a few shapes at every cell of every level.

Their order is part of the weights: level (finest first), row, column, aspect ratio, scale.
Here the scale changes fastest; a port that loops the other way scrambles the heads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


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
