"""What a run over many photos costs beside the detector itself, and the figures its size is reckoned from.

The bare detector (as many processes, each decoding and detecting one photo after the other, writing nothing),
the workers of the standard library and those of Ray take turns, so that all meet the machine in the same
moods. Photos a second are counted from the first finished shard to the last: starting up is told apart, as
it is paid once.

    python benchmarks/cluster.py                     three rounds of 480 photos
    python benchmarks/cluster.py --photos 2000 --rounds 1
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import pyarrow.parquet as parquet
import torch
from PIL import Image

from fewbox.apps.batch import detect_batch
from fewbox.apps.batch.shards import cut_into_shards
from fewbox.apps.batch.workers import Workers
from fewbox.data.formats import read_annotations
from fewbox.data.images import find_photos, read_image, read_reduced, read_size_hw
from fewbox.data.photo_file import PhotoBytes
from fewbox.detection.detector import Detector
from fewbox.finetuning import finetune
from machine import DUCKY, SHARED, describe_machine

NANO = SHARED / "weights/yolox_nano_coco.onnx"
SHARD = 20
_bare: Detector


def main() -> None:
    """Measure the parts, let the three take turns, print both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parsed = parser.parse_args()
    # Else Ray's workers wait for everything else on a shared machine.
    os.environ |= {
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
    }
    import ray

    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector, photos = prepare(folder, parsed.photos)
        parts(detector)
        listing()
        quiet = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "object_store_memory": 200_000_000,
        }
        ray.init(address="local", num_cpus=parsed.workers + 1, **quiet)
        rates: dict[str, list[float]] = {"bare": [], "processes": [], "ray": []}
        starts: dict[str, list[float]] = {"bare": [], "processes": [], "ray": []}
        for number in range(parsed.rounds):
            for kind in rates:
                output = folder / f"{kind}{number}"
                rate, start = run(kind, detector, photos, output, parsed.workers)
                rates[kind].append(rate)
                starts[kind].append(start)
        ray.shutdown()
        for kind in rates:
            ratios = [rate / bare for rate, bare in zip(rates[kind], rates["bare"], strict=True)]
            spread = f"median of {parsed.rounds}, {min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{kind:10} {statistics.median(rates[kind]):.1f} photos/s with {parsed.workers} workers, "
                f"{statistics.median(ratios):.2f} of bare ({spread}); "
                f"first shard after {statistics.median(starts[kind]):.1f} s"
            )
        sizes(folder / "ray0")


def prepare(folder: Path, count: int) -> tuple[Path, Path]:
    """A detector of ducks, and a folder with as many photos, which are few under many names."""
    annotations = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="duck")
    detector = folder / "duck.safetensors"
    finetune(annotations, str(NANO), show_progress=False).save(detector)
    photos = folder / "photos"
    photos.mkdir()
    found = find_photos(DUCKY / "test")
    for number in range(count):
        source = found[number % len(found)].resolve()
        shutil.copyfile(source, photos / f"{number}{source.suffix}")
    return detector, photos


def parts(path: Path) -> None:
    """Milliseconds of one thread, at best: decoding, the network, what comes after it."""
    torch.set_num_threads(1)
    detector = Detector.load(path)
    network = detector.network
    images = [read_image(photo) for photo in find_photos(DUCKY / "test")][:8]
    for name, (width, height) in {"0.3": (640, 480), "2": (1920, 1080), "12": (4032, 3024)}.items():
        buffer = io.BytesIO()
        Image.fromarray(images[0]).resize((width, height)).save(buffer, "JPEG", quality=90)
        file = PhotoBytes("photo", buffer.getvalue())
        enough = detector.enough_hw(read_size_hw(file))
        took = milliseconds(lambda file=file, enough=enough: read_reduced(file, enough))
        print(f"decoding {name} megapixels: {took:.1f} ms, {len(file.data) / 1000:.0f} kB")
    batch = network.batch_of([images[0]])
    with torch.inference_mode():
        codes, logits = network(batch)
        anchors = network.anchors(detector.config.size_hw)
        print(f"preparing: {milliseconds(lambda: network.batch_of([images[0]])):.1f} ms")
        print(f"network: {milliseconds(lambda: network(batch)):.1f} ms ({detector.precision})")
        select = milliseconds(lambda: network.select(codes[0], logits[0], anchors, 0.3))
        print(f"post-processing: {select:.1f} ms")


def listing() -> None:
    """What the list of photos takes in memory, with its shards as they travel."""
    tracemalloc.start()
    count = 100_000
    places = [f"s3://bucket-of-photos/camera-17/2026/11/photo-{number:09d}.jpg" for number in range(count)]
    shards = [shard.to_json() for shard in cut_into_shards(places, 1000)]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"the list: {size / count:.0f} bytes a photo; a shard of 1000: {len(shards[1]) / 1000:.0f} kB")


def milliseconds(work: object, times: int = 15) -> float:
    """The least of a few runs, as the machine may be shared."""
    took = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        took.append(1000 * (time.perf_counter() - start))
    return min(took[1:])


def run(kind: str, detector: Path, photos: Path, output: Path, workers: int) -> tuple[float, float]:
    """Photos a second once all are at work, and seconds until the first shard was done."""
    start = time.time()
    if kind == "bare":
        paths = find_photos(photos)
        chunks = [paths[i : i + SHARD] for i in range(0, len(paths), SHARD)]
        with multiprocessing.get_context("spawn").Pool(workers, load_bare, (detector,)) as pool:
            ends = list(pool.imap_unordered(detect_bare, chunks))
    else:
        settings = {"cluster": kind, "workers": Workers(workers), "shard_size": SHARD}
        detect_batch(detector, photos, output, show_progress=False, **settings)
        ends = [path.stat().st_mtime for path in (output / "photos").iterdir()]
    ends.sort()
    # From when each worker has done one: before, some may still be starting.
    return SHARD * (len(ends) - workers) / (ends[-1] - ends[workers - 1]), ends[0] - start


def load_bare(path: Path) -> None:
    """Begin a process of the bare detector."""
    global _bare
    torch.set_num_threads(1)
    _bare = Detector.load(path)


def detect_bare(paths: list[Path]) -> float:
    """Detect in some photos; when that was done."""
    for path in paths:
        _bare.detect(path)
    return time.time()


def sizes(output: Path) -> None:
    """Bytes of the tables, at the size that shards have in earnest."""
    for name in ("photos", "detections"):
        table = parquet.read_table(output / name)
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        per_row = buffer.tell() / max(table.num_rows, 1)
        print(f"table of {name}: {table.num_rows} rows in one file, {per_row:.0f} bytes a row")


if __name__ == "__main__":
    main()
