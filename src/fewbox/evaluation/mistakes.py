"""The worst mistakes, and what kind of mistake each is, in words; the kinds are those of ``outcomes.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewbox.evaluation.outcomes import ALARM_KINDS, HIT_IOU, MISS_KINDS, SHOWN_SCORE, Outcomes
from fewbox.evaluation.tables import box_areas, overlaps


@dataclass(frozen=True)
class Mistake:
    """A miss or a false alarm.

    Attributes:
        row: of the annotation that was missed, or of the detection that is wrong.
        label: its class.
        score: the annotation is missed at thresholds from this one on; the detection is a false alarm
            at thresholds below it.
        reason: what kind of mistake it is, in words.
        told_by: of a miss, the detection that the reason is about; -1 if none.
    """

    row: int
    label: str
    score: float
    reason: str
    told_by: int = -1


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
            int(outcomes.causes.miss_by[row]),
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
    kind, by = MISS_KINDS[outcomes.causes.miss_kind[row]], int(outcomes.causes.miss_by[row])
    right = float(outcomes.found_score[row])
    only = f"only {right:.2f}" if right >= 0.005 else "less than 0.01"
    if kind == "low_score":
        return f"found, but its score is {only}"
    if kind == "not_seen":
        return "not seen"
    score = f"score {outcomes.found.scores[by]:.2f}"
    if kind == "shared_box":
        return f"one box for two objects, which counts for the other: {score}"
    overlap = _overlap(outcomes, by, row)
    if kind == "localization":
        text = f"{_box_off(overlap)}, {score}"
    else:
        taken_for = f"taken for {labels[outcomes.found.class_ids[by]]}"
        off = "" if overlap >= HIT_IOU else f" and {_box_off(overlap)}"
        text = f"{taken_for}{off}, {score}"
    return text + (f"; a right box has {only}" if right else "")


def _why_wrong(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    kind, on = ALARM_KINDS[outcomes.causes.alarm_kind[row]], int(outcomes.causes.alarm_on[row])
    if kind == "background":
        return _what_is_near(outcomes, row)
    if kind == "duplicate":
        return "a second box on one object"
    overlap = _overlap(outcomes, row, on)
    if kind == "localization":
        return _box_off(overlap)
    covers = "" if overlap >= HIT_IOU else f" and {_box_off(overlap)}"
    return f"annotated as {labels[outcomes.truth.class_ids[on]]}{covers}"


def _what_is_near(outcomes: Outcomes, row: int) -> str:
    """Of a false alarm on the background: it may still touch an object, or lie on a small part of one."""
    here = outcomes.counted & (outcomes.truth.photo_ids == outcomes.found.photo_ids[row])
    nearest = overlaps(outcomes.found.boxes[row], outcomes.truth.boxes[here]).max(initial=0.0)
    return (
        f"hardly on anything annotated: IoU {nearest:.2f}" if nearest >= 0.005 else "nothing annotated here"
    )


def _overlap(outcomes: Outcomes, detection: int, annotation: int) -> float:
    return float(overlaps(outcomes.found.boxes[detection], outcomes.truth.boxes[annotation]))


def _box_off(overlap: float) -> str:
    # Below a half, but 0.499 would be read as one.
    return f"box too far off: IoU {min(overlap, 0.49):.2f}"
