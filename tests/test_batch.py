"""Many photos, many workers: every photo is in the tables once, whatever dies or is cut short meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil
import pytest
from PIL import Image

from exported_duck import openvino_duck
from exports import detector_of, exported, noise, save_noise
from fewbox.apps import batch
from fewbox.apps.batch import detect_batch
from fewbox.apps.batch.manifest import Manifest, open_manifest, write_report
from fewbox.apps.batch.shards import Storage, cut_into_shards, detect_shard, read_photo_rows
from fewbox.apps.batch.workers import Workers, _deaf_to_ctrl_c, ray_cluster
from fewbox.cli import main
from fewbox.detection.detector import Detector
from fewbox.detection.loading import open_detector
from fewbox.errors import OutputError, PhotoError, SettingError
from fewbox.export import export_detector
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG, has_ended, wait_until, words_of
from web_server import WebServer, serving

parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra fewbox[ray]")

NUM_PHOTOS = 60
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds something everywhere, good photos, and one that is none."""
    folder = tmp_path_factory.mktemp("many")
    tiny_detector().save(folder / "d.safetensors")
    # For processes: each would need seconds to import PyTorch for the other one.
    export_detector(tiny_detector(), folder / "d.onnx", photos=save_noise(folder))
    (folder / "photos").mkdir()
    generator = np.random.default_rng(3)
    for number in range(NUM_PHOTOS - 1):
        pixels = generator.integers(0, 255, (60, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"photos/p{number}.png")
    (folder / "photos/p999.jpg").write_bytes(b"no photo")
    return folder


def tiny_detector() -> Detector:
    config = tiny_yolox_config()
    return Detector(
        config=config,
        weights=random_yolox(config).state_dict(),
        labels=["a", "b", "c"],
        base={"name": "tiny", "weights_sha256": "0" * 64},
        provenance={},
        threshold=THRESHOLD,
    )


@pytest.fixture(scope="module")
def right(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What the detector finds in each photo, one after the other."""
    detector = open_detector(folder / "d.onnx")
    photos = sorted((folder / "photos").glob("*.png"))
    return {
        str(path): [(found.label, found.score, *found.box) for found in detector.detect(path)]
        for path in photos
    }


def tables(output: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of photos and of detections."""
    return tuple(parquet.read_table(output / name).to_pylist() for name in ("photos", "detections"))


def assert_complete(output: Path, right: dict[str, list[tuple[Any, ...]]]) -> None:
    photos, detections = tables(output)
    assert sorted(row["photo_id"] for row in photos) == list(range(len(right) + 1))
    assert sorted(row["photo"] for row in photos if row["failure"] is None) == sorted(right)
    found: dict[str, list[tuple[Any, ...]]] = {photo: [] for photo in right}
    for row in detections:
        assert (row["width"], row["height"]) == (90, 60)
        found[row["photo"]].append(tuple(row[name] for name in ("label", "score", "x1", "y1", "x2", "y2")))
    assert sum(map(len, right.values())) > NUM_PHOTOS
    for photo, expected in right.items():
        assert [row[0] for row in found[photo]] == [row[0] for row in expected]
        numbers = [row[1:] for row in found[photo]]
        np.testing.assert_allclose(numbers, [row[1:] for row in expected], atol=1e-3)


def num_done(output: Path) -> int:
    return len(list((output / "photos").glob("[!.]*"))) if (output / "photos").is_dir() else 0


@dataclass(frozen=True)
class Halted:
    """Photos for a run that comes to no end before :meth:`go_on`, however fast the machine.

    Attributes:
        photos: the first ten, those that a server holds back, each in a shard of its own, and the others.
        right: what is to be found in each but the one that is none.
    """

    photos: list[str]
    right: dict[str, list[tuple[Any, ...]]]
    web: WebServer

    def has_come_there(self) -> bool:
        """Whether a photo is asked for that is held back."""
        return any(path in self.web.held for path in self.web.asked)

    def go_on(self) -> None:
        """Let all photos be fetched."""
        for event in self.web.held.values():
            event.set()


FIRST = 5
"""The shards before those that are held back."""


@pytest.fixture
def halted(folder: Path, right: dict[str, list[tuple[Any, ...]]], request) -> Iterator[Halted]:
    pytest.importorskip("aiohttp", reason="needs the extra fewbox[remote]")
    with serving() as web:
        local = [str(folder / f"photos/p{number}.png") for number in range(2 * FIRST + request.param)]
        photos, found = local[: 2 * FIRST], dict(right)
        for path in local[2 * FIRST :]:
            name = f"/{Path(path).name}"
            web.files[name], web.held[name] = Path(path).read_bytes(), threading.Event()
            found[f"{web.address}{name}"] = right[path]
            photos += [f"{web.address}{name}", path]
        yield Halted([*photos, str(folder / "photos")], found, web)


def start(folder: Path, halted: Halted, output: Path, *more: str, **how: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "fewbox.cli", "detect", str(folder / "d.onnx")]
    arguments = [*halted.photos, "-o", str(output), "--shard-size", "2", "--workers", "2", *more]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=LONG)
    return process.returncode, output


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes of standard library workers that a command has started."""
    return [child for child in process.children(recursive=True) if "spawn_main" in words_of(child)]


@pytest.mark.slow
@pytest.mark.parametrize("halted", [2], indirect=True)
def test_a_worker_that_is_killed_loses_nothing(folder, tmp_path, halted) -> None:
    (tmp_path / "temporary").mkdir()
    in_own = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    process = start(folder, halted, tmp_path / "out", "--engine-cluster", "processes", env=in_own)
    wait_until(lambda: num_done(tmp_path / "out") == FIRST)
    workers_of(psutil.Process(process.pid))[0].kill()
    halted.go_on()
    code, printed = end_of(process)
    assert code == 2
    assert f"1 of {len(halted.right) + 1} photos could not be read" in printed
    assert_complete(tmp_path / "out", halted.right)
    report = json.loads((tmp_path / "out/report.json").read_text())
    done = (report["done"], report["failed"], report["missing_shards"])
    assert done == (len(halted.right) + 1, 1, [])
    rows = (tmp_path / "out/failures.csv").read_text().splitlines()
    assert rows[0] == "photo,reason"
    assert len(rows) == 2
    assert "p999.jpg" in rows[1]
    assert not list((tmp_path / "temporary").glob("fewbox-*"))  # copies of the detector


@pytest.mark.slow
@pytest.mark.parametrize(
    ("halted", "how"), [(2, signal.SIGKILL), (1, signal.SIGINT)], indirect=["halted"], ids=["kill", "int"]
)
def test_a_run_cut_short_is_gone_on_with(folder, tmp_path, halted, how, capsys) -> None:
    output = tmp_path / "out"
    workers = "2" if how == signal.SIGKILL else "1"
    (tmp_path / "temporary").mkdir()
    in_own = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    options = ("--engine-cluster", "processes", "--workers", workers)
    process = start(folder, halted, output, *options, env=in_own)
    wait_until(lambda: num_done(output) == FIRST)
    workers = workers_of(psutil.Process(process.pid))
    process.send_signal(how)
    process.wait(LONG)
    wait_until(lambda: all(has_ended(worker) for worker in workers))  # though their photos do not come
    halted.go_on()
    code, printed = end_of(process)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert (how == signal.SIGINT) == ("the same command goes on from there" in printed)
    done = {path.name: path.stat().st_mtime_ns for path in (output / "photos").glob("[!.]*")}
    assert len(done) == FIRST
    assert not list((tmp_path / "temporary").glob("fewbox-*"))  # copies of the detector
    if how == signal.SIGINT:
        return  # from here on it is the same
    files = (folder / "d.onnx", halted.photos, output)
    assert detect_batch(*files, workers=Workers(1)).done == len(halted.right) + 1
    num_shards = (len(halted.right) + 1) // 2
    assert f"{len(done)} of {num_shards} shards are done already" in capsys.readouterr().err
    assert_complete(output, halted.right)
    assert all((output / "photos" / name).stat().st_mtime_ns == time_ns for name, time_ns in done.items())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
@pytest.mark.parametrize("halted", [2], indirect=True)
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_ctrl_c_while_workers_start_is_no_error(folder, tmp_path, halted, seconds: float) -> None:
    options = ("--engine-cluster", "processes")
    process = start(folder, halted, tmp_path / "out", *options, start_new_session=True)
    wait_until(lambda: workers_of(psutil.Process(process.pid)))
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
    process.wait(LONG)
    halted.go_on()
    code, printed = end_of(process)
    assert code == 130
    assert "Traceback" not in printed
    assert "stopped; " in printed.splitlines()[-1]


@pytest.mark.skipif(os.name != "posix", reason="a thread of the process gets the signal")
def test_ctrl_c_that_another_thread_gets_does_not_cut_off_the_start_of_a_worker() -> None:
    has_ended, was_heard, steps = threading.Event(), threading.Event(), []
    other = threading.Thread(target=has_ended.wait)
    other.start()

    def start() -> None:
        with _deaf_to_ctrl_c():
            note = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, lambda *signalled: (note(*signalled), was_heard.set()))
            os.kill(os.getpid(), signal.SIGINT)
            wait_until(was_heard.is_set)  # in steps: no signal wakes this thread
            steps.append("started")

    try:
        with pytest.raises(KeyboardInterrupt):
            start()
        assert steps == ["started"]
    finally:
        has_ended.set()
        other.join()


def few(folder: Path, tmp_path: Path, count: int = 4) -> Path:
    """A folder of its own with some of the photos."""
    (tmp_path / "few").mkdir()
    for number in range(count):
        shutil.copy(folder / f"photos/p{number}.png", tmp_path / "few")
    return tmp_path / "few"


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_another_list_or_detector_is_refused(folder, tmp_path) -> None:
    photos, output = few(folder, tmp_path), tmp_path / "out"
    detect_batch(folder / "d.safetensors", photos, output)
    with pytest.raises(OutputError, match=r"run\.json: begun with a threshold of 0\.3, not 0\.5"):
        detect_batch(folder / "d.safetensors", photos, output, threshold=0.5)
    with pytest.raises(OutputError, match="begun with a shard size of 1, not 3"):
        detect_batch(folder / "d.safetensors", photos, output, shard_size=3)
    shutil.copy(folder / "photos/p30.png", photos)
    with pytest.raises(OutputError, match="begun with 4 photos, not 5"):
        detect_batch(folder / "d.safetensors", photos, output)
    (photos / "p0.png").unlink()
    with pytest.raises(OutputError, match="begun with as many photos, but others or in another order"):
        detect_batch(folder / "d.safetensors", photos, output)
    other = Detector.load(folder / "d.safetensors")
    other.labels = ("x", "y", "z")
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(OutputError, match="begun with another detector"):
        detect_batch(tmp_path / "other.safetensors", photos, output)
    (output / "run.json").write_text("{}")
    with pytest.raises(OutputError, match="not written by this version of fewbox, or damaged"):
        detect_batch(folder / "d.safetensors", photos, output)


@pytest.mark.parametrize(
    "name",
    ["detections/000000.parquet", "photos/000007.parquet", "report.json", "failures.csv", "detector.onnx"],
)
def test_files_that_no_manifest_claims_are_neither_taken_nor_replaced(folder, tmp_path, name) -> None:
    there = tmp_path / "out" / name
    there.parent.mkdir(parents=True)
    there.write_text("somebody's own")
    with pytest.raises(OutputError, match=rf"{name}: not of this run, as there is no run\.json") as failure:
        detect_batch(folder / "d.onnx", few(folder, tmp_path, 1), tmp_path / "out")
    assert "choose another output" in (failure.value.hint or "")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [there]
    assert there.read_text() == "somebody's own"


def test_heads_alone_are_not_replaced_by_the_copy_with_their_base(folder, tmp_path, monkeypatch) -> None:
    heads = tmp_path / "detector.safetensors"
    heads.write_bytes(b"heads")
    monkeypatch.setattr(batch, "_whole_file", lambda *_: ((heads.name, b"all weights"), 0.5, 300))
    with pytest.raises(OutputError, match="would be replaced by the detector with its base") as failure:
        detect_batch(heads, few(folder, tmp_path, 1), tmp_path)
    assert "rename the detector" in (failure.value.hint or "")
    assert heads.read_bytes() == b"heads"


def test_a_run_may_go_where_its_detector_and_photos_are(folder, tmp_path) -> None:
    photos = few(folder, tmp_path, 1).rename(tmp_path / "photos")
    file = ("detector.onnx", (folder / "d.onnx").read_bytes())
    (tmp_path / file[0]).write_bytes(file[1])
    manifest = open_manifest(Storage(str(tmp_path)), file, 0.3, [str(photos / "p0.png")], 1, 1, {})
    assert manifest.num_photos == 1


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_photos_with_as_many_boxes_as_can_be_are_told(folder, tmp_path) -> None:
    photos, crowded = few(folder, tmp_path, 1), tiny_detector()
    crowded.config = crowded.config.changed(max_detections=2)
    crowded.save(tmp_path / "crowded.safetensors")
    detect = partial(detect_batch, tmp_path / "crowded.safetensors", photos, threshold=0.01)
    assert "p0.png has 2 boxes at one look, the most that this detector gives of one photo" in str(
        detect(tmp_path / "out")
    )
    told = json.loads((tmp_path / "out/report.json").read_text())["full"]
    assert (told["limit"], told["count"]) == (2, 1)
    assert "there may be more" not in str(detect(tmp_path / "tiled", tiles=2))


@pytest.mark.slow
def test_that_there_may_be_more_is_told_though_classes_were_joined(tmp_path: Path) -> None:
    Image.fromarray(noise((640, 480))).save(tmp_path / "p0.png")
    storage, (shard,) = Storage(str(tmp_path)), cut_into_shards([str(tmp_path / "p0.png")], 1)
    result = detect_shard(detector_of("ssd").with_agnostic_nms(True), shard, THRESHOLD, storage)
    assert result.detections < 100
    run = Manifest("detector.safetensors", "", THRESHOLD, 1, "", 1, agnostic_nms=True)
    assert "p0.png has 100 boxes at one look" in str(write_report(storage, run, limit=100))


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_failed_photos_are_tried_again_on_request(folder, tmp_path) -> None:
    photos, output = few(folder, tmp_path), tmp_path / "out"
    good = (photos / "p1.png").read_bytes()
    (photos / "p1.png").write_bytes(b"no photo yet")
    assert detect_batch(folder / "d.safetensors", photos, output).failed == 1
    (photos / "p1.png").write_bytes(good)
    assert detect_batch(folder / "d.safetensors", photos, output).failed == 1
    assert detect_batch(folder / "d.safetensors", photos, output, retry_failed=True).failed == 0
    assert [row["photo_id"] for row in tables(output)[0]] == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are no text")
@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.usefixtures("in_here")
def test_names_that_are_no_text_are_escaped_in_tables(folder, tmp_path, cpus) -> None:
    photos, output = few(folder, tmp_path, 1), tmp_path / "out"
    (photos / "p0.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    (photos / os.fsdecode(b"no\xe9.png")).write_bytes(b"no photo")
    summary = detect_batch(folder / "d.onnx", photos, output, workers=Workers(1, cpus))
    assert (summary.done, summary.failed) == (2, 1)
    good, bad = tables(output)[0]
    assert (good["photo"], bad["photo"]) == (f"{photos}/caf\\udce9.png", f"{photos}/no\\udce9.png")
    assert tables(output)[1][0]["photo"] == good["photo"]
    assert bad["photo"] in (output / "failures.csv").read_text()


@pytest.mark.parametrize("size", [0, 40])
@pytest.mark.usefixtures("in_here")
def test_a_damaged_table_is_named_with_the_cure(folder, tmp_path, size) -> None:
    photos, output = few(folder, tmp_path), tmp_path / "out"
    before = detect_batch(folder / "d.onnx", photos, output)
    table = output / "photos" / "000001.parquet"
    os.truncate(table, size)
    for again in (False, True):
        with pytest.raises(OutputError, match=r"photos/000001\.parquet: the table is damaged") as failure:
            detect_batch(folder / "d.onnx", photos, output, retry_failed=again)
        assert failure.value.hint == "remove it, and the same command does its photos again"
    table.unlink()
    assert detect_batch(folder / "d.onnx", photos, output) == before


@pytest.mark.parametrize("kind", ["photos", "detections"])
@pytest.mark.usefixtures("in_here")
def test_a_table_that_somebody_deleted_is_made_again(folder, tmp_path, kind, capsys) -> None:
    photos, output = few(folder, tmp_path), tmp_path / "out"
    summary, before = detect_batch(folder / "d.onnx", photos, output), tables(output)
    (output / kind / "000001.parquet").unlink()
    assert detect_batch(folder / "d.onnx", photos, output) == summary
    assert "3 of 4 shards are done already" in capsys.readouterr().err
    assert tables(output) == before


@pytest.mark.slow  # where the export has not been made yet
@pytest.mark.usefixtures("in_here")
def test_an_exported_detector_does_the_same(folder, tmp_path) -> None:
    (tmp_path / "d.onnx").write_bytes(exported("yolox_with_novel"))
    detector = detector_of("yolox_with_novel")
    photos, output = few(folder, tmp_path), tmp_path / "out"
    summary = detect_batch(tmp_path / "d.onnx", photos, output, threshold=0.2)
    assert (summary.done, summary.failed) == (4, 0)
    assert (output / "detector.onnx").read_bytes() == (tmp_path / "d.onnx").read_bytes()
    counts = [len(detector.detect(row["photo"], threshold=0.2)) for row in tables(output)[0]]
    assert sum(counts) > 4
    assert [row["detections"] for row in tables(output)[0]] == pytest.approx(counts, abs=1)


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_a_detector_of_two_files_reaches_the_workers(folder, tmp_path, exported_duck) -> None:
    pytest.importorskip("openvino", reason="needs the extra fewbox[openvino]")
    summary = detect_batch(openvino_duck(exported_duck), few(folder, tmp_path), tmp_path / "out")
    assert (summary.done, summary.failed) == (4, 0)


@pytest.mark.slow
def test_a_photo_that_kills_workers_costs_its_shard_alone(folder, tmp_path) -> None:
    from fewbox.apps.batch.workers import MOST_DEATHS, ShardWorker, Work

    storage = Storage(str(tmp_path / "out"))
    storage.write("detector.safetensors", (folder / "d.safetensors").read_bytes())
    run = Manifest("detector.safetensors", "", THRESHOLD, 1, "", 1)
    worker = ShardWorker(Work(storage.where, run, 1, "auto", "cpu", session="s"))
    (shard,) = cut_into_shards([str(folder / "photos/p0.png")], 1)

    class Killer:
        enough_hw = worker.detector.enough_hw

        def detect(self, *_: object, **__: object) -> None:
            raise SystemExit  # all that a test can do to a worker that lives in its own process

    alive, worker.detector = worker.detector, Killer()
    for _ in range(MOST_DEATHS):
        with pytest.raises(SystemExit):
            worker.work(shard)
    assert worker.work(shard).photos == 0
    worker.detector, worker.session = alive, "next"
    assert worker.work(shard).photos == 1


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_photos_and_tables_may_be_at_addresses(folder, right, threads) -> None:
    pytest.importorskip("aiohttp")
    memory = fsspec.filesystem("memory")
    detector = Detector.load(folder / "d.safetensors")
    with serving() as web:
        for number in range(3):
            web.files[f"/photos/p{number}.png"] = (folder / f"photos/p{number}.png").read_bytes()
        web.files["/photos/p2.png"] = b"nothing"
        photos = [
            web.address.replace("//", "//me:secret@") + f"/photos/p{n}.png?key=hidden" for n in range(4)
        ]
        storage = Storage("memory://bucket/found")
        (shard,) = cut_into_shards(photos, 4)
        result = detect_shard(detector, shard, THRESHOLD, storage, threads)
    assert (result.photos, result.failed) == (4, 2)
    rows = read_photo_rows(storage, 0)
    assert [row["photo"] for row in rows] == [f"{web.address}/photos/p{n}.png" for n in range(4)]
    found = [right[str(folder / f"photos/p{number}.png")] for number in range(2)]
    assert [row["detections"] for row in rows] == [len(found[0]), len(found[1]), 0, 0]
    assert rows[3]["failure"] == f"{web.address}/photos/p3.png: no such photo or folder"
    assert storage.names("photos") == {"000000.parquet"}
    assert storage.names("nothing") == set()
    assert storage.read("nothing") is None
    for path in ("photos", "detections"):
        data = memory.cat_file(f"/bucket/found/{path}/000000.parquet")
        assert b"secret" not in data
        assert b"hidden" not in data
    storage.remove("photos/000000.parquet")
    assert storage.names("photos") == set()
    memory.rm("/bucket", recursive=True)


def test_a_place_that_cannot_be_used_is_named(folder, tmp_path) -> None:
    storage = Storage("nowhere://me:secret@bucket/found")
    for use in (lambda: storage.write("a", b""), lambda: storage.read("a"), lambda: storage.names("a")):
        with pytest.raises(
            OutputError, match=r"^nowhere://bucket/found/a: cannot be (written|read|listed): "
        ):
            use()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        detect_batch(folder / "d.safetensors", few(folder, tmp_path), tmp_path / "file/out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers is for a run with many workers"),
        (["--retry-failed"], "only for a run with many workers: --retry-failed"),
        (["-o", "s3://bucket/found"], "an address as output: s3://bucket/found"),
        (["--engine-cluster", "processes", "--cluster-address", "auto"], "are for a Ray cluster"),
        (["--engine-cluster", "ray", "--gif", "all.gif"], "--gif is for photos in a folder"),
        (["--engine-cluster", "processes", "--shard-size", "0"], "--shard-size must be a number from 1 to"),
        (
            ["--engine-cluster", "ray", "--gpus-per-worker", "-1"],
            "must be a part from 0 to 1, or a whole number",
        ),
        (["--engine-cluster", "ray", "--gpus-per-worker", "nan"], "or a whole number up to 1024: nan"),
        (["--engine-cluster", "ray", "--gpus-per-worker", "1.5"], "or a whole number up to 1024: 1.5"),
        (["--engine-cluster", "processes", "-o", "found.jpg"], "found.jpg: the tables go into a folder"),
        (["--engine-cluster", "processes", "--threshold", "2"], "the threshold must be a number from 0 to 1"),
    ],
)
def test_options_that_make_no_sense(folder, tmp_path, capsys, options, message) -> None:
    command = ["detect", str(folder / "d.safetensors"), str(folder / "photos"), "-o", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


def test_what_is_missing_is_named(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingError, match=r"needs Ray(.|\n)*\.\[ray\]"):
        detect_batch(folder / "d.safetensors", folder / "photos", tmp_path / "out", cluster="ray")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SettingError, match=r"need pyarrow(.|\n)*\.\[ray\]"):
        detect_batch(folder / "d.safetensors", folder / "photos", tmp_path / "out")
    with pytest.raises(SettingError, match="unknown cluster engine: 'dask'"):
        detect_batch(folder / "d.safetensors", folder / "photos", tmp_path / "out", cluster="dask")
    monkeypatch.undo()
    with pytest.raises(PhotoError, match="no such photo or folder"):
        detect_batch(folder / "d.safetensors", folder / "nowhere", tmp_path / "out")


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster on this machine with room for two workers, as a run without an address starts it."""
    ray = pytest.importorskip("ray", reason="needs the extra fewbox[ray]")
    # Ray lets its workers wait for everything else on the machine; there, tests would take minutes.
    # And for each driver it starts idle processes, as many as there are cores, that nobody needs here.
    settings = dict.fromkeys(
        ("RAY_worker_niceness", "RAY_USAGE_STATS_ENABLED", "RAY_prestart_worker_first_driver"), "0"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with ray_cluster(None, Workers(2)) as count:
            assert count == 2
            yield ray.get_runtime_context().gcs_address


def actors() -> list[psutil.Process]:
    """The workers of the cluster that was started here."""
    return [child for child in psutil.Process().children(recursive=True) if "MapWorker" in words_of(child)]


@pytest.mark.slow
@pytest.mark.parametrize("halted", [1], indirect=True)  # Ray may begin with it; the other worker goes on
def test_a_cluster_that_loses_a_worker_loses_no_photo(folder, tmp_path, halted, ray_address) -> None:
    output = tmp_path / "out"
    process = start(folder, halted, output, "--engine-cluster", "ray", "--cluster-address", ray_address)
    # On a busy machine one of the two may have done everything before the other is there.
    (first,) = wait_until(actors)[:1]
    first.suspend()
    wait_until(lambda: len(actors()) == 2)
    first.resume()
    wait_until(lambda: num_done(output) > 0)
    first.kill()
    halted.go_on()
    code, printed = end_of(process)
    assert code == 2, printed
    assert f"1 of {len(halted.right) + 1} photos could not be read" in printed
    assert_complete(output, halted.right)
    assert json.loads((output / "report.json").read_text())["missing_shards"] == []


@pytest.mark.slow
@pytest.mark.parametrize("halted", [1], indirect=True)
def test_a_cluster_goes_on_after_its_driver_is_killed(folder, tmp_path, halted, ray_address) -> None:
    output = tmp_path / "out"
    cluster = ("--engine-cluster", "ray", "--cluster-address", ray_address)
    process = start(folder, halted, output, *cluster, "--workers", "1")
    wait_until(lambda: halted.has_come_there() or process.poll() is not None)
    process.kill()
    _, printed = end_of(process)
    assert halted.has_come_there(), printed
    halted.go_on()
    # In this process, which is connected already; and the workers may be still at it.
    summary = detect_batch(folder / "d.onnx", halted.photos, output, cluster="ray", workers=Workers(1))
    assert (summary.done, summary.failed) == (len(halted.right) + 1, 1)
    assert_complete(output, halted.right)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_address")
def test_a_cluster_without_room_is_refused(folder, tmp_path) -> None:
    files = (folder / "d.safetensors", folder / "photos", tmp_path / "out")
    with pytest.raises(SettingError, match="worker of 50 cores and 0 GPUs: the cluster has 3 cores"):
        detect_batch(*files, cluster="ray", workers=Workers(None, 50))


def test_a_machine_without_room_is_refused_however_many_workers_are_wanted(monkeypatch) -> None:
    """Ray would wait for a GPU to come, and say nothing."""
    pytest.importorskip("ray", reason="needs the extra fewbox[ray]")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr("fewbox.apps.batch.workers._connect", lambda *_: None)
    with (
        pytest.raises(SettingError, match="a worker of 1 cores and 1 GPUs: the cluster has 3 cores"),
        ray_cluster(None, Workers(2, 1, 1)),
    ):
        pass
    with ray_cluster(None, Workers(2, 1)) as count:
        assert count == 2
    with ray_cluster("elsewhere:6379", Workers(2, 1, 1)) as count:  # which may grow
        assert count == 2


def test_a_run_that_was_stopped_between_the_two_files_of_its_detector_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = save_noise(tmp_path)
    (tmp_path / "d.xml").write_bytes(b"<net/>")
    (tmp_path / "d.bin").write_bytes(b"weights")
    monkeypatch.setattr(batch, "_whole_file", lambda *_: (("detector.xml", b"<net/>"), 0.5, 300))
    monkeypatch.setattr(batch, "_what_is_left", lambda *_: [])
    monkeypatch.setattr(batch, "write_report", lambda *_: None)
    write, output = Storage.write, tmp_path / "out"

    def stopped(storage: Storage, name: str, data: bytes) -> None:
        if any(output.glob("detector.*")):
            raise KeyboardInterrupt
        write(storage, name, data)

    with monkeypatch.context() as once:
        once.setattr(Storage, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            detect_batch(tmp_path / "d.xml", photo, output)
    detect_batch(tmp_path / "d.xml", photo, output)
    assert (output / "detector.xml").read_bytes() == b"<net/>"
    assert (output / "detector.bin").read_bytes() == b"weights"


def test_whoever_calls_keeps_the_handler_of_sigterm(monkeypatch) -> None:
    """Ray has its own as long as it runs, and then leaves none."""
    pytest.importorskip("ray", reason="needs the extra fewbox[ray]")
    connect = partial(signal.signal, signal.SIGTERM, lambda *_: pytest.fail("Ray's"))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr("fewbox.apps.batch.workers._connect", lambda *_: connect())
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with ray_cluster(None, Workers(1)):
            pass
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
