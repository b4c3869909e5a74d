"""The feature pyramid: coarse maps know what, fine maps know where; each level gets both.

Lin et al., "Feature Pyramid Networks", 2017, in the Object Detection API's form: P5 is not
smoothed, each finer level is built from the *smoothed* level above it, and P6, P7 follow
from P5 by strided convolutions.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.layers import ConvNorm


class FeaturePyramid(nn.Module):
    """Maps C3..C5 of the backbone to P3..P``max_level``, all of ``channels`` channels."""

    def __init__(self, channels_in: tuple[int, ...], channels: int, max_level: int, epsilon: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in channels_in)
        self.smooth = nn.ModuleList(
            ConvNorm(channels, channels, 3, stride=1, epsilon=epsilon) for _ in channels_in[:-1]
        )
        self.coarse = nn.ModuleList(
            ConvNorm(channels, channels, 3, stride=2, epsilon=epsilon) for _ in range(6, max_level + 1)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """C3, C4, C5 to P3, P4, ... finest first, level ``l`` ``[N, channels, H/2**l, W/2**l]``."""
        top = self.laterals[-1](maps[-1])
        pyramid = [top]
        for level in reversed(range(len(maps) - 1)):
            above = F.interpolate(pyramid[0], scale_factor=2.0, mode="nearest")
            pyramid.insert(0, self.smooth[level](above + self.laterals[level](maps[level])))
        for layer in self.coarse:
            pyramid.append(layer(pyramid[-1]))
        return pyramid
