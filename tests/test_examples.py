"""The scripts in ``examples`` run as they stand."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

import fewbox
from fewbox.data import demo_photos
from fewbox.detection.detector import Detector
from made_once import ROOT


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting", "in_float32")
def test_learn_and_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("supervision", "pycocotools"):
        pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    script, folder, out = ROOT / "examples/learn_and_test.py", tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    some = demo_photos()[1][:6]
    for image in some:
        shutil.copy(image.path, folder)
    fewbox.write_coco(some, tmp_path / "boxes.json")
    monkeypatch.setenv("FEWBOX_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", list(map(str, (script, folder, tmp_path / "boxes.json", out))))
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    by_fewbox = re.search(r"AP50[^0-9]*(\d+(?:\.\d+)?)", printed)
    by_pycocotools = re.search(r"IoU=0\.50 +\| area= +all .*= (\d\.\d+)", printed)
    assert by_fewbox is not None, printed
    assert by_pycocotools is not None, printed
    assert float(by_pycocotools[1]) > 0.5
    assert Detector.load(out / "detector.safetensors").labels
    pictures = sorted(out.glob("*.jpg"))
    assert pictures
    photo = folder / pictures[0].name
    with Image.open(pictures[0]) as drawn, Image.open(photo) as plain:
        assert drawn.size == plain.size
        assert drawn.tobytes() != plain.convert("RGB").tobytes()
