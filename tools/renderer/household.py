"""Made things: from the kitchen, the desk, the tool box and the toy box."""

from __future__ import annotations

import math

import numpy as np

from renderer.fields import (
    X,
    Y,
    Z,
    above,
    below,
    box,
    common,
    cut,
    cylinder,
    ellipsoid,
    extruded,
    flipped,
    hollow,
    limb,
    mirrored,
    moved,
    revolved,
    rope,
    smooth_union,
    sphere,
    torus,
    turned,
    union,
)
from renderer.solids import Solid

_QUARTER = math.pi / 2


def mug(rng: np.random.Generator) -> Solid:
    """A mug or cup, wider above or below, with a handle."""
    low, high, half = rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.65), rng.uniform(0.4, 0.75)
    wall = 0.07
    body = revolved([
        (0, -half), (low, -half), (high, half),
        (high - wall, half), (low - wall, wall - half), (0, wall - half),
    ])  # fmt: skip
    ring = moved(turned(torus(half * 0.55, 0.08), X, _QUARTER), x=0.5 * (low + high))
    handle = cut(ring, revolved([(0, -half), (low - 0.03, -half), (high - 0.03, half), (0, half)]))
    if rng.random() < 0.5:
        return Solid(union(body, handle))
    return Solid(body, trim=handle)


def bottle(rng: np.random.Generator) -> Solid:
    """A bottle with a cap and maybe a label."""
    radius, neck, shoulder = rng.uniform(0.22, 0.42), rng.uniform(0.07, 0.14), rng.uniform(0, 0.45)
    body = revolved([
        (0, -0.95), (radius, -0.95), (radius, shoulder), (0.6 * radius + 0.4 * neck, shoulder + 0.18),
        (neck, shoulder + 0.3), (neck, 0.9), (0, 0.9),
    ])  # fmt: skip
    cap = moved(cylinder(neck + 0.03, 0.09), y=0.88)
    label = moved(cylinder(radius + 0.012, rng.uniform(0.15, 0.35)), y=rng.uniform(-0.5, -0.3))
    return Solid(body, trim=cap, light=label if rng.random() < 0.6 else None)


def vase(rng: np.random.Generator) -> Solid:
    """Whatever a lathe makes: a vase, a lamp foot, a candlestick, a skittle."""
    heights = np.linspace(-0.9, 0.9, 9)
    knots = rng.uniform(0.12, 0.65, 5)
    radii = np.interp(np.linspace(0, 4, 9), np.arange(5), knots)
    radii = np.convolve(np.pad(radii, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    profile = np.concatenate([[(0, -0.9)], np.stack([radii, heights], axis=1), [(0, 0.9)]])
    return Solid(revolved(profile))


def bowl(rng: np.random.Generator) -> Solid:
    """A bowl or a deep plate, empty or filled."""
    depth = rng.uniform(0.35, 1.0)
    shell = common(hollow(ellipsoid(0.88, 0.88 * depth, 0.88), 0.08), below(0.0))
    foot = moved(cylinder(0.35, 0.06), y=-0.86 * depth)
    if rng.random() < 0.5:
        return Solid(union(shell, foot))
    return Solid(union(shell, foot), trim=moved(cylinder(0.8, 0.03), y=-0.1 * depth))


def pan(rng: np.random.Generator) -> Solid:
    """A pan or pot with one long handle."""
    half = rng.uniform(0.08, 0.3)
    body = revolved([
        (0, -half), (0.48, -half), (0.55, half), (0.5, half), (0.44, 0.06 - half), (0, 0.06 - half),
    ])  # fmt: skip
    handle = limb((0.5, half * 0.6, 0), (1.1, half + rng.uniform(0, 0.15), 0), 0.05, 0.08)
    return Solid(moved(body, x=-0.3), dark=moved(handle, x=-0.3))


def teapot(rng: np.random.Generator) -> Solid:
    """A teapot with spout, handle, lid and knob."""
    tall = rng.uniform(0.4, 0.55)
    body = ellipsoid(0.55, tall, 0.55)
    spout = rope([(0.4, -0.1, 0), (0.7, 0.05, 0), (0.9, 0.4, 0)], [0.16, 0.1, 0.07])
    handle = cut(moved(turned(torus(0.3, 0.06), X, _QUARTER), x=-0.55), ellipsoid(0.5, tall - 0.05, 0.5))
    lid = union(moved(sphere(0.09), y=tall + 0.08), moved(ellipsoid(0.28, 0.1, 0.28), y=tall - 0.04))
    return Solid(smooth_union(0.08, body, spout, handle), trim=lid)


def spoon(rng: np.random.Generator) -> Solid:
    """A spoon or ladle."""
    length, round_part = rng.uniform(0.5, 1.0), rng.uniform(0.2, 0.34)
    dish = common(hollow(ellipsoid(round_part * 1.3, 0.16, round_part), 0.04), below(0.02))
    stem = limb((round_part, 0, 0), (round_part + length, 0.12, 0), 0.04, 0.06)
    return Solid(moved(smooth_union(0.05, dish, stem), x=-0.6))


def hammer(rng: np.random.Generator) -> Solid:
    """A hammer, one end flat, the other a wedge, a ball or flat."""
    head = moved(box(0.16, 0.13, 0.13, 0.04), y=0.7)
    face = moved(turned(cylinder(rng.uniform(0.13, 0.2), 0.12), Z, _QUARTER), x=0.28, y=0.7)
    back = [
        moved(sphere(0.15), x=-0.25, y=0.7),
        limb((-0.1, 0.7, 0), (-0.5, 0.6, 0), 0.11, 0.03),
        moved(turned(cylinder(0.16, 0.12), Z, _QUARTER), x=-0.28, y=0.7),
    ][rng.integers(3)]
    shaft = limb((0, -0.95, 0), (0, 0.7, 0), rng.uniform(0.06, 0.1), 0.06)
    return Solid(shaft, trim=union(head, face, back))


def screwdriver(rng: np.random.Generator) -> Solid:
    """A screwdriver, a chisel, a paint brush."""
    grip = smooth_union(
        0.1, limb((0, -0.8, 0), (0, -0.2, 0), rng.uniform(0.12, 0.2), 0.13), moved(sphere(0.15), y=-0.8)
    )
    tip = moved(box(rng.uniform(0.05, 0.2), 0.14, 0.025), y=0.85)
    return Solid(grip, light=union(limb((0, -0.2, 0), (0, 0.85, 0), 0.045), tip))


def wrench(rng: np.random.Generator) -> Solid:
    """A spanner with an open end and a ring."""
    jaw = cut(moved(cylinder(0.3, 0.08), x=0.65), moved(box(0.22, 0.2, 0.12), x=0.85))
    ring = cut(moved(cylinder(0.22, 0.08), x=-0.75), moved(cylinder(0.12, 0.2), x=-0.75))
    return Solid(union(smooth_union(0.08, jaw, box(0.6, 0.06, rng.uniform(0.07, 0.12))), ring))


def scissors(rng: np.random.Generator) -> Solid:
    """Scissors, more or less open."""
    angle = rng.uniform(0.08, 0.5)
    blade = extruded([(-0.06, -0.1), (0.07, -0.1), (0.01, 1.0), (-0.06, 0.8)], 0.03, 0.01)
    eye = moved(turned(torus(0.2, 0.055), X, _QUARTER), x=0.16, y=-0.62)
    one = union(limb((0.0, -0.1, 0), (0.06, -0.45, 0), 0.06), eye)
    blades = union(turned(blade, Z, angle / 2), moved(turned(flipped(blade), Z, -angle / 2), z=0.05))
    grips = union(turned(one, Z, angle / 2), moved(turned(flipped(one), Z, -angle / 2), z=0.05))
    return Solid(grips, light=blades)


def key(rng: np.random.Generator) -> Solid:
    """A key with a bow, a stem and a bit."""
    bow = cut(
        turned(cylinder(0.3, 0.05), X, _QUARTER), turned(cylinder(rng.uniform(0.08, 0.2), 1), X, _QUARTER)
    )
    teeth = [
        moved(box(0.05, rng.uniform(0.08, 0.2), 0.04), x=x, y=-0.12)
        for x in np.arange(0.75, 1.15, 0.13)[: rng.integers(2, 5)]
    ]
    stem = moved(box(0.55, 0.06, 0.045), x=0.7)
    return Solid(moved(union(bow, stem, *teeth), x=-0.55))


def pawn(rng: np.random.Generator) -> Solid:
    """A chess piece: foot, waist, collar and one of several heads."""
    waist, foot = rng.uniform(0.12, 0.2), rng.uniform(0.38, 0.5)
    body = revolved([
        (0, -0.95), (foot, -0.95), (foot, -0.8), (foot * 0.8, -0.68), (waist * 1.2, -0.35), (waist, 0.2),
        (0, 0.2),
    ])  # fmt: skip
    collar = moved(ellipsoid(waist * 1.9, 0.06, waist * 1.9), y=0.22)
    heads = [
        moved(sphere(0.27), y=0.45),
        moved(ellipsoid(0.22, 0.36, 0.22), y=0.5),
        cut(
            moved(cylinder(0.28, 0.25), y=0.48),
            moved(box(0.08, 0.12, 1), y=0.75),
            moved(box(1, 0.12, 0.08), y=0.75),
        ),
        union(moved(box(0.07, 0.3, 0.07), y=0.6), moved(box(0.2, 0.07, 0.07), y=0.65)),
    ]
    return Solid(union(body, collar, heads[rng.integers(len(heads))]))


def car(rng: np.random.Generator) -> Solid:
    """A toy car: saloon, van or truck."""
    roof, long = rng.uniform(0.2, 0.42), rng.uniform(0.7, 0.95)
    front, back = rng.uniform(0.1, 0.45), rng.uniform(0.4, 0.9)
    cabin = extruded(
        [(-back * long, 0), (-back * long * 0.9, roof), (front * long * 0.6, roof), (front * long + 0.15, 0)],
        0.34,
        0.05,
    )
    glass = moved(box(long * 0.4, roof * 0.3, 0.35), x=(front - back) * long / 2, y=roof * 0.55)
    body = union(moved(box(long, 0.17, 0.4, 0.08), y=-0.1), cabin)
    wheel = turned(cylinder(rng.uniform(0.16, 0.24), 0.08, 0.04), X, _QUARTER)
    wheels = mirrored(
        union(moved(wheel, x=long * 0.6, y=-0.25, z=0.38), moved(wheel, x=-long * 0.6, y=-0.25, z=0.38)), Z
    )
    lamps = mirrored(moved(sphere(0.07), x=long, y=-0.08, z=0.26), Z)
    return Solid(body, dark=union(wheels, glass), light=lamps)


def rocket(rng: np.random.Generator) -> Solid:
    """A toy rocket with fins and a window."""
    radius = rng.uniform(0.22, 0.36)
    body = revolved([
        (0, -0.6), (radius * 0.7, -0.6), (radius, -0.2),
        (radius * 0.95, 0.3), (radius * 0.55, 0.7), (0, 0.98),
    ])  # fmt: skip
    fin = extruded([(0.1, -0.3), (0.6, -0.75), (0.6, -0.95), (0.1, -0.6)], 0.04)
    fins = union(*(turned(fin, Y, math.tau * number / 3) for number in range(3)))
    return Solid(body, trim=fins, light=moved(sphere(0.13), y=0.2, z=radius - 0.04))


def aeroplane(rng: np.random.Generator) -> Solid:
    """A toy aeroplane."""
    radius, back = rng.uniform(0.1, 0.18), rng.uniform(-0.1, 0.3)
    body = limb((0, 0, 0.8), (0, 0.05, -0.85), radius, radius * 0.5)
    wing = rope([(0, 0, 0.1), (0.95, 0.08, 0.1 - back)], [0.12, 0.08])
    tail = union(
        rope([(0, 0.08, -0.8), (0.35, 0.1, -0.9)], [0.07, 0.05]),
        limb((0, 0.1, -0.75), (0, 0.4, -0.95), 0.08, 0.05),
    )
    flat = mirrored(common(union(wing, tail), box(1.2, 0.5, 1.2)))
    nose = moved(sphere(radius * 0.9), z=0.86)
    return Solid(body, trim=flat, dark=nose)


def chair(rng: np.random.Generator) -> Solid:
    """A chair or a stool."""
    width, seat = rng.uniform(0.35, 0.5), rng.uniform(-0.2, 0.1)
    leg = limb((width * 0.85, seat, 0), (width * rng.uniform(0.85, 1.1), -0.95, 0), 0.05)
    legs = mirrored(mirrored(union(moved(leg, z=width * 0.85)), X), Z)
    top = moved(box(width, 0.06, width, 0.05), y=seat)
    if rng.random() < 0.25:
        return Solid(top, trim=legs)
    back = moved(box(width, 0.95 * (0.95 - seat) / 2, 0.05, 0.05), y=(0.95 + seat) / 2, z=-width)
    return Solid(union(top, back), trim=legs)


def table(rng: np.random.Generator) -> Solid:
    """A table, round or square, on four legs or on one."""
    height, width = rng.uniform(0.3, 0.6), rng.uniform(0.55, 0.9)
    plate = cylinder(width, 0.05) if rng.random() < 0.4 else box(width, 0.05, rng.uniform(0.4, 0.9))
    top = moved(plate, y=height)
    if rng.random() < 0.4:
        return Solid(top, trim=revolved([(0, -0.6), (0.4, -0.6), (0.08, -0.45), (0.07, height), (0, height)]))
    leg = moved(limb((width * 0.6, height, 0.3), (width * 0.65, -0.6, 0.33), 0.05, 0.04))
    return Solid(top, trim=mirrored(mirrored(leg, X), Z))


def lamp(rng: np.random.Generator) -> Solid:
    """A table lamp: foot, stem, shade."""
    low, high = rng.uniform(0.4, 0.65), rng.uniform(0.15, 0.45)
    shade = revolved([(low - 0.05, 0.2), (low, 0.2), (high, 0.9), (high - 0.05, 0.9)])
    foot = moved(ellipsoid(0.4, rng.uniform(0.06, 0.3), 0.4), y=-0.85)
    return Solid(shade, trim=union(foot, limb((0, -0.85, 0), (0, 0.7, 0), 0.05)))


def house(rng: np.random.Generator) -> Solid:
    """A small house with a roof, a door and windows."""
    width, wall = rng.uniform(0.4, 0.7), rng.uniform(-0.2, 0.2)
    body = moved(box(width, (wall + 0.8) / 2, 0.5), y=(wall - 0.8) / 2)
    roof = extruded([(-width - 0.15, wall), (width + 0.15, wall), (0, wall + rng.uniform(0.3, 0.7))], 0.6)
    openings = union(
        moved(box(0.12, 0.22, 0.52), x=-0.15, y=-0.58),
        mirrored(moved(box(0.1, 0.1, 0.52), x=width * 0.6, y=wall - 0.3)),
    )
    return Solid(body, trim=roof, dark=openings)


def book(rng: np.random.Generator) -> Solid:
    """A closed book."""
    thick, width, tall = rng.uniform(0.05, 0.25), rng.uniform(0.45, 0.7), rng.uniform(0.6, 0.9)
    covers = mirrored(moved(box(width, tall, 0.025), z=thick), Z)
    spine = moved(box(0.025, tall, thick), x=-width)
    pages = box(width - 0.04, tall - 0.04, thick)
    return Solid(union(covers, spine), light=pages)


def hat(rng: np.random.Generator) -> Solid:
    """A hat with a brim and a ribbon."""
    radius, tall = rng.uniform(0.35, 0.55), rng.uniform(0.3, 0.8)
    crown = revolved(
        [(0, -0.3), (radius, -0.3), (radius * rng.uniform(0.5, 1), tall - 0.3), (0, tall - 0.25)]
    )
    brim = moved(ellipsoid(rng.uniform(0.8, 1.0), 0.05, 0.85), y=-0.3)
    ribbon = moved(cylinder(radius + 0.015, 0.07), y=-0.18)
    return Solid(smooth_union(0.06, crown, brim), trim=ribbon)


def umbrella(rng: np.random.Generator) -> Solid:
    """An open umbrella."""
    dome = common(hollow(moved(ellipsoid(0.95, rng.uniform(0.45, 0.7), 0.95), y=0.25), 0.05), above(0.28))
    crook = rope(
        [(0, 0.8, 0), (0, -0.7, 0), (0.08, -0.85, 0), (0.2, -0.8, 0), (0.22, -0.65, 0)],
        [0.03, 0.04, 0.05, 0.05, 0.05],
    )
    return Solid(dome, dark=crook)


def padlock(rng: np.random.Generator) -> Solid:
    """A padlock or a handbag: a body with a bow above."""
    width, tall = rng.uniform(0.45, 0.7), rng.uniform(0.35, 0.5)
    body = moved(box(width, tall, rng.uniform(0.15, 0.3), 0.1), y=-0.35)
    bow = turned(torus(width * 0.6, 0.09), X, _QUARTER)
    hole = moved(box(0.06, 0.1, 0.32), y=-0.4)
    return Solid(body, light=union(common(bow, above(0)), common(bow, below(0))), dark=hole)
