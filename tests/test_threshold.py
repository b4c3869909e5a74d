"""A threshold chooses among what is found, and moves none of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exported_duck import ExportedDuck, export_duck
from fewbox.detection.loading import open_detector
from fewbox.detection.photo_detector import PhotoDetector, TtaDetector

LOOKS: dict[str, Callable[[ExportedDuck], PhotoDetector]] = {
    "PyTorch": lambda duck: duck.detector,
    "ONNX Runtime": lambda duck: open_detector(duck.onnx),
    "mirrored": lambda duck: TtaDetector(duck.detector),
    "in tiles": lambda duck: duck.detector.with_tiles(2),
}


@pytest.mark.slow
@pytest.mark.parametrize("looks", LOOKS)
def test_boxes_are_where_they_are_whatever_the_threshold(tmp_path: Path, looks: str) -> None:
    """Boxes below it too have a say in where those above it are: what is measured is what people get."""
    duck = export_duck(tmp_path)
    detector = LOOKS[looks](duck)
    compared = 0
    for photo in duck.photos[:2]:
        asked, everything = detector.detect(photo), detector.detect(photo, threshold=0.001)
        expected = everything.above(detector.threshold)
        assert np.allclose(asked.scores, expected.scores, atol=1e-5)
        assert np.allclose(asked.boxes, expected.boxes, atol=1e-2)
        compared += len(asked)
    assert compared
