"""The calibration error is that of the formula, and tells honest scores from boastful ones."""

from __future__ import annotations

import numpy as np
import pytest

from fewbox.evaluation.metrics import (
    calibration_error,
    calibration_error_by_chance,
    expected_calibration_error,
    reliability_bins,
)


def test_expected_calibration_error_by_hand():
    # Bin 0.9 to 1: scores 0.95 and 0.97, one right. Bin 0.2 to 0.3: 0.25 and 0.3, none right.
    scores, right = [0.95, 0.97, 0.25, 0.3], [True, False, False, False]
    bins = reliability_bins(scores, right)
    assert [(one.low, one.count, one.share_right) for one in bins] == [
        (pytest.approx(0.2), 2, 0.0),
        (0.9, 2, 0.5),
    ]
    assert bins[0].mean_score == pytest.approx(0.275)
    assert expected_calibration_error(scores, right) == pytest.approx((2 * 0.275 + 2 * 0.46) / 4)
    assert expected_calibration_error([], []) == 0
    assert calibration_error(reliability_bins([1.0, 0.0], [True, False])) == 0


def test_honest_scores_have_a_small_calibration_error_and_boastful_ones_a_large_one():
    generator = np.random.default_rng(0)
    scores = generator.random(20_000)
    right = generator.random(20_000) < scores
    assert expected_calibration_error(scores, right) < 0.02
    assert expected_calibration_error(np.sqrt(scores), right) > 0.12


@pytest.mark.parametrize("count", [40, 400])
def test_what_chance_alone_makes_of_few_honest_scores(count: int):
    generator = np.random.default_rng(count)
    errors, told = [], []
    for _ in range(200):
        scores = generator.random(count)
        bins = reliability_bins(scores, generator.random(count) < scores)
        errors.append(calibration_error(bins))
        told.append(calibration_error_by_chance(bins))
    assert np.mean(told) == pytest.approx(np.mean(errors), rel=0.1)
    assert calibration_error_by_chance([]) == 0


@pytest.mark.parametrize(
    ("scores", "right", "says"),
    [([0.5], [], "must be \\[K\\]"), ([1.5], [True], "from 0 to 1"), ([np.nan], [True], "from 0 to 1")],
)
def test_scores_that_are_none_are_refused(scores, right, says):
    with pytest.raises(ValueError, match=says):
        reliability_bins(scores, right)
