"""Signed distance fields: forms as functions.

A field takes points ``[3, P]`` and gives for each its distance to a surface, negative inside.
It may say less than the true distance but never much more, because the tracer walks along a
ray by what it says. y is up and the axis of whatever is round; forms lie within 1.2 of the
origin. All arrays are float32.

The formulas follow J. C. Hart, "Sphere Tracing" (1996), and I. Quilez, "Distance functions"
(iquilezles.org/articles/distfunctions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Field = Callable[[Floats], Floats]
Vector = tuple[float, float, float]

X, Y, Z = 0, 1, 2

# An outline is sampled on this many points per side, over a square that reaches this far.
_OUTLINE_CELLS = 96
_OUTLINE_REACH = 1.3


def sphere(radius: float) -> Field:
    """A ball."""
    return lambda p: _length(p[0], p[1], p[2]) - radius


def ellipsoid(rx: float, ry: float, rz: float) -> Field:
    """A ball with three radii; to first order, as an exact distance needs a polynomial's root."""

    def field(p: Floats) -> Floats:
        x, y, z = p[0] / rx, p[1] / ry, p[2] / rz
        scaled = _length(x, y, z)
        slope = _length(x / rx, y / ry, z / rz)
        return scaled * (scaled - 1) / np.maximum(slope, 1e-6)

    return field


def box(hx: float, hy: float, hz: float, rounding: float = 0.02) -> Field:
    """A box of these half sides; its edges are rounded, as sharp ones are rare in real things."""
    radius = min(rounding, hx, hy, hz)

    def field(p: Floats) -> Floats:
        x = np.abs(p[0]) - (hx - radius)
        y = np.abs(p[1]) - (hy - radius)
        z = np.abs(p[2]) - (hz - radius)
        return _corner(x, y, z) - radius

    return field


def cylinder(radius: float, half: float, rounding: float = 0.02) -> Field:
    """A cylinder around y, from ``-half`` to ``half``."""
    edge = min(rounding, radius, half)

    def field(p: Floats) -> Floats:
        side = _length(p[0], p[2]) - (radius - edge)
        cap = np.abs(p[1]) - (half - edge)
        return _corner(side, cap) - edge

    return field


def limb(start: Vector, end: Vector, start_radius: float, end_radius: float | None = None) -> Field:
    """A round bar between two points, which may taper: arms, legs, handles, necks."""
    wider = 0.0 if end_radius is None else end_radius - start_radius
    along = [b - a for a, b in zip(start, end, strict=True)]
    squared = max(sum(step * step for step in along), 1e-9)
    slant = math.sqrt(1 + wider * wider / squared)

    def field(p: Floats) -> Floats:
        x, y, z = p[0] - start[0], p[1] - start[1], p[2] - start[2]
        part: Floats = ((x * along[0] + y * along[1] + z * along[2]) / squared).clip(0, 1)
        away = _length(x - part * along[0], y - part * along[1], z - part * along[2])
        return (away - start_radius - part * wider) / slant

    return field


def rope(path: Sequence[Vector], radii: Sequence[float]) -> Field:
    """A bar along a path, with a radius at each of its points."""
    ends = list(zip(path, radii, strict=True))
    return union(*(limb(a, b, ra, rb) for (a, ra), (b, rb) in pairwise(ends)))


def torus(radius: float, thickness: float) -> Field:
    """A ring around y."""
    return lambda p: _length(_length(p[0], p[2]) - radius, p[1]) - thickness


def superquadric(rx: float, ry: float, rz: float, power: float) -> Field:
    """Between an octahedron (power 1), an ellipsoid (2) and a box (many)."""
    # The gradient of the norm is up to 3 ** (1 / power - 1 / 2) times too large below 2.
    steep = 3 ** max(1 / power - 0.5, 0) * 1.1

    def field(p: Floats) -> Floats:
        x, y, z = np.abs(p[0] / rx), np.abs(p[1] / ry), np.abs(p[2] / rz)
        norm: Floats = (x**power + y**power + z**power + 1e-9) ** (1 / power)
        return (norm - 1) * (min(rx, ry, rz) / steep)

    return field


def helix(radius: float, thickness: float, rise: float, half: float) -> Field:
    """A spring around y that climbs ``rise`` per turn."""
    flat = math.cos(math.atan2(rise, math.tau * radius))

    def field(p: Floats) -> Floats:
        height = p[1] - rise / math.tau * np.arctan2(p[2], p[0])
        to_turn = (height - rise * np.rint(height / rise)) * flat
        wire = _length(_length(p[0], p[2]) - radius, to_turn) - thickness
        within: Floats = np.maximum(wire * 0.8, np.abs(p[1]) - half)
        return within

    return field


def extruded(corners: npt.ArrayLike, half: float, rounding: float = 0.02) -> Field:
    """A plate in the shape of a polygon ``[V, 2]`` of x and y, from ``-half`` to ``half`` in z."""
    outline = _outline(corners)
    edge = min(rounding, half)

    def field(p: Floats) -> Floats:
        side = outline(p[0], p[1]) + edge
        cap = np.abs(p[2]) - (half - edge)
        return _corner(side, cap) - edge

    return field


def revolved(profile: npt.ArrayLike) -> Field:
    """What a lathe makes of a profile ``[V, 2]`` of radii and heights, from one end to the other."""
    half = np.asarray(profile, np.float32)
    outline = _outline(np.concatenate([half, half[::-1] * vector(-1, 1)]))
    return lambda p: outline(_length(p[0], p[2]), p[1])


def union(*fields: Field) -> Field:
    """All of them."""
    return lambda p: reduce(np.minimum, (field(p) for field in fields))


def smooth_union(blend: float, *fields: Field) -> Field:
    """All of them, melted together where they are nearer than ``blend``."""

    def melt(a: Floats, b: Floats) -> Floats:
        overlap = np.maximum(blend - np.abs(a - b), 0)
        return np.minimum(a, b) - overlap * overlap * (0.25 / blend)

    return lambda p: reduce(melt, (field(p) for field in fields))


def cut(field: Field, *tools: Field) -> Field:
    """The first without the others."""
    return lambda p: reduce(lambda left, tool: np.maximum(left, -tool(p)), tools, field(p))


def common(*fields: Field) -> Field:
    """Where all of them are."""
    return lambda p: reduce(np.maximum, (field(p) for field in fields))


def hollow(field: Field, wall: float) -> Field:
    """Its skin, as thick as ``wall``; a shorter step, as fields say too much deep inside."""
    return lambda p: (np.abs(field(p)) - wall / 2) * 0.75


def above(height: float) -> Field:
    """Everything higher than this, to cut with."""
    return lambda p: height - p[1]


def below(height: float) -> Field:
    """Everything lower than this, to cut with."""
    return lambda p: p[1] - height


def moved(field: Field, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Field:
    """The same, elsewhere."""
    offset = vector(x, y, z)[:, None]
    return lambda p: field(p - offset)


def turned(field: Field, axis: int, angle: float) -> Field:
    """The same, turned about x, y or z."""
    back = rotation(axis, angle).T.copy()
    return lambda p: field(back @ p)


def mirrored(field: Field, axis: int = X) -> Field:
    """Its half where the coordinate is positive, and that half's mirror image."""

    def both(p: Floats) -> Floats:
        folded = p.copy()
        np.abs(p[axis], out=folded[axis])
        return field(folded)

    return both


def scaled(field: Field, x: float, y: float, z: float) -> Field:
    """The same, stretched; the distance shrinks with the smallest factor to stay a safe step."""
    factors = vector(x, y, z)[:, None]
    return lambda p: field(p / factors) * min(x, y, z)


def flipped(field: Field) -> Field:
    """Its mirror image, left for right."""
    flip = vector(-1, 1, 1)[:, None]
    return lambda p: field(p * flip)


def twisted(field: Field, rate: float) -> Field:
    """The same, twisted about y by ``rate`` radians per unit."""
    safe = 1 / math.sqrt(1 + rate * rate)

    def field_of_twisted(p: Floats) -> Floats:
        cos, sin = np.cos(rate * p[1]), np.sin(rate * p[1])
        return field(np.stack([cos * p[0] - sin * p[2], p[1], sin * p[0] + cos * p[2]])) * safe

    return field_of_twisted


def rotation(axis: int, angle: float) -> Floats:
    """The matrix ``[3, 3]`` that turns column vectors about x, y or z."""
    matrix = np.eye(3, dtype=np.float32)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first], matrix[first, second] = math.sin(angle), -math.sin(angle)
    return matrix


def gradient(field: Field, points: Floats, reach: npt.ArrayLike) -> Floats:
    """The unit vectors ``[3, P]`` in which a field grows fastest, from four samples around each point."""
    corners = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], np.float32)
    sums = np.zeros_like(points)
    for corner in corners.T[..., None]:  # [3, 1]
        sums += corner * field(points + corner * np.asarray(reach, np.float32))
    return sums / np.maximum(_length(sums[0], sums[1], sums[2]), 1e-12)


def vector(*values: float) -> Floats:
    """A few numbers as an array."""
    return np.array(values, np.float32)


def _length(*coordinates: Floats) -> Floats:
    length: Floats = np.sqrt(reduce(np.add, (value * value for value in coordinates)))
    return length


def _corner(*excess: Floats) -> Floats:
    """The distance to where all of these are negative: to a face, or to the edge between faces."""
    inside = np.minimum(reduce(np.maximum, excess), 0)
    return _length(*(np.maximum(value, 0) for value in excess)) + inside


def _outline(corners: npt.ArrayLike) -> Callable[[Floats, Floats], Floats]:
    """The distance to a polygon, sampled once, since most have too many edges to measure each time."""
    axis = np.linspace(-_OUTLINE_REACH, _OUTLINE_REACH, _OUTLINE_CELLS, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    samples = _polygon_distance(u.ravel(), v.ravel(), np.asarray(corners, np.float32))
    per_unit = (_OUTLINE_CELLS - 1) / (2 * _OUTLINE_REACH)
    last = _OUTLINE_CELLS - 1.001

    def distance(u: Floats, v: Floats) -> Floats:
        column, row = (u + _OUTLINE_REACH) * per_unit, (v + _OUTLINE_REACH) * per_unit
        inner_column, inner_row = column.clip(0, last), row.clip(0, last)
        left, top = np.floor(inner_column), np.floor(inner_row)
        right_part, lower_part = inner_column - left, inner_row - top
        at = (top * _OUTLINE_CELLS + left).astype(np.int32)
        # take with a mode is several times faster than samples[at], which checks every index.
        upper, upper_right = samples.take(at, mode="clip"), samples.take(at + 1, mode="clip")
        at += _OUTLINE_CELLS
        lower, lower_right = samples.take(at, mode="clip"), samples.take(at + 1, mode="clip")
        upper = upper + (upper_right - upper) * right_part
        lower = lower + (lower_right - lower) * right_part
        inside: Floats = upper + (lower - upper) * lower_part
        outside = _length(column - inner_column, row - inner_row) / per_unit
        # All of the polygon is inside, so what is outside adds to it at a right angle or wider.
        negative: Floats = inside.clip(max=0)
        return _length(inside.clip(min=0), outside) + negative

    return distance


def _polygon_distance(u: Floats, v: Floats, corners: Floats) -> Floats:
    squared = np.full(u.shape, np.inf, np.float32)
    inside = np.zeros(u.shape, bool)
    for (au, av), (bu, bv) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        du, dv = bu - au, bv - av
        part = np.clip(((u - au) * du + (v - av) * dv) / max(du * du + dv * dv, 1e-12), 0, 1)
        squared = np.minimum(squared, (u - au - part * du) ** 2 + (v - av - part * dv) ** 2)
        if av != bv:
            crosses = (av > v) != (bv > v)
            inside ^= crosses & (u < au + (v - av) * (du / dv))
    return np.where(inside, -1, 1).astype(np.float32) * np.sqrt(squared)
