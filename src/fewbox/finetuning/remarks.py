"""What a person should look at again: photos and boxes that do not teach what they seem to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.seen import SeenPhoto

SMALL_SIDE = 8
"""Pixels of the network's input; the finest cells of most networks are as large."""
FOUND_SCORE = 0.05
_MAX_NAMES = 5


def remarks_on(seen: Sequence[SeenPhoto], outcomes: Outcomes | None) -> list[str]:
    """One line for each thing that looks wrong; nothing if all is well.

    Args:
        seen: N photos.
        outcomes: of held-out detections in them, if there are any.
    """
    remarks = []
    twins = [
        photo.name
        for place, photo in enumerate(seen)
        if any(torch.equal(photo.evidence.prior, other.evidence.prior) for other in seen[:place])
    ]
    if twins:
        remarks.append(
            f"the same picture as another: {_names(twins)}; nothing more is learnt from it, and finding its "
            "object again proves nothing, so the estimate is too high"
        )
    small = [photo.name for photo in seen if len(photo.boxes) and _shortest_side(photo) < SMALL_SIDE]
    if small:
        remarks.append(
            f"boxes of less than {SMALL_SIDE} pixels, as the network sees them: {_names(small)}; "
            "too small to be learnt well: cut the photos to the part that matters, or come nearer"
        )
    if outcomes is not None:
        missed = outcomes.counted & (outcomes.found_score < FOUND_SCORE)
        if missed.sum() > outcomes.counted.sum() / 2:
            names = list(dict.fromkeys(seen[place].name for place in outcomes.truth.photo_ids[missed]))
            remarks.append(
                f"most objects are not recognised from the other photos: {_names(names)}; check that the "
                "boxes are around the right things, or add photos that are more alike"
            )
    return remarks


def _shortest_side(photo: SeenPhoto) -> float:
    return float((photo.boxes[:, 2:] - photo.boxes[:, :2]).min())


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
