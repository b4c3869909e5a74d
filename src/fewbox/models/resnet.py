"""ResNet v1 as Keras builds it and the Object Detection API changes it.

He et al., "Deep Residual Learning", 2015. Two things differ from the version most PyTorch
code knows: the stride of a stage sits on the first 1x1 convolution of its first block (not
on the 3x3), and every activation is ReLU6, also the one after the residual sum.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.layers import ConvNorm, pad_same

BLOCKS_PER_STAGE = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGE_CHANNELS = (256, 512, 1024, 2048)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, added to the input (or to its projection where the shape changes)."""

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: int, project: bool, epsilon: float
    ) -> None:
        super().__init__()
        inner = channels_out // 4
        self.conv1 = ConvNorm(channels_in, inner, 1, stride=stride, epsilon=epsilon)
        self.conv2 = ConvNorm(inner, inner, 3, stride=1, epsilon=epsilon)
        self.conv3 = ConvNorm(inner, channels_out, 1, stride=1, epsilon=epsilon, relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            self.shortcut = ConvNorm(channels_in, channels_out, 1, stride=stride, epsilon=epsilon, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, H, W]`` to ``[N, D_out, H / stride, W / stride]``."""
        branch = self.conv3(self.conv2(self.conv1(x)))
        return F.relu6(branch.add_(self.shortcut(x)), inplace=True)


class ResNet(nn.Module):
    """The backbone: pixels to the maps C3, C4, C5 at strides 8, 16, 32."""

    def __init__(self, depth: int, epsilon: float) -> None:
        super().__init__()
        # Keras pads the stem alike on every side, not as SAME would.
        self.stem = ConvNorm(3, 64, 7, stride=2, padding=3, epsilon=epsilon)
        self.stages = nn.ModuleList()
        channels = 64
        for stage, (blocks, channels_out) in enumerate(
            zip(BLOCKS_PER_STAGE[depth], STAGE_CHANNELS, strict=True)
        ):
            layers = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    Bottleneck(channels, channels_out, stride=stride, project=block == 0, epsilon=epsilon)
                )
                channels = channels_out
            self.stages.append(layers)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to C3 ``[N, 512, H/8, W/8]``, C4 ``[N, 1024, ...]``, C5 ``[N, 2048, ...]``."""
        x = F.max_pool2d(pad_same(self.stem(pixels), 3, 2), 3, 2)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]
