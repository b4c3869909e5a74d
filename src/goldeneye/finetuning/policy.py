"""How much work the photos deserve: decided by how many there are and by the one dial, ``effort``."""

from __future__ import annotations

from dataclasses import dataclass

VIEWS = {"quick": 1, "normal": 4, "long": 16}
"""Views of each photo beside itself, while there are few photos."""
MOST_PICTURES = {"quick": 600, "normal": 600, "long": 1200}
"""Pictures in all; each is a pass of the network and about a megabyte of evidence."""
FOLDS = {"quick": 3, "normal": 5, "long": 10}
"""Into how many parts the photos are divided to check on each what the others teach."""


@dataclass(frozen=True)
class Plan:
    """What the recipe is going to do, and why."""

    views: list[int]
    """How many views each photo gets beside itself."""
    folds: int
    """0 where there is nothing to hold out."""
    reasons: tuple[str, ...]


def plan(num_photos: int, effort: str) -> Plan:
    """Divide the work: many views of few photos, few views of many."""
    views = min(VIEWS[effort], max(MOST_PICTURES[effort] // num_photos - 1, 0))
    folds = min(FOLDS[effort], num_photos) if num_photos > 1 else 0
    reasons = [f"{num_photos} photos, effort {effort}: {views} views of each beside the photo itself"]
    if views < VIEWS[effort]:
        reasons.append(f"fewer views than {VIEWS[effort]}: so many photos differ enough by themselves")
    if views == 0:
        reasons.append("with so many photos, training the whole network would find more than a new head can")
    return Plan([views] * num_photos, folds, tuple(reasons))
