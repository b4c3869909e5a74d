"""A cache that is somebody else's, to be read at the most: it is of use as far as it goes, and stops nothing.

As of a container image with a cache in it that runs as another user, or of ``sudo -u``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import openvino
import pytest
import torch

from exports import exported, noise, saved_detector
from fewbox.apps.openvino_export import save_model
from fewbox.data.images import find_photos
from fewbox.detection.detector import Detector
from fewbox.detection.export_cache import export_now
from fewbox.detection.loading import ExportedDetector, open_detector
from fewbox.errors import OutputError
from fewbox.models import STARTER, default_base
from fewbox.models.base import best_or_fetched, find_base, load_base
from fewbox.models.yolox import YOLOX_SIZES
from fewbox.runtimes import read_onnx_header
from fewbox.runtimes.openvino import openvino_core
from tiny_yolox import random_yolox


def denied(*_arguments: object, **_settings: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return saved_detector(tmp_path)


@pytest.fixture
def unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of which the system tells nothing, whoever asks: its name is too long."""
    cache = tmp_path / (300 * "c")
    monkeypatch.setenv("FEWBOX_CACHE", str(cache))
    return cache


@pytest.mark.usefixtures("can_export")
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_an_export_that_may_only_be_read_answers(
    detector: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "fewbox.export.export_detector", lambda _, target: target.write_bytes(exported("yolox_all_novel"))
    )
    assert export_now(detector) is not None
    for change in ("utime", "unlink", "mkdir"):
        monkeypatch.setattr(os, change, denied)
    assert isinstance(open_detector(detector, engine=engine, num_photos=1), ExportedDetector)


def test_what_openvino_can_neither_read_nor_replace_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.onnx").write_bytes(exported("yolox_all_novel"))
    header = read_onnx_header(tmp_path / "d.onnx")
    save_model(openvino_core().read_model(tmp_path / "d.onnx"), header, tmp_path / "d.xml")
    compile_model = openvino.Core.compile_model

    def without_cache(core: Any, model: Any, device: str, settings: dict[str, str]) -> Any:
        if "CACHE_DIR" in settings:  # as OpenVINO 2025 says it
            raise RuntimeError("filesystem error: cannot remove: Permission denied")
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", without_cache)
    opened = open_detector(tmp_path / "d.xml")
    assert len(opened.detect(noise((90, 120)), threshold=0.0)) > 0


def test_a_cache_that_nobody_may_look_into_is_empty(detector: Path, unseen: Path) -> None:
    opened = open_detector(detector, num_photos=1)
    assert isinstance(opened, Detector)
    assert len(opened.detect(noise((90, 120)), threshold=0.3)) > 0
    assert find_base("not there") is None
    assert default_base() == STARTER
    with pytest.raises(OutputError, match="yolox_nano") as refused:
        load_base("yolox_nano")
    assert str(unseen) in refused.value.message


def test_auto_is_the_starter_where_nothing_can_be_fetched_to(
    unseen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert best_or_fetched() == STARTER
    assert f"cannot be fetched: {unseen}" in capsys.readouterr().err
    with pytest.raises(OutputError) as refused:
        load_base("yolox_nano")
    assert "FEWBOX_CACHE" in str(refused.value.hint)


@pytest.mark.slow
@pytest.mark.usefixtures("unseen")
def test_a_base_that_cannot_be_kept_is_converted_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In capitals, as some systems write them.
    torch.save({"model": random_yolox(YOLOX_SIZES["nano"]).state_dict()}, tmp_path / "NANO.PTH")
    assert load_base(tmp_path / "NANO.PTH", batch_norm_eps=1e-4).config.norm_epsilon == 1e-4
    told = capsys.readouterr().err.replace("\n", " ")
    assert "NANO is converted each time it is used" in told
    assert "FEWBOX_CACHE" in told


def test_a_photo_at_an_address_is_refused_in_words(unseen: Path) -> None:
    with pytest.raises(OutputError) as refused:
        find_photos("https://example.org/cup.jpg")
    assert str(unseen) in refused.value.message
