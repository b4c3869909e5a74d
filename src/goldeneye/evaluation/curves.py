"""What a score threshold does: how many are found and how many false alarms come with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from goldeneye.evaluation.metrics import none_if_nan
from goldeneye.evaluation.outcomes import Outcomes

HUNDREDTHS = np.arange(100) / 100
"""``[100]`` score thresholds to try. As in detecting, only a higher score is above one."""


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """Counts at score thresholds, for one class ``[T]`` or several ``[C, T]``.

    Attributes:
        thresholds: ``[T]`` ascending.
        annotations: how many are to be found, ``[1]`` or ``[C, 1]``.
        found: how many of them are.
        false_alarms: how many detections are wrong.
    """

    thresholds: npt.NDArray[np.float64]
    annotations: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    false_alarms: npt.NDArray[np.int64]

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
        """The harmonic mean of precision and recall: 2 found / (annotations + detections)."""
        detections = self.found + self.false_alarms
        f1: npt.NDArray[np.float64] = 2 * self.found / np.maximum(self.annotations + detections, 1)
        return f1

    def sum(self) -> ThresholdCounts:
        """All classes together."""
        every = (self.annotations, self.found, self.false_alarms)
        return ThresholdCounts(self.thresholds, *(counts.sum(0) for counts in every))

    def of_class(self, class_id: int) -> ThresholdCounts:
        """One class of several."""
        every = (self.annotations, self.found, self.false_alarms)
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
            "precision": float(self.precision[place]),
            "recall": none_if_nan(recall),
            "f1": float(self.f1[place]),
        }

    def best_threshold(self) -> float | None:
        """The threshold with the highest F1, for counts ``[T]``; None if nothing is found at any.

        Where many are equally good, the middle of the longest row of them: it leaves the most room for
        photos that are a little different.
        """
        if not self.found.any():
            return None
        best = self.f1 >= self.f1.max() - 1e-9
        edges = np.flatnonzero(np.diff(best, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        longest = int(np.argmax(ends - starts))
        return float(self.thresholds[(starts[longest] + ends[longest] - 1) // 2])


def count_above(
    outcomes: Outcomes, num_classes: int, thresholds: npt.NDArray[np.float64] = HUNDREDTHS
) -> ThresholdCounts:
    """Count for each class at ascending ``thresholds`` ``[T]``."""
    found, class_ids = outcomes.found, range(num_classes)
    annotations = np.bincount(outcomes.truth.class_ids[outcomes.counted], minlength=num_classes)
    right, wrong = (
        np.stack([_number_above(found.scores[kind & (found.class_ids == c)], thresholds) for c in class_ids])
        for kind in (outcomes.right, outcomes.wrong)
    )
    return ThresholdCounts(thresholds, annotations[:, None], right, wrong)


def _number_above(
    scores: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    above: npt.NDArray[np.int64] = len(scores) - np.searchsorted(np.sort(scores), thresholds, "right")
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
