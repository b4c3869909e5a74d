"""Where things are: a floor and a wall behind it, or nothing but a backdrop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from renderer.camera import Camera
from renderer.fields import Floats
from renderer.light import Light, floor_openness, sunlight
from renderer.mipmap import MipMap
from renderer.photograph import blur
from renderer.solids import Thing
from renderer.surroundings import SIDE, random_backdrop, random_shading, random_texture

_FAR = 60.0
_SHADOW_STEP = 2  # shadows are soft: one ray for so many rows and columns of the floor is enough


@dataclass(frozen=True)
class Room:
    """A floor and a wall, or a backdrop alone.

    Attributes:
        floor: the texture of the floor; None if things float before the backdrop.
        wall: ``[S, S, 3]`` what is seen of the wall or backdrop, stretched over the photo.
        floor_size: how wide one texture is on the floor.
        turn: the angle of the floor's texture.
        wall_z: how far the wall is.
        focus: at which distance the floor is sharp.
        defocus: how much it blurs away from there; the wall blurs with it.
        uneven: ``[S, S]`` where the light is stronger and weaker, stretched over the photo.
    """

    floor: MipMap | None
    wall: Floats
    floor_size: float
    turn: float
    wall_z: float
    focus: float
    defocus: float
    uneven: Floats

    @classmethod
    def random(
        cls, rng: np.random.Generator, camera: Camera, things: Sequence[Thing], *, floating: bool
    ) -> Room:
        """A room that holds these things."""
        ends = [float(thing.surface[2].max()) for thing in things]
        away = [float(np.linalg.norm(thing.position - camera.position)) for thing in things]
        focus = sum(away) / len(away) if away else 3.0
        return cls(
            floor=None if floating else MipMap(random_texture(rng)),
            wall=_random_part(rng, random_backdrop(rng) if rng.random() < 0.7 else random_texture(rng)),
            floor_size=focus * math.exp(rng.uniform(-0.3, 0.9)),
            turn=rng.uniform(0, math.tau),
            wall_z=max(ends, default=3.0) + math.exp(rng.uniform(-2, 2)),
            focus=focus,
            defocus=rng.exponential(0.03) if rng.random() < 0.7 else rng.uniform(0.03, 0.12),
            uneven=random_shading(rng, 0.35)[..., 0],
        )


def _random_part(rng: np.random.Generator, texture: Floats) -> Floats:
    side = int(rng.integers(SIDE // 2, SIDE + 1))
    shifted = np.roll(texture, rng.integers(SIDE, size=2), axis=(0, 1))
    return shifted[:side, :side]


def draw_room(room: Room, camera: Camera, light: Light, things: Sequence[Thing]) -> Floats:
    """The light ``[H, W, 3]`` that the room sends to the camera, with the shadows of the things."""
    height, width = camera.size_hw
    rows, columns = np.mgrid[:height, :width].astype(np.float32).reshape(2, -1)
    rays = camera.rays(rows, columns)
    to_wall = _distance_to(rays[2], room.wall_z - camera.position[2])
    to_floor = _distance_to(rays[1], -camera.position[1])
    on_floor = to_floor < to_wall if room.floor is not None else np.zeros(len(rows), bool)
    seen = np.flatnonzero(on_floor)
    radiance = np.empty((3, height * width), np.float32)
    if len(seen) < height * width:
        wall_light = 0.5 * (light.sky + light.ground + light.sun)
        radiance[:] = _wall_color(room, camera).reshape(3, -1) * wall_light[:, None]
    if room.floor is not None and len(seen):
        color = _floor_color(room, room.floor, camera, rays.take(seen, axis=1), to_floor.take(seen))
        radiance[:, seen] = color * _floor_light(camera, light, things).take(seen, axis=1)
    return np.ascontiguousarray(radiance.T).reshape(height, width, 3)


def uneven_light(room: Room, size_hw: tuple[int, int]) -> Floats:
    """How much of the light falls on each pixel's part of the room: ``[H, W]`` about 1."""
    return _enlarge(room.uneven, size_hw)


def _distance_to(slopes: Floats, offset: float) -> Floats:
    """How far rays go until they have moved by ``offset`` along an axis; very far if they never do."""
    ahead = slopes * np.sign(offset) > 1e-4
    return np.where(ahead, abs(offset) / np.maximum(np.abs(slopes), 1e-4), np.float32(_FAR * 10))


def _floor_color(room: Room, texture: MipMap, camera: Camera, rays: Floats, away: Floats) -> Floats:
    x, z = away * rays[0], away * rays[2]
    cos, sin = math.cos(room.turn), math.sin(room.turn)
    u, v = (cos * x - sin * z) / room.floor_size, (sin * x + cos * z) / room.floor_size
    pixel = away / camera.focal / np.sqrt(np.abs(rays[1]))  # a pixel sees a long part of a slanting floor
    unsharp = room.defocus * np.abs(away - room.focus) / room.focus
    return texture.look_up(u, v, (pixel + unsharp) / room.floor_size)


def _wall_color(room: Room, camera: Camera) -> Floats:
    """The colour ``[3, H, W]`` of the wall or backdrop behind each pixel."""
    behind = 1 - room.focus / max(room.wall_z, room.focus)
    soft = blur(room.wall, 0.3 + len(room.wall) * room.defocus * behind)
    return np.stack([_enlarge(plane, camera.size_hw) for plane in soft.transpose(2, 0, 1)])


def _floor_light(camera: Camera, light: Light, things: Sequence[Thing]) -> Floats:
    """The light ``[3, H * W]`` that falls on the floor under each pixel."""
    height, width = camera.size_hw
    grid = np.mgrid[0:height:_SHADOW_STEP, 0:width:_SHADOW_STEP].astype(np.float32)
    rays = camera.rays(*(grid.reshape(2, -1) + np.float32((_SHADOW_STEP - 1) / 2)))
    away = np.minimum(_distance_to(rays[1], -camera.position[1]), np.float32(_FAR))
    points = camera.position[:, None] + away * rays
    low_hw = grid.shape[1:]
    sun = _enlarge(sunlight(points, things, light).reshape(low_hw), camera.size_hw)
    sky = _enlarge(floor_openness(points, things).reshape(low_hw), camera.size_hw)
    overhead = light.sun * max(float(light.toward[1]), 0)
    return overhead[:, None] * sun.ravel() + light.sky[:, None] * sky.ravel()


def _enlarge(values: Floats, size_hw: tuple[int, int]) -> Floats:
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize(size_hw[::-1], Image.Resampling.BILINEAR), np.float32)
