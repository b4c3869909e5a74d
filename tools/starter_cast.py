"""Who plays in the scenes: a fixed number of characters, each seen again and again, never quite the same.

A character is a form in a finish, as a certain red mug is. In every group of them all forms come in all
finishes. So neither its form nor its colour alone tells who it is, as with the things people teach a
detector: a yellow ball is no yellow duck, and neither is a white duck. Whoever meets them often learns to
see both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from renderer.families import FAMILIES, NO_BIRDS
from renderer.materials import random_materials
from renderer.scene import random_pose
from renderer.solids import Thing

GROUP_SIDE = 5
"""How many forms, and how many finishes, a group has."""

MOST_THINGS = 9
"""How many characters a scene has at most."""

_FORM_CHANGE, _FINISH_CHANGE = 0.05, 0.02  # of the range of each random number
_FROM_GROUP = 0.6  # how many of a scene's characters are of one group


class AlmostTheSame(np.random.Generator):
    """Draws what its seed says, but the numbers in a range come a little different each time."""

    def __init__(self, seed: tuple[int, ...], change: float, rng: np.random.Generator) -> None:
        super().__init__(np.random.PCG64(seed))
        self._change, self._rng = change, rng

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As numpy's, then changed by ``rng``, but never out of its range."""
        drawn = super().uniform(low, high, size)
        moved = drawn + self._change * (high - low) * self._rng.standard_normal(np.shape(drawn))
        clipped = np.clip(moved, np.minimum(low, high), np.maximum(low, high))
        return float(clipped) if size is None else clipped


@dataclass(frozen=True)
class Character(Thing):
    """A thing that plays a character."""

    number: int = 0


def play(rng: np.random.Generator, number: int, *, floating: bool) -> Character:
    """One appearance of a character: ``rng`` decides how it stands, and how it differs from all others."""
    group, place = divmod(number, GROUP_SIDE**2)
    form, finish = divmod(place, GROUP_SIDE)
    family = NO_BIRDS[int(np.random.default_rng((group, form, 0)).integers(len(NO_BIRDS)))]
    solid = FAMILIES[family](AlmostTheSame((group, form, 1), _FORM_CHANGE, rng))
    materials = random_materials(AlmostTheSame((group, finish, 2), _FINISH_CHANGE, rng))
    pose = random_pose(rng, floating=floating)
    return Character(solid, materials, family, rotation=pose, number=number)


def cast_scene(rng: np.random.Generator, num_groups: int) -> list[int]:
    """The characters of a scene: many of one group, which are easily taken for each other, and any others."""
    theme = int(rng.integers(num_groups))
    count = int(rng.integers(2, MOST_THINGS + 1))
    groups = np.where(rng.random(count) < _FROM_GROUP, theme, rng.integers(num_groups, size=count))
    numbers: list[int] = (groups * GROUP_SIDE**2 + rng.integers(GROUP_SIDE**2, size=count)).tolist()
    return numbers
