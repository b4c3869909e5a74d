"""A detector of the demo's ducks, as fewbox keeps it and as other programs run it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewbox.apps import openvino_export
from fewbox.core.boxes import pairwise_iou
from fewbox.data import demo_photos
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.export_cache import keep_export
from fewbox.export import export_detector
from fewbox.finetuning import finetune
from fewbox.models.weights import hash_weights
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


def keep_in_cache(duck: ExportedDuck, file: Path) -> Path:
    """The export of the duck's ``file`` where fewbox looks for it, as after the first ``fewbox detect``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewbox.export.export_detector", lambda _, target: shutil.copy(duck.onnx, target))
        return keep_export(file, duck.detector)


def openvino_duck(duck: ExportedDuck) -> Path:
    """The duck's file for OpenVINO, ``duck.xml``; its weights are beside it."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            export_once(patch, duck)
            openvino_export.export_openvino(duck.detector, folder / "duck.xml", photos=duck.photos[:1])

    return made_once("openvino_duck", make) / "duck.xml"


def export_once(patch: pytest.MonkeyPatch, duck: ExportedDuck) -> None:
    """Have what is made for OpenVINO begin from the ONNX file of the duck that is there."""

    def export(detector: Detector, target: Path, *, photos: object) -> None:  # noqa: ARG001
        assert hash_weights(detector.weights) == hash_weights(duck.detector.weights)
        shutil.copy(duck.onnx, target)

    patch.setattr(openvino_export, "export_detector", export)


def quantize_once(patch: pytest.MonkeyPatch) -> None:
    """Have NNCF round the export of the duck to int8 once for all tests; nothing else is exported in int8.

    Most of its time goes into looking through the graph, which is the same whatever photos it is fitted to.
    """
    really_quantize = openvino_export.quantize

    def quantize(model: Any, photos: Sequence[NDArray[np.uint8]]) -> Any:
        def make(folder: Path) -> None:
            openvino_export.save_model(really_quantize(model, photos), {}, folder / "duck.xml")

        return openvino_export.read_onnx(made_once("int8_duck", make) / "duck.xml")

    patch.setattr(openvino_export, "quantize", quantize)


def assert_same(found: list[dict[str, Any]], expected: Detections) -> None:
    """Hold what another program found, ``{"label", "score", "box"}`` each, against fewbox's own."""
    assert len(expected) > 0, "nothing to compare"
    assert [one["label"] for one in found] == expected.labels
    np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-3)
    boxes = np.array([one["box"] for one in found], np.float32)
    assert np.diagonal(pairwise_iou(boxes, expected.boxes)).min() >= 0.99
