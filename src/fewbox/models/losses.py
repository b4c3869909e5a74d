"""The two losses of the detector: is it there (focal), and where exactly (Huber)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
