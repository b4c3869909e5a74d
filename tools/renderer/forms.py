"""Plain forms: those of a box of building blocks, and a few that have no name."""

from __future__ import annotations

import math

import numpy as np

from renderer.fields import (
    X,
    Y,
    Z,
    box,
    cut,
    cylinder,
    ellipsoid,
    extruded,
    helix,
    limb,
    moved,
    revolved,
    smooth_union,
    sphere,
    superquadric,
    torus,
    turned,
    twisted,
    union,
)
from renderer.solids import Solid


def ball(rng: np.random.Generator) -> Solid:
    """A ball, more or less round, at times with a band."""
    squash = rng.uniform(0.75, 1) if rng.random() < 0.4 else 1.0
    body = ellipsoid(0.9, 0.9 * squash, 0.9)
    return Solid(body, trim=torus(0.88, 0.05) if rng.random() < 0.3 else None)


def egg(rng: np.random.Generator) -> Solid:
    """An egg, a lemon, a pebble."""
    rx, rz = rng.uniform(0.35, 0.75, 2).tolist()
    return Solid(smooth_union(0.3, ellipsoid(rx, 0.9, rz), moved(sphere(rx * rng.uniform(0.5, 1)), y=-0.25)))


def block(rng: np.random.Generator) -> Solid:
    """A box: a brick, a carton, a slab, a post."""
    hx, hy, hz = rng.uniform(0.15, 0.85, 3).tolist()
    body = box(hx, hy, hz, rng.uniform(0.01, 0.12))
    band = box(hx + 0.015, hy * rng.uniform(0.1, 0.5), hz + 0.015)
    return Solid(body, trim=band if rng.random() < 0.4 else None)


def die(rng: np.random.Generator) -> Solid:
    """A cube with dark dents, one to three on a side, as a die has."""
    half, dent = 0.6, rng.uniform(0.09, 0.17)
    rounding = rng.uniform(0.05, 0.2)
    body = box(half, half, half, rounding)
    dents = []
    for axis, count in ((X, 2), (Y, 1), (Z, 3)):
        for step in range(count):
            side = 0.28 * (2 * step - count + 1)
            place = [side, side, side]
            place[axis] = half
            dents += [moved(sphere(dent), *place), moved(sphere(dent), *(-value for value in place))]
    inside = box(half - 0.05, half - 0.05, half - 0.05, rounding)
    return Solid(cut(body, *dents), dark=inside)


def drum(rng: np.random.Generator) -> Solid:
    """A cylinder: a tin, a coin, a log."""
    radius, half = rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.85)
    lids = union(*(moved(cylinder(radius + 0.03, 0.05), y=y) for y in (-half, half)))
    return Solid(cylinder(radius, half, rng.uniform(0.01, 0.1)), trim=lids if rng.random() < 0.5 else None)


def cone(rng: np.random.Generator) -> Solid:
    """A cone, pointed or blunt, at times on a plate or with bands, as on roads."""
    top, bottom = rng.uniform(0.02, 0.25), rng.uniform(0.4, 0.7)
    body = revolved([(0, -0.85), (bottom, -0.85), (top, 0.9), (0, 0.9)])
    plate = box(bottom * 1.3, 0.05, bottom * 1.3) if rng.random() < 0.5 else cylinder(bottom * 1.2, 0.05)
    foot = moved(plate, y=-0.88)
    if rng.random() < 0.5:
        middle = 0.5 * (top + bottom)
        stripe = revolved([(0, -0.2), (middle + 0.08, -0.2), (middle - 0.06, 0.25), (0, 0.25)])
        return Solid(union(body, foot), light=stripe)
    return Solid(body, trim=foot if rng.random() < 0.4 else None)


def tyre(rng: np.random.Generator) -> Solid:
    """A thick ring: a doughnut, a tyre, a swimming ring."""
    thickness = rng.uniform(0.18, 0.38)
    return Solid(torus(0.95 - thickness, thickness))


def hoop(rng: np.random.Generator) -> Solid:
    """A thin ring, with a stone, a knob or nothing on it."""
    thickness = rng.uniform(0.05, 0.12)
    ring = turned(torus(0.75, thickness), X, math.pi / 2)
    stone = moved(superquadric(0.22, 0.22, 0.22, rng.uniform(1, 3)), y=0.9)
    return Solid(ring, trim=stone if rng.random() < 0.7 else None)


def capsule(rng: np.random.Generator) -> Solid:
    """A round bar: a pill, a sausage, a baton."""
    radius, half = rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.55)
    tip = limb((0, 0, 0), (0, half, 0), radius * 1.02)
    return Solid(limb((0, -half, 0), (0, half, 0), radius), trim=tip if rng.random() < 0.5 else None)


def pillow(rng: np.random.Generator) -> Solid:
    """A superquadric, between ball and box or between ball and octahedron."""
    rx, ry, rz = rng.uniform(0.3, 0.9, 3).tolist()
    return Solid(superquadric(rx, ry, rz, float(rng.choice([1.0, 1.3, 3.0, 4.0, 6.0]))))


def star(rng: np.random.Generator) -> Solid:
    """A star of four to nine points, flat or thick."""
    points, inner = int(rng.integers(4, 10)), rng.uniform(0.35, 0.65)
    return Solid(extruded(_wheel(points, [1.0, inner]), rng.uniform(0.06, 0.3), 0.05))


def gear(rng: np.random.Generator) -> Solid:
    """A toothed wheel with a hole."""
    teeth, root, half = int(rng.integers(7, 16)), rng.uniform(0.7, 0.85), rng.uniform(0.08, 0.3)
    wheel = extruded(_wheel(teeth, [1.0, 1.0, root, root]), half)
    hole = turned(cylinder(rng.uniform(0.12, 0.4), 1), X, math.pi / 2)
    return Solid(cut(wheel, hole))


def prism(rng: np.random.Generator) -> Solid:
    """A column with three to eight sides, straight or twisted."""
    sides, half = int(rng.integers(3, 9)), rng.uniform(0.1, 0.9)
    column = turned(extruded(_wheel(sides, [rng.uniform(0.4, 0.85)]), half), X, math.pi / 2)
    return Solid(twisted(column, rng.uniform(-1.2, 1.2)) if rng.random() < 0.3 else column)


def pyramid(rng: np.random.Generator) -> Solid:
    """A pyramid or an octahedron."""
    width, tall = rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.95)
    body = superquadric(width, tall, width, 1.0)
    if rng.random() < 0.6:
        body = moved(cut(body, moved(box(2, 1, 2), y=-1)), y=-tall / 2)
    return Solid(body)


def cross(rng: np.random.Generator) -> Solid:
    """Bars across each other: a plus, a jack, a caltrop."""
    width, length = rng.uniform(0.12, 0.3), 0.9
    bars = [box(length, width, width), box(width, length, width), box(width, width, length)]
    return Solid(union(*bars[: int(rng.integers(2, 4))]))


def letter(rng: np.random.Generator) -> Solid:
    """A thing of bars in one plane, such as a letter or a bracket is."""
    strokes = [((-0.6, -0.8), (-0.6, 0.8)), ((-0.6, 0.8), (0.5, 0.8)), ((-0.6, 0), (0.4, 0))]
    strokes += [((-0.6, -0.8), (0.5, -0.8)), ((0.5, -0.8), (0.5, 0.8)), ((-0.6, 0.8), (0.5, -0.8))]
    chosen = rng.permutation(len(strokes))[: rng.integers(2, 5)]
    radius = rng.uniform(0.1, 0.2)
    return Solid(union(*(limb((*strokes[i][0], 0.0), (*strokes[i][1], 0.0), radius) for i in chosen)))


def spring(rng: np.random.Generator) -> Solid:
    """A coil."""
    return Solid(helix(rng.uniform(0.3, 0.6), rng.uniform(0.06, 0.1), rng.uniform(0.25, 0.45), 0.9))


def dumbbell(rng: np.random.Generator) -> Solid:
    """A bar with a weight at each end."""
    radius = rng.uniform(0.25, 0.42)
    weight = sphere(radius) if rng.random() < 0.5 else turned(cylinder(radius, 0.2, 0.05), Z, math.pi / 2)
    ends = union(moved(weight, x=-0.65), moved(weight, x=0.65))
    return Solid(ends, trim=limb((-0.6, 0, 0), (0.6, 0, 0), rng.uniform(0.06, 0.12)))


def blob(rng: np.random.Generator) -> Solid:
    """Balls melted into one: clay, stones, dough, things without a name."""
    balls = []
    for _ in range(rng.integers(3, 7)):
        x, y, z = rng.uniform(-0.45, 0.45, 3).tolist()
        balls.append(moved(ellipsoid(*rng.uniform(0.25, 0.55, 3).tolist()), x, y, z))
    return Solid(smooth_union(rng.uniform(0.1, 0.4), *balls))


def tower(rng: np.random.Generator) -> Solid:
    """Two to four plain forms on top of each other, each a different one."""
    count = int(rng.integers(2, 5))
    half = 0.9 / count
    fields = []
    for number in range(count):
        width = rng.uniform(0.25, 0.7)
        form = [box(width, half, width), cylinder(width, half), ellipsoid(width, half, width)]
        fields.append(moved(form[rng.integers(3)], y=(2 * number + 1) * half - 0.9))
    return Solid(union(*fields[::2]), trim=union(*fields[1::2]))


def _wheel(count: int, radii: list[float]) -> list[tuple[float, float]]:
    """Corners ``[V, 2]`` around the origin, at these radii in turn, ``count`` times."""
    corners = count * len(radii)
    angles = [math.tau * corner / corners for corner in range(corners)]
    return [
        (radii[number % len(radii)] * math.sin(angle), radii[number % len(radii)] * math.cos(angle))
        for number, angle in enumerate(angles)
    ]
