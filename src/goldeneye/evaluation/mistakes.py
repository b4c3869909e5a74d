"""The worst mistakes, and what kind of mistake each is.

The kinds, and the overlap of 0.1 below which two boxes have nothing to do with each other, are those of
Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from goldeneye.evaluation.outcomes import HIT_IOU, Outcomes
from goldeneye.evaluation.tables import box_areas, overlaps

SHOWN_SCORE = 0.05
"""Detections with a lower score count for AP and are not shown to anybody."""

_NEAR_IOU = 0.1


@dataclass(frozen=True)
class Mistake:
    """A miss or a false alarm.

    Attributes:
        row: of the annotation that was missed, or of the detection that is wrong.
        label: its class.
        score: the annotation is missed at thresholds from this one on; the detection is a false alarm
            at thresholds below it.
        reason: what kind of mistake it is, in words.
    """

    row: int
    label: str
    score: float
    reason: str


def worst_misses(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """Annotations that were not found or with the lowest scores, larger ones first."""
    order = np.lexsort((-box_areas(outcomes.truth.boxes), outcomes.found_score))
    worst = [int(row) for row in order if outcomes.counted[row]][:limit]
    return [
        Mistake(
            row,
            labels[outcomes.truth.class_ids[row]],
            float(outcomes.found_score[row]),
            _why_missed(outcomes, row, labels),
        )
        for row in worst
    ]


def worst_false_alarms(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """The wrong detections with the highest scores."""
    scores = np.where(outcomes.wrong, outcomes.found.scores, 0)
    worst = [int(row) for row in np.argsort(-scores, kind="stable")[:limit] if scores[row] > SHOWN_SCORE]
    return [
        Mistake(
            row,
            labels[outcomes.found.class_ids[row]],
            float(scores[row]),
            f"score {scores[row]:.2f}, {_why_wrong(outcomes, row, labels)}",
        )
        for row in worst
    ]


def _why_missed(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    found, truth, score = outcomes.found, outcomes.truth, outcomes.found_score[row]
    mistaken = np.flatnonzero(outcomes.mistaken == row)
    if len(mistaken) and found.scores[mistaken[0]] > max(score, SHOWN_SCORE):
        taken_for = labels[found.class_ids[mistaken[0]]]
        return f"taken for {taken_for}, score {found.scores[mistaken[0]]:.2f}"
    if score:
        return f"found, but its score is only {score:.2f}"
    of_its_class = (found.photo_ids == truth.photo_ids[row]) & (found.class_ids == truth.class_ids[row])
    rivals = np.flatnonzero(of_its_class & outcomes.wrong & (found.scores > SHOWN_SCORE))
    nearest, overlap = _nearest(truth.boxes[row], found.boxes, rivals)
    if overlap < _NEAR_IOU:
        return "not seen"
    return f"{_box_off(overlap)}, score {found.scores[nearest]:.2f}"


def _why_wrong(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    found, truth, covered = outcomes.found, outcomes.truth, outcomes.mistaken[row]
    if covered >= 0:
        return f"annotated as {labels[truth.class_ids[covered]]}"
    of_its_class = (truth.photo_ids == found.photo_ids[row]) & (truth.class_ids == found.class_ids[row])
    rivals = np.flatnonzero(of_its_class & outcomes.counted)
    _, overlap = _nearest(found.boxes[row], truth.boxes, rivals)
    if overlap < _NEAR_IOU:
        return "nothing annotated here"
    return "a second box on one object" if overlap >= HIT_IOU else _box_off(overlap)


def _nearest(
    box: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]
) -> tuple[int, float]:
    """Of ``boxes[rows]`` the one that overlaps ``box`` most, and by how much; -1 and 0 if there are none."""
    if not len(rows):
        return -1, 0.0
    ious = overlaps(box, boxes[rows])
    return int(rows[ious.argmax()]), float(ious.max())


def _box_off(overlap: float) -> str:
    return f"box too far off: IoU {overlap:.2f}"
