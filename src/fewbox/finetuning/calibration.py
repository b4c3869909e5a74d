"""Scores that mean what they say: of the boxes at 0.8, eight in ten are right.

Platt, "Probabilistic Outputs for Support Vector Machines", 1999: a score's logit is stretched and
shifted so that detections in held-out photos come out right as often as they claim. One stretch and
shift serves all classes, so the order of detections, and with it AP, stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.evidence import Coefficients

USUAL_STRETCH, USUAL_SHIFT = 1.0, 0.0
"""Scores as they were learnt: where nothing was held out, and what few held-out detections are drawn to."""
_SPREADS = (0.25, 0.5)
"""How far the stretch (as a logarithm) and the shift of a detector are from the usual ones."""
_STEPS = 100


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
        return Coefficients(
            head.aligned * self.stretch, head.raw * self.stretch, head.bias * self.stretch + self.shift
        )


def calibrate(outcomes: Outcomes) -> Calibration:
    """The calibration that held-out detections ask for, and the usual one the less they are.

    The most likely values under a normal prior, found by Newton's method.
    """
    counts = outcomes.right | outcomes.wrong
    logits, right = _logits(outcomes.found.scores[counts]), outcomes.right[counts].astype(np.float64)
    usual = np.array([np.log(USUAL_STRETCH), USUAL_SHIFT])
    pull = 1 / np.square(_SPREADS)
    values = usual.copy()
    for _ in range(_STEPS):
        stretch, shift = np.exp(values[0]), values[1]
        claimed = _sigmoid(stretch * logits + shift)
        inputs = np.stack((stretch * logits, np.ones_like(logits)))  # [2, K]
        slope = inputs @ (claimed - right) + pull * (values - usual)
        curve = (inputs * (claimed * (1 - claimed))) @ inputs.T + np.diag(pull)
        step = np.linalg.solve(curve, slope)
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
