"""Logistic regression of several classes at once: the loss, and its minimum by L-BFGS.

The problem is convex and smooth, so trial is one answer and no learning rate to choose.

Letters in shapes: R rows, C classes, S columns of base logits and D of tower features, G groups, A anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewbox.models.network import AnchorFeatures, Coefficients

MEMORY = 10
"""The last steps, from which the curvature is estimated; Nocedal and Wright, 2006, section 7.2."""
TOLERANCE = 1e-5
"""Relative progress of a step below which it is the last."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regression learns from. Rows of one group stand together, in the order of the groups."""

    base_logits: Tensor
    """``[R, S]`` columns that mean the same in every group."""
    tower_features: Tensor
    """``[R, D]`` columns that mean something else in every group."""
    group_sizes: list[int]
    """How many rows each of the G groups has."""
    targets: Tensor
    """``[R, C]`` 0 to 1."""
    weights: Tensor
    """``[R, C]``."""


class LogLoss(NamedTuple):
    """The mean binary cross-entropy of an object, in nats, and that of all else that falls to one object.

    Both are sums over weights, divided by the weight of all objects, so that they can be compared between
    runs with few photos and with many; the ridge is not in them.
    """

    objects: float
    background: float


def fit_logistic(
    rows: Rows, ridge: float, start: Coefficients, max_steps: int
) -> tuple[Coefficients, list[LogLoss]]:
    """The coefficients with the least loss, and the log loss before the first step and after each.

    The loss is the weighted binary cross-entropy, summed, and ``ridge / 2`` times the squares of all
    coefficients but the biases.
    """
    weight_of_objects = max(float((rows.weights * rows.targets).sum(dtype=torch.float64)), 1e-12)
    latest = LogLoss(0.0, 0.0)
    history: list[LogLoss] = []
    parts = (start.base_logits, start.tower_features, start.bias)
    lengths = [part.numel() for part in parts]

    def unpacked(vector: Tensor) -> Coefficients:
        pieces = torch.split(vector.to(rows.base_logits.dtype), lengths)
        return Coefficients(*(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)))

    def loss_and_gradient(vector: Tensor) -> tuple[float, Tensor]:
        nonlocal latest
        now = unpacked(vector)
        logits = now.logits(rows.base_logits, rows.tower_features, rows.group_sizes)
        each = F.binary_cross_entropy_with_logits(logits, rows.targets, rows.weights, reduction="none")
        error = (torch.sigmoid(logits) - rows.targets) * rows.weights  # [R, C]
        pairs = zip(
            torch.split(rows.tower_features, rows.group_sizes),
            torch.split(error, rows.group_sizes),
            strict=True,
        )
        tower_features = torch.stack([part.T @ part_error for part, part_error in pairs])
        gradient = torch.cat(
            [(rows.base_logits.T @ error).flatten(), tower_features.flatten(), error.sum(0)]
        ).double()
        penalised = vector.clone()
        penalised[-lengths[-1] :] = 0
        total, of_objects = each.sum(dtype=torch.float64), (each * rows.targets).sum(dtype=torch.float64)
        latest = LogLoss(float(of_objects) / weight_of_objects, float(total - of_objects) / weight_of_objects)
        return float(total + ridge / 2 * penalised.square().sum()), gradient + ridge * penalised

    first = torch.cat([part.flatten() for part in parts]).double()
    vector = minimise(loss_and_gradient, first, max_steps, lambda: history.append(latest))
    return unpacked(vector), history


def minimise(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]],
    point: Tensor,
    max_steps: int,
    on_step: Callable[[], None],
) -> Tensor:
    """The minimum of a smooth convex function by L-BFGS; Nocedal and Wright, 2006, 7.2.

    ``on_step`` is called at the first point and wherever a step ends, right after the function was computed.
    Written out because torch.optim imports the compiler: about a second.
    """
    loss, gradient = loss_and_gradient(point)
    on_step()
    steps: list[tuple[Tensor, Tensor]] = []
    for _ in range(max_steps):
        direction = -_times_inverse_hessian(gradient, steps)
        descent = float(gradient @ direction)
        if descent >= 0:
            break
        step_size, lower, upper = 1.0, 0.0, float("inf")
        for _ in range(20):  # Armijo and the weak Wolfe condition, by bisection
            trial = point + step_size * direction
            new_loss, new_gradient = loss_and_gradient(trial)
            if new_loss > loss + 1e-4 * step_size * descent:
                upper = step_size
            elif float(new_gradient @ direction) < 0.9 * descent:
                lower = step_size
            else:
                break
            step_size = 2 * step_size if upper == float("inf") else (lower + upper) / 2
        step, change = trial - point, new_gradient - gradient
        if float(step @ change) > 1e-12:
            steps = [*steps, (step, change)][-MEMORY:]
        progress = loss - new_loss
        point, loss, gradient = trial, new_loss, new_gradient
        on_step()
        if progress < TOLERANCE * max(abs(loss), 1e-3):
            break
    return point


def _times_inverse_hessian(gradient: Tensor, steps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The gradient times the inverse Hessian that the last steps suggest."""
    if not steps:
        return gradient / max(float(gradient.abs().sum()), 1e-12)
    result, alphas = gradient.clone(), []
    for step, change in reversed(steps):
        alpha = (step @ result) / (step @ change)
        alphas.append(alpha)
        result -= alpha * change
    step, change = steps[-1]
    result *= (step @ change) / (change @ change)
    for (step, change), alpha in zip(steps, reversed(alphas), strict=True):
        result += step * (alpha - (change @ result) / (step @ change))
    return result


def logits_of(coefficients: Coefficients, features: AnchorFeatures) -> Tensor:
    """Logits ``[A, C]`` of all anchors of a picture, of coefficients of columns as read."""
    sizes = features.group_sizes(len(coefficients.tower_features))
    return coefficients.logits(features.base_logits, features.tower_features, sizes)
