"""The families of things that a scene may hold, by name; a family's number is its place here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from renderer import birds, forms, household, nature
from renderer.solids import Solid

Family = Callable[[np.random.Generator], Solid]

_FORMS: tuple[Family, ...] = (
    forms.ball,
    forms.egg,
    forms.block,
    forms.die,
    forms.drum,
    forms.cone,
    forms.tyre,
    forms.hoop,
    forms.capsule,
    forms.pillow,
    forms.star,
    forms.gear,
    forms.prism,
    forms.pyramid,
    forms.cross,
    forms.letter,
    forms.spring,
    forms.dumbbell,
    forms.blob,
    forms.tower,
)
_HOUSEHOLD: tuple[Family, ...] = (
    household.mug,
    household.bottle,
    household.vase,
    household.bowl,
    household.pan,
    household.teapot,
    household.spoon,
    household.hammer,
    household.screwdriver,
    household.wrench,
    household.scissors,
    household.key,
    household.pawn,
    household.car,
    household.rocket,
    household.aeroplane,
    household.chair,
    household.table,
    household.lamp,
    household.house,
    household.book,
    household.hat,
    household.umbrella,
    household.padlock,
)
_NATURE: tuple[Family, ...] = (
    nature.leaf,
    nature.flower,
    nature.mushroom,
    nature.tree,
    nature.cactus,
    nature.apple,
    nature.banana,
    nature.carrot,
    nature.grapes,
    nature.snail,
    nature.fish,
    nature.butterfly,
    nature.turtle,
    nature.beast,
    nature.bear,
    nature.snowman,
    nature.octopus,
    nature.seashell,
    nature.bone,
)
_BIRDS: tuple[Family, ...] = (birds.bird, birds.penguin, birds.rubber_duck)

FAMILIES: dict[str, Family] = {
    family.__name__: family for family in (*_FORMS, *_HOUSEHOLD, *_NATURE, *_BIRDS)
}
BIRDS = frozenset(family.__name__ for family in _BIRDS)
NO_BIRDS = tuple(name for name in FAMILIES if name not in BIRDS)
"""All others: the rubber ducks of the sample data are new to whoever learnt from these alone."""
