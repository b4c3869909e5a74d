"""What a GPU brings: seconds to a detector of five ducks, and photos a second.

Fine-tuning is timed from the command to the saved file, in a process of its own, each way in turns; detecting
with the SSD from photos in memory and from a folder of JPEGs, in float32 and, where the boxes stay, bfloat16.
Detections are held against those of the processor. Where there is no GPU it says so and measures nothing.

    python benchmarks/gpu.py                    about five minutes
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fewbox.core.boxes import pairwise_iou
from fewbox.data.formats import read_annotations
from fewbox.data.images import find_photos, read_image
from fewbox.detection.detector import Detector
from fewbox.detection.folder import detect_folder
from fewbox.finetuning import finetune
from fewbox.models.device import choose_device, device_in_words
from machine import DUCKY, GOLDEN_BASE, describe_machine

WANTED = {"SSD ResNet-50, seed recipe": 3, "YOLOX-nano, adapted": 10}
"""Seconds from the command to the saved file."""
WANTED_PHOTOS, WANTED_SHARE = 500, 0.8
"""Photos a second from memory, and the share of them from a folder of JPEGs, on 16 cores."""
SHOWN_SCORE = 0.05


def main() -> int:
    """Measure all and print tables; 1 if there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--photos", type=int, default=2000, help="how many photos to detect in")
    parser.add_argument("--rounds", type=int, default=3, help="how often each fine-tuning is timed")
    parsed = parser.parse_args()
    print(describe_machine())
    device = choose_device(parsed.device)
    if device.type == "cpu":
        print("no GPU here that PyTorch can use: nothing is measured")
        return 1
    print(f"on {device_in_words(device)}")
    cold_starts(str(device), parsed.rounds)
    annotations = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    tuned = finetune(annotations, GOLDEN_BASE, recipe="seed", show_progress=False, device=device)
    images = [read_image(path) for path in find_photos(DUCKY / "test")]
    agreement(tuned.with_precision("float32"), images)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(parsed.photos):
            Image.fromarray(images[number % len(images)]).save(f"{folder}/{number:05d}.jpg", quality=92)
        for precision in ("float32", "bfloat16"):
            throughput(tuned.with_precision(precision), images, Path(folder), parsed.photos)
    return 0


def cold_starts(device: str, rounds: int) -> None:
    """Seconds of ``fewbox finetune``, on the GPU and on the processor, in turns."""
    ways = {
        "SSD ResNet-50, seed recipe": ["--base", str(GOLDEN_BASE), "--recipe", "seed"],
        "YOLOX-nano, adapted": ["--base", "yolox_nano", "--recipe", "adapt"],
    }
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, options in ways.items():
                for where in (device, "cpu"):
                    command = [sys.executable, "-m", "fewbox.cli", "finetune", str(DUCKY / "train")]
                    command += ["--boxes", str(DUCKY / "train_boxes.csv"), "-o", f"{folder}/d.safetensors"]
                    seconds = timed(
                        lambda command=command, options=options, where=where: subprocess.run(  # type: ignore[misc]
                            [*command, *options, "--device", where], check=True, capture_output=True
                        )
                    )
                    taken.setdefault((name, where), []).append(seconds)
    print("\n| five ducks, cold start to saved file | device | s | wanted |\n|---|---|--:|--:|")
    for (name, where), each in taken.items():
        print(f"| {name} | {where} | {statistics.median(each):.1f} | {WANTED[name]} |")


def agreement(detector: Detector, images: list[np.ndarray]) -> None:
    """How far the detections lie from those of the processor."""
    ious, shifts = [1.0], [0.0]
    for image in images[:20]:
        here = detector.on("cpu").detect(image, threshold=SHOWN_SCORE)
        there = detector.detect(image, threshold=SHOWN_SCORE / 2)
        iou = pairwise_iou(here.boxes, there.boxes)
        if len(here):
            ious += iou.max(1, initial=0).tolist()
            shifts += np.abs(there.scores[iou.argmax(1)] - here.scores).tolist()
    print(f"\nfloat32 against the processor: IoU at least {min(ious):.4f} (wanted 0.99), "
          f"scores within {max(shifts):.1e} (wanted 1e-3)")  # fmt: skip


def throughput(detector: Detector, images: list[np.ndarray], folder: Path, count: int) -> None:
    """Photos a second, from memory and from a folder of JPEGs."""
    many = [images[number % len(images)] for number in range(count)]
    detector.detect(many[:64])
    from_memory = count / timed(lambda: detector.detect(many))
    with tempfile.TemporaryDirectory() as output:
        file = Path(output) / "d.safetensors"
        detector.save(file)
        device = str(detector.device)
        options = {"pictures": False, "show_progress": False, "device": device}
        from_folder = count / timed(lambda: detect_folder(file, folder, f"{output}/found", **options))
    share = f"{from_folder / from_memory:.0%}; wanted {WANTED_SHARE:.0%}"
    print(f"{detector.precision}: {from_memory:.0f} photos/s from memory (wanted {WANTED_PHOTOS})")
    print(f"{detector.precision}: {from_folder:.0f} photos/s from JPEGs, start-up counted ({share})")


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
