"""Make a photo fit a network's input without changing its proportions.

It is resized to touch the input on one side and put into the top left corner; the rest is grey.
Plain numpy, so that an exported detector needs no torch for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PADDING_GREY = 114
"""What the rest is filled with, in every channel, as the public release of YOLOX does."""

_ONE = 1 << 11  # 1.0 in the fixed-point numbers of OpenCV's resize


def letterbox_ratio(photo_size_hw: tuple[int, int], size_hw: tuple[int, int]) -> float:
    """How many pixels of an input of ``size_hw`` one pixel of the photo becomes, along both sides."""
    return min(size_hw[0] / photo_size_hw[0], size_hw[1] / photo_size_hw[1])


def touching_size_hw(photo_size_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of a photo inside a frame of ``size_hw`` that it touches on one side, cut to whole pixels.

    In whole numbers, so that every program that runs an exported network comes to the same size.
    Published programs multiply with a rounded ratio, which leaves one photo in fifty a pixel short of
    the frame; and to them a photo too narrow to leave any pixel is an error.
    """
    (height, width), (h, w) = photo_size_hw, size_hw
    if h * width <= w * height:
        return h, max(width * h // height, 1)
    return max(height * w // width, 1), w


def letterbox(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A photo ``[H, W, 3]`` as an input ``[h, w, 3]`` of ``size_hw``, its channels in the same order."""
    height, width = touching_size_hw((image.shape[0], image.shape[1]), size_hw)
    padded = np.full((*size_hw, 3), PADDING_GREY, np.uint8)
    padded[:height, :width] = resize_bilinear(image, (height, width))
    return padded


def resize_bilinear(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize ``[H, W, D]`` to ``[h, w, D]`` as OpenCV does, to the last bit, with ``INTER_LINEAR``.

    Pixel ``i`` of the result reads position ``(i + 0.5) * in / out - 0.5``; nothing is smoothed when
    shrinking. OpenCV weighs 8-bit pixels with 11 fractional bits and cuts bits off on the way, so one
    pixel in eight comes out one lower than rounding would give; published weights were trained so.
    """
    if image.shape[:2] == size_hw:
        return image  # what follows would give the same pixels
    top, bottom, low_rows, high_rows = _neighbours(image.shape[0], size_hw[0])
    left, right, low_columns, high_columns = _neighbours(image.shape[1], size_hw[1])

    def across(rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The given rows resized along the width, ``[h, w, D]``, scaled by ``_ONE``."""
        chosen = image[rows]
        resized: NDArray[np.int32] = (
            chosen[:, left] * low_columns[:, None] + chosen[:, right] * high_columns[:, None]
        )
        return resized

    upper = (across(top) >> 4) * low_rows[:, None, None] >> 16
    lower = (across(bottom) >> 4) * high_rows[:, None, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _neighbours(
    length: int, out: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The two pixels that each of ``out`` pixels lies between, ``[out]``, and their weights."""
    position = ((np.arange(out) + 0.5) * (length / out) - 0.5).astype(np.float32)
    low = np.floor(position).astype(np.int64)
    fraction = position - low.astype(np.float32)
    low_weights, high_weights = (
        (share * _ONE).round().astype(np.int32) for share in (1 - fraction, fraction)
    )
    last = length - 1  # beyond the border the last pixel is repeated
    return low.clip(0, last), (low + 1).clip(0, last), low_weights, high_weights
