"""Photos are fitted to an input as OpenCV resizes them; the numbers here are what OpenCV 4.10 gives."""

from __future__ import annotations

import numpy as np
import pytest

from fewbox.models.letterbox import PADDING_GREY, letterbox, letterbox_ratio, resize_bilinear


def pattern(height: int, width: int) -> np.ndarray:
    return (np.arange(height * width * 3).reshape(height, width, 3) * 37 % 256).astype(np.uint8)


@pytest.mark.parametrize(
    ("size_hw", "green"),
    [
        ((3, 4), [[81, 20, 214, 152], [97, 35, 229, 167], [111, 50, 95, 182]]),
        (
            (8, 9),
            [
                [37, 111, 83, 27, 114, 200, 144, 117, 191],
                [41, 115, 87, 32, 118, 204, 148, 121, 195],
                [46, 120, 93, 37, 124, 210, 154, 126, 201],
                [52, 126, 99, 43, 129, 215, 159, 132, 206],
                [58, 132, 104, 48, 135, 221, 165, 138, 212],
                [63, 137, 110, 54, 140, 227, 171, 143, 217],
                [69, 143, 116, 60, 146, 120, 112, 149, 223],
                [73, 147, 119, 63, 150, 37, 67, 153, 227],
            ],
        ),
    ],
    ids=("smaller", "larger"),
)
def test_resizes_as_opencv_does(size_hw: tuple[int, int], green: list[list[int]]) -> None:
    assert resize_bilinear(pattern(5, 7), size_hw)[..., 1].tolist() == green


def test_sum_over_a_larger_image_is_opencvs() -> None:
    image = (np.arange(90 * 70 * 3, dtype=np.int64) ** 2 * 7919 % 256).astype(np.uint8).reshape(90, 70, 3)
    assert image.sum(dtype=np.int64) == 2541914
    assert resize_bilinear(image, (60, 47)).sum(dtype=np.int64) == 1138254


def test_same_size_changes_nothing() -> None:
    image = pattern(6, 5)
    assert (resize_bilinear(image, (6, 5)) == image).all()


@pytest.mark.parametrize(
    ("photo", "resized"),
    [
        ((480, 640), (312, 416)),
        ((640, 427), (416, 277)),
        ((10, 10), (416, 416)),
        ((5000, 3), (416, 1)),
        ((495, 660), (312, 416)),  # 660 * (416 / 660) is less than 416
    ],
)
def test_photo_lies_top_left_and_the_rest_is_grey(photo: tuple[int, int], resized: tuple[int, int]) -> None:
    image = np.full((*photo, 3), (7, 8, 9), np.uint8)
    before = image.copy()
    padded = letterbox(image, (416, 416))
    assert padded.shape == (416, 416, 3)
    covered = np.zeros((416, 416), bool)
    covered[: resized[0], : resized[1]] = True
    assert (padded[covered] == (7, 8, 9)).all()
    assert (padded[~covered] == PADDING_GREY).all()
    assert (image == before).all()


def test_ratio_is_that_of_the_tighter_side() -> None:
    assert letterbox_ratio((480, 640), (416, 416)) == 0.65
    assert letterbox_ratio((640, 480), (320, 416)) == 0.5
