"""What the linear probe learns, and how: targets of anchors, one table of all, and logistic regression.

    what each anchor of an image teaches -> all of them as one table -> the loss -> its minimum by L-BFGS

The regression is of several classes at once. The problem is convex and smooth, so there is one answer and no
learning rate to choose.

Letters in shapes: A anchors, R of them that are learnt from, M boxes, C novel classes, S columns of base
logits and D of tower features, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import box_areas, intersection_areas, pairwise_iou
from fewbox.errors import FinetuneError
from fewbox.models.features import AnchorFeatures, Coefficients, Floats, PictureFeatures, group_slices

MATCHED_IOU = 0.6
"""Overlap of an anchor's own box with an annotation from which on the anchor shows it."""
NEAR_IOU = 0.2
"""Overlap from which on an anchor is always learnt from: its box is easily taken for right."""
IGNORED_IOU = 0.3
"""Overlap with a region to ignore from which on an anchor teaches nothing."""
IGNORED_SHARE = 0.5
"""The share of an anchor's own box inside of such a region from which on it teaches nothing either: one of a
crowd. So COCO's evaluation has it."""
OBJECT_WEIGHT = 20.0
"""What all anchors of one object weigh together, where an anchor of the background weighs 1."""
TOWER_SCALE = 0.4
"""What standardised tower features are multiplied with: each group learns them from its own rows alone."""
START_BIAS = -4.0
"""Of every class, where a fit starts: everything is unlikely."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The anchors of one image that are learnt from."""

    features: AnchorFeatures
    targets: Floats
    """``[R, C]``."""
    weights: Floats
    """``[R, C]``: how many anchors of the background each counts as."""


def assign_targets(
    features: PictureFeatures,
    boxes: Floats,
    class_ids: NDArray[np.int64],
    ignored: Floats,
    generator: np.random.RandomState,
    *,
    num_classes: int,
    num_background: int,
) -> Sample:
    """Decide which anchors of an image teach what.

    An anchor shows the annotation that its box overlaps most, if by enough; the best anchor of an
    annotation shows it in any case, unless none overlaps it. All others are background, but for those
    on ignored regions.

    Args:
        features: all anchors of the image.
        boxes: ``[M, 4]`` annotations in pixels of the input; M may be 0.
        class_ids: ``[M]``.
        ignored: ``[K, 4]`` regions that teach neither way.
        generator: draws background anchors.
        num_classes: C.
        num_background: how many anchors without an object are learnt from: so many that the base finds
            likeliest to show anything, the hard negatives, and so many drawn from the others, to stand
            for them all.
    """
    count = len(features.boxes)
    targets, weights = np.zeros((count, num_classes), np.float32), np.ones(count, np.float32)
    near = np.zeros(count, bool)
    if len(ignored):
        inside = intersection_areas(ignored[:, None], features.boxes) / np.maximum(
            box_areas(features.boxes), 1e-12
        )
        overlaps = pairwise_iou(ignored, features.boxes) >= IGNORED_IOU
        weights[(overlaps | (inside >= IGNORED_SHARE)).any(0)] = 0
    if len(boxes):
        iou = pairwise_iou(boxes, features.boxes)  # [M, A]
        best_iou, matched = iou.max(0), iou.argmax(0)  # [A]
        positive = best_iou >= MATCHED_IOU
        for box, anchor in reversed(list(enumerate(iou.argmax(1).tolist()))):
            if iou[box, anchor] > 0:
                positive[anchor], matched[anchor] = True, box
        targets[positive, class_ids[matched[positive]]] = 1
        per_object = np.maximum(np.bincount(matched[positive], minlength=len(boxes)), 1)
        weights[positive] = OBJECT_WEIGHT / per_object[matched[positive]]
        near = positive | (best_iou >= NEAR_IOU)
    certain = near | (features.base_score >= _nth_highest(features.base_score, num_background))
    others = np.flatnonzero(~certain & (weights > 0))
    drawn = _drawn(others, num_background, generator)
    weights[drawn] *= len(others) / max(len(drawn), 1)
    learnt = certain & (weights > 0)
    learnt[drawn] = True
    rows = np.flatnonzero(learnt)
    of_classes = np.broadcast_to(weights[rows, None], (len(rows), num_classes))
    return Sample(features.at(rows), targets[rows], of_classes)


def _drawn(rows: NDArray[np.int64], count: int, generator: np.random.RandomState) -> NDArray[np.int64]:
    """The first ``count`` of the rows, or all, in the order that ``torch.randperm`` has for the same seed.

    So had versions that computed in PyTorch, and so has the page of ``examples/web``.
    """
    order, last = rows.tolist(), max(len(rows) - 1, 0)
    draws = generator.randint(
        0, 1 << 32, last, np.uint32
    ).tolist()  # of all: the next picture goes on from there
    for place, draw in enumerate(draws[:count]):
        other = place + draw % (len(order) - place)
        order[place], order[other] = order[other], order[place]
    return np.array(order[:count], np.int64)


def _nth_highest(values: Floats, n: int) -> np.float32:
    n = min(n, len(values))
    highest: np.float32 = np.partition(values, -n)[-n]
    return highest


@dataclass(frozen=True, eq=False)
class Scale:
    """Standardises columns. Tower features are not shifted: a shift would be another bias for each group."""

    base_shift: Floats
    base_factor: Floats
    tower_factor: Floats

    def undone(self, scaled: Coefficients) -> Coefficients:
        """The coefficients of columns as read that give the logits of ``scaled`` on scaled columns."""
        base_logits = scaled.base_logits * self.base_factor[:, None]
        tower_features = scaled.tower_features * self.tower_factor[:, None]
        return Coefficients(base_logits, tower_features, scaled.bias - self.base_shift @ base_logits)


@dataclass(frozen=True, eq=False)
class DesignMatrix:
    """The samples of all images as one table, with columns standardised and rows sorted by group."""

    rows: Rows
    photos: NDArray[np.int64]
    """``[R]``: the photo that each row's image is a view of."""
    scale: Scale

    @classmethod
    def of(
        cls, samples: Sequence[Sample], photos: Sequence[int], column_scale: Floats, num_groups: int
    ) -> DesignMatrix:
        """Put ``samples`` together.

        Args:
            samples: one per image: of photos, and of augmented views of them.
            photos: the photo that each image is a view of; all images of a photo weigh as one together.
            column_scale: as of the :class:`FeatureExtractor`.
            num_groups: as of the :class:`FeatureExtractor`.
        """
        views = np.bincount(photos)
        groups = np.concatenate([sample.features.groups for sample in samples])
        order = np.argsort(groups, kind="stable")
        base_logits = np.concatenate([sample.features.base_logits for sample in samples])[order]
        tower_features = np.concatenate([sample.features.tower_features for sample in samples])[order]
        each_weighs = [np.float32(1 / views[photo]) for photo in photos]
        weights = np.concatenate([s.weights * share for s, share in zip(samples, each_weighs, strict=True)])
        weights = weights[order]
        each = weights.mean(1)
        shift, spread = _mean_and_spread(base_logits, each)
        scale = Scale(shift, column_scale / spread, TOWER_SCALE / _mean_and_spread(tower_features, each)[1])
        base_logits -= shift
        base_logits *= scale.base_factor
        tower_features *= scale.tower_factor
        rows = Rows(
            base_logits=base_logits,
            tower_features=tower_features,
            group_sizes=np.bincount(groups, minlength=num_groups).tolist(),
            targets=np.concatenate([sample.targets for sample in samples])[order],
            weights=weights,
        )
        of_rows = np.repeat(photos, [len(sample.targets) for sample in samples])
        return cls(rows, of_rows[order], scale)

    def fit(
        self, ridge: float, max_steps: int, *, held_out: Sequence[int] = ()
    ) -> tuple[Coefficients, list[LogLoss]]:
        """The coefficients of columns as read, and the losses of each step.

        Args:
            ridge: how strongly coefficients are held at 0.
            max_steps: of L-BFGS.
            held_out: photos from which nothing is learnt.
        """
        rows = self._without(held_out) if held_out else self.rows
        num_classes = rows.targets.shape[1]
        start = Coefficients(
            np.zeros((rows.base_logits.shape[1], num_classes), np.float32),
            np.zeros((len(rows.group_sizes), rows.tower_features.shape[1], num_classes), np.float32),
            np.full(num_classes, START_BIAS, np.float32),
        )
        scaled, losses = fit_logistic(rows, ridge, start, max_steps)
        return self.scale.undone(scaled), losses

    def _without(self, photos: Sequence[int]) -> Rows:
        """The rows, of which those of some photos weigh nothing."""
        weights = self.rows.weights.copy()
        weights[np.isin(self.photos, photos)] = 0
        return replace(self.rows, weights=weights)


def _mean_and_spread(columns: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation of each column; a column that never changes gets a spread of 1."""
    share = weights / max(weights.sum(), np.float32(1e-12))
    mean = share @ columns
    spread = np.sqrt(share @ np.square(columns - mean))
    return mean, np.where(spread > 1e-6, spread, np.float32(1))


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
