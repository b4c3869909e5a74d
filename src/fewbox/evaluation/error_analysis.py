"""Results in words, and the worst mistakes with the kind of each, for people who rarely measure detectors.

The kinds are those of ``outcomes.py``. A true positive is a right box here, and a false positive a false
alarm: what is written here, people read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewbox.core import counted
from fewbox.core.boxes import box_areas
from fewbox.evaluation.matching import overlaps
from fewbox.evaluation.outcomes import ALARM_KINDS, HIT_IOU, MISS_KINDS, SHOWN_SCORE, Outcomes

_FEW = 10  # counts up to here are said as they are, and so many names are listed
_NEARLY = 0.05  # between the mean score and the share of right boxes
_Z = 1.96  # standard deviations that hold 95% of a normal distribution


def some_names(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    more = len(names) - _FEW
    return ", ".join(names[:_FEW]) + (f" and {more} more" if more > 0 else "")


def found_in_words(found: int, annotations: int) -> str:
    """Such as ``finds 44 of 49 (90%)``: two detectors are compared by it, so the number is as it is."""
    if annotations == 0:
        return "nothing to find"
    if found == annotations:
        return f"finds all {annotations}" if annotations > 1 else "finds the only one"
    if found == 0:
        return f"finds none of {annotations}"
    if annotations <= _FEW:
        return f"finds {found} of {annotations}"
    tenths = round(10 * found / annotations)
    if tenths == 10:
        return f"finds all but {annotations - found} of {annotations}"
    share = f" ({found / annotations:.0%})" if tenths else ""
    return f"finds {found} of {annotations}{share}"


def alarms_in_words(found: int, false_alarms: int) -> str:
    """Such as ``about 1 in 20 boxes is wrong``, of all boxes that are shown."""
    shown = found + false_alarms
    if shown == 0:
        return "no boxes"
    if false_alarms == 0:
        return f"none of its {shown} boxes is wrong" if shown > 1 else "its only box is right"
    if found == 0:
        return f"all its {shown} boxes are wrong" if shown > 1 else "its only box is wrong"
    if shown <= _FEW:
        return f"{false_alarms} of its {shown} boxes {'is' if false_alarms == 1 else 'are'} wrong"
    if shown >= 4 * false_alarms:
        return f"about 1 in {round(shown / false_alarms)} boxes is wrong"
    tenths = min(9, round(10 * false_alarms / shown))
    return f"about {tenths} in 10 boxes are wrong"


_ALARMS = {"duplicate": "duplicate", "localization": "localization error", "confusion": "class confusion"}
_MISSES = {
    "low_score": "with too low a score",
    "localization": "with the box too far off",
    "confusion": "taken for another class",
    "shared_box": "in one box with another object",
    "not_seen": "not seen",
}


def alarm_kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Such as ``3 on an object (2 duplicates, 1 localization error), 4 on the background``; "" for none."""
    on_object = sum(kinds[kind] for kind in _ALARMS)
    named = [counted(kinds[kind], name) for kind, name in _ALARMS.items() if kinds[kind]]
    parts = [f"{on_object} on an object ({', '.join(named)})"] if on_object else []
    if kinds["background"]:
        parts.append(f"{kinds['background']} on the background")
    return ", ".join(parts)


def miss_kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Such as ``1 with the box too far off, 1 not seen``; "" for none."""
    return ", ".join(f"{kinds[kind]} {text}" for kind, text in _MISSES.items() if kinds[kind])


def expected_in_words(ap50: float, low: float, high: float) -> str:
    """What was promised of AP50, to stand beside what it is."""
    return f"expected of it was AP50 {ap50:.3f}, four times in five between {low:.3f} and {high:.3f}"


def likely_share(count: int, total: int) -> tuple[float, float]:
    """Between which shares the true one lies, given ``count`` of ``total`` things that were looked at.

    95% interval of Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927).
    It takes the things as independent, so several in one photo make it look surer than it is.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = count / total, _Z**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def scores_in_words(scores: npt.NDArray[np.float64], is_true_positive: npt.NDArray[np.bool_]) -> str:
    """Whether the scores ``[K]`` of the boxes that are shown can be taken at their word."""
    if not len(scores):
        return "There are no boxes above its threshold."
    mean, share = float(scores.mean()), float(is_true_positive.mean())
    text = (
        f"Boxes above its threshold have a score of {mean:.2f} on average, and {share:.0%} of them are right"
    )
    if abs(share - mean) < _NEARLY:
        return f"{text}: its scores can be taken as they are."
    return f"{text}: its scores are too {'modest' if share > mean else 'high'}."


@dataclass(frozen=True)
class Mistake:
    """A miss or a false alarm.

    Attributes:
        row: of the ground truth that was missed, or of the prediction that is a false alarm.
        label: its class.
        score: the ground truth is missed at thresholds from this one on; the prediction is a false
            alarm at thresholds below it.
        reason: what kind of mistake it is, in words.
        told_by: of a miss, the prediction that the reason is about; -1 if none.
    """

    row: int
    label: str
    score: float
    reason: str
    told_by: int = -1


def worst_misses(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """Ground truth that was not found or with the lowest scores, larger ones first."""
    order = np.lexsort((-box_areas(outcomes.ground_truth.boxes), outcomes.found_score))
    worst = [int(row) for row in order if outcomes.counted[row]][:limit]
    return [
        Mistake(
            row,
            labels[outcomes.ground_truth.class_ids[row]],
            float(outcomes.found_score[row]),
            _why_missed(outcomes, row, labels),
            int(outcomes.causes.miss_by[row]),
        )
        for row in worst
    ]


def worst_false_alarms(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """The false positives with the highest scores."""
    scores = np.where(outcomes.is_false_positive, outcomes.predictions.scores, 0)
    worst = [int(row) for row in np.argsort(-scores, kind="stable")[:limit] if scores[row] > SHOWN_SCORE]
    return [
        Mistake(
            row,
            labels[outcomes.predictions.class_ids[row]],
            float(scores[row]),
            f"score {scores[row]:.2f}, {_why_wrong(outcomes, row, labels)}",
        )
        for row in worst
    ]


def _why_missed(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    kind, by = MISS_KINDS[outcomes.causes.miss_kind[row]], int(outcomes.causes.miss_by[row])
    best = float(outcomes.found_score[row])
    only = f"only {best:.2f}" if best >= 0.005 else "less than 0.01"
    if kind == "low_score":
        return f"found, but its score is {only}"
    if kind == "not_seen":
        return "not seen"
    score = f"score {outcomes.predictions.scores[by]:.2f}"
    if kind == "shared_box":
        return f"one box for two objects, which counts for the other: {score}"
    overlap = _overlap(outcomes, by, row)
    if kind == "localization":
        text = f"{_box_off(overlap)}, {score}"
    else:
        taken_for = f"taken for {labels[outcomes.predictions.class_ids[by]]}"
        off = "" if overlap >= HIT_IOU else f" and {_box_off(overlap)}"
        text = f"{taken_for}{off}, {score}"
    return text + (f"; a right box has {only}" if best else "")


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
    return f"annotated as {labels[outcomes.ground_truth.class_ids[on]]}{covers}"


def _what_is_near(outcomes: Outcomes, row: int) -> str:
    """Of a false alarm on the background: it may still touch an object, or lie on a small part of one."""
    here = outcomes.counted & (outcomes.ground_truth.photo_ids == outcomes.predictions.photo_ids[row])
    nearest = overlaps(outcomes.predictions.boxes[row], outcomes.ground_truth.boxes[here]).max(initial=0.0)
    return (
        f"hardly on anything annotated: IoU {nearest:.2f}" if nearest >= 0.005 else "nothing annotated here"
    )


def _overlap(outcomes: Outcomes, predicted: int, target: int) -> float:
    return float(overlaps(outcomes.predictions.boxes[predicted], outcomes.ground_truth.boxes[target]))


def _box_off(overlap: float) -> str:
    # Below a half, but 0.499 would be read as one.
    return f"box too far off: IoU {min(overlap, 0.49):.2f}"
