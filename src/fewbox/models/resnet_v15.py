"""ResNet-50 v1.5 as torchvision computes it, under torchvision's names of its weights.

The v1.5 strides a stage in the 3x3 convolution of its first block; the original, see ``resnet.py``,
in the 1x1 before it, which skips three of four pixels. Padding is alike on both sides.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.layers import FrozenBatchNorm, fold_norm
from fewbox.models.resnet import BLOCKS_PER_STAGE, STAGE_CHANNELS


class Bottleneck(nn.Module):
    """1x1 down, strided 3x3, 1x1 up, added to the input (or to its projection where the shape changes)."""

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: int, project: bool, epsilon: float
    ) -> None:
        super().__init__()
        inner = channels_out // 4
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm(inner, epsilon)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2: nn.Module = FrozenBatchNorm(inner, epsilon)
        self.conv3 = nn.Conv2d(inner, channels_out, 1, bias=False)
        self.bn3: nn.Module = FrozenBatchNorm(channels_out, epsilon)
        self.downsample = nn.Sequential()
        if project:
            self.downsample.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.downsample.append(FrozenBatchNorm(channels_out, epsilon))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, H, W]`` to ``[N, D_out, ceil(H / stride), ceil(W / stride)]``."""
        branch = F.relu(self.bn1(self.conv1(x)), inplace=True)
        branch = F.relu(self.bn2(self.conv2(branch)), inplace=True)
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch.add_(self.downsample(x)), inplace=True)

    def fold(self) -> None:
        """Put every batch-norm into the convolution before it; the output stays the same."""
        for number in (1, 2, 3):
            fold_norm(self, f"conv{number}", f"bn{number}")
        if len(self.downsample):
            fold_norm(self.downsample, "0", "1")


class ResNet50(nn.Module):
    """Pixels to the maps C3, C4, C5 at strides 8, 16, 32."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm(64, epsilon)
        channels = 64
        for stage, (blocks, channels_out) in enumerate(
            zip(BLOCKS_PER_STAGE[50], STAGE_CHANNELS, strict=True)
        ):
            layers = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    Bottleneck(channels, channels_out, stride=stride, project=block == 0, epsilon=epsilon)
                )
                channels = channels_out
            self.add_module(f"layer{stage + 1}", layers)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to C3 ``[N, 512, H/8, W/8]``, C4 ``[N, 1024, ...]``, C5 ``[N, 2048, ...]``."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(pixels)), inplace=True), 3, 2, padding=1)
        maps = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps[1:]

    def fold(self) -> None:
        """Put every batch-norm into the convolution before it; the output stays the same."""
        fold_norm(self, "conv1", "bn1")
        for module in self.modules():
            if isinstance(module, Bottleneck):
                module.fold()
