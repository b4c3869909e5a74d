"""What surfaces are made of: colours, patterns in space, gloss, roughness.

Colours are linear light, 0 to 1, until the camera makes a photo of them.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from renderer.fields import Floats

# From points [3, P] to how much of the second colour there is, 0 to 1.
Pattern = Callable[[Floats], Floats]

_VOLUME_SIDE = 64  # a power of two: it wraps around with a bit mask
_VOLUME_SEED = 7


@dataclass(frozen=True)
class Material:
    """How a surface looks; ``shine`` is the exponent of its highlight (Blinn 1977).

    Attributes:
        colors: two of them, ``[2, 3]``, between which the pattern chooses.
        gloss: how much it mirrors, 0 to 1.
        mottle: how uneven its colour is; nothing real is perfectly even.
        grain: how fine that unevenness is.
        bump: how rough its surface is.
    """

    colors: Floats
    pattern: Pattern | None = None
    gloss: float = 0.2
    shine: float = 30.0
    mottle: float = 0.1
    grain: float = 2.0
    bump: float = 0.0

    def albedo(self, points: Floats) -> Floats:
        """The colour ``[3, P]`` at points ``[3, P]`` of the solid's own space."""
        first, second = self.colors[..., None]  # [3, 1]
        color: Floats = np.repeat(first, points.shape[1], axis=1)
        if self.pattern is not None:
            color += (second - first) * self.pattern(points)
        color *= 1 + self.mottle * (noise(points * self.grain) - 0.5)
        return color


def rgb(hue: float, saturation: float, value: float) -> Floats:
    """A colour ``[3]`` as a person names it (HSV of the finished photo), in linear light."""
    shown = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)
    return shown**2.2


def random_color(rng: np.random.Generator, vivid: float = 0.5) -> Floats:
    """Any colour ``[3]``; the greater ``vivid`` (0 to 1), the more saturated on average."""
    saturation = rng.beta(0.6 + 2 * vivid, 2.4 - 1.6 * vivid)
    return rgb(rng.uniform(), saturation, rng.uniform(0.1, 1.0) ** 0.7)


def random_material(rng: np.random.Generator, plain: float = 0.35) -> Material:
    """Anything from wool to lacquer; ``plain`` is how often it has no pattern."""
    first = random_color(rng)
    # Most patterned things have a light and a dark tone of one colour, or two colours.
    second = random_color(rng) if rng.random() < 0.6 else first * rng.uniform(0.15, 0.6)
    matt = rng.random() < 0.5
    return Material(
        colors=np.stack([first, second]).astype(np.float32),
        pattern=None if rng.random() < plain else random_pattern(rng),
        gloss=rng.uniform(0, 0.1) if matt else rng.uniform(0.2, 0.9),
        shine=math.exp(rng.uniform(1.5, 3) if matt else rng.uniform(3, 6)),
        mottle=rng.uniform(0.05, 1.3),
        grain=math.exp(rng.uniform(0, 2)),
        bump=0.0 if rng.random() < 0.5 else rng.uniform(0.05, 0.5),
    )


def random_materials(rng: np.random.Generator) -> tuple[Material, Material, Material, Material]:
    """Materials for the paints of a solid: main, trim, dark, light."""
    dark = Material(_pair(rgb(rng.uniform(), rng.uniform(0, 0.4), rng.uniform(0.05, 0.25))), gloss=0.4)
    light = Material(_pair(rgb(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.7, 1.0))), gloss=0.4)
    return random_material(rng), random_material(rng, plain=0.8), dark, light


def plain(color: Floats, gloss: float = 0.2, shine: float = 30.0, mottle: float = 0.1) -> Material:
    """A material of one colour ``[3]``."""
    return Material(_pair(color), gloss=gloss, shine=shine, mottle=mottle)


def random_pattern(rng: np.random.Generator) -> Pattern:
    """Stripes, checks, spots, patches, clouds, veins, or a change from one end to the other."""
    makers: Sequence[Callable[[np.random.Generator], Pattern]] = (
        _stripes, _checks, _spots, _patches, _clouds, _veins, _change,
    )  # fmt: skip
    return makers[int(rng.integers(len(makers)))](rng)


def _stripes(rng: np.random.Generator) -> Pattern:
    normal, phase = _direction(rng)[:, None], rng.uniform(0, math.tau)
    rate, wobble, share = rng.uniform(6, 35), rng.uniform(0, 2), rng.uniform(-0.6, 0.6)
    return lambda p: _step(np.sin((normal * p).sum(0) * rate + wobble * noise(p) + phase) - share, 0.25)


def _checks(rng: np.random.Generator) -> Pattern:
    frame, rate = random_rotation(rng), rng.uniform(5, 14)

    def pattern(p: Floats) -> Floats:
        waves = np.sin(frame @ p * rate)
        return _step(waves[0] * waves[1] * waves[2], 0.05)

    return pattern


def _spots(rng: np.random.Generator) -> Pattern:
    frame, rate, size = random_rotation(rng), rng.uniform(2.5, 7), rng.uniform(0.2, 0.42)

    def pattern(p: Floats) -> Floats:
        cells = frame @ p * rate
        cells[0] += 0.5 * np.floor(cells[1])  # rows shifted against each other look less like a grid
        away = cells - np.floor(cells) - 0.5
        return _step(size - np.sqrt((away * away).sum(0)), 0.06)

    return pattern


def _patches(rng: np.random.Generator) -> Pattern:
    place, rate, level = _offset(rng), rng.uniform(0.6, 2.5), rng.uniform(0.4, 0.6)
    return lambda p: _step(noise(p * rate + place) - level, 0.03)


def _clouds(rng: np.random.Generator) -> Pattern:
    place, rate = _offset(rng), rng.uniform(0.5, 4)
    return lambda p: np.clip(noise(p * rate + place) * 2 - 0.5, 0, 1)


def _veins(rng: np.random.Generator) -> Pattern:
    place, normal = _offset(rng), _direction(rng)[:, None]
    rate, turmoil = rng.uniform(3, 9), rng.uniform(4, 10)
    return lambda p: np.abs(np.sin((normal * p).sum(0) * rate + turmoil * noise(p + place))) ** 0.6


def _change(rng: np.random.Generator) -> Pattern:
    normal, rate = _direction(rng)[:, None], rng.uniform(0.4, 1.5)
    return lambda p: np.clip((normal * p).sum(0) * rate + noise(p) - 0.1, 0, 1)


def noise(points: Floats) -> Floats:
    """Fractal noise of space at points ``[3, P]``: 0 to 1, about 0.5, features of about 0.5 and less."""
    volume = _noise_volume()
    spot = points * np.float32(8)
    corner: Floats = np.floor(spot)
    fx, fy, fz = spot - corner
    cells = corner.astype(np.int32)
    low, high = cells & (_VOLUME_SIDE - 1), (cells + 1) & (_VOLUME_SIDE - 1)
    x0, x1 = low[0] * _VOLUME_SIDE**2, high[0] * _VOLUME_SIDE**2
    y0, y1, z0, z1 = low[1] * _VOLUME_SIDE, high[1] * _VOLUME_SIDE, low[2], high[2]

    def row(plane: npt.NDArray[np.int32]) -> Floats:
        start: Floats = volume.take(plane + z0, mode="clip")
        start += (volume.take(plane + z1, mode="clip") - start) * fz
        return start

    near, far = row(x0 + y0), row(x1 + y0)
    near += (row(x0 + y1) - near) * fy
    far += (row(x1 + y1) - far) * fy
    near += (far - near) * fx
    return near


@lru_cache(maxsize=1)
def _noise_volume() -> Floats:
    """Gaussian noise whose amplitude falls with frequency as in natural textures, wrapping around."""
    spectrum = np.fft.rfftn(np.random.default_rng(_VOLUME_SEED).standard_normal((_VOLUME_SIDE,) * 3))
    whole, half = np.fft.fftfreq(_VOLUME_SIDE), np.fft.rfftfreq(_VOLUME_SIDE)
    frequency: Floats = np.sqrt(whole[:, None, None] ** 2 + whole[:, None] ** 2 + half**2)
    amplitude = np.maximum(frequency, 2.5 / _VOLUME_SIDE) ** -2.2
    amplitude[0, 0, 0] = 0
    values: Floats = np.fft.irfftn(spectrum * amplitude).astype(np.float32).ravel()
    values *= 0.18 / values.std()
    return np.array(np.clip(values + 0.5, 0, 1), np.float32)


def random_rotation(rng: np.random.Generator) -> Floats:
    """A rotation matrix ``[3, 3]``, all equally likely (QR of a Gaussian matrix)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    matrix = np.array(q * np.sign(np.diag(r)), np.float32)
    matrix[:, 0] *= float(np.linalg.det(matrix))
    return matrix


def _direction(rng: np.random.Generator) -> Floats:
    return random_rotation(rng)[:, 0]


def _offset(rng: np.random.Generator) -> Floats:
    return rng.uniform(0, 8, (3, 1)).astype(np.float32)


def _step(values: Floats, width: float) -> Floats:
    """0 to 1 where ``values`` pass 0, softly enough not to flicker from pixel to pixel."""
    steps: Floats = (values / (2 * width) + 0.5).clip(0, 1)
    return steps


def _pair(color: Floats) -> Floats:
    return np.stack([color, color]).astype(np.float32)
