"""A new family of networks is a folder and a line: one made up here learns, is exported and evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fewbox
from fewbox.models import families
from tiny import make_base
from toy_family import ToyConfig
from toy_family.network import ToyNetwork

CELL = 20  # pixels of a photo; the network sees 16


@pytest.fixture(autouse=True)
def _a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", ("toy_family", *families.FAMILIES))


def photo_of_tiles(folder: Path, number: int) -> fewbox.AnnotatedImage:
    """Grey noise with a red and a blue tile in two of its 16 cells."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(90, 150, (4 * CELL, 4 * CELL, 3), dtype=np.uint8)
    boxes = []
    for cell, (label, colour) in zip(
        rng.permutation(16)[:2], (("red tile", (220, 30, 30)), ("blue tile", (30, 30, 220))), strict=True
    ):
        y, x = (int(side) * CELL for side in divmod(cell, 4))
        pixels[y : y + CELL, x : x + CELL] = colour
        boxes.append(fewbox.Box(x, y, x + CELL, y + CELL, label))
    path = folder / f"{number}.png"
    Image.fromarray(pixels).save(path)
    return fewbox.AnnotatedImage(path, (4 * CELL, 4 * CELL), tuple(boxes), reviewed=True)


@pytest.mark.slow
def test_a_toy_family_learns_is_exported_and_evaluated(tmp_path: Path) -> None:
    photos = [photo_of_tiles(tmp_path, number) for number in range(12)]
    labels = ("red tile", "blue tile")
    train = fewbox.AnnotationSet(tuple(photos[:6]), labels, "made up")
    test = fewbox.AnnotationSet(tuple(photos[6:]), labels, "made up")
    torch.manual_seed(0)
    base = make_base(ToyConfig(), ToyNetwork(ToyConfig()).state_dict())

    detector = fewbox.finetune(train, base, show_progress=False)
    detector.save(tmp_path / "tiles.safetensors")
    again = fewbox.Detector.load(tmp_path / "tiles.safetensors")
    assert fewbox.evaluate(again, test, show_progress=False).metrics.ap50 == 1.0

    pytest.importorskip("onnxscript", reason="needs what exports detectors: pip install '.[train]'")
    agreement = fewbox.export_detector(
        again, tmp_path / "tiles.onnx", photos=[photo.path for photo in photos]
    )
    assert agreement.num_boxes >= 12
    exported = fewbox.open_detector(tmp_path / "tiles.onnx")
    assert fewbox.evaluate(exported, test, show_progress=False).metrics.ap50 == 1.0


def test_what_a_family_does_not_offer_is_refused(tmp_path: Path) -> None:
    from fewbox.finetuning.deep import finetune_deep
    from fewbox.models.device import process_group

    photo = photo_of_tiles(tmp_path, 0)
    annotations = fewbox.AnnotationSet((photo,), ("red tile", "blue tile"), "made up")
    base = make_base(ToyConfig(), ToyNetwork(ToyConfig()).state_dict())
    with process_group() as group, pytest.raises(fewbox.FewboxError, match="deep fine-tuning is for a YOLOX"):
        finetune_deep(annotations, base, tmp_path / "c.pt", group)
