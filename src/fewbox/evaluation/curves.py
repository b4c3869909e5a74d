"""What a score threshold does: how many are found and how many false alarms come with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbox.evaluation.metrics import none_if_nan
from fewbox.evaluation.outcomes import ALARM_KINDS, MISS_KINDS, Outcomes

HUNDREDTHS = np.arange(100) / 100
"""``[100]`` score thresholds to try. As in detecting, only a higher score is above one."""


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Counts at score thresholds, for one class ``[T]`` or several ``[C, T]``.

    Attributes:
        thresholds: ``[T]`` ascending.
        annotations: how many are to be found, ``[1]`` or ``[C, 1]``.
        found: how many of them are.
        alarms_by_kind: how many detections are wrong, ``[4, T]`` or ``[C, 4, T]``, as ``ALARM_KINDS``.
        misses_by_kind: how many annotations are missed, ``[5, T]`` or ``[C, 5, T]``, as ``MISS_KINDS``.
    """

    thresholds: npt.NDArray[np.float64]
    annotations: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    alarms_by_kind: npt.NDArray[np.int64]
    misses_by_kind: npt.NDArray[np.int64]

    @property
    def false_alarms(self) -> npt.NDArray[np.int64]:
        """How many detections are wrong."""
        alarms: npt.NDArray[np.int64] = self.alarms_by_kind.sum(-2)
        return alarms

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """The share of right ones among the detections; 1 where there is none, as none is wrong."""
        shown = self.found + self.false_alarms
        return np.where(shown, self.found / np.maximum(shown, 1), 1.0)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """The share of the annotations that are found; NaN where there is none."""
        recall: npt.NDArray[np.float64] = self.found / np.where(self.annotations, self.annotations, np.nan)
        return recall

    @property
    def f1(self) -> npt.NDArray[np.float64]:
        """The harmonic mean of precision and recall: 2 found / (annotations + detections).

        NaN where there is no annotation.
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

    def at(self, score_threshold: float) -> dict[str, Any]:
        """The counts ``[T]`` and their shares at the nearest of the thresholds, ready for JSON."""
        place = int(np.argmin(abs(self.thresholds - score_threshold)))
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


def count_above(
    outcomes: Outcomes, num_classes: int, thresholds: npt.NDArray[np.float64] = HUNDREDTHS
) -> ThresholdCounts:
    """Count for each class at ascending ``thresholds`` ``[T]``."""
    found, truth, causes = outcomes.found, outcomes.truth, outcomes.causes
    annotations = np.bincount(truth.class_ids[outcomes.counted], minlength=num_classes)
    right = _above(found.scores, np.where(outcomes.right, found.class_ids, -1), num_classes, thresholds)
    kinds, of_alarms = len(ALARM_KINDS), causes.alarm_kind
    groups = np.where(outcomes.wrong, found.class_ids * kinds + of_alarms, -1)
    alarms = _above(found.scores, groups, num_classes * kinds, thresholds)
    kinds, of_misses = len(MISS_KINDS), causes.miss_kind
    groups = np.where(outcomes.counted, truth.class_ids * kinds + of_misses, -1)
    seen = _above(outcomes.found_score, groups, num_classes * kinds, thresholds)
    missed = np.bincount(groups[outcomes.counted], minlength=num_classes * kinds)[:, None] - seen
    shape = (num_classes, -1, len(thresholds))
    return ThresholdCounts(
        thresholds, annotations[:, None], right, alarms.reshape(shape), missed.reshape(shape)
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
    """Recall and precision ``[K + 1]`` as the detections are let in one by one, the best first.

    Before the first, recall is 0 and precision that of the first; 1 if there are no detections.

    Args:
        outcomes: at least one annotation is to be found.
        class_id: of which class; of all together if not given.
    """
    found, truth = outcomes.found, outcomes.truth
    rows, counted = outcomes.right | outcomes.wrong, outcomes.counted
    if class_id is not None:
        rows, counted = rows & (found.class_ids == class_id), counted & (truth.class_ids == class_id)
    order = np.flatnonzero(rows)
    order = order[np.argsort(-found.scores[order], kind="stable")]
    hits = np.cumsum(outcomes.right[order])
    recall, precision = hits / np.count_nonzero(counted), hits / np.arange(1, len(order) + 1)
    return np.append(0, recall), np.append(precision[:1] if len(order) else 1, precision)
