"""Detectors of every kind of network, made in a moment, and photos of noise for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewbox.detection.detector import Detector
from fewbox.export import export_detector
from fewbox.models.families import Config
from fewbox.models.layers import BLOCKS_PER_STAGE
from made_once import made_once
from tiny import tiny_base, tiny_config
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config
from tiny_yolox import random_yolox, tiny_yolox_config

KINDS = ("yolox_all_novel", "yolox_with_novel", "ssd", "retinanet_v2")


@contextmanager
def shallow() -> Iterator[None]:
    """Within it a ResNet-50 is built of 5 blocks, one of them without a projection, not of 16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCKS_PER_STAGE, 50, (2, 1, 1, 1))
        yield


def detector_of(kind: str) -> Detector:
    """A detector with random weights for three classes."""
    if kind.startswith("yolox"):
        num_novel = 3 if kind == "yolox_all_novel" else 2
        config = replace(tiny_yolox_config(), num_novel=num_novel, vote_iou=0.5)
        return wrap(config, random_yolox(config).state_dict())
    if kind == "ssd":
        base = tiny_base(tiny_config(side=96))
        return wrap(base.config, base.weights)
    config = replace(tiny_retinanet_config(VERSIONS[kind.removeprefix("retinanet_")]), tower_layers=1)
    with shallow():
        detector = wrap(config, random_retinanet(config).state_dict())
        assert detector.network is not None  # built here, and kept
    return detector


def saved_detector(folder: Path) -> Path:
    """The file of one of new classes alone."""
    path = folder / "d.safetensors"
    detector_of("yolox_all_novel").save(path)
    return path


def exported(kind: str) -> bytes:
    """The ONNX file of a detector, made once for all tests."""

    def make(folder: Path) -> None:
        detector = detector_of(kind)
        with shallow() if kind.startswith("retinanet") else nullcontext():
            agreement = export_detector(detector, folder / "d.onnx", photos=save_noise(folder))
        assert agreement.num_photos == 2

    return (made_once(f"exported_{kind}", make) / "d.onnx").read_bytes()


def wrap(config: Config, weights: dict[str, torch.Tensor]) -> Detector:
    return Detector(
        config=config,
        weights=weights,
        labels=("cup", "lid", "spoon"),
        base={"name": "tiny", "licence": "none"},
        provenance={"recipe": "none", "photos": [{"name": "a.jpg", "boxes": 2}]},
    )


def noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Blurred noise, so that every size of things is in it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-size_hw[0] // 8), -(-size_hw[1] // 8), 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize(size_hw[::-1], Image.Resampling.BICUBIC), np.int16)
    return (large + rng.integers(-20, 20, large.shape)).clip(0, 255).astype(np.uint8)


def save_noise(folder: Path, count: int = 2) -> Path:
    for number in range(count):
        Image.fromarray(noise((90 + 30 * number, 140), number)).save(folder / f"noise{number}.png")
    return folder
