"""The demo, on fewer photos than a person gets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fewbox.cli import main
from fewbox.commands import demo
from fewbox.data import demo_photos
from fewbox.models import cached_base_path
from fewbox.models.base import convert_base


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = demo_photos()
    monkeypatch.setattr(demo, "demo_photos", lambda: (train, replace(test, images=test.images[:8])))


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting", "in_float32")
def test_it_needs_nothing_and_finds_ducks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    assert main(["demo", "-o", str(output)]) == 0
    printed = capsys.readouterr()
    assert "base model: starter, the best one at hand" in printed.err
    figures = json.loads((output / "figures.json").read_text())
    assert f"found {figures['found']} of {figures['ducks']} ducks" in printed.out
    kinds = figures["false_alarm_kinds"]
    assert sum(kinds.values()) == figures["false_alarms"]
    assert (f"{kinds['background']} on the background" in printed.out) == (kinds["background"] > 0)
    assert figures["found"] >= 0.5 * figures["ducks"]
    shown = json.loads((output / "found" / "detections.json").read_text())["photos"]
    assert sum(len(photo["detections"]) for photo in shown) == figures["found"] + figures["false_alarms"]
    assert "duck.safetensors" in (output / "report.html").read_text()
    assert Image.open(output / "contact_sheet.png").width > 1000
    assert Image.open(output / "ducks.gif").n_frames >= 7
    demo._make_room(output)  # all of it is known as a demo's, so a second one replaces it
    assert not any(output.iterdir())


@pytest.mark.slow
def test_it_speaks_before_it_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom fewbox.cli import main\nfrom fewbox.core.progress import console\n"
        "console.print = lambda text: sys.exit(f'{text}; torch: {\"torch\" in sys.modules}')\n"
        f"main(['demo', '-o', {str(tmp_path / 'demo')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "5 photos of rubber ducks to learn from, 40 to look in; torch: False"
    assert done.stderr.strip() == expected


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.usefixtures("short_adapting", "in_float32")
def test_a_coco_base_in_the_cache_is_used(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an earlier demo is replaced."""
    few = [replace(photos, images=photos.images[:2]) for photos in demo_photos()]
    monkeypatch.setattr(demo, "demo_photos", lambda: few)
    earlier = tmp_path / "demo/found/.duck_40.4711.tmp.jpg"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    archive, cached = shared / "weights/yolox_nano_coco.onnx", cached_base_path("yolox_nano")
    convert_base(archive, cached, name="yolox_nano", source="test", source_sha256="0", licence="Apache-2.0")
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    assert "base model: yolox_nano, the best one at hand" in capsys.readouterr().err
    assert (tmp_path / "demo/report.html").exists()
    assert not earlier.exists()


def test_it_replaces_nothing_but_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "is no folder of an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("theirs", ["photos/train/cup.jpg", "photos/train/annotations.json", "found/cup.jpg"])
def test_a_folder_laid_out_like_a_demo_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """Photos of one's own often lie in ``photos/train`` too."""
    monkeypatch.setattr("fewbox.finetuning.finetune", lambda *_: pytest.fail("went on"))
    for name in ("photos/train/duck_01.jpg", theirs):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("years of work")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert f"is no folder of an earlier demo: {theirs}" in capsys.readouterr().err
    assert (tmp_path / theirs).read_text() == "years of work"


def test_a_demo_that_was_killed_is_replaced(tmp_path: Path) -> None:
    left = ["photos/train/duck_01.jpg", "photos/train/boxes.json", "found/.duck_07.4711.tmp.jpg", "ducks.gif"]
    for name in left:
        (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / name).touch()
    demo._make_room(tmp_path / "demo")
    assert not list((tmp_path / "demo").iterdir())


def test_a_demo_in_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "detections.json").touch()
    demo._make_room(Path())
    assert not list(tmp_path.iterdir())
