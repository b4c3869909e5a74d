"""What of a YOLOX adapts: the backbone's last stage, neck, towers and all predictors.

They learn from C3 and C4, the maps of the frozen stages.

A convolution and its activation are one step of the backward pass, for maps with the channels last. PyTorch's
own way through a 1x1 convolution on one thread copies every map to columns and back. With the
channels last it is one matrix product each for the outputs, the inputs' gradients and the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.models.network import Batch, BatchLoss
from fewbox.models.weights import Weight
from fewbox.models.yolox import STRIDES, YoloxConfig
from fewbox.models.yolox.csp_darknet import ConvLayer
from fewbox.models.yolox.loss import novel_loss
from fewbox.models.yolox.network import YoloxDetector, make_cells


class _PointwiseSilu(torch.autograd.Function):
    """SiLU of a 1x1 convolution; maps ``[N, D, h, w]`` with the channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        summed = torch.addmm(bias, rows, kernel.flatten(1).t())
        ctx.save_for_backward(rows, kernel, summed)
        ctx.size = (x.shape[0], *x.shape[2:])
        return F.silu(summed).view(*ctx.size, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, kernel, summed = ctx.saved_tensors
        of_output = gradients[0].permute(0, 2, 3, 1).reshape(-1, summed.shape[1])
        of_sum = torch.ops.aten.silu_backward(of_output, summed)
        of_input = None
        if ctx.needs_input_grad[0]:
            of_input = (of_sum @ kernel.flatten(1)).view(*ctx.size, -1).permute(0, 3, 1, 2)
        return of_input, (of_sum.t() @ rows).view_as(kernel), of_sum.sum(0)


class LearningLayer(nn.Module):
    """A folded :class:`ConvLayer` whose kernel and bias learn; the same outputs under the same names."""

    def __init__(self, layer: ConvLayer) -> None:
        super().__init__()
        self.conv, self.activate = layer.conv, layer.activate
        self.is_pointwise = self.conv.kernel_size == (1, 1) and self.activate is F.silu

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`ConvLayer.forward`."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.is_pointwise:
            output: Tensor = _PointwiseSilu.apply(x, self.conv.weight, self.conv.bias)  # type: ignore[no-untyped-call]
            return output
        return self.activate(self.conv(x))


class LearningPredictor(nn.Conv2d):
    """A 1x1 convolution as one matrix product."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D_in, h, w]`` to ``[N, D_out, h, w]``."""
        rows = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return rows.permute(0, 3, 1, 2)


_FROZEN = tuple(f"backbone.backbone.{stage}." for stage in ("stem", "dark2", "dark3", "dark4"))
"""How the names of weights begin that do not learn."""


class YoloxAdapter:
    """See :class:`~fewbox.models.network.Adapter`.

    Args:
        network: folded, with a head of novel classes alone; what is not frozen is changed in place.
    """

    parts: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {
            "last stage": ("backbone.backbone.dark5.",),
            "neck": ("backbone.",),
            "towers": ("head.stems", "head.cls_convs", "head.reg_convs"),
            "boxes": ("head.reg_preds",),
            "classes": ("head.novel_preds",),
        }
    )
    map_strides: Sequence[int] = STRIDES[:2]
    coarsest_stride = STRIDES[-1]

    def __init__(self, network: YoloxDetector) -> None:
        self.network = network
        _make_learning(network)

    @torch.no_grad()
    def frozen(self, pixels: Tensor) -> list[Tensor]:
        """The maps ``[N, D, h, w]``, finest first, that everything learns from."""
        return self.network.backbone.backbone.before_last_stage(pixels)

    def outputs(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Codes ``[N, A, 4]`` and logits ``[N, A, C]`` of the frozen maps of N views."""
        c3, c4 = maps
        pyramid = self.network.backbone.merged(c3, c4, self.network.backbone.backbone.dark5(c4))
        return self.network.heads(self.network.towers(pyramid))

    def anchors(self, size_hw: tuple[int, int]) -> Tensor:
        """All cells ``[A, 4]`` of an input, or of a window of it."""
        return make_cells(size_hw)

    def loss(self, codes: Tensor, logits: Tensor, anchors: Tensor, batch: Batch) -> BatchLoss:
        """The losses of the outputs."""
        return novel_loss(codes, logits, anchors, batch)


def unfolded(
    folded: Mapping[str, Weight], before: Mapping[str, Weight], config: YoloxConfig
) -> dict[str, Weight]:
    """The weights ``folded`` under the names of ``before``, a network with batch-norms or without.

    The kernels stay as learnt, and the batch-norm after each scales by 1 and adds the bias. What is frozen
    is taken from ``before``.
    """
    epsilon = config.norm_epsilon
    weights: dict[str, Weight] = {}
    for name, old in before.items():
        layer, _, what = name.rpartition(".")
        conv_bias = f"{layer.removesuffix('.bn')}.conv.bias"
        if name.startswith(_FROZEN):
            weights[name] = old
        elif epsilon is None or not layer.endswith(".bn"):
            weights[name] = folded[name]
        elif what == "weight":
            weights[name] = np.sqrt(before[f"{layer}.running_var"] + np.float32(epsilon))
        elif what == "bias":
            weights[name] = folded[conv_bias] + before[f"{layer}.running_mean"]
        else:
            weights[name] = old
    return weights


def calibrated(weights: Mapping[str, Weight], stretch: float, shift: float) -> dict[str, Weight]:
    """``weights`` with the logits of novel classes stretched, then shifted."""
    changed = dict(weights)
    for level in range(len(STRIDES)):
        name = f"head.novel_preds.{level}"
        changed[f"{name}.weight"] = weights[f"{name}.weight"] * np.float32(stretch)
        changed[f"{name}.bias"] = weights[f"{name}.bias"] * np.float32(stretch) + np.float32(shift)
    return changed


def replace_layers(owners: Iterable[nn.Module]) -> None:
    """Put those made for learning in the place of the folded layers right below each of ``owners``."""
    for owner in owners:
        for name, child in list(owner.named_children()):
            if isinstance(child, ConvLayer):
                setattr(owner, name, LearningLayer(child))
            elif isinstance(owner, nn.ModuleList) and isinstance(child, nn.Conv2d):
                setattr(owner, name, LearningPredictor(child))


def _make_learning(network: YoloxDetector) -> None:
    """Let all that follows the frozen stages of a folded network learn, with layers made for it."""
    modules = network.named_modules()
    replace_layers([module for name, module in modules if not f"{name}.".startswith(_FROZEN)])
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(_FROZEN))
