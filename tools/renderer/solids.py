"""Solids: fields with paints, and their place in a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce

import numpy as np
import numpy.typing as npt

from renderer.fields import Field, Floats, gradient, rotation
from renderer.materials import Material

_GRID_CELLS = 26
_GRID_REACH = 1.3


class Paint(IntEnum):
    """Which part of a solid has which material."""

    MAIN = 0
    TRIM = 1
    DARK = 2
    LIGHT = 3


class Solid:
    """A form with a field for each of its paints.

    Attributes:
        surface: ``[3, K]`` points on its surface, dense enough to tell how far it reaches.
        low: ``[3]`` the least coordinates of these points.
        high: ``[3]`` the greatest.
    """

    def __init__(
        self,
        main: Field,
        trim: Field | None = None,
        dark: Field | None = None,
        light: Field | None = None,
    ) -> None:
        given = zip(Paint, (main, trim, dark, light), strict=True)
        self._fields = {paint: part for paint, part in given if part is not None}
        self.surface = self._sample_surface()
        self.low, self.high = self.surface.min(1), self.surface.max(1)

    def distance(self, points: Floats) -> Floats:
        """The field of the whole: ``[3, P]`` points to ``[P]`` distances."""
        nearest: Floats = reduce(np.minimum, (part(points) for part in self._fields.values()))
        return nearest

    def paints(self, points: Floats) -> npt.NDArray[np.intp]:
        """The paint ``[P]`` at points ``[3, P]`` of the surface."""
        distances = np.stack([part(points) for part in self._fields.values()])
        nearest: npt.NDArray[np.intp] = distances.argmin(0)
        return np.array(list(self._fields), np.intp)[nearest]

    def _sample_surface(self) -> Floats:
        axis = np.linspace(-_GRID_REACH, _GRID_REACH, _GRID_CELLS, dtype=np.float32)
        grid: Floats = np.stack(np.meshgrid(axis, axis, axis)).reshape(3, -1)
        distances = self.distance(grid)
        near = np.abs(distances) < axis[1] - axis[0]
        points, distances = grid[:, near], distances[near]
        for _ in range(2):  # fields may fall short of the distance: the second step lands
            points = points - gradient(self.distance, points, 0.01) * distances
            distances = self.distance(points)
        return points[:, np.abs(distances) < 0.03]


@dataclass(frozen=True)
class Thing:
    """A solid in a scene: painted, turned, scaled and put somewhere.

    Attributes:
        position: ``[3]`` where the origin of the solid lies in the world.
        rotation: ``[3, 3]`` from the solid's axes to the world's.
    """

    solid: Solid
    materials: tuple[Material, Material, Material, Material]
    family: str
    position: Floats = field(default_factory=lambda: np.zeros(3, np.float32))
    rotation: Floats = field(default_factory=lambda: rotation(0, 0.0))
    scale: float = 1.0

    @property
    def surface(self) -> Floats:
        """The solid's surface points ``[3, K]``, in the world."""
        return self.rotation @ self.solid.surface * self.scale + self.position[:, None]

    def to_local(self, points: Floats) -> Floats:
        """World points ``[3, P]`` in the solid's own space."""
        return self.rotation.T @ ((points - self.position[:, None]) / self.scale)
