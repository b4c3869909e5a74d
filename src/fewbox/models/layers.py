"""What the SSD and the RetinaNet are built of: batch-norm, ResNets, a feature pyramid, their losses.

Frozen batch-norm, and the building block of the TensorFlow networks: convolution, batch-norm, ReLU6.

Batch-norm is always frozen (it uses the averages learnt in pretraining), so it can be
folded into the convolution before it: the same function with one pass over the data less.

The two losses of the detector: is it there (focal), and where exactly (Huber).

ResNet v1 as Keras builds it and the Object Detection API changes it.

He et al., "Deep Residual Learning", 2015. Two things differ from the version most PyTorch
code knows: the stride of a stage sits on the first 1x1 convolution of its first block (not
on the 3x3), and every activation is ReLU6, also the one after the residual sum.

ResNet-50 v1.5 as torchvision computes it, under torchvision's names of its weights.

The v1.5 strides a stage in the 3x3 convolution of its first block; the original
in the 1x1 before it, which skips three of four pixels. Padding is alike on both sides.

The feature pyramid: coarse maps know what, fine maps know where; each level gets both.

Lin et al., "Feature Pyramid Networks", 2017, in the Object Detection API's form: P5 is not
smoothed, each finer level is built from the *smoothed* level above it, and P6, P7 follow
from P5 by strided convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero-pad as TensorFlow's ``SAME`` does: an odd leftover goes to the bottom and the right.

    PyTorch pads both sides alike, which shifts every strided layer on even sizes by one pixel.

    Args:
        x: ``[N, D, H, W]``.
        kernel: side of the square window about to slide over ``x``.
        stride: its step.
    """
    # int: when a graph is traced, sizes are tensors, and what is computed of them would be in it.
    missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in map(int, x.shape[-2:])]
    (high, wide) = missing
    if not high and not wide:
        return x
    return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class Conv2d(nn.Conv2d):
    """A convolution that draws no weights where they could not be kept: on the device ``meta``."""

    def reset_parameters(self) -> None:
        """Draw the weights; on ``meta`` that would change nothing and take longer than all else."""
        if not self.weight.is_meta:
            super().reset_parameters()


class FrozenBatchNorm(nn.Module):
    """Batch-norm by the averages learnt in pretraining, whatever mode the network is in."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D, H, W]`` to the same shape."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.epsilon
        )


class ConvNorm(nn.Module):
    """Convolution, frozen batch-norm, and ReLU6 unless told otherwise.

    ``padding`` is that of ``SAME`` unless given.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        stride: int,
        epsilon: float,
        padding: int | None = None,
        relu: bool = True,
    ) -> None:
        super().__init__()
        if padding is None and stride == 1:
            padding = kernel // 2  # what SAME means without a stride
        self.conv = Conv2d(channels_in, channels_out, kernel, stride, padding or 0, bias=False)
        self.norm: nn.Module = FrozenBatchNorm(channels_out, epsilon)
        self.relu = relu
        self.pads_same = padding is None

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, H, W]`` to ``[N, D_out, ceil(H / stride), ceil(W / stride)]``."""
        if self.pads_same:
            x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        x = self.norm(self.conv(x))
        return F.relu6(x, inplace=True) if self.relu else x

    def fold(self) -> None:
        """Put the batch-norm into the convolution's kernel and bias; the output stays the same."""
        fold_norm(self, "conv", "norm")


def fold_norm(owner: nn.Module, conv_name: str, norm_name: str) -> None:
    """Put a batch-norm of ``owner`` into the convolution before it; nothing if that was done."""
    conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
    if isinstance(norm, FrozenBatchNorm):
        kernel, bias = folded(conv.weight, norm)
        conv.weight, conv.bias = nn.Parameter(kernel, False), nn.Parameter(bias, False)
        setattr(owner, norm_name, nn.Identity())


def folded(kernel: Tensor, norm: FrozenBatchNorm) -> tuple[Tensor, Tensor]:
    """The kernel and bias of one convolution that equals ``norm`` after a bias-free convolution.

    Args:
        kernel: ``[D_out, D_in, k, k]``, left as it is.
        norm: batch-norm over ``D_out`` channels, in inference mode.
    """
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.epsilon)  # [D_out]
        return kernel * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss of every logit, the shape of ``logits``; Lin et al., "Focal Loss", 2017, eq. 5.

    Args:
        logits: any shape.
        targets: the same shape, 0 or 1.
        alpha: weight of positives, ``1 - alpha`` of negatives; None weighs them alike.
        gamma: how strongly well classified examples are turned down.
    """
    # With the sign of positives turned both cases are one: 1 - p_t = sigmoid(u), -log p_t = softplus(u).
    u = logits * (1 - 2 * targets)
    # Further down the loss is below the smallest normal float32, and arithmetic with smaller numbers
    # takes a processor many times as long (measured: a step of the seed recipe 62 ms instead of 31).
    u = u.clamp(min=-85 / (gamma + 1))
    loss = torch.sigmoid(u) ** gamma * F.softplus(u)
    if alpha is not None:
        loss = loss * (targets * alpha + (1 - targets) * (1 - alpha))
    return loss


def huber_loss(codes: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    """Huber loss of every number, the shape of ``codes``: quadratic up to ``delta``, then linear."""
    return F.huber_loss(codes, targets, reduction="none", delta=delta)


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


class BottleneckV15(nn.Module):
    """1x1 down, strided 3x3, 1x1 up, added to the input (or to its projection where the shape changes)."""

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: int, project: bool, epsilon: float
    ) -> None:
        super().__init__()
        inner = channels_out // 4
        self.conv1 = Conv2d(channels_in, inner, 1, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm(inner, epsilon)
        self.conv2 = Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2: nn.Module = FrozenBatchNorm(inner, epsilon)
        self.conv3 = Conv2d(inner, channels_out, 1, bias=False)
        self.bn3: nn.Module = FrozenBatchNorm(channels_out, epsilon)
        self.downsample = nn.Sequential()
        if project:
            self.downsample.append(Conv2d(channels_in, channels_out, 1, stride, bias=False))
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
        self.conv1 = Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1: nn.Module = FrozenBatchNorm(64, epsilon)
        channels = 64
        for stage, (blocks, channels_out) in enumerate(
            zip(BLOCKS_PER_STAGE[50], STAGE_CHANNELS, strict=True)
        ):
            layers = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    BottleneckV15(channels, channels_out, stride=stride, project=block == 0, epsilon=epsilon)
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
            if isinstance(module, BottleneckV15):
                module.fold()


class FeaturePyramid(nn.Module):
    """Maps C3..C5 of the backbone to P3..P``max_level``, all of ``channels`` channels."""

    def __init__(self, channels_in: tuple[int, ...], channels: int, max_level: int, epsilon: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(Conv2d(c, channels, 1) for c in channels_in)
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
