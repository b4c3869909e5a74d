"""A base model detects as it is: by its name, or by its official file."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fewbox
from fewbox.cli import main
from fewbox.detection.loading import names_base
from fewbox.errors import DetectorFileError, SettingError
from fewbox.models import COCO_LABELS, ZOO
from fewbox.models.base import STARTER_PATH
from fewbox.models.yolox import YOLOX_SIZES
from tiny_yolox import random_yolox

PHOTOS = 6


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as YOLOX publishes them, with random weights."""
    path = tmp_path_factory.mktemp("official") / "yolox_nano.pth"
    torch.save({"model": random_yolox(YOLOX_SIZES["nano"]).state_dict()}, path)
    return path


@pytest.mark.slow
def test_an_official_file_finds_the_classes_of_coco(pth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = fewbox.open_detector(pth)
    assert detector.labels == COCO_LABELS
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    assert len(detector.detect(photo, threshold=0.0)) > 0
    assert main(["show", str(pth), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == list(COCO_LABELS)
    assert main(["show", str(pth)]) == 0
    told = capsys.readouterr()
    assert "a base model, with the classes that it was trained on" in told.out
    assert "yolox_nano.pth: has as many classes as COCO" in told.err


@pytest.mark.slow
def test_a_base_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fewbox.data import DEMO_FOLDER

    photo = sorted((DEMO_FOLDER / "test").glob("*.jpg"))[0]
    assert main(["detect", "starter", str(photo), "-o", str(tmp_path / "found")]) == 0
    assert json.loads((tmp_path / "found/detections.json").read_text())["labels"][0] == "starter class 0"
    assert main(["detect", "startr", str(photo), "-o", str(tmp_path / "found")]) == 2
    assert "startr: no such file, and no base model of this name" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "onnxruntime:cuda"])
def test_an_engine_that_no_base_runs_in_is_refused_with_the_cure(engine: str) -> None:
    with pytest.raises(SettingError) as refused:
        fewbox.open_detector("starter", engine=engine)
    assert refused.value.message == f"starter: a base model runs in torch, not in {engine}"
    export = "fewbox export starter starter_exported.onnx"
    assert refused.value.hint == f"leave --engine out, or run its export: {export}"


def test_a_file_that_is_called_like_a_base_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_base(Path("yolox_nano"))
    Path("yolox_nano").write_bytes(b"no detector")
    assert not names_base(Path("yolox_nano"))
    with pytest.raises(DetectorFileError):
        fewbox.open_detector("yolox_nano")


def test_what_base_takes_is_known_as_a_base(tmp_path: Path) -> None:
    for name in ("ckpt-0.index", "ckpt-0.data-00000-of-00001", "zoo.tar", "zoo.TAR.GZ", "nano.PTH"):
        (tmp_path / name).write_bytes(b"")
        assert names_base(tmp_path / name), name
    assert names_base(tmp_path / "ckpt-0")
    assert not names_base(tmp_path / "ckpt-1")
    assert not names_base(tmp_path / "duck.safetensors")


def test_a_converted_base_is_known_whatever_it_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "my_base.safetensors"
    shutil.copy(STARTER_PATH, own)
    assert main(["show", str(own), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][0] == "starter class 0"
    assert fewbox.open_detector(own).labels == fewbox.open_detector("starter").labels
    own.write_bytes(own.read_bytes()[:-1])
    with pytest.raises(DetectorFileError, match="not a safetensors file, or damaged"):
        fewbox.open_detector(own)


@pytest.mark.slow
@pytest.mark.shared
def test_an_official_graph_whose_name_ends_in_capitals(shared: Path, tmp_path: Path) -> None:
    graph = tmp_path / "NANO.ONNX"
    graph.write_bytes((shared / "weights/yolox_nano_coco.onnx").read_bytes())
    assert fewbox.load_base(graph).config.num_classes == len(COCO_LABELS)


@pytest.mark.slow
@pytest.mark.shared
def test_coco_weights_find_what_coco_photos_show(shared: Path) -> None:
    """The official graph, on photos of COCO's validation set: most boxes are there."""
    weights = shared / "weights/yolox_nano_coco.onnx"
    folder = shared / "data/coco128_val"
    truth = fewbox.read_annotations(folder / "labels_yolo", folder / "images")[:PHOTOS]
    evaluation = fewbox.evaluate(fewbox.open_detector(weights), truth, show_progress=False)
    assert evaluation.metrics.ap50 > 0.3


def test_an_official_file_is_known_whatever_it_is_called(
    pth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))
    renamed = tmp_path / "download(1).pth"
    renamed.write_bytes(pth.read_bytes())
    sha256 = hashlib.sha256(pth.read_bytes()).hexdigest()
    monkeypatch.setitem(ZOO, "yolox_nano", replace(ZOO["yolox_nano"], sha256="0" * 64, onnx_sha256=sha256))
    base = fewbox.load_base(renamed)
    assert (base.name, base.licence, base.source) == ("yolox_nano", "Apache-2.0 (YOLOX)", "download(1).pth")
    assert base.class_labels() == COCO_LABELS
    assert not capsys.readouterr().err
    assert replace(base, source_sha256="1" * 64).class_labels() == COCO_LABELS
    told = "download(1).pth: has as many classes as COCO, so they get COCO's names, which may not be theirs"
    assert " ".join(capsys.readouterr().err.split()) == told
