"""Rubber ducks, and the birds that are not. They look along x and rest on y = 0 or below."""

from __future__ import annotations

import math

import numpy as np

from renderer.fields import (
    X,
    Z,
    box,
    cut,
    ellipsoid,
    limb,
    mirrored,
    moved,
    rope,
    scaled,
    smooth_union,
    sphere,
    turned,
    union,
)
from renderer.materials import Material, plain, random_color, random_material, rgb
from renderer.solids import Solid

Materials = tuple[Material, Material, Material, Material]


def rubber_duck(rng: np.random.Generator) -> Solid:
    """A bath duck: main is the body, trim the bill, dark the pupils, light the white of the eyes."""
    plump, skull = rng.uniform(0.44, 0.5), rng.uniform(0.36, 0.41)
    head_x, head_y = rng.uniform(0.2, 0.28), rng.uniform(0.5, 0.56)
    perk = rng.uniform(0.15, 0.32)  # how high the tail stands
    body = smooth_union(
        0.16,
        moved(ellipsoid(0.66, 0.42, plump), x=-0.08, y=-0.3),
        moved(ellipsoid(0.42, 0.4, plump * 0.9), x=0.2, y=-0.2),  # breast
        scaled(rope([(-0.45, -0.2, 0), (-0.72, 0, 0), (-0.92, perk, 0)], [0.2, 0.14, 0.03]), 1, 1, 1.5),
    )
    floor = moved(box(2, 1, 2), y=-1.62)  # it is flat below, to stand
    wing = smooth_union(
        0.1,
        moved(ellipsoid(0.36, 0.19, 0.09), x=-0.12, y=-0.2, z=plump - 0.03),
        limb((-0.3, -0.14, plump - 0.05), (-0.56, 0.02, plump - 0.08), 0.1, 0.03),
    )
    head = moved(ellipsoid(skull, skull * 0.97, skull * 0.95), x=head_x, y=head_y)
    whole = smooth_union(0.07, cut(smooth_union(0.1, body, head), floor), mirrored(wing, Z))
    bill_x, bill_y = head_x + skull * 0.88, head_y - 0.08
    upper = moved(turned(ellipsoid(0.25, 0.055, 0.19), Z, 0.22), x=bill_x + 0.06, y=bill_y + 0.035)
    lower = moved(turned(ellipsoid(0.19, 0.045, 0.15), Z, -0.25), x=bill_x + 0.03, y=bill_y - 0.045)
    bill = smooth_union(0.04, upper, lower)
    eye_x, eye_y, eye_z = head_x + skull * 0.72, head_y + skull * 0.34, skull * 0.5
    white = mirrored(moved(ellipsoid(0.07, 0.1, 0.075), eye_x - 0.02, eye_y, eye_z), Z)
    pupil = mirrored(moved(ellipsoid(0.052, 0.075, 0.055), eye_x + 0.025, eye_y, eye_z + 0.012), Z)
    only_black = rng.random() < 0.4
    return Solid(whole, trim=bill, dark=pupil, light=None if only_black else white)


def rubber_duck_materials(rng: np.random.Generator) -> Materials:
    """Yellow rubber with an orange bill; no two batches are dyed quite alike."""
    yellow = rgb(rng.normal(0.132, 0.006), rng.uniform(0.8, 0.96), rng.uniform(0.92, 1.0))
    orange = rgb(rng.normal(0.05, 0.01), rng.uniform(0.88, 0.98), rng.uniform(0.85, 1.0))
    gloss, shine = rng.uniform(0.35, 0.8), math.exp(rng.uniform(3.2, 4.8))
    black = rgb(0, 0, rng.uniform(0.03, 0.12))
    return (
        plain(yellow, gloss, shine, mottle=0.12),
        plain(orange, gloss, shine, mottle=0.08),
        plain(black, 0.8, 120),
        plain(rgb(0.1, 0.04, 0.95), 0.6, 80),
    )


def bird(rng: np.random.Generator) -> Solid:
    """A bird that stands: sparrow, dove, crow, gull, owl, and what is between them."""
    slim, skull = rng.uniform(0.2, 0.32), rng.uniform(0.15, 0.22)
    upright, neck = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.4)
    trunk = turned(ellipsoid(0.5, slim, slim * 0.9), Z, upright)
    front = (0.4 * math.cos(upright), 0.4 * math.sin(upright))
    head_x, head_y = front[0] + 0.08, front[1] + neck
    throat = limb((*front, 0.0), (head_x, head_y, 0), slim * 0.6, skull * 0.8)
    body = smooth_union(0.12, trunk, throat, moved(sphere(skull), x=head_x, y=head_y))
    back = (-0.4 * math.cos(upright), -0.4 * math.sin(upright))
    long = rng.uniform(0.25, 0.55)
    tail = limb((*back, 0.0), (back[0] - long, back[1] - long * rng.uniform(-0.2, 0.6), 0), slim * 0.4, 0.05)
    wing = turned(mirrored(moved(ellipsoid(0.42, slim * 0.6, 0.06), x=-0.12, z=slim * 0.82), Z), Z, upright)
    bill = limb(
        (head_x + skull * 0.8, head_y, 0),
        (head_x + skull + rng.uniform(0.08, 0.4), head_y - 0.05, 0),
        0.055,
        0.015,
    )
    legs = mirrored(limb((0, -0.1, 0.1), (0.03, -rng.uniform(0.5, 0.75), 0.12), 0.03), Z)
    eyes = mirrored(moved(sphere(0.04), head_x + skull * 0.55, head_y + 0.06, skull * 0.75), Z)
    return Solid(body, trim=union(tail, wing), dark=union(bill, legs, eyes))


def penguin(rng: np.random.Generator) -> Solid:
    """A penguin, or an owl: upright, with a white front."""
    wide = rng.uniform(0.32, 0.42)
    back = smooth_union(
        0.15, moved(ellipsoid(wide, 0.65, wide), y=-0.2), moved(sphere(rng.uniform(0.22, 0.28)), y=0.55)
    )
    front = moved(ellipsoid(wide * 0.8, 0.52, wide * 0.8), x=wide * 0.27, y=-0.25)
    flipper = mirrored(
        turned(moved(ellipsoid(0.1, 0.4, 0.05), y=-0.15, z=wide + 0.04), X, rng.uniform(-0.4, 0)), Z
    )
    bill = limb((0.2, 0.52, 0), (rng.uniform(0.35, 0.5), 0.48, 0), 0.06, 0.02)
    feet = mirrored(moved(ellipsoid(0.2, 0.05, 0.12), x=0.12, y=-0.84, z=0.17), Z)
    eyes = mirrored(moved(sphere(0.035), 0.2, 0.62, 0.12), Z)
    return Solid(union(back, flipper), trim=union(bill, feet), dark=eyes, light=front)


def bird_materials(rng: np.random.Generator) -> Materials:
    """Feathers of any colour but a rubber duck's yellow."""
    kinds = ((0.6, 0.1), (0.58, 0.5), (0.06, 0.5), (0.02, 0.7), (0.3, 0.4), (0.1, 0.15))
    hue, saturation = kinds[rng.integers(len(kinds))]
    feathers = random_material(rng, plain=0.5)
    first = rgb(hue + rng.normal(0, 0.02), saturation, rng.uniform(0.15, 0.85))
    colors = np.stack([first, first * rng.uniform(0.3, 0.7)]).astype(np.float32)
    main = Material(colors, feathers.pattern, gloss=rng.uniform(0, 0.4), mottle=0.5)
    wing = plain(first * rng.uniform(0.4, 0.9), mottle=0.6)
    dark = plain(rgb(rng.uniform(0.03, 0.1), rng.uniform(0, 0.7), rng.uniform(0.1, 0.4)))
    return main, wing, dark, plain(random_color(rng, 0.1) * 0.3 + 0.6)
