"""The linear probe itself: one regularised logistic regression, minimised by L-BFGS.

Logistic regression of several classes at once, minimised by L-BFGS.

The problem is convex and smooth, so there is one answer and no learning rate to choose.

Letters in shapes: R rows, C classes, S columns of base logits and D of tower features, G groups.

The novel head: one regularised logistic regression on the features of all views of all photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewbox.finetuning.linear_probe.targets import Sample
from fewbox.models.network import AnchorFeatures, Coefficients

MEMORY = 10
"""Steps that the shape of the valley is estimated from; Nocedal and Wright, 2006, section 7.2."""
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
        pieces = torch.split(vector.float(), lengths)
        return Coefficients(*(piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)))

    def loss_and_slope(vector: Tensor) -> tuple[float, Tensor]:
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
        tower_features = torch.stack([part.T @ wrong for part, wrong in pairs])
        slope = torch.cat(
            [(rows.base_logits.T @ error).flatten(), tower_features.flatten(), error.sum(0)]
        ).double()
        shrunk = vector.clone()
        shrunk[-lengths[-1] :] = 0
        every, of_objects = each.sum(dtype=torch.float64), (each * rows.targets).sum(dtype=torch.float64)
        latest = LogLoss(float(of_objects) / weight_of_objects, float(every - of_objects) / weight_of_objects)
        return float(every + ridge / 2 * shrunk.square().sum()), slope + ridge * shrunk

    begin = torch.cat([part.flatten() for part in parts]).double()
    vector = minimise(loss_and_slope, begin, max_steps, lambda: history.append(latest))
    return unpacked(vector), history


def minimise(
    loss_and_slope: Callable[[Tensor], tuple[float, Tensor]],
    place: Tensor,
    max_steps: int,
    on_step: Callable[[], None],
) -> Tensor:
    """The lowest place of a smooth function; Nocedal and Wright, 2006, 7.2.

    ``on_step`` is called at the first place and wherever a step ends, right after the function was there.
    Written out because torch.optim imports the compiler: about a second.
    """
    value, slope = loss_and_slope(place)
    on_step()
    moves: list[tuple[Tensor, Tensor]] = []
    for _ in range(max_steps):
        direction = -_scaled(slope, moves)
        fall = float(slope @ direction)
        if fall >= 0:
            break
        step, shortest, longest = 1.0, 0.0, float("inf")
        for _ in range(20):  # Armijo and the weak Wolfe condition, by bisection
            there = place + step * direction
            new_value, new_slope = loss_and_slope(there)
            if new_value > value + 1e-4 * step * fall:
                longest = step
            elif float(new_slope @ direction) < 0.9 * fall:
                shortest = step
            else:
                break
            step = 2 * step if longest == float("inf") else (shortest + longest) / 2
        move, bend = there - place, new_slope - slope
        if float(move @ bend) > 1e-12:
            moves = [*moves, (move, bend)][-MEMORY:]
        progress = value - new_value
        place, value, slope = there, new_value, new_slope
        on_step()
        if progress < TOLERANCE * max(abs(value), 1e-3):
            break
    return place


def _scaled(slope: Tensor, moves: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The slope times the inverse curvature that the last moves suggest."""
    if not moves:
        return slope / max(float(slope.abs().sum()), 1e-12)
    result, shares = slope.clone(), []
    for move, bend in reversed(moves):
        share = (move @ result) / (move @ bend)
        shares.append(share)
        result -= share * bend
    move, bend = moves[-1]
    result *= (move @ bend) / (bend @ bend)
    for (move, bend), share in zip(moves, reversed(shares), strict=True):
        result += move * (share - (bend @ result) / (move @ bend))
    return result


RIDGE = 100.0
"""How strongly coefficients are held at 0, with columns of spread 1 and objects of weight 20."""
TOWER_SCALE = 0.4
"""What scaled tower features are multiplied with: each group learns them from its own rows alone."""
MAX_STEPS = 80
START_BIAS = -4.0


@dataclass(frozen=True, eq=False)
class Scale:
    """Makes columns comparable. Raw ones are not shifted: a shift would be another bias for each group."""

    base_shift: Tensor
    base_factor: Tensor
    tower_factor: Tensor

    def undone(self, scaled: Coefficients) -> Coefficients:
        """The coefficients of columns as read that give the logits of ``scaled`` on scaled columns."""
        base_logits = scaled.base_logits * self.base_factor[:, None]
        tower_features = scaled.tower_features * self.tower_factor[:, None]
        return Coefficients(base_logits, tower_features, scaled.bias - self.base_shift @ base_logits)


@dataclass(frozen=True, eq=False)
class DesignMatrix:
    """The samples of many pictures as one table, with columns scaled and rows sorted by group."""

    rows: Rows
    photos: Tensor
    """``[R]`` int64: which photo a row's picture is a view of."""
    scale: Scale

    @classmethod
    def of(
        cls, samples: Sequence[Sample], photos: Sequence[int], column_scale: Tensor, num_groups: int
    ) -> DesignMatrix:
        """Put ``samples`` together.

        Args:
            samples: one per picture.
            photos: which photo each picture is a view of; the views of a photo weigh as one together.
            column_scale: as of the :class:`FeatureExtractor`.
            num_groups: as of the :class:`FeatureExtractor`.
        """
        views = torch.bincount(torch.tensor(photos))
        groups = torch.cat([sample.features.groups for sample in samples])
        order = torch.sort(groups, stable=True).indices
        base_logits = torch.cat([sample.features.base_logits for sample in samples])[order]
        tower_features = torch.cat([sample.features.tower_features for sample in samples])[order]
        weights = torch.cat([one.weights / views[photo] for one, photo in zip(samples, photos, strict=True)])
        weights = weights[order]
        each = weights.mean(1)
        shift, spread = _mean_and_spread(base_logits, each)
        scale = Scale(shift, column_scale / spread, TOWER_SCALE / _mean_and_spread(tower_features, each)[1])
        rows = Rows(
            base_logits=base_logits.sub_(shift).mul_(scale.base_factor),
            tower_features=tower_features.mul_(scale.tower_factor),
            group_sizes=torch.bincount(groups, minlength=num_groups).tolist(),
            targets=torch.cat([sample.targets for sample in samples])[order],
            weights=weights,
        )
        of_rows = torch.repeat_interleave(
            torch.tensor(photos), torch.tensor([len(sample.targets) for sample in samples])
        )
        return cls(rows, of_rows[order], scale)

    def without(self, photos: Sequence[int]) -> Rows:
        """The rows of all but some photos."""
        weights = self.rows.weights.clone()
        weights[torch.isin(self.photos, torch.tensor(photos))] = 0
        return Rows(
            self.rows.base_logits, self.rows.tower_features, self.rows.group_sizes, self.rows.targets, weights
        )

    def blank(self) -> Coefficients:
        """Where a fit starts: everything is unlikely."""
        rows = self.rows
        num_classes = rows.targets.shape[1]
        return Coefficients(
            torch.zeros(rows.base_logits.shape[1], num_classes),
            torch.zeros(len(rows.group_sizes), rows.tower_features.shape[1], num_classes),
            torch.full((num_classes,), START_BIAS),
        )


def fit_novel_head(samples: DesignMatrix) -> tuple[Coefficients, list[LogLoss]]:
    """The coefficients of columns as read, learnt from all photos, and the losses of each step."""
    scaled, losses = fit_logistic(samples.rows, RIDGE, samples.blank(), MAX_STEPS)
    return samples.scale.undone(scaled), losses


def logits_of(coefficients: Coefficients, features: AnchorFeatures) -> Tensor:
    """Logits ``[A, C]`` of all anchors of a picture, of coefficients of columns as read."""
    sizes = features.group_sizes(len(coefficients.tower_features))
    return coefficients.logits(features.base_logits, features.tower_features, sizes)


def _mean_and_spread(columns: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation of each column; a column that never changes gets a spread of 1."""
    share = weights / weights.sum().clamp(min=1e-12)
    mean = share @ columns
    spread = (share @ (columns - mean).square()).sqrt()
    return mean, torch.where(spread > 1e-6, spread, 1.0)
