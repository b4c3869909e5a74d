"""Metrics of a detector: COCO's AP and AR, the calibration of its scores, and counts at score thresholds.

    AP     mean precision at 101 levels of recall, over IoU 0.50 to 0.95 and the classes with ground truth
    AP50   the same at IoU 0.50 alone: was the object found, wherever exactly its edges are
    AR     the largest recall, over the same IoUs and classes, with up to 1, 10 or 100 predictions of a
           class in a photo
    ECE    expected calibration error: of the predictions at 0.8, are eight in ten true positives?

AP and AR are those of https://cocodataset.org/#detection-eval as pycocotools computes them, with which a
test compares; but a measure of nothing is NaN here, not -1. The area of an object is the one that its file
states, which in COCO's own files is that of the object's outline; else that of its box.

ECE is the mean difference, over bins of score, between the mean score of the predictions in a bin and the
share of true positives among them, weighted by their number: Guo et al., "On Calibration of Modern Neural
Networks" (2017), equations 2 and 3; for detectors Küppers et al., "Multivariate Confidence Calibration for
Object Detection" (2020).

Letters in shapes: K predictions, C classes, T thresholds, R ranges of areas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbox.core.arguments import checked_threshold
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable, match_boxes
from fewbox.evaluation.outcomes import ALARM_KINDS, MISS_KINDS, Outcomes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
"""All, small, medium and large boxes, in square pixels."""
MAX_PER_PHOTO = 100
"""Predictions of one class in one photo that COCO looks at, the surest."""

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, 0 to 1, and two for each class; NaN where there is no ground truth.

    ``ap_small`` and the like count objects of up to 32², up to 96² and more square pixels; ``ar_10`` is
    the average recall with up to 10 predictions of a class in a photo, ``ar_small`` with up to 100.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    class_ap: tuple[float, ...]
    class_ap50: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The twelve numbers by name, ready for JSON: None where there is no ground truth."""
        numbers = asdict(self)
        del numbers["class_ap"], numbers["class_ap50"]
        return {name: none_if_nan(value) for name, value in numbers.items()}


def none_if_nan(value: float) -> float | None:
    """``value``, but None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def coco_metrics(
    predictions: PredictionTable, ground_truth: GroundTruthTable, num_classes: int
) -> CocoMetrics:
    """Measure predictions, down to very low scores, against the ground truth of the same photos."""
    matches = match_boxes(predictions, ground_truth, IOU_THRESHOLDS, AREA_RANGES, MAX_PER_PHOTO)
    is_true_positive, is_false_positive = matches.is_true_positive, matches.is_false_positive
    shape = (num_classes, len(IOU_THRESHOLDS), len(AREA_RANGES))
    ap, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    recall_1, recall_10 = np.full(shape[:2], np.nan), np.full(shape[:2], np.nan)
    # Photo after photo, in each by rank, before sorting by score: so COCO orders equal scores.
    order = np.lexsort((matches.rank, predictions.photo_ids))
    order = order[np.lexsort((-predictions.scores[order], predictions.class_ids[order]))]
    edges = np.searchsorted(predictions.class_ids[order], np.arange(num_classes + 1))
    for class_id in range(num_classes):
        rows = order[edges[class_id] : edges[class_id + 1]]
        counts = matches.counted[ground_truth.class_ids == class_id].sum(0)  # [R]
        true_positives, false_positives = is_true_positive[rows], is_false_positive[rows]
        for area in np.flatnonzero(counts):
            recall[class_id, :, area] = true_positives[:, :, area].sum(0) / counts[area]
            for threshold in range(len(IOU_THRESHOLDS)):
                ap[class_id, threshold, area] = average_precision(
                    true_positives[:, threshold, area], false_positives[:, threshold, area], int(counts[area])
                )
        if counts[0]:
            recall_1[class_id] = true_positives[matches.rank[rows] < 1, :, 0].sum(0) / counts[0]
            recall_10[class_id] = true_positives[matches.rank[rows] < 10, :, 0].sum(0) / counts[0]
    at_75 = int(np.argmin(abs(IOU_THRESHOLDS - 0.75)))
    ap_of_areas, recall_of_areas = (
        [_mean(values[..., area]) for area in range(len(AREA_RANGES))] for values in (ap, recall)
    )
    return CocoMetrics(
        ap=ap_of_areas[0],
        ap50=_mean(ap[:, 0, 0]),
        ap75=_mean(ap[:, at_75, 0]),
        ap_small=ap_of_areas[1],
        ap_medium=ap_of_areas[2],
        ap_large=ap_of_areas[3],
        ar_1=_mean(recall_1),
        ar_10=_mean(recall_10),
        ar_100=recall_of_areas[0],
        ar_small=recall_of_areas[1],
        ar_medium=recall_of_areas[2],
        ar_large=recall_of_areas[3],
        class_ap=tuple(ap[..., 0].mean(1).tolist()),
        class_ap50=tuple(ap[:, 0, 0].tolist()),
    )


def average_precision(
    is_true_positive: npt.NDArray[np.bool_], is_false_positive: npt.NDArray[np.bool_], num_objects: int
) -> float:
    """Mean over 101 levels of recall, 0 to 1, of the best precision at that recall or a higher one.

    Args:
        is_true_positive: ``[K]``, the predictions with the highest score first: those that found an object.
        is_false_positive: ``[K]``: those that found none. A prediction that is neither does not count.
        num_objects: how many there are to be found, more than 0.
    """
    hits, alarms = np.cumsum(is_true_positive), np.cumsum(is_false_positive)
    precision = hits / np.maximum(hits + alarms, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / num_objects, _RECALLS, "left")
    return float(best[place[place < len(best)]].sum() / len(_RECALLS))


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


_TWO_SIDED = 1.96  # standard deviations that hold 95% of a normal distribution
NUM_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions with a score above ``low`` and up to ``high``; at least one."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


def reliability_bins(
    scores: npt.ArrayLike, is_true_positive: npt.ArrayLike, num_bins: int = NUM_BINS
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width that hold a prediction, from low scores to high ones.

    Args:
        scores: ``[K]``, 0 to 1; a score of 0 is in the first bin.
        is_true_positive: ``[K]`` whether each found an object.
        num_bins: how many bins 0 to 1 is cut into.

    Raises:
        ValueError: the lengths differ, or a score is not from 0 to 1.
    """
    scores, hits = np.asarray(scores, np.float64), np.asarray(is_true_positive, bool)
    if scores.ndim != 1 or scores.shape != hits.shape:
        shapes = f"scores {list(scores.shape)} and is_true_positive {list(hits.shape)}"
        raise ValueError(f"{shapes} must be [K]")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be from 0 to 1")
    edges = np.linspace(0, 1, num_bins + 1)
    bin_ids = np.searchsorted(edges[1:-1], scores, "left")
    return tuple(
        ReliabilityBin(
            low=float(edges[bin_id]),
            high=float(edges[bin_id + 1]),
            count=int(inside.sum()),
            mean_score=float(scores[inside].mean()),
            share_right=float(hits[inside].mean()),
        )
        for bin_id in np.unique(bin_ids)
        for inside in [bin_ids == bin_id]
    )


def expected_calibration_error(
    scores: npt.ArrayLike, is_true_positive: npt.ArrayLike, num_bins: int = NUM_BINS
) -> float:
    """The expected calibration error, 0 to 1; 0 for no predictions. Arguments as for the bins."""
    return calibration_error(reliability_bins(scores, is_true_positive, num_bins))


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error of ``bins``."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.share_right - one.mean_score) for one in bins) / max(total, 1)


def calibration_error_by_chance(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error that scores which mean what they say would have, for so few predictions.

    In a bin of n predictions with mean score p the share of right ones is off by sqrt(2 p (1 - p) / (pi n))
    on the mean: the mean absolute deviation of a binomial share, in its normal approximation.
    """
    total = sum(one.count for one in bins)
    spreads = (one.count * one.mean_score * (1 - one.mean_score) for one in bins)
    return sum(math.sqrt(2 * spread / math.pi) for spread in spreads) / max(total, 1)


def likely_share(count: int, total: int) -> tuple[float, float]:
    """Between which shares the true one lies, given ``count`` of ``total`` things that were looked at.

    95% interval of Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927).
    It takes the things as independent, so several in one photo make it look surer than it is.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = count / total, _TWO_SIDED**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


TARGET_PRECISION = 0.9
"""Share of right boxes that a precise threshold aims at."""
HUNDREDTHS = np.arange(100) / 100
"""``[100]`` score thresholds to try. As in detecting, only a higher score is above one."""


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Counts at score thresholds, for one class ``[T]`` or several ``[C, T]``.

    Attributes:
        thresholds: ``[T]`` ascending.
        annotations: how many objects are to be found, ``[1]`` or ``[C, 1]``.
        found: how many of them are: the true positives.
        alarms_by_kind: how many false positives there are, ``[4, T]`` or ``[C, 4, T]``, as ``ALARM_KINDS``.
        misses_by_kind: how many objects are missed, ``[5, T]`` or ``[C, 5, T]``, as ``MISS_KINDS``.
    """

    thresholds: npt.NDArray[np.float64]
    annotations: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    alarms_by_kind: npt.NDArray[np.int64]
    misses_by_kind: npt.NDArray[np.int64]

    @property
    def false_alarms(self) -> npt.NDArray[np.int64]:
        """How many predictions are false positives, ``[T]`` or ``[C, T]``."""
        alarms: npt.NDArray[np.int64] = self.alarms_by_kind.sum(-2)
        return alarms

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """The share ``[T]`` or ``[C, T]`` of predictions that are right; 1 where there is none."""
        shown = self.found + self.false_alarms
        return np.where(shown, self.found / np.maximum(shown, 1), 1.0)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """The share ``[T]`` or ``[C, T]`` of the objects that are found; NaN where there is none."""
        recall: npt.NDArray[np.float64] = self.found / np.where(self.annotations, self.annotations, np.nan)
        return recall

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """The harmonic mean of precision and recall: 2 found / (objects + predictions).

        ``[T]`` or ``[C, T]``; NaN where there is no object.
        """
        annotations = np.where(self.annotations, self.annotations, np.nan)
        f1: npt.NDArray[np.float64] = 2 * self.found / (annotations + self.found + self.false_alarms)
        return f1

    def sum(self) -> ThresholdCounts:
        """All classes together."""
        every = (self.annotations, self.found, self.alarms_by_kind, self.misses_by_kind)
        return ThresholdCounts(self.thresholds, *(counts.sum(0) for counts in every))

    def of_class(self, class_id: int) -> ThresholdCounts:
        """One class of several."""
        every = (self.annotations, self.found, self.alarms_by_kind, self.misses_by_kind)
        return ThresholdCounts(self.thresholds, *(counts[class_id] for counts in every))

    def at(self, threshold: float) -> dict[str, Any]:
        """The counts ``[T]`` and their shares at the nearest of the thresholds, ready for JSON.

        Raises:
            SettingError: ``threshold`` is no number from 0 to 1.
        """
        place = int(np.argmin(abs(self.thresholds - checked_threshold(threshold))))
        recall = float(self.recall[place])
        return {
            "score_threshold": float(self.thresholds[place]),
            "annotations": int(self.annotations[0]),
            "found": int(self.found[place]),
            "false_alarms": int(self.false_alarms[place]),
            "false_alarm_kinds": dict(zip(ALARM_KINDS, self.alarms_by_kind[:, place].tolist(), strict=True)),
            "miss_kinds": dict(zip(MISS_KINDS, self.misses_by_kind[:, place].tolist(), strict=True)),
            "precision": float(self.precision[place]),
            "recall": none_if_nan(recall),
            "f1": none_if_nan(float(self.f1[place])),
        }

    def best_threshold(self) -> float | None:
        """The threshold with the highest F1, for counts ``[T]``; None if nothing is found at any.

        Where many are equally good, the middle of the longest row of them: it leaves the most room for
        photos that are a little different.
        """
        if not self.found.any():
            return None
        best = self.f1 >= np.nanmax(self.f1) - 1e-9
        edges = np.flatnonzero(np.diff(best, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        longest = int(np.argmax(ends - starts))
        return float(self.thresholds[(starts[longest] + ends[longest] - 1) // 2])

    def threshold_for(self, precision: float) -> float | None:
        """The lowest threshold from which on precision is so high, for counts ``[T]``; None if at none.

        Raises:
            SettingError: ``precision`` is no number from 0 to 1.
        """
        too_low = np.flatnonzero(self.precision < checked_threshold(precision, "precision"))
        first = int(too_low[-1]) + 1 if len(too_low) else 0
        return float(self.thresholds[first]) if first < len(self.found) and self.found[first] else None


def count_above(
    outcomes: Outcomes, num_classes: int, thresholds: npt.NDArray[np.float64] = HUNDREDTHS
) -> ThresholdCounts:
    """Count for each class at ascending ``thresholds`` ``[T]``."""
    predictions, ground_truth, causes = outcomes.predictions, outcomes.ground_truth, outcomes.causes
    annotations = np.bincount(ground_truth.class_ids[outcomes.counted], minlength=num_classes)
    groups = np.where(outcomes.is_true_positive, predictions.class_ids, -1)
    found = _above(predictions.scores, groups, num_classes, thresholds)
    kinds, of_alarms = len(ALARM_KINDS), causes.alarm_kind
    groups = np.where(outcomes.is_false_positive, predictions.class_ids * kinds + of_alarms, -1)
    alarms = _above(predictions.scores, groups, num_classes * kinds, thresholds)
    kinds, of_misses = len(MISS_KINDS), causes.miss_kind
    groups = np.where(outcomes.counted, ground_truth.class_ids * kinds + of_misses, -1)
    seen = _above(outcomes.found_score, groups, num_classes * kinds, thresholds)
    missed = np.bincount(groups[outcomes.counted], minlength=num_classes * kinds)[:, None] - seen
    shape = (num_classes, -1, len(thresholds))
    return ThresholdCounts(
        thresholds, annotations[:, None], found, alarms.reshape(shape), missed.reshape(shape)
    )


def _above(
    scores: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    num_groups: int,
    thresholds: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """How many ``scores`` ``[K]`` of each group are above each threshold ``[G, T]``; group -1 is none."""
    places = np.searchsorted(thresholds, scores, "left")  # so many thresholds are below the score
    cells = (groups * (len(thresholds) + 1) + places)[groups >= 0]
    counts = np.bincount(cells, minlength=num_groups * (len(thresholds) + 1))
    counts = counts.reshape(num_groups, -1)[:, ::-1]
    above: npt.NDArray[np.int64] = np.cumsum(counts, 1)[:, -2::-1]
    return above


def precision_recall(
    outcomes: Outcomes, class_id: int | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Recall and precision ``[K + 1]`` as the predictions are let in one by one, the best first.

    Before the first, recall is 0 and precision that of the first; 1 if there are no predictions.

    Args:
        outcomes: at least one object is to be found.
        class_id: of which class; of all together if not given.
    """
    predictions, ground_truth = outcomes.predictions, outcomes.ground_truth
    rows, counted = outcomes.is_true_positive | outcomes.is_false_positive, outcomes.counted
    if class_id is not None:
        rows = rows & (predictions.class_ids == class_id)
        counted = counted & (ground_truth.class_ids == class_id)
    order = np.flatnonzero(rows)
    order = order[np.argsort(-predictions.scores[order], kind="stable")]
    hits = np.cumsum(outcomes.is_true_positive[order])
    recall, precision = hits / np.count_nonzero(counted), hits / np.arange(1, len(order) + 1)
    return np.append(0, recall), np.append(precision[:1] if len(order) else 1, precision)
