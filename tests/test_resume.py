"""Fine-tuning that was killed goes on where it was, and ends with the same detector, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import fewbox
from fewbox.commands import resumable
from fewbox.data.annotations import AnnotationSet
from fewbox.finetuning import adapt as adapting
from fewbox.finetuning import features, resume
from fewbox.finetuning.adapt import cache as maps
from fewbox.finetuning.linear_probe import recipe as probing
from fewbox.models.base import BaseModel
from tiny import make_base, make_photos
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_float32")]

NUM_PHOTOS = 9
"""With fewer nothing is kept, here: with as many as outside of tests, all would only take twice as long."""
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_resume import learn, photos_in, yolox
from fewbox.detection import parallel
from fewbox.finetuning import features, resume

resume.LEAST_PHOTOS = int(sys.argv[3])
parallel.num_cores = lambda: 1  # two photos at once
looked, cached = itertools.count(1), features._cached
def killed_at_the_eighth(*arguments):
    if next(looked) == 8:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    return cached(*arguments)
features._cached = killed_at_the_eighth
learn(photos_in(Path(sys.argv[2])), yolox())
"""


@cache
def yolox() -> BaseModel:
    config = tiny_yolox_config()
    return make_base(config, random_yolox(config).state_dict())


def photos_in(folder: Path) -> AnnotationSet:
    return make_photos(folder, NUM_PHOTOS)


def learn(photos: AnnotationSet, base: BaseModel, *, recipe: str = "probe") -> fewbox.Detector:
    return fewbox.finetune(photos, base, recipe=recipe, effort="quick", show_progress=True)


@pytest.fixture(autouse=True)
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs keep what they have computed, in a cache of the test's own."""
    monkeypatch.setattr(resume, "LEAST_PHOTOS", NUM_PHOTOS)
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unfinished"


@pytest.fixture
def photos(tmp_path: Path) -> AnnotationSet:
    (tmp_path / "photos").mkdir()
    return photos_in(tmp_path / "photos")


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photos that were shown to the network."""
    seen: list[str] = []

    def noted(module: object, name: str, which: int) -> None:
        look: Callable[..., object] = getattr(module, name)

        def noting(*arguments: object) -> object:
            seen.append(arguments[which].path.name)  # type: ignore[attr-defined]
            return look(*arguments)

        monkeypatch.setattr(module, name, noting)

    noted(features, "_cached", 2)
    noted(maps, "_views_of_photo", 1)
    return seen


def written(detector: fewbox.Detector, target: Path) -> bytes:
    detector.save(target)
    return target.read_bytes()


def test_after_a_kill_only_the_other_photos_are_looked_at(
    tmp_path: Path,
    photos: AnnotationSet,
    unfinished: Path,
    looked: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(Path(__file__).parent), str(tmp_path / "photos"), str(NUM_PHOTOS)]
    command = [sys.executable, "-c", KILLED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode not in (0, 1), done.stderr
    kept = sum(not path.name.startswith(".") for path in unfinished.glob("*/*"))  # the others are cut off
    assert kept in (6, 7)  # the photo beside the eighth may have been under way

    resumed = learn(photos, yolox())
    assert len(looked) == NUM_PHOTOS - kept
    assert set(looked) >= {image.path.name for image in photos.images[7:]}
    assert f"{kept} of {NUM_PHOTOS} photos had been looked at" in capsys.readouterr().err
    assert not unfinished.exists()

    looked.clear()
    uninterrupted = learn(photos, yolox())
    assert len(looked) == NUM_PHOTOS
    assert written(resumed, tmp_path / "a.safetensors") == written(uninterrupted, tmp_path / "b.safetensors")


def interrupted(photos: AnnotationSet, monkeypatch: pytest.MonkeyPatch, recipe: str = "probe") -> None:
    """A run that breaks off once all photos were looked at."""

    def breaks(*_arguments: object, **_more: object) -> None:
        raise RuntimeError("breaks off")

    with monkeypatch.context() as patched:
        if recipe == "adapt":
            patched.setattr(adapting, "try_adapting", breaks)
        else:
            patched.setattr(probing, "fit_detector", breaks)
        with pytest.raises(RuntimeError, match="breaks off"):
            learn(photos, yolox(), recipe=recipe)


@pytest.mark.usefixtures("short_adapting")
def test_maps_for_adapting_are_kept_too(
    tmp_path: Path, photos: AnnotationSet, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(photos, monkeypatch, "adapt")
    assert len(looked) == 2 * NUM_PHOTOS
    looked.clear()
    resumed = learn(photos, yolox(), recipe="adapt")
    assert looked == []
    uninterrupted = learn(photos, yolox(), recipe="adapt")
    assert written(resumed, tmp_path / "a.safetensors") == written(uninterrupted, tmp_path / "b.safetensors")


def test_a_damaged_file_and_a_changed_photo_are_looked_at_again(
    photos: AnnotationSet, unfinished: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(photos, monkeypatch)
    kept = sorted(unfinished.glob("*/*"))
    content = kept[0].read_bytes()
    kept[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    kept[1].write_bytes(content[: len(content) // 2])
    kept[2].write_bytes(b"")
    looked.clear()
    learn(photos, yolox())
    assert len(looked) == 3

    interrupted(photos, monkeypatch)
    looked.clear()
    changed = photos.images[4].path
    changed.write_bytes(photos.images[5].path.read_bytes())
    learn(photos, yolox())
    assert looked == [changed.name]


def test_other_settings_find_nothing(
    photos: AnnotationSet, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(photos, monkeypatch)
    looked.clear()
    config = fewbox.FinetuneConfig(effort="quick", seed=1)
    fewbox.finetune(photos, yolox(), recipe="probe", config=config, show_progress=False)
    assert len(looked) == NUM_PHOTOS


def test_few_photos_are_not_kept(
    photos: AnnotationSet, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(photos[: NUM_PHOTOS - 1], monkeypatch)
    assert not unfinished.exists()


def test_ctrl_c_says_whether_something_is_kept(photos: AnnotationSet) -> None:

    def stopped_after(looked: int) -> None:
        with resume.UnfinishedRun() as run, resumable(run.has_kept):
            computed = run.computed(NUM_PHOTOS, "settings")
            assert computed is not None
            for number in range(looked):
                computed.of_photo(number, photos[number], lambda: np.zeros(3), lambda a: {"a": a}, dict)
            raise KeyboardInterrupt

    for looked in (0, 1):
        with pytest.raises(KeyboardInterrupt) as stopped:
            stopped_after(looked)
        assert len(getattr(stopped.value, "__notes__", ())) == looked


def test_a_full_disk_stops_no_run(
    photos: AnnotationSet, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "LEAST_FREE", 2**62)
    interrupted(photos, monkeypatch)
    assert not list(unfinished.glob("*/*"))
    monkeypatch.setattr(resume, "LEAST_FREE", 0)
    monkeypatch.setattr(resume, "MAX_BYTES", 500_000)
    interrupted(photos, monkeypatch)
    sizes = [path.stat().st_size for path in unfinished.glob("*/*")]
    assert 0 < sum(sizes) < 501_000
    assert 0 < len(sizes) < NUM_PHOTOS
    assert learn(photos, yolox()).labels == ("square",)


def test_what_was_never_begun_again_is_removed(photos: AnnotationSet, unfinished: Path) -> None:
    for age_days in range(5):
        folder = unfinished / str(age_days)
        folder.mkdir(parents=True)
        (folder / "photo").write_text("features")
        changed = time.time() - 0.7 * 86400 * age_days - 1
        os.utime(folder, (changed, changed))
    with resume.UnfinishedRun():
        assert sorted(path.name for path in unfinished.iterdir()) == ["0", "1", "2", "3"]
    old = time.time() - (resume.MAX_DAYS + 1) * 86400
    os.utime(unfinished / "0", (old, old))
    learn(photos[:3], yolox())
    assert sorted(path.name for path in unfinished.iterdir()) == ["1", "2", "3"]
