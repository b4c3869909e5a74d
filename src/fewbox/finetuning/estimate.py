"""What held-out photos say of a detector: calibrated scores, how good it will be, and what to look at again.

    outcomes in held-out photos -> calibration -> thresholds -> estimate of AP50 with an interval -> in words

Calibrated means that of the boxes at 0.8 eight in ten are right. Platt, "Probabilistic Outputs for Support
Vector Machines", 1999: a score's logit is stretched and shifted so that detections in held-out photos are
right as often as they claim. One stretch and shift serves all classes, so the order of detections, and with
it AP, stays the same. The estimate is kept in the detector's file.

No torch is imported here: ``fewbox show`` tells the estimate of an exported detector without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbox.core import counted, some_of
from fewbox.evaluation.metrics import (
    TARGET_PRECISION,
    average_precision,
    calibration_error,
    calibration_error_by_chance,
    count_above,
    reliability_bins,
)
from fewbox.evaluation.outcomes import SHOWN_SCORE, Outcomes

if TYPE_CHECKING:
    from fewbox.finetuning.features import CachedPhoto
    from fewbox.models.features import Coefficients

USUAL_STRETCH, USUAL_SHIFT = 1.0, 0.0
"""Scores as they were learnt: where nothing was held out, and what few held-out detections are drawn to."""
_SPREADS = (0.25, 0.5)
"""Of the prior: standard deviations of the stretch (as a logarithm) and of the shift from the usual ones."""
_STEPS = 100
WELL_CALIBRATED = 0.06
"""Expected calibration error in photos held out below which nothing is corrected: measured, what so little
asks for is as often wrong as right."""
MORE_THAN_CHANCE = 0.1
"""The same where those who detect have learnt from half of the photos only, beyond the error that so few
detections would have by chance: measured, less than that says nothing of a detector that learns from all."""
MIN_HALVED = 6
"""Photos held out, where those who detect have learnt from half of them: two teach too little to go by."""
_CROSSED = 5
"""Parts of the photos, to see whether a calibration serves others than those it is made from."""
RIGHT_MORE_OFTEN = 0.4
"""Of the logit of a score: boxes of who learns from all photos are right more often than those of who learnt
from half of them."""


class Lift(NamedTuple):
    """How much higher the logit of AP50 will be than in photos held out: a normal distribution.

    For detectors that have learnt from more photos, and for longer, than those who detected there.
    """

    mean: float
    spread: float


@dataclass(frozen=True)
class Calibration:
    """``logit`` to ``stretch * logit + shift``; the stretch is above 0."""

    stretch: float = USUAL_STRETCH
    shift: float = USUAL_SHIFT

    def applied(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated scores ``[K]``, 0 to 1."""
        return _sigmoid(self.stretch * _logits(scores) + self.shift)

    def of_head(self, head: Coefficients) -> Coefficients:
        """A head that gives calibrated scores by itself, so that no engine needs to know of calibration."""
        return replace(
            head,
            base_logits=head.base_logits * np.float32(self.stretch),
            tower_features=head.tower_features * np.float32(self.stretch),
            bias=head.bias * np.float32(self.stretch) + np.float32(self.shift),
        )


def calibrate(outcomes: Outcomes, *, learnt_less: bool = False) -> Calibration:
    """The calibration that held-out detections ask for; the fewer they are, the nearer to the usual one.

    Scores stay as they were learnt if they mean what they say already, or if what some photos ask for makes
    the scores in the others no better: then it would not make those in new photos better either.

    Args:
        outcomes: of detections in photos held out.
        learnt_less: those who detected there have learnt from far fewer photos, for a shorter time. Then
            boxes will be right more often, and scores are never made surer.
    """
    counts = outcomes.is_true_positive | outcomes.is_false_positive
    scores, correct = outcomes.predictions.scores[counts], outcomes.is_true_positive[counts]
    photo_ids = outcomes.predictions.photo_ids[counts]
    if learnt_less and len(np.unique(photo_ids)) < MIN_HALVED:
        return Calibration()
    crossed = scores.copy()
    for fold in range(_CROSSED):
        out = photo_ids % _CROSSED == fold
        crossed[out] = _most_likely(scores[~out], correct[~out]).applied(scores[out])
    shown = scores >= SHOWN_SCORE
    bins, bins_by_others = (reliability_bins(some[shown], correct[shown]) for some in (scores, crossed))
    as_learnt, by_others = calibration_error(bins), calibration_error(bins_by_others)
    well = MORE_THAN_CHANCE + calibration_error_by_chance(bins) if learnt_less else WELL_CALIBRATED
    if as_learnt < well or by_others >= as_learnt:
        return Calibration()
    asked = _most_likely(scores, correct)
    if not learnt_less:
        return asked
    return Calibration(min(asked.stretch, 1.0), min(asked.shift + RIGHT_MORE_OFTEN, 0.0))


def _most_likely(scores: NDArray[np.float64], is_right: NDArray[np.bool_]) -> Calibration:
    """The most likely stretch and shift (MAP) under a normal prior, found by Newton's method."""
    logits, correct = _logits(scores), is_right.astype(np.float64)
    usual = np.array([np.log(USUAL_STRETCH), USUAL_SHIFT])
    precision = 1 / np.square(_SPREADS)
    values = usual.copy()
    for _ in range(_STEPS):
        stretch, shift = np.exp(values[0]), values[1]
        claimed = _sigmoid(stretch * logits + shift)
        inputs = np.stack((stretch * logits, np.ones_like(logits)))  # [2, K]
        gradient = inputs @ (claimed - correct) + precision * (values - usual)
        hessian = (inputs * (claimed * (1 - claimed))) @ inputs.T + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        values -= np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-6:
            break
    return Calibration(float(np.exp(values[0])), float(values[1]))


def _logits(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(scores, 1e-6, 1 - 1e-6)
    logits: NDArray[np.float64] = np.log(inside / (1 - inside))
    return logits


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
    return probabilities


COVERAGE = 0.8
"""How often AP50 on new photos of the same kind lies in the interval."""
USUAL_AP50, USUAL_OBJECTS = 0.75, 0.5
"""The prior: the usual detector, and how many held-out objects it counts as."""
OBJECT_WORTH = 0.4
"""What an object held out counts as: those of one set of photos are more alike than new ones will be."""
USUAL_THRESHOLD = 0.4
_DRAWS = 4000


@dataclass(frozen=True)
class Expected:
    """AP50 expected on new photos, 0 to 1: the mean, and the ends of the interval; None if unknown."""

    label: str
    """Of the class; empty for all together: the mean of the classes that have a number."""
    objects: int
    """How many were held out and looked for; if none, there are no numbers: nothing speaks for any."""
    ap50: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Estimate:
    """How good a detector is expected to be on photos like those it learnt from."""

    photos: int
    """With boxes, copies of one counted once: the others do not say how well objects are found."""
    overall: Expected
    classes: tuple[Expected, ...]
    calibration: Calibration
    score_threshold: float
    """Balances missed objects and false alarms; ``USUAL_THRESHOLD`` if no held-out object was found."""
    precise_threshold: float | None
    """Above it nine in ten boxes are right; ``TARGET_PRECISION`` if none is so sure, None if none is."""
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return asdict(self)


def estimate_of_photos(
    photos: Sequence[CachedPhoto],
    labels: Sequence[str],
    outcomes: Outcomes | None,
    lift: Lift | None = None,
) -> Estimate:
    """What held-out ``outcomes`` in ``photos`` say, with what should be said of the photos themselves.

    ``lift`` is for ``outcomes`` of those who have learnt from far fewer photos.
    """
    # With what runs networks: not for "fewbox show".
    from fewbox.finetuning.features import groups_of_copies, shared_boxes

    calibration = Calibration()
    if outcomes is not None:
        calibration = calibrate(outcomes, learnt_less=lift is not None)
    shown = {class_id for photo in photos for class_id in photo.class_ids.tolist()}
    boxless = [label for class_id, label in enumerate(labels) if class_id not in shown]
    warnings = data_warnings(photos, outcomes)
    if twice := [f"{labels[learnt]} and {labels[other]}" for learnt, other in shared_boxes(photos)]:
        told = "only the first of the two is learnt there: make a detector for each"
        warnings.append(f"the very same box is drawn as two classes: {some_of(twice)}; {told}")
    groups = groups_of_copies(photos)
    with_boxes = sum(any(len(photos[number].boxes) for number in group) for group in groups)
    return estimate(outcomes, labels, with_boxes, calibration, warnings, boxless, lift)


def estimate(
    outcomes: Outcomes | None,
    labels: Sequence[str],
    photos: int,
    calibration: Calibration,
    warnings: Sequence[str] = (),
    boxless: Sequence[str] = (),
    lift: Lift | None = None,
) -> Estimate:
    """Put together what is known.

    An object that is found or missed is a draw; what is expected of a class is a Beta distribution with
    the usual detector as its prior. AP50 is not a share of objects, but as uncertain as one: measured
    with benchmarks/fewshot.py, which says how often the interval holds.

    Args:
        outcomes: of held-out detections with the scores as learnt; None if nothing could be held out.
        labels: of the C classes.
        photos: how many there were with boxes, copies of one counted once.
        calibration: made from the same outcomes.
        warnings: what else should be said with the numbers, as of :func:`data_warnings`.
        boxless: the labels of which there is no box at all.
        lift: of the logit of each class's AP50, the same for all classes in each draw.
    """
    generator = np.random.default_rng(0)
    lifts = np.sort(generator.normal(*lift, _DRAWS)) if lift else None
    classes, draws = [], []
    for class_id, label in enumerate(labels):
        found, objects = (0.0, 0) if outcomes is None else _held_out_ap50(outcomes, class_id)
        if objects == 0:
            classes.append(Expected(label, 0))
            continue
        expected = np.full(_DRAWS, found)
        if lifts is not None:
            expected = _sigmoid(_logits(expected) + lifts)
        hits = USUAL_AP50 * USUAL_OBJECTS + expected * objects * OBJECT_WORTH
        misses = (1 - USUAL_AP50) * USUAL_OBJECTS + (1 - expected) * objects * OBJECT_WORTH
        # Sorted: what makes one class easy or hard, such as size or clutter, does so for the others too.
        draws.append(np.sort(generator.beta(hits, misses)))
        classes.append(_expected(label, objects, draws[-1]))
    held_out = sum(one.objects for one in classes)
    overall = _expected("", held_out, np.mean(draws, 0)) if draws else Expected("", 0)
    balanced, precise = thresholds(outcomes, len(labels), calibration)
    said = (*warnings, *_limits(classes, photos, boxless))
    return Estimate(photos, overall, tuple(classes), calibration, balanced, precise, said)


def _held_out_ap50(outcomes: Outcomes, class_id: int) -> tuple[float, int]:
    """AP50 of a class and of how many objects."""
    rows = np.flatnonzero(outcomes.predictions.class_ids == class_id)
    rows = rows[np.argsort(-outcomes.predictions.scores[rows], kind="stable")]
    objects = int((outcomes.counted & (outcomes.ground_truth.class_ids == class_id)).sum())
    if objects == 0:
        return 0.0, 0
    return average_precision(
        outcomes.is_true_positive[rows], outcomes.is_false_positive[rows], objects
    ), objects


def mean_ap50(outcomes: Outcomes, num_classes: int) -> float:
    """The plain mean of the AP50 of the classes of which objects were held out; 0 if there is none."""
    known = [ap50 for c in range(num_classes) for ap50, objects in [_held_out_ap50(outcomes, c)] if objects]
    return float(np.mean(known)) if known else 0.0


def _expected(label: str, objects: int, draws: NDArray[np.float64]) -> Expected:
    low, high = np.quantile(draws, ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)).tolist()
    # Outwards to the whole percent people are told: a Beta distribution never reaches 1, a detector may.
    return Expected(
        label, objects, float(draws.mean()), math.floor(100 * low) / 100, math.ceil(100 * high) / 100
    )


def thresholds(
    outcomes: Outcomes | None, num_classes: int, calibration: Calibration
) -> tuple[float, float | None]:
    """Two score thresholds for calibrated scores: the one that balances, and the precise one.

    With calibrated scores the best threshold for F1 is half of the F1 it gives (Lipton et al., "Optimal
    Thresholding of Classifiers to Maximize F1 Measure", 2014), so only that one number is taken from
    the few held-out objects. The precise one is the lowest score above which the mean score is high enough.
    """
    if outcomes is None or not outcomes.is_true_positive.any():
        return USUAL_THRESHOLD, None
    best_f1 = float(count_above(outcomes, num_classes).sum().f1.max())
    counts = outcomes.is_true_positive | outcomes.is_false_positive
    scores = np.sort(calibration.applied(outcomes.predictions.scores[counts]))[::-1]
    mean_above = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    precise = scores[mean_above >= TARGET_PRECISION]
    return best_f1 / 2, max(float(precise[-1]) if len(precise) else TARGET_PRECISION, best_f1 / 2)


def _limits(classes: Sequence[Expected], photos: int, boxless: Sequence[str]) -> tuple[str, ...]:
    """What the numbers cannot know."""
    limits = []
    if boxless:
        limits.append(f"there is no box of {some_of(boxless)} to learn from: nothing was learnt of it")
    if unseen := [one.label for one in classes if one.objects == 0 and one.label not in boxless]:
        told = "one more photo of it would tell a lot"
        limits.append(f"nothing to check against for {some_of(unseen)}: {told}")
    elif photos < 10:
        told = counted(photos, "photo tells", "photos tell")
        limits.append(f"{told} little: more would narrow the interval")
    limits.append("all of this is for photos like these; other scenes, light and distances may differ")
    return tuple(limits)


def estimate_in_words(stored: Mapping[str, Any]) -> str:
    """The lines that ``fewbox show`` prints of an estimate as :meth:`Estimate.to_dict` stores it."""
    classes, overall = stored["classes"], stored["overall"]
    known = sum(one["objects"] > 0 for one in classes)
    if not known:
        lines = ["how good it is cannot be said: no object could be held out to check it on"]
    elif len(classes) == 1:
        lines = [_in_words("expected", overall)]
    else:
        lines = [_in_words(one["label"], one) for one in classes]
        if known > 1:
            every = "all classes" if known == len(classes) else f"{known} of {counted(len(classes), 'class')}"
            lines.insert(0, _in_words(every, overall))
    usual, precise = stored["score_threshold"], stored["precise_threshold"]
    if precise is None:
        lines.append(f"score threshold: {usual:.2f}, the usual one: nothing that was held out says better")
    else:
        surest = f"above {min(precise, 0.99):.2f} nine boxes in ten should be right"
        if precise == TARGET_PRECISION:
            surest = "no box held out was so sure that nine in ten like it should be right"
        lines.append(f"score threshold: {usual:.2f} balances misses and false alarms; {surest}")
    return "\n".join([*lines, *(f"note: {remark}" for remark in stored["remarks"])])


def _in_words(name: str, one: Mapping[str, Any]) -> str:
    if not one["objects"]:
        return f"{name}: not estimated (0 objects held out)"
    return (
        f"{name}: AP50 {one['ap50']:.0%}, four times in five between {one['low']:.0%} and "
        f"{one['high']:.0%} ({counted(one['objects'], 'object')} held out)"
    )


_BOXES_DIFFER = "what has a box in only one of them is learnt as background too: put the boxes together"
FOUND_SCORE = 0.05


def data_warnings(photos: Sequence[CachedPhoto], outcomes: Outcomes | None) -> list[str]:
    """One line for each thing in the photos that a person should look at again; nothing if all is well.

    Args:
        photos: N photos.
        outcomes: of held-out detections in them, if there are any.
    """
    # Not for "fewbox show".
    from fewbox.data.checks.findings import SMALLEST_CELL, are_tiny
    from fewbox.finetuning import features

    warnings = []
    groups = features.groups_of_copies(photos)
    if copies := [photos[number].name for group in groups for number in group[1:]]:
        held_out = "it is held out together with it"
        if features.held_together(photos) != groups:
            held_out = "finding its object again proves nothing, so the estimate is too high"
        same = (features.has_same_boxes(photos[n], photos[group[0]]) for group in groups for n in group)
        learnt = "nothing more is learnt from it" if all(same) else _BOXES_DIFFER
        warnings.append(f"the same picture as another: {some_of(copies)}; {learnt}, and {held_out}")
    if small := [photo.name for photo in photos if are_tiny(photo.boxes).any()]:
        warnings.append(
            f"boxes below {SMALLEST_CELL} x {SMALLEST_CELL} pixels, as the network sees them: "
            f"{some_of(small)}; too small to be learnt well: cut the photos to the part that matters, "
            "or come nearer"
        )
    if outcomes is not None:
        missed = outcomes.counted & (outcomes.found_score < FOUND_SCORE)
        if missed.sum() > outcomes.counted.sum() / 2:
            places = dict.fromkeys(outcomes.ground_truth.photo_ids[missed].tolist())
            names = [photos[place].name for place in places]
            warnings.append(
                f"most objects are not recognised from the other photos: {some_of(names)}; check that the "
                "boxes are around the right things, or add photos that are more alike"
            )
    return warnings
