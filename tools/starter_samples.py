"""Scenes mixed anew for every step: mirrored, zoomed, shifted, recoloured, four in one.

Coordinates are pixels of the mixed sample, which is the network's input.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from goldeneye.errors import SettingError
from goldeneye.models.letterbox import PADDING_GREY

_MOSAICS = 0.3  # how many samples are put together from four photos
_ZOOM_ALONE = (0.7, 2.2)
_ZOOM_IN_MOSAIC = (0.45, 1.2)
_MIN_VISIBLE = 0.4  # a box that keeps less of its area shows a piece of a thing
_MIN_SIDE = 6.0  # pixels


class Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """An endless stream of samples: number ``n`` depends on the seed, ``n`` and its side alone.

    So a run that goes on from step ``s`` sees what it would have seen without the interruption.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.seed = seed
        self.photos: list[Path] = []
        self.boxes: list[NDArray[np.float32]] = []
        self.class_ids: list[NDArray[np.int64]] = []
        for path in sorted(folder.glob("scene_*.npz")):
            with np.load(path) as scene:
                self.boxes.append(scene["boxes"])
                self.class_ids.append(scene["family_ids"])
            self.photos.append(path.with_suffix(".jpg"))
        if not self.photos:
            raise SettingError(f"{folder}: no scenes", hint="render some first")

    def __getitem__(self, number_and_side: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        number, side = number_and_side
        rng = np.random.default_rng((self.seed, number))
        canvas = np.full((side, side, 3), PADDING_GREY, np.uint8)
        in_mosaic = rng.random() < _MOSAICS
        tiles = _quarters(rng, side) if in_mosaic else [(0, 0, side, side)]
        boxes, class_ids = [], []
        for left, top, right, bottom in tiles:
            scene = int(rng.integers(len(self.photos)))
            zoom = _log_uniform(rng, *(_ZOOM_IN_MOSAIC if in_mosaic else _ZOOM_ALONE))
            size_hw = (bottom - top, right - left)
            with Image.open(self.photos[scene]) as photo:
                scale = zoom * side / photo.width
                tile, moved = look_through(rng, photo, self.boxes[scene], size_hw, scale)
            canvas[top:bottom, left:right] = tile
            inside, kept = _clipped(moved, size_hw)
            boxes.append(inside + np.array([left, top, left, top], np.float32))
            class_ids.append(self.class_ids[scene][kept])
        blue_first = np.ascontiguousarray(_recolored(rng, canvas)[..., ::-1].transpose(2, 0, 1))
        all_boxes, all_ids = np.concatenate(boxes), np.concatenate(class_ids)
        return torch.from_numpy(blue_first), torch.from_numpy(all_boxes), torch.from_numpy(all_ids)


def _quarters(rng: np.random.Generator, side: int) -> list[tuple[int, int, int, int]]:
    """Four tiles around a random point."""
    x, y = rng.integers(side // 4, 3 * side // 4, 2).tolist()
    return [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]


def look_through(
    rng: np.random.Generator,
    photo: Image.Image,
    boxes: NDArray[np.float32],
    size_hw: tuple[int, int],
    scale: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A scaled photo through a window, mirrored or not, and its boxes there; they may reach outside.

    Nothing is smoothed when shrinking, as in the network's own preprocessing.
    """
    scales = np.array([scale * rng.choice([-1, 1]), scale])  # of x and y
    seen = np.array(photo.size) * rng.uniform(0.3, 0.7, 2)  # the point in the middle of the window
    middle = np.array(size_hw[::-1]) / 2
    corner = seen - middle / scales
    window = photo.transform(
        size_hw[::-1],
        Image.Transform.AFFINE,
        (1 / scales[0], 0, corner[0], 0, 1 / scales[1], corner[1]),
        Image.Resampling.BILINEAR,
        fillcolor=(PADDING_GREY,) * 3,
    )
    corners = (boxes.reshape(-1, 2, 2) - seen) * scales + middle
    moved = np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)
    return np.asarray(window), moved


def _clipped(
    boxes: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes cut at a window's border, without those that lose too much; which of ``[M]`` are kept."""
    height, width = size_hw
    inside = boxes.clip(0, np.array([width, height, width, height], np.float32))
    sides, before = inside[:, 2:] - inside[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides.prod(1) >= _MIN_VISIBLE * before.prod(1)) & (sides >= _MIN_SIDE).all(1)
    return inside[kept], kept


def _recolored(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another saturation, contrast, brightness and colour of light, all in one matrix."""
    saturation, contrast = rng.uniform(0.5, 1.4), _log_uniform(rng, 0.7, 1.4)
    grey = np.full((3, 3), 1 / 3)
    mixed = contrast * (saturation * np.eye(3) + (1 - saturation) * grey) @ np.diag(rng.normal(1, 0.06, 3))
    brightness = 128 * (1 - contrast) + rng.normal(0, 16)
    changed = image.astype(np.float32) @ mixed.astype(np.float32) + np.float32(brightness)
    return changed.clip(0, 255).astype(np.uint8)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
