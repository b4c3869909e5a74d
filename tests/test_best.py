"""The recipe ``best``, on small random networks and, where they are, on real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from goldeneye.config import FinetuneConfig
from goldeneye.detect.detector import Detector
from goldeneye.finetuning.best import novel_config, reader_of
from goldeneye.finetuning.logistic import Coefficients
from goldeneye.finetuning.novel_head import logits_of
from goldeneye.finetuning.trainer import finetune
from goldeneye.models.architectures import build_network
from goldeneye.models.base import BaseModel
from test_finetuning import make_base, make_photos
from tiny import tiny_base
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config
from tiny_yolox import random_yolox, tiny_yolox_config

QUICK = FinetuneConfig(effort="quick")


def yolox_base() -> BaseModel:
    config = tiny_yolox_config()
    return make_base(config, random_yolox(config).state_dict())


def retinanet_base() -> BaseModel:
    config = tiny_retinanet_config(VERSIONS["v1"])
    return make_base(config, random_retinanet(config).state_dict())


BASES = {"ssd": tiny_base, "retinanet": retinanet_base, "yolox": yolox_base}


@pytest.mark.parametrize("kind", BASES)
def test_a_head_gives_the_logits_of_the_evidence(kind: str) -> None:
    """What was learnt on evidence and what the detector computes are the same numbers."""
    base = BASES[kind]()
    network = build_network(base.config, base.weights)
    reader = reader_of(network)
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    evidence = reader.read(image)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    num_columns, width = evidence.aligned.shape[1], evidence.raw.shape[1]
    learnt = Coefficients(draw(num_columns, 2), draw(reader.num_groups, width, 2), draw(2))
    config = novel_config(base.config, 2, keep_classes=False)
    detector = Detector(
        config=config,
        weights={**base.weights, **reader.head(learnt, keep_classes=False)}
        if kind != "yolox"
        else {n: w for n, w in base.weights.items() if "cls_preds" not in n and "obj_preds" not in n}
        | reader.head(learnt, keep_classes=False),
        labels=("a", "b"),
        base=base.origin(),
        provenance={},
    )
    _, logits = detector.network(detector.network.batch_of([image]))  # type: ignore[operator]
    torch.testing.assert_close(logits[0, :, -2:], logits_of(learnt, evidence), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", BASES)
def test_it_learns_what_it_was_shown(tmp_path: Path, kind: str) -> None:
    photos = make_photos(tmp_path, count=3)
    base = BASES[kind]()
    detector = finetune(photos, base, config=QUICK, show_progress=False)
    assert detector.history[-1]["total"] < 0.85 * detector.history[0]["total"]
    detector.save(tmp_path / "d.safetensors", heads_only=True)
    loaded = Detector.load(tmp_path / "d.safetensors", base=base)
    found, again = (d.detect(photos.images[0].path, score_threshold=0.01) for d in (detector, loaded))
    assert len(found) > 0
    assert np.array_equal(found.boxes, again.boxes)
    assert np.array_equal(found.scores, again.scores)


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, count=3)
    first, second = (finetune(photos, yolox_base(), config=QUICK, show_progress=False) for _ in range(2))
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
