"""Looking twice: what both looks find, what one finds alone, and where it is then."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbox.core.boxes import FoundArrays
from fewbox.detection.photo_detector import PhotoDetector, TtaDetector
from fewbox.models.yolox import YoloxConfig

WIDTH = 100


class SpotDetector(PhotoDetector):
    """Finds one pale spot; its score is higher on the left, and its box a pixel too wide there."""

    config = YoloxConfig(depth=0.33, width=0.25, depthwise=True, size_hw=(32, 32), num_classes=1)
    labels = ("spot",)
    precision = "float32"
    threshold = 0.5

    def __init__(self, left: float, right: float) -> None:
        self.left, self.right = left, right
        self.base, self.provenance = {}, {}

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        rows, columns = np.nonzero(image[..., 0])
        is_left = columns.mean() < WIDTH / 2
        score = self.left if is_left else self.right
        box = [columns.min(), rows.min(), columns.max() + 1 + is_left, rows.max() + 1]
        found = np.flatnonzero([score > threshold])
        return (
            np.array([box], np.float32)[found],
            np.array([score], np.float32)[found],
            np.zeros(len(found), np.int64),
        )


def spot_at(x: int) -> NDArray[np.uint8]:
    image = np.zeros((60, WIDTH, 3), np.uint8)
    image[20:40, x : x + 20] = 200
    return image


@pytest.mark.parametrize("x", [10, 70])
def test_the_mean_of_both_looks(x: int) -> None:
    found = TtaDetector(SpotDetector(0.9, 0.6)).detect(spot_at(x))
    assert found.scores == pytest.approx([0.75])
    (x1, y1, x2, y2) = found.boxes[0]
    assert (y1, y2) == (20, 40)
    # The wide box was scored 0.9 and the other 0.6; in the mirror the pixel too much is on the other side.
    wide = 0.9 / 1.5
    assert (x1, x2) == pytest.approx((10, 30 + wide) if x == 10 else (70 - wide, 90))


def test_what_one_look_finds_alone_counts_half() -> None:
    twice = TtaDetector(SpotDetector(0.9, 0.0))
    assert len(twice.detect(spot_at(70))) == 0  # 0.45 is not above 0.5
    found = twice.detect(spot_at(70), threshold=0.4)
    assert found.scores == pytest.approx([0.45])
    assert found.boxes[0] == pytest.approx([69, 20, 90, 40])


@pytest.mark.parametrize("x", [10, 70])
def test_a_faint_partner_counts_the_same_whatever_the_threshold(x: int) -> None:
    faint, all_of_it = (
        TtaDetector(SpotDetector(0.9, 0.005)).detect(spot_at(x), threshold=low) for low in (0.3, 0)
    )
    assert faint.scores == pytest.approx([0.4525])
    np.testing.assert_array_equal(faint.scores, all_of_it.scores)
    np.testing.assert_array_equal(faint.boxes, all_of_it.boxes)


def test_a_box_of_another_class_is_no_partner() -> None:
    class TwoNames(SpotDetector):
        config = SpotDetector.config.changed(num_classes=2)
        labels = ("left", "right")

        def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
            boxes, scores, class_ids = super()._find(image, threshold)
            return boxes, scores, class_ids + (np.nonzero(image[..., 0])[1].mean() > WIDTH / 2)

    found = TtaDetector(TwoNames(0.9, 0.8)).detect(spot_at(10), threshold=0.3)
    assert found.scores == pytest.approx([0.45, 0.4])
    assert found.class_ids.tolist() == [0, 1]
