"""The notebook: it says what it should, and it runs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from fewbox.models.base import BaseModel
from fewbox.models.weights import write_weights

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "rubber_ducks.ipynb"
FRAMES = ("out1.jpg", "out7.jpg", "out25.jpg")


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
    steps = [text for text in texts if text.startswith("## ")]
    assert [int(re.match(r"## (\d+)\. ", step)[1]) for step in steps] == list(range(1, 15))
    for step in steps:
        assert "**The original**" in step
        assert "**Here" in step


@pytest.mark.slow
@pytest.mark.shared
def test_it_runs(
    notebook: nbformat.NotebookNode,
    shared: Path,
    golden_base: BaseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ducky = tmp_path / "ducky"
    (ducky / "test").mkdir(parents=True)
    (ducky / "train").symlink_to(shared / "data/ducky/train")
    (ducky / "train_boxes.csv").symlink_to(shared / "data/ducky/train_boxes.csv")
    for frame in FRAMES:
        (ducky / "test" / frame).symlink_to(shared / "data/ducky/test" / frame)
    monkeypatch.setenv("FEWBOX_DUCKY", str(ducky))
    # A quarter of the base's own input: it has to learn five photos, and is to look at 15.
    config = golden_base.config.to_dict() | {"size_hw": (320, 320)}
    header = golden_base.origin() | {"architecture": "ssd_resnet_fpn", "config": config}
    write_weights(tmp_path / "base.safetensors", golden_base.weights, "fewbox_base", header)
    monkeypatch.setenv("FEWBOX_BASE", str(tmp_path / "base.safetensors"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    for name in ("rubber_ducks.safetensors", "rubber_ducks.gif", "rubber_ducks_loss.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
    codes = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    assert "the same boxes: True" in printed(codes["annotate-arrays"])
    assert "3 frames" in printed(codes["detect"])
    last = printed(notebook.cells[-1])
    assert "the same detections: True" in last
    for number in range(1, 6):  # each duck it learnt from is found, and with certainty
        assert re.search(rf"'robertducky{number}\.jpg'.*: rubber_ducky \d+%\)", last)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
