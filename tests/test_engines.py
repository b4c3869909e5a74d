"""All engines find the same as PyTorch, in rendered photos and in real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exported_duck import ExportedDuck
from fewbox.detection.detector import Detector
from fewbox.detection.loading import EXPORT_ENGINES, open_detector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.export import (
    MAX_SCORE_DIFFERENCE,
    MIN_IOU,
    MIN_SCORE,
    compare_found,
)


@pytest.fixture(scope="module")
def engines(exported_duck: ExportedDuck) -> list[PhotoDetector]:
    """The exported duck in every engine that is installed."""
    return [open_detector(exported_duck.onnx, engine=name, num_threads=1) for name in EXPORT_ENGINES]


def require_same(detector: Detector, engines: list[PhotoDetector], photos: list[Path]) -> None:
    """Every engine finds in ``photos`` what ``detector`` finds."""
    threshold = MIN_SCORE - MAX_SCORE_DIFFERENCE
    found = [detector.detect(photo, threshold=threshold) for photo in photos]
    for engine in engines:
        num_boxes = 0
        for photo, expected in zip(photos, found, strict=True):
            actual = engine.detect(photo, threshold=threshold)
            assert actual.class_names == expected.class_names
            assert actual.size_hw == expected.size_hw
            agreement = compare_found(
                (expected.boxes, expected.scores, expected.class_ids),
                (actual.boxes, actual.scores, actual.class_ids),
            )
            assert agreement.lowest_iou >= MIN_IOU, photo
            assert agreement.largest_score_difference <= MAX_SCORE_DIFFERENCE, photo
            num_boxes += agreement.num_boxes
            assert np.array_equal(engine.enough_hw(expected.size_hw), detector.enough_hw(expected.size_hw))
        assert num_boxes >= len(photos)


@pytest.mark.slow
def test_rendered_ducks(exported_duck: ExportedDuck, engines: list[PhotoDetector]) -> None:
    require_same(exported_duck.detector, engines, exported_duck.photos[:4])


@pytest.mark.slow
@pytest.mark.shared
def test_real_photos(exported_duck: ExportedDuck, engines: list[PhotoDetector], shared: Path) -> None:
    ducks = sorted((shared / "data/ducky/test").glob("*.jpg"))[::15]
    raccoons = sorted((shared / "data/raccoon/images").glob("*.jpg"))[:4]  # of many sizes
    require_same(exported_duck.detector, engines, ducks + raccoons)
