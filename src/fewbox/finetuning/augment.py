"""Augmentation: views of a photo as its objects might also have been seen.

An augmented view is an image as large as the network's input, with the photo shifted, flipped, scaled,
rotated a little and with its colours jittered, and its boxes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from fewbox.models.families import Config
from fewbox.models.letterbox import PADDING_GREY

ZOOM = (0.6, 1.7)
"""Scales of the objects, beside how large the network sees the photo."""
MAX_ROTATION_DEGREES = 8.0
COLOR_JITTER = 0.3
"""Logarithm of the largest change of brightness, contrast and colour."""


@dataclass(frozen=True, eq=False)
class AugmentedView:
    """An image ``[H, W, 3]``, the boxes ``[M, 4]`` in its pixels and how much of each is in it, ``[M]``."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    visible: NDArray[np.float64]


def flip(image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> AugmentedView:
    """The photo ``[H, W, 3]`` and its boxes ``[M, 4]`` flipped: the photo's right side is on the left."""
    x1, y1, x2, y2 = boxes.T
    width = image.shape[1]
    flipped = np.stack((width - x2, y1, width - x1, y2), 1)
    return AugmentedView(np.ascontiguousarray(image[:, ::-1]), flipped, np.ones(len(boxes)))


def augment(
    image: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    scales: tuple[float, float],
    size_hw: tuple[int, int],
    generator: np.random.Generator,
) -> AugmentedView:
    """One augmented view, drawn from ``generator``; zoomed in, it holds the centre of one of the boxes.

    Args:
        image: ``[H, W, 3]`` the photo.
        boxes: ``[M, 4]`` in its pixels.
        scales: pixels of the input that one of the photo becomes, along x and y, without zoom.
        size_hw: of the network's input.
        generator: where all choices come from.
    """
    zoom = float(np.exp(generator.uniform(*np.log(ZOOM))))
    mirror = generator.random() < 0.5
    turn = generator.uniform(-1, 1) * MAX_ROTATION_DEGREES * (generator.random() < 0.5)
    size_wh = np.array([image.shape[1], image.shape[0]])
    scale = np.array(scales) * zoom
    shown = size_wh * scale  # the whole photo, in pixels of the view
    window = np.minimum(shown, size_wh * scales)  # what may be seen of it
    matrix = _turned(np.deg2rad(turn), shown / 2) @ np.diag([*scale, 1.0])
    if mirror:
        matrix = matrix @ np.array([[-1, 0, size_wh[0]], [0, 1, 0], [0, 0, 1.0]])
    moved = np.eye(3)
    if zoom > 1:
        moved[:2, 2] = _placed(boxes, matrix, shown, window, generator)
    else:
        moved[:2, 2] = generator.uniform(0, np.maximum(np.array(size_hw[::-1]) - shown, 0))
    matrix = moved @ matrix
    frame = window if zoom > 1 else np.array(size_hw[::-1])
    picture = _drawn(image, matrix, size_hw, frame, generator)
    return AugmentedView(picture, *_moved_boxes(boxes, matrix, frame))


def with_views(
    config: Config,
    image: NDArray[np.uint8],
    corners: NDArray[np.float64],
    count: int,
    generator: np.random.Generator,
) -> Iterator[AugmentedView]:
    """The photo itself, then ``count`` augmented views of it.

    Args:
        config: of the network that looks at them, for the size of its input.
        image: ``[H, W, 3]`` the photo.
        corners: boxes ``[M, 4]`` in its pixels.
        count: of the views; the first is the photo flipped.
        generator: where all choices come from.
    """
    yield AugmentedView(image, corners, np.ones(len(corners)))
    size_hw = (image.shape[0], image.shape[1])
    scale_x, scale_y = config.to_input(np.array([[0.0, 0.0, 1.0, 1.0]]), size_hw)[0, 2:].tolist()
    for number in range(count):
        if number == 0:
            yield flip(image, corners)
        else:
            yield augment(image, corners, (scale_x, scale_y), config.input_size_of(size_hw), generator)


def _turned(angle: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix ``[3, 3]`` of a turn about a point."""
    cos, sin, (x, y) = np.cos(angle), np.sin(angle), centre
    return np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]])


def _placed(
    boxes: NDArray[np.float64],
    matrix: NDArray[np.float64],
    shown: NDArray[np.float64],
    window: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Where to move the zoomed photo, so that a random box's centre lies at a random place in the window."""
    if len(boxes) == 0:
        return generator.uniform(window - shown, 0)
    x1, y1, x2, y2 = boxes[generator.integers(len(boxes))]
    centre = (matrix @ [(x1 + x2) / 2, (y1 + y2) / 2, 1])[:2]
    half = np.minimum(np.array([x2 - x1, y2 - y1]) * np.diag(np.abs(matrix))[:2], window) / 2
    place = generator.uniform(half, window - half)
    offset: NDArray[np.float64] = np.clip(place - centre, window - shown, 0)
    return offset


def _drawn(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    size_hw: tuple[int, int],
    frame: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """The photo as ``matrix`` puts it into a grey picture of ``size_hw``, in other light."""
    photo = Image.fromarray(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        photo = enhance(photo).enhance(float(np.exp(generator.uniform(-COLOR_JITTER, COLOR_JITTER))))
    back = np.linalg.inv(matrix)[:2].ravel().tolist()
    picture = np.array(
        photo.transform(
            size_hw[::-1],
            Image.Transform.AFFINE,
            back,
            Image.Resampling.BILINEAR,
            fillcolor=(PADDING_GREY,) * 3,
        )
    )
    width, height = np.ceil(frame).astype(int)
    picture[height:] = PADDING_GREY
    picture[:, width:] = PADDING_GREY
    return picture


def _moved_boxes(
    boxes: NDArray[np.float64], matrix: NDArray[np.float64], frame: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The boxes in the view ``[M, 4]`` and how much of each is in the frame ``[M]``.

    The outline of an object is not known, only its box. A turned rectangle needs a larger box, a
    turned lozenge a smaller one; the mean of both is near that of most things.
    """
    x1, y1, x2, y2 = boxes.T
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    points_x, points_y = (
        np.stack((x1, x2, x2, x1, x, x2, x, x1), 1),
        np.stack((y1, y1, y2, y2, y1, y, y2, y), 1),
    )
    points = np.stack((points_x, points_y, np.ones_like(points_x)), -1) @ matrix.T  # [M, 8, 3]
    corners, middles = points[:, :4, :2], points[:, 4:, :2]
    low = (corners.min(1) + middles.min(1)) / 2
    high = (corners.max(1) + middles.max(1)) / 2
    inside_low, inside_high = np.clip(low, 0, frame), np.clip(high, 0, frame)
    visible = (inside_high - inside_low).prod(1) / np.maximum((high - low).prod(1), 1e-9)
    return np.concatenate((inside_low, inside_high), 1), visible
