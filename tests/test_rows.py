"""Detecting in many photos goes on where it was killed; what is written is the same."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewbox.cli import main
from fewbox.data.images import ReducedImage, read_size_hw
from fewbox.detection import Detections, folder, rows
from fewbox.detection.folder import FolderSummary, detect_folder
from fewbox.errors import OutputError
from tiny import make_photos

NUM_PHOTOS = 6


class Stopped(BaseException):
    """As a kill, the run ends in the middle of its work."""


class Counting:
    """Finds a box in every photo, counts them, and stops the run when it is told to."""

    labels = ("duck",)
    threshold = 0.5
    config = SimpleNamespace(most_detections=300)

    def __init__(self) -> None:
        self.looked, self.stop_after, self.score = 0, 1000, 0.75
        self.stopped_by: type[BaseException] = Stopped
        self.options: dict[str, object] = {}

    def with_tiles(self, _tiles: object) -> Counting:
        return self

    def with_agnostic_nms(self, _wanted: bool) -> Counting:
        return self

    def enough_hw(self, size_hw: tuple[int, int]) -> tuple[float, float]:
        return size_hw

    def detect(self, photo: Path | ReducedImage, *, threshold: float) -> Detections:
        if self.looked == self.stop_after:
            raise self.stopped_by
        self.looked += 1
        size_hw = photo.size_hw if isinstance(photo, ReducedImage) else read_size_hw(photo)
        box, score = np.array([[1, 2, 30, 40]], np.float32), np.array([self.score], np.float32)
        return Detections(
            box,
            score,
            np.zeros(1, np.int64),
            self.labels,
            size_hw,
            photo if isinstance(photo, Path) else None,
            full_at=0.0 if self.config.most_detections > 1 else self.score,
        )


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counting = Counting()
    (tmp_path / "d.onnx").write_text("a detector")
    (tmp_path / "photos").mkdir()
    make_photos(tmp_path / "photos", NUM_PHOTOS)
    monkeypatch.setattr(folder, "_opened", lambda *_: (counting, 1))
    monkeypatch.setattr(folder, "say_what_computes", lambda _: None)
    monkeypatch.setattr(folder, "run_parallel", one_after_the_other)
    monkeypatch.setattr(rows, "LEAST_PHOTOS", NUM_PHOTOS)
    return counting


def one_after_the_other(work, items, _num_threads):  # type: ignore[no-untyped-def]
    """As ``run_parallel``, but nothing is begun ahead."""

    class Done:
        def __init__(self, item: object) -> None:
            self.item = item

        def result(self) -> object:
            return work(self.item)

    return (Done(item) for item in items)


def run(tmp_path: Path, **how: object) -> FolderSummary:
    return detect_folder(tmp_path / "d.onnx", tmp_path / "photos", tmp_path / "out", **how)  # type: ignore[arg-type]


def stop_after(detector: Counting, number: int, tmp_path: Path, **how: object) -> None:
    detector.looked, detector.stop_after = 0, number
    with pytest.raises(Stopped):
        run(tmp_path, **how)
    detector.looked, detector.stop_after = 0, 1000


def document(tmp_path: Path) -> str:
    return (tmp_path / "out" / "detections.json").read_text()


@pytest.mark.parametrize("pictures", [True, False])
def test_only_the_other_photos_are_looked_at(
    tmp_path: Path, detector: Counting, pictures: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_after(detector, 4, tmp_path, pictures=pictures)
    assert not (tmp_path / "out" / "detections.json").exists()
    summary = run(tmp_path, pictures=pictures)
    assert detector.looked == NUM_PHOTOS - 4
    assert summary.num_detections == NUM_PHOTOS
    assert f"4 of {NUM_PHOTOS} photos were done" in capsys.readouterr().err
    resumed = document(tmp_path)
    run(tmp_path, pictures=pictures)
    assert detector.looked == 2 * NUM_PHOTOS - 4
    assert document(tmp_path) == resumed
    assert resumed == json.dumps(json.loads(resumed), indent=1) + "\n"
    assert not list((tmp_path / "out").glob(".*"))


def test_photos_with_as_many_boxes_as_can_be_are_told(tmp_path: Path, detector: Counting) -> None:
    assert "there may be more" not in str(run(tmp_path))
    detector.config = SimpleNamespace(most_detections=1)
    stop_after(detector, 4, tmp_path)
    summary = run(tmp_path)
    assert str(summary).splitlines()[1:] == [
        "6 photos (photo0.png, photo1.png, photo2.png, photo3.png, photo4.png and 1 more) have 1 box "
        "at one look, the most that this detector gives of one photo; there may be more: "
        "look at parts too, with --tiles"
    ]
    detector.options = {"tiles": 2}  # then each tile may have so many
    assert "there may be more" not in str(run(tmp_path))


@pytest.mark.usefixtures("detector")
def test_an_animation_is_named_among_what_was_written(tmp_path: Path) -> None:
    summary = run(tmp_path, gif=tmp_path / "found.gif")
    written = f"{tmp_path / 'out' / 'detections.json'}, counts.csv, {tmp_path / 'found.gif'}"
    assert str(summary).endswith(f": {written}")


@pytest.mark.usefixtures("detector")
def test_pictures_that_an_earlier_run_has_left_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert "earlier run" not in str(run(tmp_path, gif=out / "all.gif"))
    (tmp_path / "photos" / "photo5.png").unlink()
    (tmp_path / "photos" / "photo4.png").write_text("no photo any more")
    Image.new("RGB", (8, 8)).save(out / "mine.png")
    if os.name == "posix":
        os.mkfifo(out / "pipe.png")  # who opens it to read waits for ever
    still = "still there; this run has not drawn"
    assert f"{out}: 3 pictures of an earlier run are {still} them: all.gif, photo4.png, photo5.png\n" in str(
        run(tmp_path)
    )
    (out / "all.gif").unlink()
    (tmp_path / "photos" / "photo4.png").unlink()
    (out / "photo4.png").unlink()
    assert str(run(tmp_path)).endswith(f"{out}: 1 picture of an earlier run is {still} it: photo5.png")
    assert f"5 pictures of an earlier run are {still} them: photo0.png" in str(run(tmp_path, pictures=False))
    assert len(list(out.glob("photo*.png"))) == 5


@pytest.mark.usefixtures("detector")
def test_the_same_command_among_the_photos_given_again_finds_the_same_photos(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for _ in range(2):
        summary = detect_folder(tmp_path / "d.onnx", photos, photos / "found", gif=photos / "found.gif")
        assert summary.num_photos == NUM_PHOTOS
        summary = detect_folder(tmp_path / "d.onnx", f"{photos}/**/*.png", photos / "found")
        assert summary.num_photos == NUM_PHOTOS


def test_a_class_called_photo_has_a_column_of_its_own(tmp_path: Path, detector: Counting) -> None:
    detector.labels = ("photo",)
    run(tmp_path, pictures=False)
    with (tmp_path / "out" / "counts.csv").open(newline="") as table:
        assert next(csv.DictReader(table)) == {"photo": "photo0.png", "photo (class)": "1"}


def test_another_detector_threshold_or_photo_begins_anew(tmp_path: Path, detector: Counting) -> None:
    stop_after(detector, 4, tmp_path)
    run(tmp_path, threshold=0.1)
    assert detector.looked == NUM_PHOTOS
    stop_after(detector, 4, tmp_path)
    (tmp_path / "d.onnx").write_text("another detector")
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS
    stop_after(detector, 4, tmp_path)
    os.utime(tmp_path / "photos" / "photo1.png", (1, 1))
    (tmp_path / "out" / "photo2.png").unlink()
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS - 2


def test_what_another_run_left_is_not_taken_up_after_it(tmp_path: Path, detector: Counting) -> None:
    """Its pictures have replaced those of the run before."""
    stop_after(detector, 4, tmp_path)
    stop_after(detector, 2, tmp_path, threshold=0.1)
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS


@pytest.mark.parametrize("one", [True, False])
def test_pictures_that_another_run_has_replaced_meanwhile_are_drawn_again(
    tmp_path: Path, detector: Counting, one: bool
) -> None:
    """One of few photos, which leaves no rows of its own, or of a single photo, whose picture is named."""
    out, photos = tmp_path / "out", sorted((tmp_path / "photos").iterdir())
    run(tmp_path)
    drawn = {photo.name: (out / photo.name).read_bytes() for photo in photos}
    stop_after(detector, 4, tmp_path)
    detector.score = 0.99
    if one:
        detect_folder(tmp_path / "d.onnx", photos[1], out / photos[1].name, threshold=0.1)
    else:
        detect_folder(tmp_path / "d.onnx", photos[1:3], out, threshold=0.1)
    assert (out / photos[1].name).read_bytes() != drawn[photos[1].name]
    detector.looked, detector.score = 0, 0.75
    run(tmp_path)
    assert {photo.name: (out / photo.name).read_bytes() for photo in photos} == drawn
    assert detector.looked == NUM_PHOTOS - 4 + (1 if one else 2)  # the other rows are taken up


def test_half_a_line_is_left_out(tmp_path: Path, detector: Counting) -> None:
    stop_after(detector, 4, tmp_path)
    (unfinished,) = (tmp_path / "out").glob(".*")
    unfinished.write_bytes(unfinished.read_bytes()[:-20])
    stop_after(detector, 1, tmp_path)
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS - 4
    assert len(json.loads(document(tmp_path))["photos"]) == NUM_PHOTOS


def test_a_photo_that_cannot_be_read_is_tried_again(tmp_path: Path, detector: Counting) -> None:
    broken = tmp_path / "photos" / "photo1.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    stop_after(detector, 3, tmp_path, pictures=True)
    broken.write_bytes(content)
    summary = run(tmp_path)
    assert summary.failed == ()
    assert [row["photo"] for row in json.loads(document(tmp_path))["photos"]] == [
        f"photo{number}.png" for number in range(NUM_PHOTOS)
    ]


def test_photos_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, detector: Counting) -> None:
    """As they are called among all photos, though the run before had one of the folders only."""
    photos = tmp_path / "photos"
    for folder_name in ("a", "b"):
        shutil.copytree(photos, tmp_path / "all" / folder_name)
    (tmp_path / "all" / "b" / "photo2.png").write_bytes(b"no photo")
    detector.stop_after = 4
    with pytest.raises(Stopped):
        detect_folder(tmp_path / "d.onnx", tmp_path / "all" / "a", tmp_path / "out", pictures=False)
    detector.looked, detector.stop_after = 0, 1000
    both = [tmp_path / "all" / "a", tmp_path / "all" / "b"]
    summary = detect_folder(tmp_path / "d.onnx", both, tmp_path / "out", pictures=False)
    assert detector.looked == 2 * NUM_PHOTOS - 4
    names = [f"{name}/photo{number}.png" for name in ("a", "b") for number in range(NUM_PHOTOS)]
    names.remove("b/photo2.png")
    assert [row["photo"] for row in json.loads(document(tmp_path))["photos"]] == names
    assert json.loads(document(tmp_path))["failed"] == ["b/photo2.png"] == list(summary.failed)
    with (tmp_path / "out" / "counts.csv").open(newline="") as table:
        assert [row["photo"] for row in csv.DictReader(table)] == names


@pytest.mark.parametrize("done", [0, 4])
def test_ctrl_c_says_what_is_kept(
    tmp_path: Path, detector: Counting, done: int, capsys: pytest.CaptureFixture[str]
) -> None:
    detector.stopped_by, detector.stop_after = KeyboardInterrupt, done
    command = ["detect", str(tmp_path / "d.onnx"), str(tmp_path / "photos"), "-o", str(tmp_path / "out")]
    assert main(command) == 130
    kept = "what is done is kept; the same command goes on from there"
    says = f"stopped; {kept if done else 'nothing half-written is left behind'}"
    assert capsys.readouterr().err.splitlines()[-1] == says
    assert bool(list((tmp_path / "out").glob(".*"))) == bool(done)


@pytest.mark.parametrize("others", [True, False])
def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, detector: Counting, others: bool) -> None:
    """Be it the same command twice, or one with other photos: their rows would go into one file."""
    out, photos = tmp_path / "out", sorted((tmp_path / "photos").iterdir())
    beside = [tmp_path / "others" / photo.name for photo in photos] if others else photos
    with rows.RowFile(photos, out) as first:
        for number, photo in enumerate(photos):
            first.add(number, {"photo": photo.name, "detections": []})
            with pytest.raises(OutputError, match=r"out: another run is writing into this folder"):
                rows.RowFile(beside, out)
        assert [row["photo"] for row in first] == [photo.name for photo in photos]
    stop_after(detector, 4, tmp_path)  # a run that is stopped lets go
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS - 4
    assert not list(out.glob(".*"))


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize("by_another", ["not JSON", "7", '["key", "another.jpg", 1, 2, "none", {}]'])
def test_rows_that_another_program_has_written_are_not_taken_for_ours(
    tmp_path: Path, by_another: str
) -> None:
    """As where a disk has no locks."""
    out, photos = tmp_path / "out", sorted((tmp_path / "photos").iterdir())
    with rows.RowFile(photos, out) as own:
        own.add(0, {"photo": photos[0].name, "detections": []})
        (unfinished,) = out.glob("*.jsonl")
        unfinished.write_text(by_another + "\n")
        with pytest.raises(OutputError, match="another program has written into it"):
            list(own)


class OnAFullDisk(io.FileIO):
    def write(self, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_with_the_cure(
    tmp_path: Path, detector: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a traceback, though the buffer tries to write what it holds once more when it is closed."""
    out, opened = tmp_path / "out", Path.open

    def open_full(path: Path, *how: Any, **more: Any) -> Any:
        is_of_rows = path.name.endswith(".jsonl")
        return io.BufferedRandom(OnAFullDisk(path, "a+")) if is_of_rows else opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OutputError, match="no space left on the disk") as refused:
        run(tmp_path)
    assert refused.value.hint == f"free some space on the disk that holds {out}, then try again"
    assert detector.looked == 1


@pytest.mark.usefixtures("detector")
def test_where_temporary_files_have_no_room_it_is_not_the_photo_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many boxes in few photos outgrow the memory that is set aside for them."""

    made = tempfile.TemporaryFile

    def full(*arguments: Any, **settings: Any) -> Any:
        if settings.get("dir") is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return made(*arguments, **settings)

    monkeypatch.setattr(rows, "LEAST_PHOTOS", NUM_PHOTOS + 1)
    monkeypatch.setattr(rows, "_IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="no space left on the disk") as refused:
        run(tmp_path)
    assert (
        refused.value.hint
        == f"free some space on the disk that holds {tempfile.gettempdir()}, then try again"
    )


def test_few_photos_leave_nothing_behind(
    tmp_path: Path, detector: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LEAST_PHOTOS", NUM_PHOTOS + 1)
    stop_after(detector, 4, tmp_path)
    assert not list((tmp_path / "out").glob(".*"))
    run(tmp_path)
    assert detector.looked == NUM_PHOTOS


def test_the_file_is_laid_out_as_json_dumps_does(tmp_path: Path) -> None:
    head = {"detector": 'a "duck"\n.onnx', "labels": ["duck", "ü"], "score_threshold": 0.1 + 0.2}
    for photos, failed in (
        ([], []),
        ([{"photo": "a\nb", "detections": []}, {"x": [1, {"y": 2}]}], ["c", "d"]),
    ):
        rows.write_rows(tmp_path / "detections.json", head, iter(photos), failed)
        whole = head | {"photos": photos, "failed": failed}
        assert document_at(tmp_path) == json.dumps(whole, indent=1) + "\n"


def document_at(path: Path) -> str:
    return (path / "detections.json").read_text(encoding="utf-8")
