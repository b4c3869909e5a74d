"""Logistic regression of several classes at once: the loss, and its minimum by L-BFGS.

The problem is convex and smooth, so there is one answer and no learning rate to choose.

Letters in shapes: R rows, C classes, S columns of base logits and D of tower features, G groups, A anchors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbox.errors import FinetuneError
from fewbox.models.features import AnchorFeatures, Coefficients, Floats, group_slices

Vector = NDArray[np.float64]

MEMORY = 10
"""The last steps, from which the curvature is estimated; Nocedal and Wright, 2006, section 7.2."""
TOLERANCE = 1e-5
"""Relative progress of a step below which it is the last."""


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regression learns from. Rows of one group stand together, in the order of the groups."""

    base_logits: Floats
    """``[R, S]`` columns that mean the same in every group."""
    tower_features: Floats
    """``[R, D]`` columns that mean something else in every group."""
    group_sizes: list[int]
    """How many rows each of the G groups has."""
    targets: Floats
    """``[R, C]`` 0 to 1."""
    weights: Floats
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

    Raises:
        FinetuneError: the loss is not a finite number.
    """
    weight_of_objects = max(float(np.sum(rows.weights * rows.targets, dtype=np.float64)), 1e-12)
    latest = LogLoss(0.0, 0.0)
    history: list[LogLoss] = []
    parts = (start.base_logits, start.tower_features, start.bias)
    ends = np.cumsum([part.size for part in parts])
    groups = group_slices(rows.group_sizes)

    def unpacked(vector: Vector) -> Coefficients:
        pieces = np.split(vector.astype(rows.base_logits.dtype), ends[:-1])
        return Coefficients(*(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)))

    def loss_and_gradient(vector: Vector) -> tuple[float, Vector]:
        nonlocal latest
        now = unpacked(vector)
        logits = now.logits(rows.base_logits, rows.tower_features, rows.group_sizes)
        each, error = _binary_cross_entropy(logits, rows.targets, rows.weights)  # [R, C]
        of_towers = [(rows.tower_features[part].T @ error[part]).ravel() for part in groups]
        of_logits = (rows.base_logits.T @ error).ravel()
        gradient = np.concatenate([of_logits, *of_towers, error.sum(0)]).astype(np.float64)
        penalised = vector.copy()
        penalised[-start.bias.size :] = 0
        total = float(np.sum(each, dtype=np.float64))
        of_objects = float(np.sum(each * rows.targets, dtype=np.float64))
        latest = LogLoss(of_objects / weight_of_objects, (total - of_objects) / weight_of_objects)
        return total + ridge / 2 * float(penalised @ penalised), gradient + ridge * penalised

    def end_step() -> None:
        if not math.isfinite(sum(latest)):
            hint = "what the base gives is none: train or download it again, or take another one"
            raise FinetuneError(f"step {len(history) + 1}: the loss is not finite", hint=hint)
        history.append(latest)

    first = np.concatenate([part.ravel() for part in parts]).astype(np.float64)
    vector = minimise(loss_and_gradient, first, max_steps, end_step)
    return unpacked(vector), history


def _binary_cross_entropy(logits: Floats, targets: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Binary cross-entropy ``[R, C]``, weighted, and what of it is the gradient of each logit."""
    small = np.abs(logits)
    np.negative(small, out=small)
    np.exp(small, out=small)  # never overflows
    each = np.log1p(small)
    each += np.maximum(logits, 0)
    each -= logits * targets
    each *= weights
    error = np.where(logits >= 0, np.float32(1), small)
    small += 1
    error /= small  # now the probability
    error -= targets
    error *= weights
    return each, error


def minimise(
    loss_and_gradient: Callable[[Vector], tuple[float, Vector]],
    point: Vector,
    max_steps: int,
    on_step: Callable[[], None],
) -> Vector:
    """The minimum of a smooth convex function by L-BFGS; Nocedal and Wright, 2006, 7.2.

    ``on_step`` is called at the first point and wherever a step ends, right after the function was computed.
    Written out, as importing SciPy's takes longer than most fits.
    """
    loss, gradient = loss_and_gradient(point)
    on_step()
    steps: list[tuple[Vector, Vector]] = []
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


def _times_inverse_hessian(gradient: Vector, steps: Sequence[tuple[Vector, Vector]]) -> Vector:
    """The gradient times the inverse Hessian that the last steps suggest."""
    if not steps:
        return gradient / max(float(np.abs(gradient).sum()), 1e-12)
    result, alphas = gradient.copy(), []
    for step, change in reversed(steps):
        alpha = (step @ result) / (step @ change)
        alphas.append(alpha)
        result -= alpha * change
    step, change = steps[-1]
    result *= (step @ change) / (change @ change)
    for (step, change), alpha in zip(steps, reversed(alphas), strict=True):
        result += step * (alpha - (change @ result) / (step @ change))
    return result


def logits_of(coefficients: Coefficients, features: AnchorFeatures) -> Floats:
    """Logits ``[A, C]`` of all anchors of a picture, of coefficients of columns as read."""
    sizes = features.group_sizes(len(coefficients.tower_features))
    return coefficients.logits(features.base_logits, features.tower_features, sizes)
