"""Scenes: things in a room, where they are in the photo, and how it all looks.

``arrange`` decides what is where, ``draw`` makes light of it, and ``take_photo`` a photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import numpy.typing as npt

from renderer.camera import Camera, Sight, look_at
from renderer.families import FAMILIES, NO_BIRDS
from renderer.fields import Floats, Y, rotation
from renderer.light import Light, shade, sunlight
from renderer.materials import random_materials, random_rotation
from renderer.photograph import Exposure, RGBArray, take_photo, through_jpeg
from renderer.room import Room, draw_room, uneven_light
from renderer.solids import Thing

# A thing of which less is seen is a piece of something: nobody would draw a box around it.
MIN_VISIBLE = 0.3

_MIN_SIDE = 4  # pixels; what is smaller cannot be told from noise
_TRIES = 12
_FLOATING = 0.2  # how many scenes have things in front of a backdrop instead of on a floor
_FARTHEST = 6.0  # in heights of the camera; farther off a floor is seen too flat


@dataclass(frozen=True)
class Scene:
    """All there is to draw."""

    camera: Camera
    light: Light
    room: Room
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Drawing:
    """A scene as the camera's sensor would see it without any flaw.

    Attributes:
        radiance: ``[H, W, 3]`` linear light.
        owner: ``[H, W]`` the number of the thing that each pixel shows, -1 for the room.
        boxes: ``[M, 4]`` around what is seen of each thing, all 0 if nothing is.
        visible: ``[M]`` which part of each thing is seen: not hidden, not outside the photo.
    """

    radiance: Floats
    owner: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float32]
    visible: npt.NDArray[np.float32]


@dataclass(frozen=True)
class RenderedScene:
    """A photo of a random scene, and what is in it.

    Attributes:
        image: ``[H, W, 3]``.
        boxes: ``[M, 4]``, around the visible part of each thing.
        things: the M of them.
        family_names: of all families there are.
    """

    image: RGBArray
    boxes: npt.NDArray[np.float32]
    things: tuple[Thing, ...]
    family_names: tuple[str, ...] = tuple(FAMILIES)

    @property
    def family_ids(self) -> npt.NDArray[np.int64]:
        """``[M]`` the family of each box, as places in ``family_names``."""
        return np.array([self.family_names.index(thing.family) for thing in self.things], np.int64)


def render_scene(
    rng: np.random.Generator,
    size_hw: tuple[int, int] = (320, 320),
    *,
    families: Sequence[str] | None = None,
    max_things: int = 7,
) -> RenderedScene:
    """Render a photo of random things in a random place.

    Args:
        rng: the only source of chance: the same state gives the same scene.
        size_hw: of the photo.
        families: names out of ``FAMILIES`` to choose from; left out, all but the birds, so that
            who learns from these scenes meets the rubber ducks of the sample data as new.
        max_things: there are at most so many.

    Raises:
        ValueError: a family is unknown.
    """
    names = list(NO_BIRDS if families is None else families)
    if unknown := [name for name in names if name not in FAMILIES]:
        raise ValueError(f"unknown families: {unknown}")
    floating = is_floating(rng)
    things = [
        random_thing(rng, name, floating=floating)
        for name in rng.choice(names, int(rng.integers(1, max_things + 1))).tolist()
    ]
    return render_things(rng, size_hw, things, floating=floating)


def render_things(
    rng: np.random.Generator, size_hw: tuple[int, int], things: Sequence[Thing], *, floating: bool
) -> RenderedScene:
    """Render a photo of given things in a random place; those that find no room are left out."""
    scene = arrange(rng, size_hw, things, floating=floating)
    drawing = draw(scene)
    kept = is_visible(drawing)
    exposure = Exposure.random(rng, scale=max(size_hw) / 320)
    image = through_jpeg(take_photo(rng, drawing.radiance, exposure), int(rng.integers(45, 97)))
    return RenderedScene(image, drawing.boxes[kept], tuple(compress(scene.things, kept)))


def is_floating(rng: np.random.Generator) -> bool:
    """Whether the things of a scene hang in front of a backdrop: one time in five."""
    return rng.random() < _FLOATING


def random_thing(rng: np.random.Generator, family: str, *, floating: bool) -> Thing:
    """A thing of a family, made of anything."""
    pose = random_pose(rng, floating=floating)
    return Thing(FAMILIES[family](rng), random_materials(rng), family, rotation=pose)


def is_visible(drawing: Drawing) -> npt.NDArray[np.bool_]:
    """Which things ``[M]`` show enough of themselves for a box."""
    sides = drawing.boxes[:, 2:] - drawing.boxes[:, :2]
    enough: npt.NDArray[np.bool_] = drawing.visible >= MIN_VISIBLE
    return enough & (sides >= _MIN_SIDE).all(1)


def arrange(
    rng: np.random.Generator, size_hw: tuple[int, int], things: Sequence[Thing], *, floating: bool
) -> Scene:
    """Put things in a random place, on a floor or before a backdrop; those that find none are left out."""
    camera = random_camera(rng, size_hw, floating=floating)
    placed: list[Thing] = []
    for thing in things:
        # Many things leave less room for each.
        largest = 0.9 / len(things) ** 0.35
        extent = max(size_hw) * math.exp(rng.uniform(math.log(0.07), math.log(largest)))
        found = place(rng, camera, thing, extent, placed, floating=floating)
        placed += [] if found is None else [found]
    room = Room.random(rng, camera, placed, floating=floating)
    return Scene(camera, Light.random(rng), room, tuple(placed))


def random_camera(rng: np.random.Generator, size_hw: tuple[int, int], *, floating: bool) -> Camera:
    """A phone held by a person: it looks down at things on a floor, less or more, never quite level."""
    angle = math.radians(rng.uniform(35, 70))
    down = 0.0 if floating else math.radians(rng.uniform(14, 75))
    return Camera.looking(size_hw, angle, height=1.0, down=down, roll=rng.normal(0, 0.06))


def random_pose(rng: np.random.Generator, *, floating: bool) -> Floats:
    """Upright in any direction, or fallen over in any way."""
    if floating or rng.random() < 0.35:
        return random_rotation(rng)
    return rotation(Y, rng.uniform(0, math.tau))


def place(
    rng: np.random.Generator,
    camera: Camera,
    thing: Thing,
    extent: float,
    others: Sequence[Thing],
    *,
    floating: bool,
    min_inside: float = 0.6,
    max_hidden: float = 0.4,
) -> Thing | None:
    """Find a place for a thing, where it looks ``extent`` pixels large.

    Args:
        rng: chooses among the places.
        camera: what looks.
        thing: what to place; its pose stays.
        extent: the longer side of its box.
        others: what is there already, which it must not touch nor hide too much.
        floating: it hangs in the air instead of standing on the floor.
        min_inside: the least part of its box that must lie in the photo.
        max_hidden: the greatest part of the smaller of two boxes that the other may overlap.

    Returns:
        The thing in its place, or None if it found none.
    """
    height, width = camera.size_hw
    taken = [_box_of(other, camera) for other in others]
    for _ in range(_TRIES):
        spot = rng.uniform((0.02 * height, 0), (1.02 * height, width))
        if taken and rng.random() < 0.5:  # near another thing, where they hide each other
            left, top, right, bottom = taken[rng.integers(len(taken))]
            spot = rng.uniform((top, left - 0.2 * extent), (bottom + 0.5 * extent, right + 0.2 * extent))
        placed = _put(camera, thing, spot, extent, rng.uniform(2, 6) if floating else None)
        if placed is None:
            continue
        box = _box_of(placed, camera)
        inside = _overlap(box, np.array([0, 0, width, height])) / _area(box)
        hidden = max((_overlap(box, other) / min(_area(box), _area(other)) for other in taken), default=0.0)
        apart = all(_are_apart(placed, other) for other in others)
        if inside >= min_inside and hidden <= max_hidden and apart:
            return placed
    return None


def _put(
    camera: Camera, thing: Thing, spot: Floats, extent: float, hanging_at: float | None = None
) -> Thing | None:
    """The thing on the floor under a pixel, or hanging at a distance; None where that is too far or near."""
    ray = camera.rays(spot[:1], spot[1:])[:, 0]
    floor_at = -camera.position[1] / ray[1] if ray[1] < 0 else math.inf
    away = floor_at if hanging_at is None else hanging_at
    if away > _FARTHEST:
        return None
    local = thing.rotation @ thing.solid.surface
    low, high = local.min(1), local.max(1)
    foot = (low + high) / 2
    if hanging_at is None:
        foot[1] = low[1]
    target = camera.position + away * ray
    scale = extent * away / camera.focal / float((high - low).max())
    for _ in range(2):  # the nearer part of a thing looks larger: correct for it
        placed = replace(thing, position=(target - scale * foot).astype(np.float32), scale=float(scale))
        box = _box_of(placed, camera)
        if not np.isfinite(box).all() or (placed.surface[2] < 0.05).any():
            return None
        scale *= extent / max(box[2] - box[0], box[3] - box[1])
    return placed


def _box_of(thing: Thing, camera: Camera) -> Floats:
    columns, rows, depths = camera.project(thing.surface)
    if depths.min() < 0.1:
        return np.full(4, np.nan)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


def _area(box: Floats) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _overlap(first: Floats, second: Floats) -> float:
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _are_apart(first: Thing, second: Thing) -> bool:
    """Whether two things do not touch, taking each for an upright box."""
    one, two = first.surface, second.surface
    gaps = np.maximum(one.min(1) - two.max(1), two.min(1) - one.max(1))
    return float(gaps.max()) > 0


def draw(scene: Scene) -> Drawing:
    """Draw the room, then the things from far to near."""
    camera, things = scene.camera, scene.things
    height, width = camera.size_hw
    on_floor = scene.room.floor is not None
    radiance = draw_room(scene.room, camera, scene.light, things)
    ranges = np.full((height, width), np.inf, np.float32)
    owner = np.full((height, width), -1, np.intp)
    sizes = np.zeros(len(things), np.float32)
    away = [float(np.linalg.norm(thing.position - camera.position)) for thing in things]
    for number in np.argsort(away)[::-1].tolist():
        sight = look_at(things[number], camera)
        sizes[number] = sight.num_pixels
        in_front = np.flatnonzero(sight.range < ranges[sight.rows, sight.columns])
        color = _color_of(sight, things[number], scene, on_floor=on_floor)
        rows, columns, cover = sight.rows[in_front], sight.columns[in_front], sight.cover[in_front]
        behind = radiance[rows, columns]
        radiance[rows, columns] = behind + (color.T[in_front] - behind) * cover[:, None]
        solid = cover >= 0.5
        owner[rows[solid], columns[solid]] = number
        ranges[rows[solid], columns[solid]] = sight.range[in_front][solid]
    radiance *= uneven_light(scene.room, camera.size_hw)[..., None]
    boxes, seen = _boxes(owner, len(things))
    return Drawing(radiance, owner, boxes, seen / sizes.clip(min=1))


def _color_of(sight: Sight, thing: Thing, scene: Scene, *, on_floor: bool) -> Floats:
    points = scene.camera.position[:, None] + sight.range * sight.rays
    size = thing.scale * float((thing.solid.high - thing.solid.low).max())
    lifted = points + sight.normals * (0.02 * size)  # or roundings would put a surface in its own shadow
    sun_share = sunlight(lifted, scene.things, scene.light)
    return shade(sight, thing, scene.light, sun_share, points[1] / size if on_floor else None)


def _boxes(
    owner: npt.NDArray[np.intp], count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    boxes, seen = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
    for number in range(count):
        rows, columns = np.nonzero(owner == number)
        seen[number] = len(rows)
        if len(rows):
            boxes[number] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes, seen
