"""Tiles of a large photo: where they lie, and how what is found in them becomes one list of detections.

A network sees a photo of 4000 x 3000 pixels at a tenth of its size, and an object of 80 pixels as 8. Looked
at in overlapping tiles, the same object keeps 40 pixels or more. Tiles lie in a grid of columns and rows;
tiles of a photo that needs none are an empty array.

Letters in shapes: T tiles, M and K boxes of one photo.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import box_areas, intersection_areas, nms
from fewbox.errors import SettingError

AUTO = "auto"
MIN_TILES, MAX_TILES = 2, 8
"""Along the longer side of a photo. With 8, whatever is too long for the overlap of two tiles still is a
twenty-fifth of the photo's side: 16 pixels of an input of 416, which a network finds without tiles."""
MAX_REDUCTION = 2.0
"""How many pixels of the photo become one of the input at the most, where tiles are chosen by themselves.
Up to a half, bilinear resizing uses every pixel; and a camera makes up two of the three colours of each, so
hardly anything is lost. Beyond, pixels are skipped."""
OVERLAP = 0.25
"""Of neighbouring tiles, as a part of a tile's side: what is no longer than that lies whole in a tile."""

_EDGE = 0.01  # of a tile's side: a box that ends nearer to its edge may be cut; networks err by 1 to 4 pixels
_COVERED = 0.5  # of the smaller of two boxes, from which on a piece and the whole are one object
_INSIDE = 0.8  # of a box, from which on it is a part of a large object around it
_RIVAL = 0.5  # so much of its score a better view must have to replace a worse one


def checked_tiles(tiles: Any) -> int | str:
    """How many tiles along the longer side: a whole number from 2 to 8, or ``"auto"``; digits are a number.

    Raises:
        SettingError: it is something else.
    """
    number = int(tiles) if isinstance(tiles, str) and tiles.isdecimal() else tiles
    if number == AUTO and isinstance(number, str):
        return AUTO
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not whole or not MIN_TILES <= number <= MAX_TILES:
        hint = f"leave the number out: {AUTO} chooses by the photo's size"
        raise SettingError(
            f"tiles must be {AUTO} or a number from {MIN_TILES} to {MAX_TILES}: {tiles!r}", hint=hint
        )
    return int(number)


def tile_grid(
    photo_size_hw: tuple[int, int], input_hw: tuple[float, float], tiles: int | str
) -> NDArray[np.int64]:
    """The tiles ``[T, 4]`` of a photo, row by row; none where the photo whole shows as much.

    They have one size, cover every pixel, and overlap their neighbours by ``OVERLAP`` or more, up to a pixel
    lost to rounding. None is smaller than the input: enlarging shows nothing new.

    Args:
        photo_size_hw: height and width of the photo.
        input_hw: height and width, in the photo's proportions, of what the network's input holds when a
            pixel of the photo is a pixel of the input.
        tiles: along the longer side at the most, or ``"auto"``: so many that ``MAX_REDUCTION`` is kept.
    """
    long = int(photo_size_hw[1] >= photo_size_hw[0])
    times = photo_size_hw[long] / input_hw[long]
    if tiles == AUTO:
        wanted = math.ceil(_count(times / MAX_REDUCTION))
    else:
        wanted = min(int(tiles), math.floor(_count(times)))
    count = min(wanted, MAX_TILES)
    if count < MIN_TILES:
        return np.zeros((0, 4), np.int64)
    reduction = times / (count - (count - 1) * OVERLAP)
    (top, height), (left, width) = (
        _along(length, reduction * side) for length, side in zip(photo_size_hw, input_hw, strict=True)
    )
    y1, x1 = (each.ravel() for each in np.meshgrid(top, left, indexing="ij"))
    return np.stack((x1, y1, x1 + width, y1 + height), 1)


def _count(lengths: float) -> float:
    """How many overlapping tiles cover so many lengths of a tile, not yet a whole number."""
    return (lengths - OVERLAP) / (1 - OVERLAP) - 1e-9  # rounding must not ask for one more


def _along(length: int, side: float) -> tuple[NDArray[np.int64], int]:
    """Where the tiles begin along one side of a photo, spread evenly, and how long each is."""
    whole = min(math.ceil(side - 1e-9), length)
    count = max(math.ceil(_count(length / whole)), 1)
    return np.linspace(0, length - whole, count).round().astype(np.int64), whole


def is_cut(
    boxes: NDArray[np.float32], tile: NDArray[np.int64], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which boxes ``[M, 4]`` found in a tile touch an edge of it beyond which the photo goes on."""
    width, height = tile[2:] - tile[:2]
    margins = np.array((width, height)) * _EDGE
    low = (boxes[:, :2] < tile[:2] + margins) & (tile[:2] > 0)
    high = (boxes[:, 2:] > tile[2:] - margins) & (tile[2:] < np.array(size_hw[::-1]))
    return np.asarray((low | high).any(1))


def seen_whole(
    boxes: NDArray[np.float32], tiles: NDArray[np.int64], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which boxes ``[M, 4]`` lie in one of the tiles ``[T, 4]`` without being cut by its edges."""
    seen = np.zeros(len(boxes), bool)
    for tile in tiles:
        inside = (boxes[:, :2] >= tile[:2]).all(1) & (boxes[:, 2:] <= tile[2:]).all(1)
        seen |= inside & ~is_cut(boxes, tile, size_hw)
    return seen


def merge_views(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    doubtful: NDArray[np.bool_],
    too_large: NDArray[np.bool_],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Which boxes ``[K]`` of one class to keep of those found in the photo whole and in its tiles.

    NMS joins what two views show alike. A doubtful box shows a piece of an object, or was found in the photo
    whole where tiles see more: it yields to a good view of the same object that scores at least half as
    much. So does what lies within an object too large for a tile, of which tiles see only parts.

    Args:
        boxes: ``[M, 4]``.
        scores: ``[M]``.
        doubtful: ``[M]``.
        too_large: ``[M]`` found in the photo whole, and longer or higher than a tile.
        iou_threshold: of NMS.
    """
    good = np.flatnonzero(~doubtful)
    good = good[nms(boxes[good], scores[good], iou_threshold=iou_threshold, max_kept=len(good))]
    large = good[too_large[good]]
    if len(large):
        inside = _shared(boxes[good], boxes[large], smaller=False) >= _INSIDE
        inside &= _rivals(scores[good], scores[large]) & (good[:, None] != large)
        good = good[too_large[good] | ~inside.any(1)]
    kept = list(good)
    rest = np.flatnonzero(doubtful)
    for row in rest[np.argsort(-scores[rest], kind="stable")]:
        same = _shared(boxes[row : row + 1], boxes[kept], smaller=True)[0] >= _COVERED
        if not (same & _rivals(scores[row : row + 1], scores[kept])[0]).any():
            kept.append(row)
    return np.array(kept, np.int64)


def _rivals(scores: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each of ``others`` ``[K]`` may replace each of ``scores`` ``[M]``, ``[M, K]``."""
    may: NDArray[np.bool_] = others[None] >= _RIVAL * scores[:, None]
    return may


def _shared(boxes: NDArray[np.float32], others: NDArray[np.float32], *, smaller: bool) -> NDArray[np.float32]:
    """The part ``[M, K]`` of each of ``boxes``, or of the smaller one, that it shares with each other."""
    areas = np.broadcast_to(box_areas(boxes)[:, None], (len(boxes), len(others)))
    if smaller:
        areas = np.minimum(areas, box_areas(others)[None])
    shared: NDArray[np.float32] = intersection_areas(boxes[:, None], others[None])
    shared /= np.maximum(areas, 1e-12)
    return shared
