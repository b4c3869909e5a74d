"""How much work the photos deserve: decided by how many there are and by the one dial, ``effort``."""

from __future__ import annotations

from dataclasses import dataclass

from fewbox.core import counted

VIEWS = {"quick": 1, "normal": 4, "long": 16}
"""Views of each photo beside itself, while there are few photos."""
MOST_PICTURES = {"quick": 600, "normal": 600, "long": 1200}
"""Pictures in all; each is a pass of the network and about a megabyte of features."""
MOST_ROWS, LEAST_ROWS = 300, 30
ROWS_IN_ALL = 30_000
"""Anchors of the background of each of two kinds; beyond it they only cost time. See ``assign_targets``."""
MOST_KEPT, KEPT_IN_ALL = 4000, 400_000
"""Anchors of a photo, and of all photos, that are kept to detect in it once it is held out; 0.3 GB."""
FOLDS = {"quick": 3, "normal": 5, "long": 10}
"""Into how many parts the photos are divided to check on each what the others teach."""


@dataclass(frozen=True)
class Plan:
    """What the recipe is going to do, and why."""

    views: int
    """How many views each photo gets beside itself."""
    rows: int
    """Anchors of the background that each picture gives, of each of two kinds."""
    kept: int
    """Anchors of each photo, the likeliest by the base, to detect among once it is held out."""
    folds: int
    """0 where there is nothing to hold out."""
    reasons: tuple[str, ...]


def plan(num_photos: int, effort: str) -> Plan:
    """Divide the work: many views of few photos, few views of many."""
    views = min(VIEWS[effort], max(MOST_PICTURES[effort] // num_photos - 1, 0))
    folds = min(FOLDS[effort], num_photos) if num_photos > 1 else 0
    photos, of_each = counted(num_photos, "photo"), counted(views, "view")
    reasons = [f"{photos}, effort {effort}: {of_each} of each beside the photo itself"]
    if views < VIEWS[effort]:
        reasons.append(f"fewer views than {VIEWS[effort]}: so many photos differ enough by themselves")
    if views == 0:
        reasons.append(
            "with so many photos, training the network itself would find more: fewbox finetune-deep"
        )
    rows = min(max(ROWS_IN_ALL // (num_photos * (views + 1)), LEAST_ROWS), MOST_ROWS)
    return Plan(views, rows, min(KEPT_IN_ALL // num_photos, MOST_KEPT), folds, tuple(reasons))
