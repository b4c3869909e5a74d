"""What was written or set when fewbox was called goldeneye still works; no text installs by name."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import onnx
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fewbox
from exports import detector_of, exported
from fewbox import cli
from fewbox.apps.batch.manifest import open_manifest
from fewbox.apps.batch.shards import Storage
from fewbox.core.files import cache_folder
from fewbox.detection.detector import Detector
from fewbox.runtimes import read_onnx_header, read_openvino_header

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_detector_from_before_opens(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    detector_of("ssd").save(path)
    with safe_open(path, framework="pt") as file:
        metadata = {key.replace("fewbox", "goldeneye"): text for key, text in file.metadata().items()}
    assert list(metadata) == ["goldeneye_detector"]
    save_file(load_file(path), tmp_path / "old.safetensors", metadata=metadata)
    assert Detector.load(tmp_path / "old.safetensors").labels == ("cup", "lid", "spoon")


@pytest.mark.slow
def test_an_export_from_before_opens(tmp_path: Path) -> None:
    model = onnx.load_from_string(exported("ssd"))
    entry = next(entry for entry in model.metadata_props if entry.key == "fewbox")
    entry.key, entry.value = "goldeneye", entry.value.replace("fewbox_version", "goldeneye_version")
    onnx.save(model, tmp_path / "old.onnx")
    header = read_onnx_header(tmp_path / "old.onnx")
    assert header["labels"] == ["cup", "lid", "spoon"]
    assert header["fewbox_version"] == fewbox.__version__
    assert fewbox.open_detector(tmp_path / "old.onnx").labels == ("cup", "lid", "spoon")


def test_an_export_for_openvino_from_before_opens(tmp_path: Path) -> None:
    header = {"format_version": 1, "goldeneye_version": "0.1.0", "labels": ["cup"]}
    text = json.dumps(header).replace('"', "&quot;")
    (tmp_path / "old.xml").write_text(f'<net><rt_info><goldeneye value="{text}"/></rt_info></net>')
    read = read_openvino_header(tmp_path / "old.xml")
    assert (read["labels"], read["fewbox_version"]) == (["cup"], "0.1.0")


def test_a_run_from_before_goes_on(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    begun = open_manifest(storage, ("d.onnx", b"..."), 0.5, ["a.jpg"], 1, 1, {})
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"fewbox"', '"goldeneye"'))
    assert '"goldeneye"' in path.read_text()
    assert open_manifest(storage, ("d.onnx", b"..."), 0.5, ["a.jpg"], 1, 1, {}) == begun


def test_the_old_environment_variables_work_and_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWBOX_CACHE", raising=False)
    monkeypatch.setenv("GOLDENEYE_CACHE", str(tmp_path / "old"))
    with pytest.warns(FutureWarning, match="GOLDENEYE_CACHE is now called FEWBOX_CACHE"):
        assert cache_folder() == tmp_path / "old"
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "new"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache_folder() == tmp_path / "new"


def test_the_old_name_of_the_error_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="FewboxError"):
        assert fewbox.GoldeneyeError is fewbox.FewboxError


def test_the_command_is_called_fewbox(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"fewbox {fewbox.__version__}\n"


def test_no_text_installs_the_package_by_name() -> None:
    """Nothing is published under our name yet, and the former name is somebody else's."""
    by_name = re.compile(r"pip install [^;#`\n]*\b(fewbox|goldeneye)\b")
    texts = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*.*"),
    ]
    texts += [path for path in ROOT.glob("src/**/*") if path.suffix in {".py", ".js", ".html"}]
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in texts
        for found in by_name.finditer(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
