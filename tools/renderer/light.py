"""Light: a sun or lamp, the sky or room around, shadows and highlights.

Shadows are those of a light of some width, after I. Quilez (iquilezles.org/articles/rmshadows): the nearer a
ray towards the light passes by a thing, the less of the light it gets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from renderer.camera import Sight
from renderer.fields import Floats, vector
from renderer.materials import noise
from renderer.solids import Thing

_SHADOW_STEPS = 20
_FIRST_STEP = 0.04  # of a solid's own space: leaves the surface behind on which a ray begins


@dataclass(frozen=True)
class Light:
    """The light of a scene.

    Attributes:
        toward: ``[3]`` the direction to the sun or lamp.
        sun: ``[3]`` its colour and strength.
        sky: ``[3]`` light from above.
        ground: ``[3]`` light from below.
        width: how wide the sun or lamp is, in radians; wider is softer.
        surroundings: a number that chooses what shiny things mirror.
    """

    toward: Floats
    sun: Floats
    sky: Floats
    ground: Floats
    width: float
    surroundings: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """Sun, overcast sky, lamp or window; warm, cold or neutral."""
        azimuth, height = rng.uniform(0, math.tau), rng.uniform(0.45, 1.5)
        flat = math.cos(height)
        toward = vector(flat * math.cos(azimuth), math.sin(height), flat * math.sin(azimuth))
        if toward[2] > 0 and rng.random() < 0.5:  # few take a photo against the light
            toward[2] *= -1
        warmth = rng.normal(0, 0.16)
        sun = vector(1 + warmth, 1 + 0.1 * rng.normal(), 1 - warmth)
        sky = vector(1 - 0.5 * warmth, 1, 1 + 0.5 * warmth)
        share = rng.beta(2, 2)  # of the light that comes from the sun
        return cls(
            toward=toward,
            sun=sun.clip(0.3, 2) * (1.6 * share),
            sky=sky.clip(0.3, 2) * (0.25 + 0.9 * (1 - share)),
            ground=rng.uniform(0.1, 0.5, 3).astype(np.float32),
            width=math.exp(rng.uniform(math.log(0.03), math.log(0.5))),
            surroundings=rng.uniform(0, 8),
        )


def sunlight(points: Floats, things: Sequence[Thing], light: Light) -> Floats:
    """How much of the sun reaches world points ``[3, P]``: ``[P]``, 0 to 1."""
    reaching = np.ones(points.shape[1], np.float32)
    for thing in things:
        local, toward = thing.to_local(points), thing.rotation.T @ light.toward
        along, leave = _through_ball(thing, local, toward, light.width)
        active = np.flatnonzero(along < leave)
        along, leave, local = along[active], leave[active], local[:, active]
        for _ in range(_SHADOW_STEPS):
            if len(active) == 0:
                break
            distance = thing.solid.distance(local + along * toward[:, None])
            open_part = np.clip(0.5 + distance / (light.width * (along + 0.05)), 0, 1)
            reaching[active] = np.minimum(reaching.take(active), open_part)
            along = along + np.clip(distance, 0.04, 0.4)
            going = np.flatnonzero((open_part > 0) & (along < leave))
            active, along, leave = active.take(going), along.take(going), leave.take(going)
            local = local.take(going, axis=1)
    return reaching * reaching * (3 - 2 * reaching)


def _through_ball(thing: Thing, points: Floats, toward: Floats, width: float) -> tuple[Floats, Floats]:
    """Where rays from ``points`` enter and leave the ball around the solid and its half shadow."""
    middle = (thing.solid.low + thing.solid.high)[:, None] / 2
    offset = points - middle
    past = -(toward[:, None] * offset).sum(0)
    radius = float(np.linalg.norm(thing.solid.high - thing.solid.low)) / 2 + 0.5 * width * np.maximum(past, 0)
    half = radius**2 - (offset * offset).sum(0) + past**2
    half = np.where(half > 0, np.sqrt(np.maximum(half, 0)), -np.inf)
    return np.maximum(past - half, np.float32(_FIRST_STEP)), past + half


def floor_openness(points: Floats, things: Sequence[Thing]) -> Floats:
    """How much of the sky the floor at points ``[3, P]`` sees past the things on it: ``[P]``."""
    openness = np.ones(points.shape[1], np.float32)
    for thing in things:
        local = thing.to_local(points)
        middle = (thing.solid.low + thing.solid.high)[:, None] / 2
        size = float(np.linalg.norm(thing.solid.high - thing.solid.low)) / 2
        near = np.flatnonzero(((local - middle) ** 2).sum(0) < (1.8 * size) ** 2)
        if len(near):
            distance = np.maximum(thing.solid.distance(local[:, near]), 0)
            openness[near] *= 1 - 0.75 * np.exp(-4 / size * distance)
    return openness


def shade(
    sight: Sight, thing: Thing, light: Light, sun_share: Floats, height: Floats | None = None
) -> Floats:
    """The light ``[3, K]`` that the pixels of one thing send to the camera.

    Args:
        sight: the pixels.
        thing: the thing they see.
        light: the light.
        sun_share: ``[K]`` how much of the sun reaches them.
        height: ``[K]`` how far above the floor they are, in sizes of the thing; None without floor.
    """
    albedo, gloss, shine, normals = _surface(sight, thing)
    upward = 0.5 + 0.5 * normals[1]
    openness = _openness(sight, thing)
    if height is not None:
        openness = openness * (1 - 0.6 * (1 - upward) * np.exp(-3 * np.maximum(height, 0)))
    facing = np.maximum((normals * light.toward[:, None]).sum(0), 0) * sun_share
    sky, ground, sun = light.sky[:, None], light.ground[:, None], light.sun[:, None]
    diffuse: Floats = albedo * ((ground + (sky - ground) * upward) * openness + sun * facing)

    halfway = light.toward[:, None] - sight.rays
    halfway = halfway / np.sqrt((halfway * halfway).sum(0))
    highlight = np.maximum((normals * halfway).sum(0), 0) ** shine * (shine + 8) / 30 * sun_share
    edge_on = np.clip(1 + (normals * sight.rays).sum(0), 0, 1)
    mirrored = sight.rays - 2 * (normals * sight.rays).sum(0) * normals
    reflected = np.clip(3 * noise(mirrored * 0.12 + np.float32(light.surroundings)) - 0.9, 0, 1.5) * openness
    fresnel = 0.04 + 0.5 * edge_on**5  # Schlick 1994, weaker at the edge as no surface is quite smooth
    diffuse += gloss * (0.3 * sun * highlight + fresnel * reflected * sky)
    return diffuse


def _surface(sight: Sight, thing: Thing) -> tuple[Floats, Floats, Floats, Floats]:
    """Colour ``[3, K]``, gloss ``[K]``, exponent of the highlight ``[K]``, normals ``[3, K]``."""
    paints = thing.solid.paints(sight.points)
    albedo, normals = np.empty_like(sight.points), sight.normals.copy()
    gloss, shine = np.empty_like(sight.range), np.empty_like(sight.range)
    for paint in np.unique(paints):
        where, material = np.flatnonzero(paints == paint), thing.materials[paint]
        points = sight.points[:, where]
        albedo[:, where] = material.albedo(points)
        gloss[where], shine[where] = material.gloss, material.shine
        if material.bump:
            rough = np.stack([noise(points * 3 + shift) for shift in (0.0, 2.7, 5.1)]) - 0.5
            normals[:, where] += material.bump * rough
    return albedo, gloss, shine, normals / np.sqrt((normals * normals).sum(0))


def _openness(sight: Sight, thing: Thing) -> Floats:
    """How much of its surroundings each point sees past the thing itself (Evans 2006, two samples)."""
    local_normals = thing.rotation.T @ sight.normals
    openness = np.ones_like(sight.range)
    for reach, weight in ((0.06, 3.0), (0.2, 1.2)):
        free = thing.solid.distance(sight.points + reach * local_normals)
        openness -= weight * (reach - free).clip(0, reach)
    return openness.clip(0.15, 1)
