"""A detector of the demo's ducks, as fewbox keeps it and as other programs run it."""

from __future__ import annotations

import shutil
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
from made_once import made_once


@dataclass(frozen=True)
class ExportedDuck:
    """The two files, and photos (PNG, since decoders of JPEG differ in the last bit)."""

    detector: Detector
    onnx: Path
    photos: list[Path]


def export_duck(folder: Path) -> ExportedDuck:
    """Copies in ``folder`` of what was learnt and exported once."""
    shutil.copytree(made_once("exported_duck", _make), folder, dirs_exist_ok=True)
    photos = sorted(folder.glob("*.png"))
    return ExportedDuck(Detector.load(folder / "duck.safetensors"), folder / "duck.onnx", photos)


def _make(folder: Path) -> None:
    """Learn, export."""
    train, test = demo_photos()
    few = replace(train, images=train.images[:4])
    detector = finetune(few, "starter", recipe="probe", show_progress=False).with_precision("float32")
    detector.save(folder / "duck.safetensors")
    export_detector(detector, folder / "duck.onnx", photos=[image.path for image in test.images[:1]])
    for image in test.images[:6]:
        Image.open(image.path).save(folder / f"{image.path.stem}.png")


def assert_same(found: list[dict[str, Any]], expected: Detections) -> None:
    """Hold what another program found, ``{"label", "score", "box"}`` each, against fewbox's own."""
    assert len(expected) > 0, "nothing to compare"
    assert [one["label"] for one in found] == expected.labels
    np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-3)
    boxes = np.array([one["box"] for one in found], np.float32)
    assert np.diagonal(pairwise_iou(boxes, expected.boxes)).min() >= 0.99
