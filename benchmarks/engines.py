"""Milliseconds per photo: every engine, precision and base, against PyTorch and against the bare runtimes.

Each way sees each photo before the next photo comes, and has one thread; measured is the time of that core at
work, so that other programs on the machine do not stretch it; figures are medians. "decode" is reading the
photo from its file. "bare" is the same file run by the runtime itself, ``session.run`` of ONNX Runtime and
``infer`` of OpenVINO, from the photo's pixels on. The SSD has random weights: its speed is right, its boxes
mean nothing.

    python benchmarks/engines.py                    about ten minutes
    python benchmarks/engines.py --bases starter    about two
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

from fewbox.apps import openvino_export
from fewbox.data.images import find_photos, read_image
from fewbox.detection.detector import Detector
from fewbox.detection.folder import detect_folder
from fewbox.detection.loading import ExportedDetector
from fewbox.detection.parallel import run_parallel
from fewbox.export import make_header
from fewbox.export.onnx import make_model
from fewbox.models.base import load_base
from fewbox.models.families import network_type
from fewbox.runtimes.onnxruntime import OnnxRuntimeEngine
from fewbox.runtimes.openvino import OpenVinoEngine
from machine import DUCKY, GOLDEN_BASE, SHARED, describe_machine

BASES = {
    "starter": "starter",
    "yolox_nano": str(SHARED / "weights/yolox_nano_coco.onnx"),
    "ssd_resnet50 640": str(GOLDEN_BASE),
}
MIN_SCORE = 0.9  # random weights find thousands of things; a tuned detector finds a few


def main() -> None:
    """Print a table for each base."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument(
        "--folder", type=int, default=0, metavar="N", help="detect in N photos of a folder too"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of a folder")
    parsed = parser.parse_args()
    print(describe_machine())
    print(f"onnxruntime {onnxruntime.__version__}, openvino {openvino.__version__}")
    for name in parsed.bases:
        with tempfile.TemporaryDirectory() as folder:
            files = export(name, Path(folder))
            time_one_by_one(name, files, find_photos(DUCKY / "test")[: parsed.photos])
            if parsed.folder:
                for precision in ("float32", "bfloat16", "int8"):
                    time_folder(name, files[precision], parsed.folder, parsed.rounds, Path(folder))


def export(name: str, folder: Path) -> dict[str, Path]:
    """The base as a detector of its own classes, in files of all kinds."""
    base = load_base(BASES[name])
    labels = [str(number) for number in range(base.config.num_classes)]
    detector = Detector(
        config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
    )
    files = {kind: folder / f"{kind}.xml" for kind in ("float32", "bfloat16", "int8")}
    files |= {"torch": folder / "d.safetensors", "onnx": folder / "d.onnx"}
    detector.save(files["torch"])
    header = make_header(detector, detector.network.architecture, raw=False)
    model = make_model(detector.network, detector.config, header, raw=False)
    files["onnx"].write_bytes(model.SerializeToString())
    photos = [read_image(path) for path in find_photos(DUCKY / "train")]
    for precision in ("float32", "bfloat16", "int8"):
        exported = openvino_export.read_onnx(files["onnx"])
        if precision == "int8":
            exported = openvino_export.quantize(exported, photos)
        openvino_export.save_model(exported, header | {"precision": precision}, files[precision])
    return files


def time_one_by_one(name: str, files: dict[str, Path], photos: list[Path]) -> None:
    """Print milliseconds per photo of each way, and what takes them."""
    detector = Detector.load(files["torch"])
    plain = network_type(detector.config)(detector.config)
    plain.load_state_dict({name: torch.tensor(weight) for name, weight in detector.weights.items()})
    threshold = np.array(MIN_SCORE, np.float32)
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(files["onnx"], options)
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(files["float32"], "CPU", settings)
    bare_openvino = compiled.create_infer_request()
    engines = {
        "ONNX Runtime, float32": OnnxRuntimeEngine(files["onnx"], num_threads=1),
        "OpenVINO, float32": OpenVinoEngine(files["float32"], num_threads=1),
        "OpenVINO, bfloat16": OpenVinoEngine(files["bfloat16"], num_threads=1),
        "OpenVINO, int8": OpenVinoEngine(files["int8"], num_threads=1),
    }

    @torch.inference_mode()
    def eager(image: np.ndarray) -> None:
        plain.find(image, MIN_SCORE)

    ways: dict[str, Callable[[np.ndarray], object]] = {
        "PyTorch eager, float32": eager,
        "PyTorch folded, float32": lambda image: detector.detect(image, threshold=MIN_SCORE),
        "PyTorch folded, bfloat16": lambda image: rounded.detect(image, threshold=MIN_SCORE),
        "bare ONNX Runtime": lambda image: session.run(
            None, {"photos": image[None], "score_threshold": threshold}
        ),
        "bare OpenVINO, float32": lambda image: bare_openvino.infer(
            {"photos": image[None], "score_threshold": threshold}, share_inputs=True
        ),
    }
    rounded = detector.with_precision("bfloat16")
    for way, engine in engines.items():
        exported = ExportedDetector(engine, files["onnx"])
        ways[way] = lambda image, exported=exported: exported.detect(image, threshold=MIN_SCORE)  # type: ignore[misc]
    times: dict[str, list[float]] = {way: [] for way in ["decode", *ways]}
    parts: dict[str, list[tuple[float, ...]]] = {way: [] for way in engines if way.startswith("OpenVINO")}
    for number, path in enumerate([photos[0], photos[0], *photos]):
        start = time.process_time()
        image = read_image(path)
        times["decode"].append((time.process_time() - start) * 1000)
        for way, run in ways.items():
            start = time.process_time()
            run(image)
            times[way].append((time.process_time() - start) * 1000)
        for way, engine in engines.items():
            if isinstance(engine, OpenVinoEngine):
                parts[way].append(time_parts(engine, image[None]))
        if number == 1:  # the first two warm up
            times = {way: [] for way in times}
            parts = {way: [] for way in parts}
    medians = {way: statistics.median(values) for way, values in times.items()}
    eager_ms, decode = medians["PyTorch eager, float32"], medians["decode"]
    print(f"\n{name}: one photo 960x540, median of {len(photos)}; reading its file takes {decode:.1f} ms")
    print("| | ms | against eager | preparing | network | selecting |\n|---|---|---|---|---|---|")
    for way, median in medians.items():
        if way != "decode":
            shares = [f"{statistics.median(column):.1f}" for column in zip(*parts.get(way, []), strict=True)]
            print(
                f"| {way} | {median:.1f} | {eager_ms / median:.2f} | {' | '.join(shares or ['', '', ''])} |"
            )
    for way, bare in (
        ("ONNX Runtime, float32", "bare ONNX Runtime"),
        ("OpenVINO, float32", "bare OpenVINO, float32"),
    ):
        ratio = statistics.median(a / b for a, b in zip(times[way], times[bare], strict=True))
        print(f"{way} takes {ratio:.2f} of the time of the bare runtime")


def time_parts(engine: OpenVinoEngine, photo: np.ndarray) -> tuple[float, ...]:
    """Milliseconds to prepare a photo, for the network, and to select detections."""
    clock = [time.process_time()]
    images = engine.prepare(photo)
    clock.append(time.process_time())
    engine.compute(images)
    clock.append(time.process_time())
    engine.select(photo, MIN_SCORE, images)
    clock.append(time.process_time())
    return tuple((np.diff(clock) * 1000).tolist())


def time_folder(name: str, file: Path, count: int, rounds: int, folder: Path) -> None:
    """Print how fast a folder is done, against the engine alone with all photos in memory, in turns."""
    photos = find_photos(DUCKY / "test")
    many = folder / "many"
    many.mkdir(exist_ok=True)
    paths = [many / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            shutil.copyfile(photos[number % len(photos)], path)
    engine = OpenVinoEngine(file, num_threads=1)
    pixels = [read_image(path)[None] for path in photos]
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        start = time.perf_counter()
        work = (pixels[number % len(pixels)] for number in range(count))
        for done in run_parallel(lambda photo: engine.run(photo, MIN_SCORE), work, 1):
            done.result()
        alone = time.perf_counter() - start
        for pictures, measured in ratios.items():
            start = time.perf_counter()
            settings = {"threshold": MIN_SCORE, "pictures": pictures, "show_progress": False}
            detect_folder(file, [many], folder / "found", **settings)
            measured.append(alone / (time.perf_counter() - start))
        rate = count / alone
    print(
        f"{name}, {engine.precision}: {rate:.1f} photos/s by the engine alone; a folder of {count} photos "
        f"read and listed: {statistics.median(ratios[False]):.2f} of that; "
        f"with pictures drawn and written: {statistics.median(ratios[True]):.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
