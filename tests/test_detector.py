"""A detector file, and detecting with it."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from fewbox.config import FinetuneConfig
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.folder import detect_folder
from fewbox.detection.precision import PrecisionCheck, check_bfloat16, max_shift_px
from fewbox.errors import DetectorFileError, OutputError, PhotoError, SettingError
from fewbox.finetuning import finetune
from reference_fields import fields_of
from tiny import make_photos, tiny_base

LOW = 0.01


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [image.path for image in make_photos(tmp_path_factory.mktemp("photos"))]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    annotations = make_photos(tmp_path_factory.mktemp("train"))
    config = FinetuneConfig(steps=30, batch_size=3, learning_rate=0.002)
    return finetune(annotations, tiny_base(), config=config, recipe="seed", show_progress=False)


def same(first: Detections, second: Detections) -> bool:
    return (
        np.array_equal(first.boxes, second.boxes)
        and np.array_equal(first.scores, second.scores)
        and np.array_equal(first.class_ids, second.class_ids)
        and first.labels == second.labels
    )


@pytest.mark.slow
def test_saved_and_loaded_it_detects_the_same(detector: Detector, photos: list[Path], tmp_path: Path) -> None:
    detector.save(tmp_path / "d.safetensors")
    loaded = Detector.load(tmp_path / "d.safetensors")
    for photo in photos:
        found = loaded.detect(photo, threshold=LOW)
        assert len(found) > 0
        assert same(found, detector.detect(photo, threshold=LOW))
    assert loaded.labels == ("square",)
    assert loaded.provenance == detector.provenance
    assert loaded.base["name"] == "tiny"


@pytest.mark.slow
def test_one_a_list_an_array_and_a_picture_give_the_same(detector: Detector, photos: list[Path]) -> None:
    single = [detector.detect(photo, threshold=LOW) for photo in photos]
    several = detector.detect(photos, threshold=LOW)
    assert all(map(same, single, several))
    picture = Image.open(photos[0])
    assert same(detector.detect(picture, threshold=LOW), single[0])
    assert same(detector.detect(np.asarray(picture), threshold=LOW), single[0])
    assert detector.detect([]) == []


def test_boxes_lie_in_the_photo_and_scores_fall(detector: Detector, photos: list[Path]) -> None:
    found = detector.detect(photos[0], threshold=1e-6)
    assert len(found) > 5
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [160, 120]).all()
    assert (np.diff(found.scores) <= 0).all()
    assert same(found.above(0.02), detector.detect(photos[0], threshold=0.02))


@pytest.mark.slow
def test_heads_only_needs_the_very_same_base(detector: Detector, photos: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "heads.safetensors"
    detector.save(path, heads_only=True)
    assert path.stat().st_size < 200_000
    with pytest.raises(DetectorFileError, match="their base model is not in the cache: tiny"):
        Detector.load(path)
    with pytest.raises(DetectorFileError, match="made from another base model than the one given"):
        Detector.load(path, base=tiny_base(seed=1))
    loaded = Detector.load(path, base=tiny_base())
    assert same(loaded.detect(photos[0], threshold=LOW), detector.detect(photos[0], threshold=LOW))


@pytest.mark.slow
def test_header_tells_where_the_detector_comes_from(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "d.safetensors")
    with safe_open(tmp_path / "d.safetensors", framework="np") as file:
        header = json.loads(file.metadata()["fewbox_detector"])
    assert header.keys() == fields_of("The detector file")
    assert header["labels"] == ["square"]
    assert header["base"]["weights_sha256"] == tiny_base().weights_sha256
    assert header["provenance"]["settings"]["steps"] == 30
    photo = header["provenance"]["photos"][0]
    assert (photo["name"], photo["boxes"], len(photo["sha256"])) == ("photo0.png", 1, 64)


@pytest.mark.parametrize("cut", [0, 5, 100, 5000, 1_000_000])
def test_truncated_file_is_refused(detector: Detector, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "d.safetensors"
    detector.save(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DetectorFileError, match=r"d\.safetensors: not a safetensors file, or damaged"):
        Detector.load(path)


def test_files_that_are_no_detectors_are_refused(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(DetectorFileError, match="no such file"):
        Detector.load(path)
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    with pytest.raises(DetectorFileError, match="not a safetensors file"):
        Detector.load(path)
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(DetectorFileError, match="not a fewbox detector"):
        Detector.load(path)
    header = {"format_version": 99}
    save_file({"a": torch.zeros(3)}, path, metadata={"fewbox_detector": json.dumps(header)})
    with pytest.raises(DetectorFileError, match="format 99"):
        Detector.load(path)
    detector.save(path)
    with safe_open(path, framework="pt") as file:
        metadata, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights["class_head.bias"] = torch.zeros(3)
    save_file(weights, path, metadata=metadata)
    with pytest.raises(DetectorFileError, match="its header and its weights do not fit"):
        Detector.load(path)


def test_failed_save_leaves_the_file_that_was_there(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.safetensors"
    path.write_text("kept")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewbox.core.files.os.fsync", full_disk)
    with pytest.raises(OutputError, match=r"d\.safetensors: no space left on the disk"):
        detector.save(path)
    monkeypatch.setattr("fewbox.core.files.os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detector.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]
    assert path.read_text() == "kept"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="paths are shorter there")
def test_names_as_long_as_a_file_system_takes_them(
    detector: Detector, photos: list[Path], tmp_path: Path
) -> None:
    detector.save(tmp_path / "d.safetensors")
    photo = tmp_path / ("鴨" * 82 + ".png")  # 250 bytes: no room for more in the name of a temporary file
    shutil.copy(photos[0], photo)
    out = tmp_path / "out"
    assert not detect_folder(tmp_path / "d.safetensors", photo, out).failed
    assert sorted(path.name for path in out.iterdir()) == ["counts.csv", "detections.json", photo.name]
    too_long = shutil.copy(photos[0], tmp_path / f"{'x' * 248}.webp")  # its picture would end in .webp.png
    with pytest.raises(OutputError, match="cannot be written"):
        detect_folder(tmp_path / "d.safetensors", too_long, out)


@pytest.mark.slow
def test_folder_run_reports_bad_photos_and_does_the_rest(
    detector: Detector, photos: list[Path], tmp_path: Path
) -> None:
    detector.save(tmp_path / "d.safetensors")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no photo")
    out = tmp_path / "out"
    summary = detect_folder(
        tmp_path / "d.safetensors", [*photos, bad], out, threshold=LOW, gif=tmp_path / "a.gif"
    )
    assert summary.failed == ("bad.jpg",)
    assert "1 of 4 photos could not be read: bad.jpg" in str(summary)
    document = json.loads((out / "detections.json").read_text())
    assert [row["photo"] for row in document["photos"]] == [p.name for p in photos]
    assert document["failed"] == ["bad.jpg"]
    counts = (out / "counts.csv").read_text().splitlines()
    assert counts[0] == ",".join(["photo", *detector.labels])
    for row, line in zip(document["photos"], counts[1:], strict=True):
        found = Counter(one["label"] for one in row["detections"])
        assert line == ",".join([row["photo"], *(str(found[label]) for label in detector.labels)])
    alone = detect_folder(tmp_path / "d.safetensors", bad, tmp_path / "found.jpg")
    assert str(alone) == "1 of 1 photo could not be read: bad.jpg", "it names no picture that is not there"
    for photo, row in zip(photos, document["photos"], strict=True):
        assert Image.open(out / row["picture"]).size == (160, 120)
        assert len(row["detections"]) == len(detector.detect(photo, threshold=LOW))
    assert Image.open(tmp_path / "a.gif").size == (160, 120)


def test_folder_run_never_overwrites_photos(detector: Detector, photos: list[Path], tmp_path: Path) -> None:
    detector.save(tmp_path / "d.safetensors")
    with pytest.raises(OutputError, match="would replace the photo"):
        detect_folder(tmp_path / "d.safetensors", photos, photos[0].parent)
    before = photos[0].read_bytes()
    for output in (photos[0].parent, photos[0]):  # an address of a file here is that file
        with pytest.raises(OutputError, match="would replace the photo"):
            detect_folder(tmp_path / "d.safetensors", f"file://{photos[0]}", output)
    with pytest.raises(OutputError, match="would replace the photo"):
        detector.detect(f"file://{photos[0]}").save(photos[0])
    assert photos[0].read_bytes() == before
    twin = tmp_path / "photo0.png"
    twin.write_bytes(photos[0].read_bytes())
    with pytest.raises(PhotoError, match="two photos have one name"):
        detect_folder(tmp_path / "d.safetensors", [photos[0], twin], tmp_path / "out")
    with pytest.raises(SettingError, match="threshold must be a number from 0 to 1: 3"):
        detect_folder(tmp_path / "d.safetensors", photos, tmp_path / "out", threshold=3)
    assert not (tmp_path / "out").exists()


OURS = ("out/photo0.png", "out/detections.json", "out/counts.csv", "a.gif")


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_folder_run_replaces_its_own_results_and_nobody_elses(
    detector: Detector, photos: list[Path], tmp_path: Path, name: str
) -> None:
    def run() -> None:
        detect_folder(tmp_path / "d.safetensors", photos, tmp_path / "out", gif=tmp_path / "a.gif")

    detector.save(tmp_path / "d.safetensors")
    theirs, others = tmp_path / name, [tmp_path / other for other in OURS if other != name]
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(b"[]" if theirs.suffix == ".json" else b"photo,ducks\n1.jpg,3\n")
    if theirs.suffix in (".png", ".gif"):
        Image.new("RGB", (160, 120), "red").save(theirs)
    before = theirs.read_bytes()
    with pytest.raises(OutputError, match=rf"{theirs.name}: is there already, and does not say that fewbox"):
        run()
    assert theirs.read_bytes() == before
    assert not [other for other in others if other.exists()], "it is told before any work"
    theirs.unlink()
    run()
    run()


def test_another_photo_is_not_replaced_by_a_picture(
    detector: Detector, photos: list[Path], tmp_path: Path
) -> None:
    detector.save(tmp_path / "d.safetensors")
    for name in ("found.jpg", "found.png"):
        Image.new("RGB", (160, 120), "red").save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(OutputError, match=f"{name}: is there already, and does not say that fewbox"):
            detect_folder(tmp_path / "d.safetensors", photos[0], tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
        (tmp_path / name).write_bytes(b"")  # as mktemp leaves it
        for _ in range(2):
            detect_folder(tmp_path / "d.safetensors", photos[0], tmp_path / name)


def test_bfloat16_is_used_only_where_the_boxes_stay(
    detector: Detector, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detector.detect(photos[0], threshold=LOW)
    moved = replace(found, boxes=found.boxes + np.float32(0.75))
    assert max_shift_px(found, found) == 0
    assert max_shift_px(found, moved) == pytest.approx(0.75, abs=1e-4)
    nothing = found.above(0.999)
    assert max_shift_px(nothing, found) == 0
    assert max_shift_px(found, nothing) == float("inf")
    assert detector.with_precision("bfloat16").network.box_head.weight.dtype in (
        torch.bfloat16,
        torch.float32,
    )
    assert not PrecisionCheck(True, 0, 0.0).holds
    assert "nothing was found" in str(PrecisionCheck(True, 0, 0.0))
    lost = "detecting in float32: of 2 boxes bfloat16 does not find all"
    assert str(PrecisionCheck(True, 2, float("inf"))) == lost
    monkeypatch.setattr("fewbox.detection.detector.native_bfloat16", lambda: False)
    check = check_bfloat16(detector, photos)
    assert not check.holds
    assert "does not compute in bfloat16" in str(check)


def test_opened_files_of_every_kind_are_photos(detector: Detector, photos: list[Path]) -> None:
    data, right = photos[0].read_bytes(), detector.detect(photos[0], threshold=LOW)
    for make in (tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile):
        with make() as file:
            file.write(data)
            file.seek(0)
            assert len(detector.detect(file, threshold=LOW)) == len(right)
    with photos[0].open("rb", buffering=0) as file:
        assert len(detector.detect(file, threshold=LOW)) == len(right)
        with pytest.raises(PhotoError, match=r"read to its end\nhint: .*seek\(0\)"):
            detector.detect(file)
    with pytest.raises(PhotoError, match="closed file"):
        detector.detect(file)
    with photos[0].open(encoding="latin-1") as text, pytest.raises(PhotoError, match="does not give bytes"):
        detector.detect(text)


@pytest.mark.slow
def test_learning_does_not_depend_on_what_torch_was_set_to(photos: list[Path], tmp_path: Path) -> None:
    taught = make_photos(tmp_path, 2)
    config = FinetuneConfig(steps=2)

    def learnt() -> list[float]:
        detector = finetune(taught, tiny_base(), recipe="seed", config=config, show_progress=False)
        return detector.detect(photos[0], threshold=0.001).scores.tolist()

    expected = learnt()
    with torch.inference_mode():
        assert learnt() == expected
    with torch.no_grad():
        assert learnt() == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert learnt() == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
