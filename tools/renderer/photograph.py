"""What a camera makes of light: lens, movement, sensor, processing, JPEG."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from renderer.fields import Floats, vector

RGBArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Exposure:
    """How a photo is taken.

    Attributes:
        brightness: the mean of the finished photo, 0 to 1, if nothing is clipped.
        cast: ``[3]`` what the white balance leaves of the colour of the light.
        softness: blur of lens and focus, a Gaussian's deviation in pixels.
        motion: ``(dy, dx)`` how far the camera moves, in pixels.
        noise: deviation of a grey pixel, in parts of the range.
        contrast: of the tone curve; 1 is neutral.
        saturation: of the colours; 1 is neutral.
        vignette: how much darker the corners are.
    """

    brightness: float
    cast: Floats
    softness: float
    motion: tuple[float, float]
    noise: float
    contrast: float
    saturation: float
    vignette: float

    @classmethod
    def random(cls, rng: np.random.Generator, scale: float = 1.0) -> Exposure:
        """What people's phones make, at times in bad light; ``scale`` is the photo's size, 1 at 320."""
        angle, length = rng.uniform(0, math.pi), scale * rng.exponential(2.5) * (rng.random() < 0.25)
        length = min(length, 8 * scale)
        warm, green = rng.normal(0, 0.1), rng.normal(0, 0.04)
        return cls(
            brightness=float(np.clip(rng.normal(0.47, 0.08), 0.25, 0.68)),
            cast=np.exp(vector(warm, green, -warm)),
            softness=0.45 + scale * min(rng.exponential(0.45), 2.2),
            motion=(length * math.sin(angle), length * math.cos(angle)),
            noise=min(0.004 + rng.exponential(0.014), 0.07),
            contrast=rng.uniform(0.9, 1.35),
            saturation=rng.uniform(0.65, 1.2),
            vignette=rng.uniform(0, 0.35),
        )


def take_photo(rng: np.random.Generator, radiance: Floats, exposure: Exposure) -> RGBArray:
    """Make a photo ``[H, W, 3]`` of the light ``[H, W, 3]`` that falls into the camera."""
    light = blur(radiance, exposure.softness)
    light = _shake(light, *exposure.motion)
    light = light * _vignette(light.shape[:2], exposure.vignette)[..., None] * exposure.cast
    light = light * _gain(light, exposure.brightness)
    light = light + _sensor_noise(rng, light, exposure.noise)
    tones: Floats = light.clip(min=0) ** np.float32(1 / 2.2)
    rolled_off = 1 - 0.2 * np.exp(4 - 5 * np.maximum(tones, 0.8))
    tones = 0.5 + (np.where(tones < 0.8, tones, rolled_off) - 0.5) * exposure.contrast
    grey = tones @ vector(0.299, 0.587, 0.114)
    tones = grey[..., None] + (tones - grey[..., None]) * exposure.saturation
    return (255 * tones.clip(0, 1) + 0.5).astype(np.uint8)


def through_jpeg(image: RGBArray, quality: int) -> RGBArray:
    """The image as a JPEG file brings it back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.array(Image.open(buffer))


def blur(image: Floats, deviation: float) -> Floats:
    """A Gaussian blur of ``[H, W, ...]``; the border is repeated outwards."""
    reach = math.ceil(2.5 * deviation)
    if reach == 0:
        return image
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / deviation) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        length = image.shape[axis]
        padded = np.pad(
            image, [(reach, reach) if a == axis else (0, 0) for a in range(image.ndim)], mode="edge"
        )
        moved = padded if axis == 0 else padded.swapaxes(0, 1)
        total = weights[0] * moved[:length]
        for number in range(1, len(weights)):
            total += weights[number] * moved[number : number + length]
        image = total if axis == 0 else total.swapaxes(0, 1)
    return image


def _gain(light: Floats, brightness: float) -> float:
    """What brings the photo to a mean brightness without clipping more than a camera would."""
    sample = light[::4, ::4]
    mean = float(np.mean(np.sqrt(sample)))  # nearly what the tone curve makes of it
    brightest = float(np.percentile(sample, 98.5))
    wanted: float = (brightness**1.1 / max(mean, 1e-3)) ** 2
    return min(wanted, 1.3 / max(brightest, 1e-3))


def _shake(image: Floats, dy: float, dx: float) -> Floats:
    steps = math.ceil(max(abs(dy), abs(dx)))
    if steps < 1:
        return image
    height, width = image.shape[:2]
    padded = np.pad(image, [(steps, steps), (steps, steps), (0, 0)], mode="edge")
    total = np.zeros_like(image)
    for part in np.linspace(-0.5, 0.5, steps + 1).tolist():
        row, column = steps + round(part * dy), steps + round(part * dx)
        total += padded[row : row + height, column : column + width]
    return total / (steps + 1)


def _vignette(size_hw: tuple[int, int], strength: float) -> Floats:
    height, width = size_hw
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    return 1 - strength * (x * x + y * y) / 2


def _sensor_noise(rng: np.random.Generator, light: Floats, amount: float) -> Floats:
    """Shot noise, which grows with the root of the light, and a floor; smoothed as phones do."""
    grain: Floats = rng.standard_normal(light.shape, np.float32)
    if rng.random() < 0.5:
        grain = blur(grain, 0.6) * np.float32(1.8)
    # At mid grey the tone curve multiplies a small change by about one.
    grain *= amount * np.sqrt(light.clip(0, 2) + 0.02) * 1.6
    return grain
