"""Whether a score can be taken at its word: of the detections at 0.8, are eight in ten right?

The expected calibration error is the mean difference, over bins of score, between the mean score of the
detections in a bin and the share of them that are right, weighted by their number: Guo et al., "On
Calibration of Modern Neural Networks" (2017), equations 2 and 3. For detections, right means that the
box is: Küppers et al., "Multivariate Confidence Calibration for Object Detection" (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUM_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """The detections with a score above ``low`` and up to ``high``; at least one."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


def reliability_bins(
    scores: npt.ArrayLike, right: npt.ArrayLike, num_bins: int = NUM_BINS
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width that hold a detection, from low scores to high ones.

    Args:
        scores: ``[K]``, 0 to 1; a score of 0 is in the first bin.
        right: ``[K]`` whether each is right.
        num_bins: how many bins 0 to 1 is cut into.

    Raises:
        ValueError: the lengths differ, or a score is not from 0 to 1.
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    if scores.ndim != 1 or scores.shape != right.shape:
        raise ValueError(f"scores {list(scores.shape)} and right {list(right.shape)} must be [K]")
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
            share_right=float(right[inside].mean()),
        )
        for bin_id in np.unique(bin_ids)
        for inside in [bin_ids == bin_id]
    )


def expected_calibration_error(
    scores: npt.ArrayLike, right: npt.ArrayLike, num_bins: int = NUM_BINS
) -> float:
    """The expected calibration error, 0 to 1; 0 for no detections. Arguments as for the bins."""
    return calibration_error(reliability_bins(scores, right, num_bins))


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """The expected calibration error of ``bins``."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.share_right - one.mean_score) for one in bins) / max(total, 1)
