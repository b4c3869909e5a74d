"""CSPDarknet, the backbone of YOLOX, and the layers it shares with the neck and the head.

Wang et al., "CSPNet", 2019: of each stage's channels one half passes through the blocks, the other
around them. The weights have the names of YOLOX's public release, so that its files fit as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.layers import Conv2d, FrozenBatchNorm, fold_norm
from fewbox.models.yolox import STAGE_CHANNELS, YoloxConfig

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "silu": F.silu,
    "relu": F.relu,
    "lrelu": partial(F.leaky_relu, negative_slope=0.1),
}
"""What may follow a layer, by the release's names."""

_POOLS = (5, 9, 13)  # sides of the windows that SppBottleneck looks through


class ConvLayer(nn.Module):
    """Convolution, frozen batch-norm (unless the weights have it folded in), activation."""

    def __init__(
        self,
        config: YoloxConfig,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=config.is_folded
        )
        self.activate = ACTIVATIONS[config.activation]
        self.bn: nn.Module = nn.Identity()
        if config.norm_epsilon is not None:
            self.bn = FrozenBatchNorm(channels_out, config.norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, H, W]`` to ``[N, D_out, ceil(H / stride), ceil(W / stride)]``."""
        return self.activate(self.bn(self.conv(x)), inplace=True)

    def fold(self) -> None:
        """Put the batch-norm into the convolution; the output stays the same."""
        fold_norm(self, "conv", "bn")


class DepthwiseLayer(nn.Module):
    """A 3x3 layer for each channel alone, then a 1x1 layer that mixes them."""

    def __init__(self, config: YoloxConfig, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.dconv = ConvLayer(config, channels_in, channels_in, 3, stride=stride, groups=channels_in)
        self.pconv = ConvLayer(config, channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`ConvLayer.forward`."""
        output: Tensor = self.pconv(self.dconv(x))
        return output


def conv3x3(config: YoloxConfig, channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Module:
    """A 3x3 layer of the kind that ``config`` asks for."""
    if config.depthwise:
        return DepthwiseLayer(config, channels_in, channels_out, stride)
    return ConvLayer(config, channels_in, channels_out, 3, stride=stride)


class Focus(nn.Module):
    """The stem: every 2x2 pixels become one of four times the channels, then a 3x3 layer."""

    def __init__(self, config: YoloxConfig, channels_out: int) -> None:
        super().__init__()
        self.conv = ConvLayer(config, 4 * 3, channels_out, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, D, H / 2, W / 2]``."""
        corners = [pixels[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]  # down, then right
        output: Tensor = self.conv(torch.cat(corners, 1))
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3, added to the input or not."""

    def __init__(self, config: YoloxConfig, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvLayer(config, channels, channels, 1)
        self.conv2 = conv3x3(config, channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D, H, W]`` to the same shape."""
        branch: Tensor = self.conv2(self.conv1(x))
        return branch.add_(x) if self.shortcut else branch


class CspLayer(nn.Module):
    """One half of the channels through ``blocks`` bottlenecks, the other around them, then both mixed."""

    def __init__(
        self, config: YoloxConfig, channels_in: int, channels_out: int, blocks: int, *, shortcut: bool
    ) -> None:
        super().__init__()
        half = channels_out // 2
        self.conv1 = ConvLayer(config, channels_in, half, 1)
        self.conv2 = ConvLayer(config, channels_in, half, 1)
        self.conv3 = ConvLayer(config, 2 * half, channels_out, 1)
        self.m = nn.Sequential(*(Bottleneck(config, half, shortcut=shortcut) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, H, W]`` to ``[N, D_out, H, W]``."""
        output: Tensor = self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), 1))
        return output


class SppBottleneck(nn.Module):
    """Each cell beside the maxima of ever wider windows around it; He et al., "SPP", 2014."""

    def __init__(self, config: YoloxConfig, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvLayer(config, channels, half, 1)
        self.conv2 = ConvLayer(config, half * (1 + len(_POOLS)), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D, H, W]`` to the same shape."""
        x = self.conv1(x)
        pooled = [F.max_pool2d(x, side, stride=1, padding=side // 2) for side in _POOLS]
        output: Tensor = self.conv2(torch.cat((x, *pooled), 1))
        return output


class CspDarknet(nn.Module):
    """Pixels to the maps C3, C4, C5 at strides 8, 16, 32."""

    def __init__(self, config: YoloxConfig) -> None:
        super().__init__()
        stem, c2, c3, c4, c5 = map(config.channels, (64, 128, *STAGE_CHANNELS))
        few, many = config.blocks, 3 * config.blocks
        self.stem = Focus(config, stem)
        self.dark2 = nn.Sequential(
            conv3x3(config, stem, c2, stride=2), CspLayer(config, c2, c2, few, shortcut=True)
        )
        self.dark3 = nn.Sequential(
            conv3x3(config, c2, c3, stride=2), CspLayer(config, c3, c3, many, shortcut=True)
        )
        self.dark4 = nn.Sequential(
            conv3x3(config, c3, c4, stride=2), CspLayer(config, c4, c4, many, shortcut=True)
        )
        self.dark5 = nn.Sequential(
            conv3x3(config, c4, c5, stride=2),
            SppBottleneck(config, c5),
            CspLayer(config, c5, c5, few, shortcut=False),
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to C3 ``[N, 256 * width, H/8, W/8]``, C4 ``[N, 512 * width, ...]``, C5."""
        c3, c4 = self.before_last_stage(pixels)
        return [c3, c4, self.dark5(c4)]

    def before_last_stage(self, pixels: Tensor) -> list[Tensor]:
        """C3 and C4; C5 follows from C4 by the last stage, ``dark5``."""
        c3 = self.dark3(self.dark2(self.stem(pixels)))
        return [c3, self.dark4(c3)]
