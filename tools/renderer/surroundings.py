"""What floors, walls and far backgrounds look like: square textures that repeat without a seam.

A texture is ``[SIDE, SIDE, 3]`` linear light. What leaves it on one side comes in on the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from renderer.fields import Floats
from renderer.materials import random_color, rgb

SIDE = 256

_Maker = Callable[[np.random.Generator], Floats]


def random_texture(rng: np.random.Generator) -> Floats:
    """What things lie on: wood, tiles, cloth, grass, gravel, print, clutter, stone."""
    makers: Sequence[_Maker] = (
        _planks, _tiles, _cloth, _grass, _pebbles, _mottled, _mottled, _cloth, _planks, _dead_leaves, _print,
    )  # fmt: skip
    texture = makers[int(rng.integers(len(makers)))](rng)
    return (texture * random_shading(rng, 0.25)).clip(0.003, 1)


def random_backdrop(rng: np.random.Generator) -> Floats:
    """What is behind things: mostly other things, at times a wall or something far away."""
    makers: Sequence[_Maker] = (
        _dead_leaves, _dead_leaves, _clutter, _clutter, _room, _room, _grass, _mottled, _bands, _tiles,
    )  # fmt: skip
    texture = makers[int(rng.integers(len(makers)))](rng)
    return (texture * random_shading(rng, 0.4)).clip(0.003, 1.5)


def natural_color(rng: np.random.Generator) -> Floats:
    """A colour ``[3]`` as surroundings have: mostly pale; wood and earth, then green and blue."""
    kind = rng.random()
    if kind < 0.12:
        return random_color(rng)
    hue, spread = (0.085, 0.035) if kind < 0.6 else (0.27, 0.07) if kind < 0.75 else (0.6, 0.07)
    return rgb(rng.normal(hue, spread), rng.beta(1.3, 3.2), rng.uniform(0.08, 1.0) ** 0.8)


def cloud(rng: np.random.Generator, slope: float, stretch: tuple[float, float] = (1, 1)) -> Floats:
    """Noise ``[SIDE, SIDE]`` of mean 0 and deviation 1 whose amplitude falls as frequency ** -slope.

    Natural images have a slope of about 1 (Field 1987); ``stretch`` makes features longer in y and x.
    """
    rows, columns = np.fft.fftfreq(SIDE)[:, None] * stretch[0], np.fft.rfftfreq(SIDE) * stretch[1]
    frequency: Floats = np.sqrt(rows * rows + columns * columns).astype(np.float32)
    amplitude = np.maximum(frequency, np.float32(1 / SIDE)) ** np.float32(-slope)
    amplitude[0, 0] = 0
    white = rng.standard_normal((2, *frequency.shape), np.float32)
    values: Floats = np.fft.irfft2((white[0] + 1j * white[1]) * amplitude).astype(np.float32)
    values /= values.std()
    return values


def random_shading(rng: np.random.Generator, strength: float) -> Floats:
    """Uneven light ``[SIDE, SIDE, 1]`` about 1."""
    return _waver(rng, 2.0, rng.uniform(0, strength))


def _waver(rng: np.random.Generator, slope: float, strength: float) -> Floats:
    """Factors ``[SIDE, SIDE, 1]`` about 1, as uneven as ``strength`` says."""
    factors: Floats = np.exp(strength * cloud(rng, slope))
    return factors[..., None]


def _mottled(rng: np.random.Generator) -> Floats:
    """Plaster, stone, paper, skin, fur, sky: one or two colours and noise."""
    first, second = natural_color(rng), natural_color(rng)
    second = first + (second - first) * rng.uniform(0, 0.7)
    stretch = (1.0, 1.0) if rng.random() < 0.6 else (rng.uniform(1, 6), 1.0)
    return _mix(first, second, cloud(rng, rng.uniform(0.7, 2.2), stretch) * rng.uniform(0.1, 0.4) + 0.5)


def _planks(rng: np.random.Generator) -> Floats:
    """Boards with grain, each a little different, and dark gaps."""
    first = rgb(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.35, 0.95))
    boards, axis = int(rng.integers(2, 9)), np.arange(SIDE) / SIDE
    board = (axis * boards).astype(int)
    grain = cloud(rng, 1.1, (1.0, rng.uniform(8, 30))) * rng.uniform(0.05, 0.25)
    grain = np.stack([np.roll(row, 61 * number) for row, number in zip(grain, board, strict=True)])
    tone = rng.normal(0, rng.uniform(0.03, 0.2), boards)[board][:, None]
    gap = np.abs(axis * boards % 1 - 0.5) > 0.5 - boards / SIDE * rng.uniform(0.4, 1.5)
    bright = np.exp(grain + tone) * np.where(gap, rng.uniform(0.3, 0.9), 1)[:, None]
    return _turn(rng, first * bright[..., None].astype(np.float32))


def _tiles(rng: np.random.Generator) -> Floats:
    """Tiles or bricks, with joints, of one or two colours."""
    rows, columns = 2 * rng.integers(1, 6, 2)
    if rng.random() < 0.5:
        columns = rows
    v, u = np.mgrid[:SIDE, :SIDE] / SIDE
    v = v * rows
    u = u * columns + (0.5 * (v.astype(int) % 2) if rng.random() < 0.5 else 0)
    joint = np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) > 0.5 - rng.uniform(0.01, 0.05)
    row, column = v.astype(int), u.astype(int) % columns
    tone = rng.normal(0, rng.uniform(0, 0.3), (rows, columns))[row, column]
    first, second, between = natural_color(rng), natural_color(rng), natural_color(rng)
    checked = (row + column) % 2 * (rng.random() < 0.4)
    color = _mix(first, second, checked.astype(np.float32))
    color = color * np.exp(tone)[..., None] * _waver(rng, 1.0, 0.1)
    return _turn(rng, np.where(joint[..., None], between, color).astype(np.float32))


def _cloth(rng: np.random.Generator) -> Floats:
    """Woven cloth, plain or striped, with folds."""
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float32) * np.float32(math.tau / SIDE)
    thread = int(rng.integers(30, 90))
    weave = np.sin(u * thread) * np.sin(v * thread) * rng.uniform(0, 0.2)
    folds = cloud(rng, 2.2, (rng.uniform(1, 3), 1)) * rng.uniform(0.05, 0.5)
    stripes = np.sin(u * rng.integers(2, 20)) + np.sin(v * rng.integers(2, 20)) * (rng.random() < 0.5)
    first = natural_color(rng) if rng.random() < 0.5 else random_color(rng)
    second = natural_color(rng) if rng.random() < 0.35 else first
    return _turn(rng, _mix(first, second, stripes * 4) * np.exp(weave + folds)[..., None])


def _bands(rng: np.random.Generator) -> Floats:
    """A few broad bands that fade into each other: horizons, curtains, far things."""
    count = int(rng.integers(2, 6))
    colors = np.stack([natural_color(rng) for _ in range(count)])
    edges = np.sort(rng.uniform(0, 1, count - 1))
    # There and back again, so that the last band meets the first.
    wave = np.abs(np.linspace(-1, 1, SIDE))[:, None] + 0.04 * rng.uniform(0, 1) * cloud(rng, 1.8)
    sharp = math.exp(rng.uniform(1, 4.5))
    color = np.broadcast_to(colors[0], (SIDE, SIDE, 3))
    for edge, following in zip(edges, colors[1:], strict=True):
        color = color + (following - color) * np.clip((wave - edge) * sharp + 0.5, 0, 1)[..., None]
    return _turn(rng, color * _waver(rng, 1.0, 0.1))


def _grass(rng: np.random.Generator) -> Floats:
    """Many thin strokes over each other: grass, straw, fur, needles."""
    base = rgb(rng.uniform(0.08, 0.36), rng.uniform(0.15, 0.65), rng.uniform(0.25, 0.7))
    canvas = Image.new("RGB", (SIDE, SIDE), _shown(base * 0.4))
    pen = ImageDraw.Draw(canvas)
    spread, angle, length = rng.uniform(0.1, 1.5), rng.uniform(0, math.pi), rng.uniform(10, 50)
    count = 1500
    places, angles = rng.uniform(0, SIDE, (count, 2)), rng.normal(angle, spread, count)
    tones = np.exp(rng.normal(0, 0.45, count)) * np.linspace(0.5, 1.2, count)
    for place, turn, tone in zip(places, angles.tolist(), tones.tolist(), strict=True):
        blade = np.stack([place, place + length * np.array([math.cos(turn), math.sin(turn)])])
        for ends in _repeated(blade):
            pen.line(ends, _shown(base * tone), width=1 + (tone > 1.2))
    return _linear(canvas)


def _dead_leaves(rng: np.random.Generator) -> Floats:
    """Flat shapes of all sizes over each other, whose statistics are those of photos (Lee 2001)."""
    return _leaves(rng, count=350, smallest=3.0, largest=90.0, colors=int(rng.integers(3, 12)))


def _pebbles(rng: np.random.Generator) -> Floats:
    """Shapes of about one size: gravel, leaves on the ground, confetti."""
    size = rng.uniform(5, 14)
    return _leaves(rng, int(90000 / size**2), size, 1.8 * size, colors=int(rng.integers(1, 4)))


def _leaves(rng: np.random.Generator, count: int, smallest: float, largest: float, colors: int) -> Floats:
    palette = [natural_color(rng) for _ in range(colors)]
    canvas = Image.new("RGB", (SIDE, SIDE), _shown(palette[0]))
    pen = ImageDraw.Draw(canvas)
    # Areas of equal share for every size: the density of radii falls as their third power.
    part = rng.uniform(0, 1, count)
    radii = (smallest**-2 + part * (largest**-2 - smallest**-2)) ** -0.5
    corners = int(rng.choice([4, 4, 5, 7, 20, 20]))
    steps = np.arange(corners) * (math.tau / corners)
    starts, turns = rng.uniform(0, math.tau, (2, count))
    places, flat = rng.uniform(0, SIDE, (count, 2)), rng.uniform(0.4, 1, count)
    tones, kinds = np.exp(rng.normal(0, 0.3, count)), rng.integers(colors, size=count)
    angles = starts[:, None] + steps
    x, y = (radii * flat)[:, None] * np.cos(angles), radii[:, None] * np.sin(angles)
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    shapes = np.stack([x * cos - y * sin, x * sin + y * cos], axis=2) + places[:, None]  # [count, corners, 2]
    for shape, kind, tone in zip(shapes, kinds, tones, strict=True):
        for polygon in _repeated(shape):
            pen.polygon(polygon, _shown(palette[kind] * tone))
    return _linear(canvas) * _waver(rng, 0.8, 0.12)


def _clutter(rng: np.random.Generator) -> Floats:
    """Upright and level edges: shelves, books, windows, furniture, houses."""
    return _rectangles(rng, count=int(rng.integers(10, 90)))


def _room(rng: np.random.Generator) -> Floats:
    """A wall with a few large things on it or before it."""
    return _rectangles(rng, count=int(rng.integers(1, 9)))


def _rectangles(rng: np.random.Generator, count: int) -> Floats:
    canvas = Image.new("RGB", (SIDE, SIDE), _shown(natural_color(rng)))
    pen = ImageDraw.Draw(canvas)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    for _ in range(count):
        shape = rng.uniform(0, SIDE, 2) + square * np.exp(rng.uniform(1.5, 5, 2))
        edge = None if rng.random() < 0.6 else _shown(natural_color(rng))
        color, line = _shown(natural_color(rng)), int(rng.integers(1, 5))
        for polygon in _repeated(shape):
            pen.polygon(polygon, color, edge, line)
    return _linear(canvas) * _waver(rng, 1.2, 0.1)


def _print(rng: np.random.Generator) -> Floats:
    """Paper with lines of something like writing, and a picture or two."""
    paper, ink = rgb(rng.uniform(), rng.uniform(0, 0.2), rng.uniform(0.7, 1)), random_color(rng) * 0.3
    canvas = Image.new("RGB", (SIDE, SIDE), _shown(paper))
    pen = ImageDraw.Draw(canvas)
    line = int(rng.integers(6, 22))
    for y in range(line, SIDE - line, line):
        x = rng.uniform(5, 30)
        while x < SIDE - 10 and rng.random() < 0.95:
            word = rng.uniform(0.5, 4) * line
            pen.line([(x, y), (min(x + word, SIDE - 5), y)], _shown(ink), width=max(1, line // 3))
            x += word + 0.4 * line
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(0, SIDE - 60, 2)
        pen.rectangle((x, y, x + rng.uniform(30, 130), y + rng.uniform(30, 100)), _shown(random_color(rng)))
    return _turn(rng, _linear(canvas))


def _repeated(shape: Floats) -> list[list[tuple[float, float]]]:
    """A shape ``[V, 2]``, and its copies that come in where it leaves the texture."""
    low, high = shape.min(0), shape.max(0)
    shifts = [
        [shift for shift in (-SIDE, 0, SIDE) if a + shift < SIDE and b + shift > 0]
        for a, b in zip(low, high, strict=True)
    ]
    copies = [shape + np.array([x, y]) for x in shifts[0] for y in shifts[1]]
    return [[(x, y) for x, y in copy.tolist()] for copy in copies]


def _mix(first: Floats, second: Floats, part: Floats) -> Floats:
    share: Floats = part.clip(0, 1)
    return first + (second - first) * share[..., None]


def _turn(rng: np.random.Generator, texture: Floats) -> Floats:
    return texture if rng.random() < 0.5 else texture.transpose(1, 0, 2)


def _shown(color: Floats) -> tuple[int, int, int]:
    red, green, blue = (255 * np.clip(color, 0, 1) ** (1 / 2.2)).astype(int).tolist()
    return red, green, blue


def _linear(canvas: Image.Image) -> Floats:
    shown: Floats = np.asarray(canvas, np.float32) / 255
    return shown ** np.float32(2.2)
