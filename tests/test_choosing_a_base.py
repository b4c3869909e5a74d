"""Which base is started from where none is named, and who is asked before one is fetched."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

import fewbox
from fewbox import core, models
from fewbox.cli import main
from fewbox.commands import base_of
from fewbox.data import demo_photos
from fewbox.errors import DownloadError
from fewbox.models import SMALL, STARTER, ZOO, ZooEntry, cached_base_path
from fewbox.models import base as bases


class Terminal(io.StringIO):
    """What a person types, or is told."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty cache, and a network that gives a file at once; the names of what was fetched."""
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))
    names: list[str] = []

    def fetch(entry: ZooEntry, cached: Path) -> bases.BaseModel:
        names.append(entry.name)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(bases.STARTER_PATH.read_bytes())
        return bases.read_base(cached)

    monkeypatch.setattr(bases, "_fetch_and_convert", fetch)
    return names


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))

    def fail(entry: ZooEntry, _: Path) -> None:
        raise DownloadError(f"{entry.name}: no network")

    monkeypatch.setattr(bases, "_fetch_and_convert", fail)


def types(monkeypatch: pytest.MonkeyPatch, line: str) -> Terminal:
    told = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(line))
    monkeypatch.setattr("sys.stderr", told)
    return told


def test_a_script_goes_on_with_the_starter_and_is_told(
    fetched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert base_of(None) == STARTER
    assert "base model: starter; --base yolox_nano is downloaded once, 8 MB" in capsys.readouterr().err
    assert fetched == []


@pytest.mark.parametrize(("line", "base"), [("\n", SMALL), ("y\n", SMALL), ("n\n", STARTER), ("", SMALL)])
def test_a_person_is_asked(fetched: list[str], monkeypatch: pytest.MonkeyPatch, line: str, base: str) -> None:
    told = types(monkeypatch, line)
    assert base_of(None) == base
    assert "fetch the base yolox_nano (8 MB, once), which has seen real photos? [Y/n]" in told.getvalue()
    assert fetched == [SMALL] * (base == SMALL)


@pytest.mark.usefixtures("fetched")
def test_a_person_who_refused_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    types(monkeypatch, "no\n")
    assert base_of(None) == STARTER
    told = types(monkeypatch, "y\n")
    assert base_of(None) == STARTER
    assert "[Y/n]" not in told.getvalue()
    assert base_of("auto") == SMALL  # who says so on the command line gets it


def test_a_refusal_that_cannot_be_noted_counts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    types(monkeypatch, "no\n")
    assert base_of(None) == STARTER


def test_auto_fetches_without_asking_and_only_once(fetched: list[str]) -> None:
    assert base_of("auto") == base_of("auto") == base_of(None) == SMALL
    assert fetched == [SMALL]


def test_the_small_base_needs_no_torch(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "is_installed", lambda package: package != "torch")
    assert base_of("auto") == SMALL
    assert fetched == [SMALL]


def test_a_base_that_only_torch_runs_is_not_the_default_without_it(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (SMALL, "ssd_resnet50_fpn_640"):
        cached_base_path(name).parent.mkdir(parents=True, exist_ok=True)
        cached_base_path(name).write_bytes(bases.STARTER_PATH.read_bytes())
    assert base_of(None) == "ssd_resnet50_fpn_640"  # the better one
    monkeypatch.setattr(models, "is_installed", lambda package: package != "torch")
    assert base_of(None) == SMALL
    assert fetched == []


@pytest.mark.usefixtures("no_network")
def test_without_a_network_auto_is_the_starter(capsys: pytest.CaptureFixture[str]) -> None:
    assert base_of("auto") == STARTER
    told = capsys.readouterr().err
    assert "yolox_nano cannot be fetched: yolox_nano: no network" in told
    assert "base model: starter" in told


def test_a_named_base_is_taken_as_it_is() -> None:
    assert base_of("mine.onnx") == "mine.onnx"


@pytest.mark.usefixtures("no_network")
def test_from_python_auto_is_what_is_used_if_no_base_is_given() -> None:
    train, _ = demo_photos()
    detector = fewbox.finetune(train[:2], effort="quick", show_progress=False)
    assert detector.base["name"] == STARTER
    assert detector.provenance["settings"]["effort"] == "quick"


def test_bases_are_fetched_ahead(fetched: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bases", "--download", SMALL, STARTER]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{SMALL}: now in {cached_base_path(SMALL)}", f"{STARTER}: was here already"]
    assert fetched == [SMALL]
    assert main(["bases", "--download", "yolox_huge"]) == 2
    failed = capsys.readouterr().err
    assert "no base model is called yolox_huge" in failed
    assert all(name in failed for name in ZOO)


def annotated(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> str:
    """The command that "Finish" on the page of ``fewbox annotate`` stands for, with these options."""
    pytest.importorskip("uvicorn", reason="needs the page: pip install '.[annotate]'")
    from fewbox.apps.annotate.app import AnnotateServer

    commands: list[str] = []

    def run(server: AnnotateServer, **_: object) -> None:
        server.socket.close()
        commands.append(server.learner.finishing().command)

    monkeypatch.setattr(AnnotateServer, "run", run)
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    assert main(["annotate", str(folder), "--no-browser", "--no-learn", *options]) == 0
    return commands[0]


def test_without_learning_meanwhile_finish_starts_from_the_best_base_at_hand_and_nobody_is_asked(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = types(monkeypatch, "y\n")
    assert "--base starter" in annotated(monkeypatch, tmp_path)
    assert "[Y/n]" not in told.getvalue()
    assert fetched == []
    cached_base_path(SMALL).parent.mkdir(parents=True)
    cached_base_path(SMALL).write_bytes(bases.STARTER_PATH.read_bytes())
    assert f"--base {SMALL}" in annotated(monkeypatch, tmp_path)
    assert "--base starter" in annotated(monkeypatch, tmp_path, "--base", "starter")


def test_without_learning_meanwhile_auto_is_a_base_too(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert f"--base {SMALL}" in annotated(monkeypatch, tmp_path, "--base", "auto")
    assert fetched == [SMALL]
