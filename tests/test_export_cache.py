"""Exports in the cache: made behind the first answer, whole or not used, and no more than so many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from exports import detector_of, exported, noise, saved_detector
from fewbox.cli import main
from fewbox.detection import export_cache, loading
from fewbox.detection.detector import Detector
from fewbox.detection.export_cache import export_later, export_now, find_export
from fewbox.detection.loading import ExportedDetector, open_detector
from fewbox.errors import ExportError, OutputError

pytestmark = pytest.mark.usefixtures("can_export")


@pytest.fixture(autouse=True)
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of exports, in a cache of the test's own."""
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exports"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return saved_detector(tmp_path)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let exporting write a file that is there already; the list grows with every export."""
    made: list[str] = []

    def export_detector(_detector: Detector, target: Path) -> None:
        made.append(target.name)
        target.write_bytes(exported("yolox_all_novel"))

    monkeypatch.setattr("fewbox.export.export_detector", export_detector)
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of processes that would have been started; exporting unasked is allowed."""
    commands: list[list[str]] = []

    def popen(command: list[str], **_settings: object) -> None:
        commands.append(command)

    monkeypatch.setenv(export_cache.SWITCH, "1")
    monkeypatch.setattr(export_cache.subprocess, "Popen", popen)
    return commands


def test_the_second_time_the_export_answers(detector: Path, made: list[str]) -> None:
    assert isinstance(open_detector(detector, num_photos=1), Detector)
    export_now(detector)
    opened = open_detector(detector, num_photos=1)
    assert isinstance(opened, ExportedDetector)
    expected = Detector.load(detector).detect(noise((90, 120)), threshold=0.3)
    found = opened.detect(noise((90, 120)), threshold=0.3)
    assert len(found) == len(expected) > 0
    assert found.boxes == pytest.approx(expected.boxes, abs=0.01)
    assert isinstance(open_detector(detector, engine="torch", num_photos=1), Detector)
    assert made == ["detector.onnx"]


@pytest.mark.slow
def test_it_is_checked_and_done_by_the_process_that_detect_starts(
    detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(noise((90, 120))).save(photo)
    processes: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **settings: object) -> subprocess.Popen[bytes]:
        assert "1 photo" in capsys.readouterr().out  # the answer came first
        processes.append(popen(*arguments, **settings))  # type: ignore[call-overload]
        return processes[-1]

    monkeypatch.setenv(export_cache.SWITCH, "1")
    monkeypatch.setattr(export_cache.subprocess, "Popen", start)
    # So high that what differs in the last digits changes neither which boxes there are nor their order.
    asked = ["detect", str(detector), str(photo), "--threshold", "0.5", "-o"]
    assert main([*asked, str(tmp_path / "first")]) == 0
    assert processes[0].wait() == 0
    assert find_export(detector) is not None
    assert main([*asked, str(tmp_path / "second")]) == 0
    assert len(processes) == 1
    third = [*asked, str(tmp_path / "third")]
    code = f"import sys; from fewbox.cli import main; main({third}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.splitlines()[-1].split()
    first, second, last = (
        json.loads((tmp_path / name / "detections.json").read_text())["photos"][0]["detections"]
        for name in ("first", "second", "third")
    )
    assert len(first) > 10
    for found in (second, last):
        assert [one["label"] for one in found] == [one["label"] for one in first]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in first], abs=1e-3)
        for one, expected in zip(found, first, strict=True):
            assert one["box"] == pytest.approx(expected["box"], abs=0.01)


@pytest.mark.usefixtures("made")
def test_a_process_is_started_only_where_it_is_of_use(
    detector: Path, tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    export_later(detector, base="base.tar.gz")
    assert len(started) == 1
    assert started[0][-2:] == [str(detector), "base.tar.gz"]
    export_later(tmp_path / "d.onnx")
    export_later(tmp_path / "none.safetensors")
    monkeypatch.setenv(export_cache.SWITCH, "0")
    export_later(detector)
    monkeypatch.setenv(export_cache.SWITCH, "1")
    with monkeypatch.context() as without:
        without.setattr("fewbox.export.can_export", lambda: False)
        export_later(detector)
    export_now(detector)
    export_later(detector)  # there already
    assert len(started) == 1


def test_an_engine_that_was_asked_for_starts_none(
    detector: Path, tmp_path: Path, started: list[list[str]]
) -> None:
    Image.fromarray(noise((90, 120))).save(tmp_path / "photo.png")
    asked = ["detect", str(detector), str(tmp_path / "photo.png"), "-o", str(tmp_path / "found.png")]
    assert main([*asked, "--engine", "torch"]) == 0
    assert started == []
    assert main(asked) == 0
    assert len(started) == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "nothing"])
def test_a_damaged_one_is_ignored_and_made_anew(detector: Path, made: list[str], damage: str) -> None:
    kept = export_now(detector)
    assert kept is not None
    content = bytearray(kept.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    kept.write_bytes({"cut": content[:middle], "bit": content, "nothing": b""}[damage])
    assert isinstance(open_detector(detector, num_photos=1), Detector)
    assert export_now(detector) == kept
    assert isinstance(open_detector(detector, num_photos=1), ExportedDetector)
    assert len(made) == 2


def test_one_that_no_engine_opens_is_done_without(detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export_detector(_detector: Detector, target: Path) -> None:
        target.write_bytes(exported("yolox_all_novel")[:-100])

    monkeypatch.setattr("fewbox.export.export_detector", export_detector)
    assert export_now(detector) is not None
    assert isinstance(open_detector(detector, num_photos=1), Detector)


def test_what_cannot_be_exported_is_tried_once(
    detector: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(*_arguments: object) -> None:
        tries.append("one")
        raise ExportError("it does not find the same")

    monkeypatch.setattr("fewbox.export.export_detector", refuse)
    assert export_now(detector) is None
    assert export_now(detector) is None
    export_later(detector)
    assert len(tries) == 1
    assert started == []


def test_a_full_disk_is_no_reason_to_give_up(
    detector: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr("fewbox.export.export_detector", refuse)
    assert export_now(detector) is None
    export_later(detector)
    assert len(started) == 1


def test_one_at_a_time(detector: Path, made: list[str], exports: Path) -> None:
    exports.mkdir(parents=True)
    with FileLock(exports / ".lock"):
        assert export_now(detector) is None
    assert made == []
    assert export_now(detector) is not None


def test_a_damaged_detector_leaves_nothing(tmp_path: Path, exports: Path) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(b"something else")
    assert export_now(path) is None
    assert export_now(tmp_path / "none.safetensors") is None
    assert [one.name for one in exports.iterdir() if one.name != ".lock"] == []


@pytest.mark.usefixtures("made")
def test_those_used_last_are_kept(tmp_path: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_cache, "MAX_EXPORTS", 2)
    paths = []
    for number in range(3):
        detector = detector_of("yolox_all_novel")
        detector.provenance["number"] = number
        paths.append(tmp_path / f"{number}.safetensors")
        detector.save(paths[-1])
    for age, path in ((300, paths[0]), (200, paths[1])):
        kept = export_now(path)
        assert kept is not None
        os.utime(kept, (time.time() - age,) * 2)
    assert find_export(paths[0]) is not None  # used, so no longer the oldest
    half = exports / ".half-killed"
    half.mkdir()
    (half / "detector.onnx").touch()
    os.utime(half, (time.time() - 7200,) * 2)
    export_now(paths[2])
    assert [find_export(path) is not None for path in paths] == [True, False, True]
    assert not half.exists()


def test_few_photos_are_looked_at_without_torch_even_if_it_computes_in_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.safetensors"
    detector_of("yolox_all_novel").with_precision("bfloat16").save(path)

    def export_detector(_detector: Detector, target: Path) -> None:
        target.write_bytes(exported("yolox_all_novel").replace(b'"float32"', b'"rounded"'))

    monkeypatch.setattr("fewbox.export.export_detector", export_detector)
    export_now(path)
    few = open_detector(path, num_photos=loading.FEW_PHOTOS)
    assert isinstance(few, ExportedDetector)
    assert few.engine.name == "onnxruntime"
    monkeypatch.setattr(loading, "EXPORT_ENGINES", ("onnxruntime",))
    assert isinstance(open_detector(path, num_photos=loading.FEW_PHOTOS + 1), Detector)
    assert isinstance(open_detector(path), Detector)
