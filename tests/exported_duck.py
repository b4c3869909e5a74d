"""A detector of the demo's ducks, as fewbox keeps it and as other programs run it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewbox.core.boxes import pairwise_iou
from fewbox.data import demo_photos
from fewbox.detection.detections import Detections
from fewbox.detection.detector import Detector
from fewbox.export import export_detector
from fewbox.finetuning.api import finetune


@dataclass(frozen=True)
class ExportedDuck:
    """The two files, and photos (PNG, since decoders of JPEG differ in the last bit)."""

    detector: Detector
    onnx: Path
    photos: list[Path]


def export_duck(folder: Path) -> ExportedDuck:
    """Learn, export."""
    train, test = demo_photos()
    few = replace(train, images=train.images[:4])
    detector = finetune(few, "starter", show_progress=False).with_precision("float32")
    onnx = folder / "duck.onnx"
    export_detector(detector, onnx, photos=[image.path for image in test.images[:1]])
    photos = []
    for image in test.images[:6]:
        photos.append(folder / f"{image.path.stem}.png")
        Image.open(image.path).save(photos[-1])
    return ExportedDuck(detector, onnx, photos)


def assert_same(found: list[dict[str, Any]], expected: Detections) -> None:
    """Hold what another program found, ``{"label", "score", "box"}`` each, against fewbox's own."""
    assert len(expected) > 0, "nothing to compare"
    assert [one["label"] for one in found] == [expected.labels[class_id] for class_id in expected.class_ids]
    np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-3)
    boxes = np.array([one["box"] for one in found], np.float32)
    assert np.diagonal(pairwise_iou(boxes, expected.boxes)).min() >= 0.99
