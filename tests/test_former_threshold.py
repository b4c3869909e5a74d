"""``threshold`` was called ``score_threshold``: every public call still takes it, with a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbox
from fewbox.apps.batch import detect_batch
from fewbox.detection.detector import Detector
from fewbox.detection.folder import detect_folder
from fewbox.detection.photo_detector import TiledDetector
from fewbox.errors import DetectorFileError, SettingError
from fewbox.evaluation import Evaluation
from tiny import make_photos, tiny_base

BASE = tiny_base()


def a_detector(**threshold: float) -> Detector:
    labels, base = ("square", "b", "c"), BASE.origin()
    return Detector(
        config=BASE.config, weights=BASE.weights, labels=labels, base=base, provenance={}, **threshold
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("former")
    make_photos(folder)
    a_detector().save(folder / "d.safetensors")
    return folder


def a_film(folder: Path, threshold: dict[str, float]) -> None:
    pytest.importorskip("av", reason="needs the extra fewbox[video]")
    from fewbox.video import detect_video

    detect_video(folder / "d.safetensors", folder, folder / "found.mp4", **threshold)


# Each refuses a threshold of 30, whatever its name.
CALLS: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "PhotoDetector.detect": lambda folder, given: a_detector().detect(folder / "photo0.png", **given),
    "Detections.above": lambda folder, given: a_detector().detect(folder / "photo0.png").above(**given),
    "Tracker": lambda _, given: fewbox.Tracker(**given),
    "detect_folder": lambda folder, given: detect_folder(
        folder / "d.safetensors", folder, folder / "found", **given
    ),
    "detect_batch": lambda folder, given: detect_batch(
        folder / "d.safetensors", folder, folder / "many", cluster="processes", **given
    ),
    "detect_video": a_film,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_takes_its_former_name(folder: Path, name: str) -> None:
    with (
        pytest.warns(DeprecationWarning, match=f"score_threshold of {name}.* is now called threshold"),
        pytest.raises(SettingError, match="from 0 to 1: 30"),
    ):
        CALLS[name](folder, {"score_threshold": 30})
    with pytest.raises(SettingError, match="from 0 to 1: 30"):
        CALLS[name](folder, {"threshold": 30})


def test_a_detector_is_made_with_its_former_name() -> None:
    with pytest.warns(DeprecationWarning, match="now called threshold"):
        assert a_detector(score_threshold=0.25).threshold == 0.25
    with pytest.raises(TypeError, match="under both of its names"):
        a_detector(score_threshold=0.25, threshold=0.25)


@pytest.mark.parametrize("wrong", [5, float("nan"), True, "0.5", None])
def test_a_detector_keeps_no_threshold_but_one_from_0_to_1(wrong: Any) -> None:
    """What it keeps is saved, exported and served."""
    detector = a_detector(threshold=np.float32(0.25))
    assert type(detector.threshold) is float
    with pytest.raises(SettingError, match="the threshold must be a number from 0 to 1: ") as error:
        detector.threshold = wrong
    assert ("no threshold is enough" in str(error.value)) == (wrong is None)
    with pytest.raises(SettingError, match="the threshold must be"):
        a_detector(threshold=wrong)
    assert detector.threshold == 0.25


def test_a_detector_keeps_a_label_for_each_class() -> None:
    detector = a_detector()
    detector.labels = ["x", "y", "z"]
    assert detector.labels == ("x", "y", "z")
    wrong: tuple[Any, ...] = ("xyz", [1, 2, 3], [None] * 3, None, 5, {"x": 0, "y": 1, "z": 2}, set("xyz"))
    for labels in wrong:
        with pytest.raises(SettingError, match=r"list of texts|a label is a text") as error:
            detector.labels = labels
        assert error.value.hint
    with pytest.raises(SettingError, match="3 classes, but 2 labels\nhint: give each class one name"):
        detector.labels = ("x", "y")
    with pytest.raises(SettingError, match="3 classes, but 4 labels"):
        TiledDetector(detector, 2).labels = tuple("xyzz")
    for alike, told in (
        (["x", "y", "x"], "two classes"),
        (["x", " ", "z"], "empty"),
        (["x", "a\nb", "z"], "break"),
    ):
        with pytest.raises(SettingError, match=told):
            detector.labels = alike
    assert detector.labels == ("x", "y", "z")


def test_a_file_with_one_label_for_two_classes_still_opens(tmp_path: Path) -> None:
    detector = a_detector()
    detector.__dict__["labels"] = ("x", "x", "")
    detector.save(tmp_path / "old.safetensors")
    loaded = Detector.load(tmp_path / "old.safetensors", device="cpu")
    for one in (loaded, loaded.with_precision("bfloat16"), TiledDetector(loaded, 2).with_tiles(3)):
        one.labels = one.labels
        assert one.labels == ("x", "x", "")
    loaded.labels = ["x", "y", "z"]
    assert TiledDetector(loaded, 2).labels == ("x", "y", "z")


def test_a_file_with_no_such_threshold_is_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    content = (folder / "d.safetensors").read_bytes()
    assert b'score_threshold\\": 0.5' in content
    path.write_bytes(content.replace(b'score_threshold\\": 0.5', b'score_threshold\\": 5.0'))
    with pytest.raises(
        DetectorFileError, match=r"d\.safetensors: the threshold must be .* 1: 5\.0\nhint: make"
    ):
        Detector.load(path)


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return fewbox.evaluate(a_detector(threshold=0.25), make_photos(folder), show_progress=False)


@pytest.mark.parametrize("name", ["at", "in_words", "mistakes_in_words"])
def test_an_evaluation_is_asked_with_its_former_name(evaluation: Evaluation, name: str) -> None:
    ask = getattr(evaluation, name)
    with pytest.warns(DeprecationWarning, match=f"{name} is now called threshold"):
        assert ask(score_threshold=0.25) == ask(0.25)


def test_what_has_a_threshold_has_it_under_its_former_name(evaluation: Evaluation) -> None:
    for one in (a_detector(threshold=0.25), evaluation, fewbox.Tracker(0.25)):
        with pytest.warns(DeprecationWarning, match=rf"{type(one).__name__}\.score_threshold is now called"):
            assert one.score_threshold == 0.25
    detector = a_detector()
    with pytest.warns(DeprecationWarning, match="now called threshold"):
        detector.score_threshold = 0.75
    assert detector.threshold == 0.75
