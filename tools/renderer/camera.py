"""A camera in the world, the rays of its pixels, and what they meet.

The world's y is up and its floor is y = 0. A pixel is a point at its centre; rows and columns
may lie outside the photo, since a thing that its border cuts has an outside part too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from renderer.fields import Floats, gradient, rotation, vector
from renderer.solids import Thing

_STEPS = 64
_HIT = 0.25  # a ray has met a surface when nearer than this part of a pixel
_COARSE = 4


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        focal: in pixels.
        position: ``[3]`` in the world.
        frame: ``[3, 3]``, its columns the world's directions of right, down and forward.
    """

    size_hw: tuple[int, int]
    focal: float
    position: Floats
    frame: Floats

    @classmethod
    def looking(
        cls, size_hw: tuple[int, int], view_angle: float, height: float, down: float, roll: float
    ) -> Camera:
        """A camera ``height`` above the floor that looks ``down`` by an angle, held at a ``roll``."""
        level = np.diag(vector(1, -1, 1))
        frame = rotation(0, down) @ level @ rotation(2, roll)
        focal = 0.5 * max(size_hw) / math.tan(view_angle / 2)
        return cls(size_hw, focal, vector(0, height, 0), frame)

    def rays(self, rows: npt.NDArray[Any], columns: npt.NDArray[Any]) -> Floats:
        """The unit directions ``[3, P]`` that pixels look in."""
        height, width = self.size_hw
        x = (columns + 0.5 - width / 2).astype(np.float32) / self.focal
        y = (rows + 0.5 - height / 2).astype(np.float32) / self.focal
        toward: Floats = np.stack([x, y, np.ones_like(x)]) / np.sqrt(x * x + y * y + 1)
        return self.frame @ toward

    def project(self, points: Floats) -> Floats:
        """World points ``[3, P]`` to columns, rows and depths ``[3, P]``, continuous as boxes are."""
        x, y, depth = self.frame.T @ (points - self.position[:, None])
        height, width = self.size_hw
        scale = self.focal / np.maximum(depth, 1e-3)
        return np.stack([x * scale + width / 2, y * scale + height / 2, depth])


@dataclass(frozen=True)
class Sight:
    """What a camera sees of one thing, if nothing is in front of it: K pixels of the photo.

    Attributes:
        rows: ``[K]``.
        columns: ``[K]``.
        cover: ``[K]`` how much of each pixel the thing covers, above 0 and up to 1.
        range: ``[K]`` how far from the camera it is.
        rays: ``[3, K]`` the directions the pixels look in.
        points: ``[3, K]`` what they meet, in the thing's own space.
        normals: ``[3, K]`` the outward directions there, in the world.
        num_pixels: how many pixels it covers by half, those outside the photo too.
    """

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    cover: Floats
    range: Floats
    rays: Floats
    points: Floats
    normals: Floats
    num_pixels: int


def look_at(thing: Thing, camera: Camera) -> Sight:
    """Follow the ray of every pixel that may meet the thing."""
    columns, rows, _ = camera.project(thing.surface)
    left, right = _window(columns)
    top, bottom = _window(rows)
    # First one ray for a block of pixels, as wide as the block, to learn where its rays may start.
    blocks = (slice(top, bottom, _COARSE), slice(left, right, _COARSE))
    start, reached = _block_starts(thing, camera, *blocks)
    block_rows, block_columns = np.nonzero(reached)
    within = np.arange(_COARSE)
    rows = (top + block_rows * _COARSE)[:, None, None] + within[:, None] + 0 * within
    columns = (left + block_columns * _COARSE)[:, None, None] + within + 0 * within[:, None]
    rows, columns = rows.ravel(), columns.ravel()
    rays = camera.rays(rows, columns)
    starts = np.repeat(start[reached], _COARSE * _COARSE)
    nearest, where = _march(thing, camera, rays, starts, 1 / camera.focal, _HIT)
    return _sight(thing, camera, rows, columns, rays, nearest, where)


def _window(values: Floats) -> tuple[int, int]:
    low, high = float(values.min()), float(values.max())
    margin = 2 + 0.04 * (high - low)  # the surface points leave gaps
    return math.floor(low - margin), math.ceil(high + margin)


def _block_starts(
    thing: Thing, camera: Camera, rows: slice, columns: slice
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """How far the rays of each block may go unseen, and which blocks come near the thing at all."""
    middle = (_COARSE - 1) / 2
    row_grid, column_grid = np.mgrid[rows, columns].astype(np.float32) + np.float32(middle)
    rays = camera.rays(row_grid.ravel(), column_grid.ravel())
    width = (middle * math.sqrt(2) + 1) / camera.focal  # from the ray to the block's corners, and a pixel
    nearest, where = _march(thing, camera, rays, np.zeros(rays.shape[1], np.float32), width, 1.0)
    safe = where * (1 - 2 * width)
    return safe.reshape(row_grid.shape), (nearest < 1.0).reshape(row_grid.shape)


def _march(
    thing: Thing, camera: Camera, rays: Floats, starts: Floats, width: float, enough: float
) -> tuple[Floats, Floats]:
    """Walk along rays ``[3, P]`` until they meet the thing or leave its surroundings.

    A ray is a cone that is ``width`` wide per unit of length; it has met the thing where it is
    nearer than ``enough`` widths.

    Returns:
        For each ray the least distance to the thing, in widths, and how far along it that was.
    """
    origin = thing.to_local(camera.position[:, None])
    local_rays = thing.rotation.T @ rays
    enter, leave = _through_bounds(thing, origin, local_rays, width)
    along = np.maximum(enter, starts / thing.scale)
    nearest = np.full(along.shape, np.inf, np.float32)
    where = along.copy()
    active = np.flatnonzero(along < leave)
    along, leave, local_rays = along[active], leave[active], local_rays[:, active]
    for step in range(_STEPS):
        if len(active) == 0:
            break
        distance = thing.solid.distance(origin + along * local_rays)
        widths = distance / (width * along)
        closer = np.flatnonzero(widths < nearest.take(active))
        nearest[active.take(closer)] = widths.take(closer)
        where[active.take(closer)] = along.take(closer)
        # Up to where the cone may touch; at least a bit, and ever more, or rays along a surface would
        # take for ever.
        along = along + width * along * np.maximum(widths - enough, 0.4 + 0.04 * step)
        going = np.flatnonzero((widths > enough) & (along < leave))
        if len(going) < len(active):
            active, along, leave = active.take(going), along.take(going), leave.take(going)
            local_rays = local_rays.take(going, axis=1)
    return nearest, where * thing.scale


def _through_bounds(thing: Thing, origin: Floats, rays: Floats, width: float) -> tuple[Floats, Floats]:
    """Where rays ``[3, P]`` enter and leave the box around the solid (both 0 if they pass it by)."""
    low, high = thing.solid.low[:, None], thing.solid.high[:, None]
    away = float(np.linalg.norm(origin))
    margin = 0.03 + width * (away + 1)
    safe = np.where(np.abs(rays) < 1e-6, np.float32(1e-6), rays)
    first, second = (low - margin - origin) / safe, (high + margin - origin) / safe
    enter = np.maximum(np.minimum(first, second).max(0), np.float32(1e-2))
    leave = np.maximum(first, second).min(0)
    return enter, leave


def _sight(
    thing: Thing,
    camera: Camera,
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    rays: Floats,
    nearest: Floats,
    where: Floats,
) -> Sight:
    cover = np.clip((1 - nearest) / (1 - _HIT), 0, 1)
    height, width = camera.size_hw
    in_photo = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    seen = np.flatnonzero(in_photo & (cover > 0.02))
    rays, where = rays[:, seen], where[seen]
    points = thing.to_local(camera.position[:, None] + where * rays)
    reach = np.maximum(0.7 / camera.focal * where / thing.scale, 1e-3)
    normals = thing.rotation @ gradient(thing.solid.distance, points, reach)
    num_pixels = int((cover >= 0.5).sum())
    return Sight(rows[seen], columns[seen], cover[seen], where, rays, points, normals, num_pixels)
