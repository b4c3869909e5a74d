"""Grown things: plants, fruit and animals. Animals look along x."""

from __future__ import annotations

import math

import numpy as np

from renderer.fields import (
    Field,
    X,
    Y,
    Z,
    box,
    cut,
    cylinder,
    ellipsoid,
    extruded,
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


def leaf(rng: np.random.Generator) -> Solid:
    """A leaf with a stalk: long, round or heart-shaped."""
    wide, belly = rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.6)
    along = np.linspace(0, 1, 12)
    half = wide * np.sin(math.pi * along ** (math.log(0.5) / math.log(belly)))
    if rng.random() < 0.4:
        half *= 1 - 0.2 * (np.arange(12) % 2)
    side = np.stack([half, 1.6 * along - 0.75], axis=1)
    blade = extruded(np.concatenate([side, side[::-1] * [-1, 1]]), 0.025)
    rib = limb((0, -1.0, 0), (0, 0.7, 0), 0.035, 0.025)
    return Solid(blade, trim=rib)


def flower(rng: np.random.Generator) -> Solid:
    """A flower with petals around a button, with or without a stem."""
    count, long, wide = int(rng.integers(4, 10)), rng.uniform(0.2, 0.3), rng.uniform(0.1, 0.2)
    petal = moved(ellipsoid(wide, long, 0.06), y=0.25 + long * 0.6)
    petals = union(*(turned(petal, Z, math.tau * number / count) for number in range(count)))
    button = ellipsoid(0.2, 0.2, 0.12)
    stem = limb((0, 0, -0.05), (rng.uniform(-0.1, 0.1), -1.5, -0.05), 0.04)
    rise = 0.45
    green = moved(stem, y=rise) if rng.random() < 0.6 else None
    return Solid(moved(petals, y=rise), trim=moved(button, y=rise), dark=green)


def mushroom(rng: np.random.Generator) -> Solid:
    """A mushroom."""
    wide, tall, stem = rng.uniform(0.4, 0.85), rng.uniform(0.25, 0.6), rng.uniform(0.1, 0.28)
    dome = moved(cut(ellipsoid(wide, tall, wide), moved(box(2, 1, 2), y=-1.05)), y=0.25)
    return Solid(dome, light=limb((0, -0.85, 0), (0, 0.3, 0), stem * 1.3, stem))


def tree(rng: np.random.Generator) -> Solid:
    """A tree: a fir of cones or a crown of balls."""
    trunk = limb((0, -0.95, 0), (0, 0, 0), rng.uniform(0.07, 0.13))
    if rng.random() < 0.5:
        wide = rng.uniform(0.35, 0.6)
        skirts = [
            moved(revolved([(0, 0), (wide * size, 0), (0, 0.6)]), y=y)
            for y, size in ((-0.55, 1.0), (-0.15, 0.8), (0.25, 0.6))
        ]
        return Solid(union(*skirts), dark=trunk)
    balls = [moved(sphere(rng.uniform(0.25, 0.42)), *rng.uniform(-0.3, 0.3, 3)) for _ in range(5)]
    return Solid(moved(smooth_union(0.1, *balls), y=0.3), dark=trunk)


def cactus(rng: np.random.Generator) -> Solid:
    """A cactus with arms, in a pot."""
    fields = [limb((0, -0.5, 0), (0, 0.7, 0), rng.uniform(0.16, 0.24))]
    for side in (-1, 1)[: rng.integers(1, 3)]:
        base, tip = rng.uniform(-0.2, 0.2), rng.uniform(0.3, 0.6)
        fields.append(
            rope([(0, base, 0), (0.45 * side, base + 0.05, 0), (0.47 * side, tip, 0)], [0.12, 0.13, 0.12])
        )
    pot = revolved([(0, -0.95), (0.28, -0.95), (0.38, -0.45), (0, -0.45)])
    return Solid(smooth_union(0.08, *fields), trim=pot)


def apple(rng: np.random.Generator) -> Solid:
    """An apple, a pear, a pumpkin: round, with a dent and a stalk."""
    top = rng.uniform(0.25, 0.6)
    body = smooth_union(
        0.4, moved(ellipsoid(0.7, 0.6, 0.7), y=-0.2), moved(sphere(top), y=rng.uniform(0.05, 0.45))
    )
    high = 0.5
    dent = moved(ellipsoid(0.16, 0.14, 0.16), y=high + 0.15)
    stalk = limb((0, 0.2, 0), (rng.uniform(-0.15, 0.15), 0.95, 0), 0.035, 0.045)
    return Solid(cut(body, dent), dark=stalk)


def banana(rng: np.random.Generator) -> Solid:
    """A banana, a croissant, a chilli, a horn: a bent bar with thin ends."""
    bend, thick = rng.uniform(0.6, 1.4), rng.uniform(0.13, 0.28)
    angles = np.linspace(-bend, bend, 8)
    radius = 0.85 / math.sin(min(bend, math.pi / 2))
    lift = radius * (1 + math.cos(bend)) / 2
    path = [(radius * math.sin(a), lift - radius * math.cos(a), 0.0) for a in angles.tolist()]
    thin = rng.uniform(0.15, 0.5)
    radii = [thick * (thin + (1 - thin) * math.cos(a / bend * math.pi / 2)) for a in angles.tolist()]
    return Solid(rope(path, radii), dark=moved(sphere(radii[0] * 1.1), *path[0]))


def carrot(rng: np.random.Generator) -> Solid:
    """A carrot, a radish, a turnip: a root with leaves."""
    wide, tip = rng.uniform(0.15, 0.4), -0.95
    root = smooth_union(0.1, limb((0, 0.2, 0), (0, tip, 0), wide, 0.03), moved(sphere(wide), y=0.15))
    stalks = []
    for _ in range(rng.integers(2, 6)):
        x, z = rng.uniform(-0.35, 0.35, 2).tolist()
        stalks.append(limb((0, 0.3, 0), (x, rng.uniform(0.7, 0.95), z), 0.04, 0.09))
    return Solid(root, trim=union(*stalks))


def grapes(rng: np.random.Generator) -> Solid:
    """A bunch of berries."""
    size = rng.uniform(0.16, 0.24)
    berries = []
    for row, count in enumerate((1, 2, 4, 4, 2)):
        for number in range(count):
            angle = math.tau * number / count + row
            away = 0.0 if count == 1 else size * (0.6 + 0.35 * count)
            berries.append(
                moved(sphere(size), away * math.cos(angle), 0.32 * row - 0.7, away * math.sin(angle))
            )
    return Solid(union(*berries), dark=limb((0, 0.5, 0), (0.1, 0.95, 0), 0.04))


def snail(rng: np.random.Generator) -> Solid:
    """A snail: foot, horns and a shell."""
    foot = rope([(-0.9, -0.55, 0), (0.4, -0.5, 0), (0.75, -0.1, 0)], [0.08, 0.18, 0.16])
    horns = mirrored(limb((0.78, 0, 0.06), (0.9, 0.3, 0.16), 0.03, 0.05), Z)
    size = rng.uniform(0.42, 0.55)
    shell = moved(ellipsoid(size, size, size * 0.6), x=-0.15, y=0.02)
    rings = moved(
        turned(union(torus(size * 0.8, 0.14), torus(size * 0.3, 0.25)), X, math.pi / 2), x=-0.15, y=0.02
    )
    return Solid(smooth_union(0.06, foot, horns), trim=smooth_union(0.05, shell, rings))


def fish(rng: np.random.Generator) -> Solid:
    """A fish with fins and eyes."""
    tall, wide = rng.uniform(0.25, 0.5), rng.uniform(0.13, 0.28)
    body = ellipsoid(0.7, tall, wide)
    size = rng.uniform(0.25, 0.4)
    tail = extruded(
        [(-0.55, 0.02), (-0.55 - size, size), (-0.5 - size * 0.7, 0), (-0.55 - size, -size)], 0.03
    )
    fin = extruded([(-0.3, tall * 0.7), (0.25, tall * 0.8), (-0.2, tall + 0.25)], 0.03)
    side = mirrored(turned(moved(ellipsoid(0.2, 0.1, 0.03), x=-0.1, z=wide), Y, 0.3), Z)
    return Solid(body, trim=union(tail, fin, side), dark=_eyes(0.45, 0.1, wide * 0.72, 0.06))


def butterfly(rng: np.random.Generator) -> Solid:
    """A butterfly with open wings."""
    upper = moved(turned(ellipsoid(0.5, 0.03, rng.uniform(0.25, 0.4)), Y, -0.5), z=0.5, x=0.25)
    lower = moved(turned(ellipsoid(0.35, 0.03, rng.uniform(0.2, 0.35)), Y, 0.6), z=0.4, x=-0.35)
    wings = mirrored(turned(union(upper, lower), X, -rng.uniform(0, 0.7)), Z)
    body = limb((-0.5, 0, 0), (0.4, 0, 0), 0.05, 0.08)
    feelers = mirrored(limb((0.4, 0, 0), (0.8, 0.12, 0.2), 0.025), Z)
    return Solid(wings, dark=union(body, feelers))


def turtle(rng: np.random.Generator) -> Solid:
    """A turtle, a ladybird, a beetle: a dome with a head and legs."""
    tall = rng.uniform(0.3, 0.55)
    dome = moved(cut(ellipsoid(0.68, tall, 0.55), moved(box(2, 1, 2), y=-1)), y=-0.2)
    legs = mirrored(
        union(*(limb((x, -0.2, 0.3), (1.2 * x, -0.45, 0.55), 0.11, 0.09) for x in (-0.4, 0.4))), Z
    )
    head = smooth_union(0.1, limb((0.6, -0.15, 0), (0.8, 0, 0), 0.12), moved(sphere(0.17), x=0.85, y=0.05))
    return Solid(dome, trim=union(legs, head), dark=_eyes(0.96, 0.12, 0.09, 0.04))


def beast(rng: np.random.Generator) -> Solid:
    """An animal on four legs: dog, pig, horse, cat, mouse and what is between them."""
    thick, leg = rng.uniform(0.18, 0.32), rng.uniform(0.25, 0.55)
    neck, skull = rng.uniform(0.15, 0.5), rng.uniform(0.16, 0.26)
    trunk = limb((-0.4, 0, 0), (0.3, 0, 0), thick * rng.uniform(0.85, 1.15), thick)
    head_x, head_y = 0.45 + neck * 0.5, neck + 0.1
    head = smooth_union(
        0.1,
        limb((0.3, 0, 0), (head_x, head_y, 0), thick * 0.7, skull * 0.7),
        moved(sphere(skull), x=head_x, y=head_y),
        limb(
            (head_x, head_y - 0.05, 0),
            (head_x + skull * rng.uniform(1, 1.9), head_y - 0.08, 0),
            skull * 0.6,
            skull * 0.4,
        ),
    )
    foot = -thick * 0.6 - leg
    legs = mirrored(
        union(*(limb((x, -0.1, thick * 0.6), (x, foot, thick * 0.6), 0.1, 0.075) for x in (-0.42, 0.32))), Z
    )
    tail = rope(
        [(-0.55, 0.1, 0), (-0.8, rng.uniform(0, 0.4), 0), (-0.95, rng.uniform(-0.3, 0.6), 0)],
        [0.07, 0.06, 0.04],
    )
    ear = ellipsoid(0.05, rng.uniform(0.1, 0.28), rng.uniform(0.06, 0.12))
    ears = mirrored(
        moved(turned(ear, X, rng.uniform(-0.3, 1.2)), x=head_x - 0.04, y=head_y + skull, z=skull * 0.6), Z
    )
    eyes = _eyes(head_x + skull * 0.75, head_y + skull * 0.35, skull * 0.55, 0.045)
    body = smooth_union(0.08, trunk, head, legs, tail)
    lowered = [moved(part, y=-0.1) for part in (body, ears, eyes)]
    return Solid(lowered[0], trim=lowered[1], dark=lowered[2])


def bear(rng: np.random.Generator) -> Solid:
    """A soft toy that sits: bear, rabbit, doll."""
    body = ellipsoid(rng.uniform(0.33, 0.42), 0.42, rng.uniform(0.33, 0.42))
    head_y, skull = 0.58, rng.uniform(0.28, 0.36)
    muzzle = moved(sphere(0.14), x=skull * 0.8, y=head_y - 0.06)
    long = rng.uniform(0.09, 0.35)
    ears = mirrored(
        moved(ellipsoid(0.06, long, 0.11), y=head_y + skull * 0.8 + long * 0.3, z=skull * 0.65), Z
    )
    arms = mirrored(limb((0.05, 0.25, 0.3), (0.35, rng.uniform(-0.2, 0.5), 0.5), 0.13), Z)
    legs = mirrored(limb((0.1, -0.3, 0.2), (0.6, -0.38, 0.35), 0.15, 0.17), Z)
    parts = smooth_union(0.06, body, moved(sphere(skull), y=head_y), arms, legs, ears)
    face = union(
        _eyes(skull * 0.85, head_y + 0.1, skull * 0.4, 0.05),
        moved(sphere(0.05), x=skull * 0.8 + 0.13, y=head_y - 0.03),
    )
    lowered = [moved(part, y=-0.15) for part in (parts, muzzle, face)]
    return Solid(lowered[0], light=lowered[1], dark=lowered[2])


def snowman(rng: np.random.Generator) -> Solid:
    """A snowman, or a doll that stands."""
    big, small = rng.uniform(0.42, 0.55), rng.uniform(0.2, 0.3)
    body = union(moved(sphere(big), y=-0.5), moved(sphere((big + small) / 2), y=0.15))
    head_y = 0.62
    nose = limb((small * 0.9, head_y, 0), (small + 0.25, head_y, 0), 0.06, 0.02)
    face = _eyes(small * 0.85, head_y + 0.08, small * 0.4, 0.05)
    brim = moved(
        union(cylinder(small * 1.1, 0.03), moved(cylinder(small * 0.75, 0.14), y=0.14)),
        y=head_y + small * 0.75,
    )
    return Solid(union(body, moved(sphere(small), y=head_y)), trim=nose, dark=union(face, brim))


def octopus(rng: np.random.Generator) -> Solid:
    """A head on many arms: an octopus, a jellyfish, a spider."""
    count, skull = int(rng.integers(4, 9)), rng.uniform(0.3, 0.45)
    arms = []
    for number in range(count):
        angle = math.tau * number / count
        cos, sin, reach = math.cos(angle), math.sin(angle), rng.uniform(0.6, 0.95)
        tip = (reach * cos, rng.uniform(-0.6, -0.2), reach * sin)
        arms.append(rope([(0.15 * cos, 0, 0.15 * sin), (0.5 * cos, -0.3, 0.5 * sin), tip], [0.13, 0.1, 0.05]))
    head = moved(ellipsoid(skull, skull * rng.uniform(0.9, 1.5), skull), y=0.3)
    return Solid(smooth_union(0.08, head, *arms), dark=_eyes(skull * 0.85, 0.35, skull * 0.45, 0.07))


def seashell(rng: np.random.Generator) -> Solid:
    """A shell: ribs that spread from a point, or a spiral that grows."""
    if rng.random() < 0.5:
        spread, wide = rng.uniform(0.6, 1.0), rng.uniform(0.1, 0.16)
        angles = np.linspace(-spread, spread, int(rng.integers(6, 11))).tolist()
        ends = [(1.5 * math.cos(a) - 0.75, 0.25 * math.cos(2 * a), 1.4 * math.sin(a)) for a in angles]
        return Solid(smooth_union(0.04, *(limb((-0.75, 0, 0), end, 0.05, wide) for end in ends)))
    turns = np.linspace(0, rng.uniform(9, 14), 26)
    grow = np.exp(0.16 * (turns - turns[-1]))
    path = [
        (0.5 * g * math.cos(t), 0.9 - 1.4 * g, 0.5 * g * math.sin(t))
        for t, g in zip(turns.tolist(), grow.tolist(), strict=True)
    ]
    return Solid(rope(path, (0.42 * grow).tolist()))


def bone(rng: np.random.Generator) -> Solid:
    """A bone with two knobs at each end."""
    knob, half = rng.uniform(0.14, 0.25), 0.7
    knobs = mirrored(mirrored(moved(sphere(knob), x=half, y=knob * 0.7), X), Y)
    return Solid(smooth_union(0.1, knobs, limb((-half, 0, 0), (half, 0, 0), rng.uniform(0.08, 0.15))))


def _eyes(x: float, y: float, z: float, radius: float) -> Field:
    return mirrored(moved(sphere(radius), x, y, z), Z)
