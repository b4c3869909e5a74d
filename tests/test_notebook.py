"""The notebook: it says what it should, and it runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from fewbox.models.base import load_base
from fewbox.models.weights import write_weights

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "rubber_ducks.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_holds_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_has_the_fourteen_steps(notebook: nbformat.NotebookNode) -> None:
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    steps = [text for text in texts if re.match(r"## \d", text)]
    assert [int(re.match(r"## (\d+)\. ", step)[1]) for step in steps] == list(range(1, 15))
    for step in steps:
        assert "**The original**" in step
        assert "**Here" in step


def test_the_first_cell_installs_only_what_is_missing(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = (cell.source for cell in notebook.cells if cell.id == "install")
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.chdir(NOTEBOOK.parent)
    exec(cell, {})
    assert ran == []  # it is installed
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    exec(cell, {})
    assert ran[0][-1] == f"{NOTEBOOK.parents[1]}[train,annotate,notebook]"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"no public address yet: in a clone"):
        exec(cell, {})


@pytest.mark.slow
def test_it_runs_with_nothing_to_bring(
    notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWBOX_DUCKY", str(tmp_path / "none"))
    starter = load_base("starter")
    config = starter.config.to_dict() | {"size_hw": (224, 224)}  # a quarter of the work
    header = starter.origin() | {"architecture": "yolox", "config": config}
    write_weights(tmp_path / "base.safetensors", starter.weights, "fewbox_base", header)
    monkeypatch.setenv("FEWBOX_BASE", str(tmp_path / "base.safetensors"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    codes = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    # Fewer photos and steps than a reader gets.
    codes["load"].source += "\ntest = test[:2]"
    codes["finetune"].source = codes["finetune"].source.replace("seed=0", "seed=0, steps=60")
    codes["ours-finetune"].source = codes["ours-finetune"].source.replace('"normal"', '"quick"')

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    made = ("rubber_ducks.safetensors", "rubber_ducks.gif", "rubber_ducks_loss.png")
    for name in (*made, "ours.safetensors", "ours.gif", "ours_loss.png", "report.html"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
    assert re.search(r"8 boxes, 0\.0\d pixels apart", printed(codes["annotate-arrays"]))
    assert "2 frames" in printed(codes["detect"])
    kept = printed(codes["keep"])
    assert "the same detections: True" in kept
    for number in (1, 5):  # what it learnt from is found, and rather surely: 96% and 99% here
        (line,) = re.findall(rf"'duck_0{number}\.jpg'.*", kept)
        assert max(map(int, re.findall(r"rubber_duck (\d+)%", line))) > 75
    (shown,) = codes["draw"].outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert "5 photos looked at, 8 boxes" in printed(codes["drawn"])
    assert "AP50 to expect" in printed(codes["ours-finetune"])
    seed, _, ours = re.findall(r": (\d+) of \d+ ducks found", printed(codes["compare"]))
    assert 0 < int(ours) >= int(seed)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
