"""Frozen batch-norm, and the building block of the TensorFlow networks: convolution, batch-norm, ReLU6.

Batch-norm is always frozen (it uses the averages learnt in pretraining), so it can be
folded into the convolution before it: the same function with one pass over the data less.
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
    missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    (high, wide) = missing
    if not high and not wide:
        return x
    return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


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
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding or 0, bias=False)
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
