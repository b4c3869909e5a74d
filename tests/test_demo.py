"""The demo, on fewer and smaller photos than a person gets."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from goldeneye import demo
from goldeneye.cli import main
from goldeneye.data.rendered import render_ducks


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        demo, "render_ducks", partial(render_ducks, num_train=3, num_test=8, size_hw=(240, 320))
    )


@pytest.mark.shared
def test_it_finds_ducks_and_leaves_pictures(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo"
    arguments = ["demo", "-o", str(output), "--base", str(shared / "weights/yolox_nano_coco.onnx")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    figures = json.loads((output / "figures.json").read_text())
    assert f"found {figures['found']} of {figures['ducks']} ducks" in printed
    assert figures["found"] >= 0.4 * figures["ducks"]
    assert Image.open(output / "contact_sheet.png").width > 1000
    assert Image.open(output / "ducks.gif").n_frames >= 7
    assert main(arguments) == 0  # an earlier demo is replaced


def test_without_a_base_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 2
    message = capsys.readouterr().err
    assert "no base model in the cache" in message
    assert "--base yolox_nano" in message
    assert not (tmp_path / "demo").exists()


@pytest.mark.shared
def test_it_replaces_nothing_but_a_demo(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    base = str(shared / "weights/yolox_nano_coco.onnx")
    assert main(["demo", "-o", str(tmp_path), "--base", base]) == 2
    assert "is no folder of an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()
