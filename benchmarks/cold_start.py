"""From the command to the end of the first photo, in a fresh process: an exported detector, and the original.

Both look at the same photo of the demo, one after the other in turns. Needs the extra ``train``.

    python benchmarks/cold_start.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fewbox
from fewbox.data import demo_photos
from machine import describe_machine

NAMES = {"duck.onnx": "ONNX Runtime", "duck.safetensors": "PyTorch"}


def main() -> None:
    """Teach a detector, export it, and time both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="runs of each (default: %(default)s)")
    rounds = parser.parse_args().rounds
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = demo_photos()
        detector = fewbox.finetune(train, "starter", show_progress=False)
        detector.save(folder / "duck.safetensors")
        fewbox.export_detector(detector, folder / "duck.onnx")
        ways = {"duck.onnx": "onnxruntime", "duck.safetensors": "torch"}
        seconds: dict[str, list[float]] = {file: [] for file in ways}
        for _ in range(rounds):
            for file, engine in ways.items():
                seconds[file].append(run(folder, folder / file, test.images[0].path, engine))
    print("| | seconds, best | median |\n|---|---|---|")
    for file, times in seconds.items():
        print(f"| `{file}` in {NAMES[file]} | {min(times):.2f} | {statistics.median(times):.2f} |")
    exported, original = (statistics.median(times) for times in seconds.values())
    print(f"\n{original / exported:.1f} times as fast")


def run(folder: Path, detector: Path, photo: Path, engine: str) -> float:
    """The seconds that one command takes."""
    arguments = [str(detector), str(photo), "-o", str(folder / "found"), "--engine", engine]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fewbox.cli", "detect", *arguments], check=True, capture_output=True
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
