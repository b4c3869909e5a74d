"""Words say what the numbers say, and never "all" or "none" of what was only rounded."""

from __future__ import annotations

import numpy as np
import pytest

from fewbox.core import counted
from fewbox.evaluation.error_analysis import (
    alarm_kinds_in_words,
    alarms_in_words,
    found_in_words,
    miss_kinds_in_words,
    scores_in_words,
    some_names,
)
from fewbox.evaluation.metrics import likely_share
from fewbox.evaluation.outcomes import ALARM_KINDS, MISS_KINDS


@pytest.mark.parametrize(
    ("found", "annotations", "words"),
    [
        (49, 49, "finds all 49"),
        (1, 1, "finds the only one"),
        (0, 49, "finds none of 49"),
        (48, 49, "finds all but 1 of 49"),
        (44, 49, "finds 44 of 49 (90%)"),
        (3, 12, "finds 3 of 12 (25%)"),
        (1, 49, "finds 1 of 49"),
        (3, 7, "finds 3 of 7"),
        (0, 0, "nothing to find"),
    ],
)
def test_found_in_words(found, annotations, words):
    assert found_in_words(found, annotations) == words


@pytest.mark.parametrize(
    ("found", "false_alarms", "words"),
    [
        (0, 0, "no boxes"),
        (38, 0, "none of its 38 boxes is wrong"),
        (1, 0, "its only box is right"),
        (0, 1, "its only box is wrong"),
        (0, 12, "all its 12 boxes are wrong"),
        (8, 1, "1 of its 9 boxes is wrong"),
        (2, 2, "2 of its 4 boxes are wrong"),
        (19, 1, "1 of its 20 boxes is wrong (5%)"),
        (50, 27, "27 of its 77 boxes are wrong (35%)"),
        (1, 99, "99 of its 100 boxes are wrong (99%)"),
        (999, 1, "1 of its 1000 boxes is wrong"),
    ],
)
def test_alarms_in_words(found, false_alarms, words):
    assert alarms_in_words(found, false_alarms) == words


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((0, 0, 0, 0), ""),
        ((0, 0, 0, 4), "4 on the background"),
        ((1, 0, 0, 0), "1 on an object (1 duplicate)"),
        (
            (2, 1, 3, 4),
            "6 on an object (2 duplicates, 1 localization error, 3 class confusions), 4 on the background",
        ),
    ],
)
def test_alarm_kinds_in_words(kinds, words):
    assert alarm_kinds_in_words(dict(zip(ALARM_KINDS, kinds, strict=True))) == words


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((0, 0, 0, 0, 0), ""),
        ((1, 0, 0, 0, 2), "1 with too low a score, 2 not seen"),
        (
            (0, 1, 2, 1, 0),
            "1 with the box too far off, 2 taken for another class, 1 in one box with another object",
        ),
    ],
)
def test_miss_kinds_in_words(kinds, words):
    assert miss_kinds_in_words(dict(zip(MISS_KINDS, kinds, strict=True))) == words


def test_likely_share_is_wilsons():
    # Wilson's interval for 15 of 20, as tables of it give it: 0.531 to 0.888.
    assert likely_share(15, 20) == pytest.approx((0.531, 0.888), abs=1e-3)
    low, high = likely_share(10, 10)
    assert low == pytest.approx(0.722, abs=1e-3)
    assert high == 1
    assert likely_share(0, 0) == (0, 1)


def test_scores_in_words():
    scores = np.array([0.6, 0.7])
    assert "a score of 0.65 on average, and 100% of them are right" in scores_in_words(scores, scores > 0)
    assert scores_in_words(scores, scores > 0).endswith("too modest.")
    assert scores_in_words(scores, scores > 1).endswith("too high.")
    assert scores_in_words(np.array([0.97, 0.99]), scores > 0).endswith("taken as they are.")
    assert scores_in_words(scores[:0], scores[:0] > 0) == "There are no boxes above its threshold."


def test_of_many_names_some_are_listed():
    assert some_names(["a", "b"]) == "a, b"
    assert some_names([str(number) for number in range(1000)]).endswith("8, 9 and 990 more")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("photo",), ["0 photos", "1 photo", "12 photos"]),
        (("box",), ["0 boxes", "1 box", "12 boxes"]),
        (("class",), ["0 classes", "1 class", "12 classes"]),
        (("false alarm",), ["0 false alarms", "1 false alarm", "12 false alarms"]),
        (("box reaches", "boxes reach"), ["0 boxes reach", "1 box reaches", "12 boxes reach"]),
    ],
)
def test_one_is_not_many(words, said):
    assert [counted(number, *words) for number in (0, 1, 12)] == said
