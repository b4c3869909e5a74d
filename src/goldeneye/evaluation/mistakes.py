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
        score: the annotation is missed at thresholds from this one on; the detection is a false alarm
            at thresholds below it.
        reason: what kind of mistake it is, in words.
        other: the row of the detection that only nearly found the annotation, or of the annotation that
            the false alarm touches; -1 if there is none.
    """

    row: int
    score: float
    reason: str
    other: int


def worst_misses(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """Annotations that were not found or with the lowest scores, larger ones first."""
    order = np.lexsort((-box_areas(outcomes.truth.boxes), outcomes.found_score))
    worst = [int(row) for row in order if outcomes.counted[row]][:limit]
    return [_explain_miss(outcomes, row, labels) for row in worst]


def worst_false_alarms(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """The wrong detections with the highest scores."""
    scores = np.where(outcomes.wrong, outcomes.found.scores, 0)
    worst = [int(row) for row in np.argsort(-scores, kind="stable")[:limit] if scores[row] > SHOWN_SCORE]
    return [_explain_false_alarm(outcomes, row, labels) for row in worst]


def _explain_miss(outcomes: Outcomes, row: int, labels: Sequence[str]) -> Mistake:
    found, score = outcomes.found, float(outcomes.found_score[row])
    shown = found.scores > SHOWN_SCORE
    if score:
        return Mistake(row, score, f"found, but its score is only {score:.2f}", -1)
    mistaken = np.flatnonzero((outcomes.mistaken == row) & shown)
    if len(mistaken):
        other = int(mistaken[0])
        taken_for = labels[found.class_ids[other]]
        return Mistake(row, score, f"taken for {taken_for}, score {found.scores[other]:.2f}", other)
    rivals = np.flatnonzero(
        (found.photo_ids == outcomes.truth.photo_ids[row])
        & (found.class_ids == outcomes.truth.class_ids[row])
        & outcomes.wrong
        & shown
    )
    other, overlap = _nearest(outcomes.truth.boxes[row], found.boxes, rivals)
    if overlap < _NEAR_IOU:
        return Mistake(row, score, "not seen", -1)
    return Mistake(row, score, f"{_box_off(overlap)}, score {found.scores[other]:.2f}", other)


def _explain_false_alarm(outcomes: Outcomes, row: int, labels: Sequence[str]) -> Mistake:
    found, truth = outcomes.found, outcomes.truth
    score, covered = float(found.scores[row]), int(outcomes.mistaken[row])
    if covered >= 0:
        return Mistake(row, score, f"this is annotated as {labels[truth.class_ids[covered]]}", covered)
    rivals = np.flatnonzero(
        (truth.photo_ids == found.photo_ids[row])
        & (truth.class_ids == found.class_ids[row])
        & outcomes.counted
    )
    other, overlap = _nearest(found.boxes[row], truth.boxes, rivals)
    if overlap < _NEAR_IOU:
        return Mistake(row, score, "nothing annotated here", -1)
    reason = "a second box on one object" if overlap >= HIT_IOU else _box_off(overlap)
    return Mistake(row, score, reason, other)


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
