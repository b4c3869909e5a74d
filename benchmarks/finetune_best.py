"""What the linear probe and adapting cost: seconds and memory, for each base and effort, on ducks.

``best`` costs as much as ``adapt`` where it adapts, and as ``probe`` where it does not. Every row is a
process of its own, so that its peak of memory is its own. ``15 photos`` are the five ducks three times: what
they cost, not what they teach. The input keeps its size.

    python benchmarks/finetune_best.py
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations
from fewbox.finetuning.api import finetune
from fewbox.models.base import load_base
from machine import DUCKY, GOLDEN_BASE, SHARED, describe_machine, peak_of_this_process_mb

YOLOX_NANO = SHARED / "weights/yolox_nano_coco.onnx"
ROWS = (
    ("YOLOX-nano", str(YOLOX_NANO), "probe", "quick", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "probe", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "probe", "long", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "probe", "long", 15),
    ("starter", "starter", "probe", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "adapt", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "adapt", "normal", 10),
    ("YOLOX-nano", str(YOLOX_NANO), "adapt", "normal", 15),
    ("starter", "starter", "adapt", "normal", 10),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "probe", "quick", 5),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "probe", "normal", 5),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "probe", "long", 15),
)


def run(base: str, recipe: str, effort: str, num_photos: int) -> None:
    """Fine-tune once; prints wall seconds, processor seconds and the peak of memory."""
    read = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    loaded = load_base(base)
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for number in range(num_photos):
            image = read.images[number % len(read)]
            copy = Path(folder) / f"{number}{image.path.suffix}"
            shutil.copyfile(image.path, copy)
            images.append(replace(image, path=copy))
        photos = AnnotationSet(tuple(images), read.labels)
        start, start_cpu = time.perf_counter(), time.process_time()
        finetune(photos, loaded, recipe=recipe, config=FinetuneConfig(effort=effort), show_progress=False)
    print(
        time.perf_counter() - start,
        time.process_time() - start_cpu,
        peak_of_this_process_mb(),
    )


def main() -> None:
    """Run every row and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs=4, metavar=("BASE", "RECIPE", "EFFORT", "PHOTOS"), help=argparse.SUPPRESS
    )
    parsed = parser.parse_args()
    if parsed.only:
        run(*parsed.only[:3], int(parsed.only[3]))
        return
    print(describe_machine(), f"{torch.get_num_threads()} threads", sep=", ")
    print(
        "| base | recipe | effort | photos | seconds | of both cores together | peak MB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name, base, recipe, effort, num_photos in ROWS:
        command = [sys.executable, str(Path(__file__)), "--only", base, recipe, effort, str(num_photos)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        wall, processor, peak = map(float, printed.split()[-3:])
        row = (name, recipe, effort, num_photos, f"{wall:.1f}", f"{processor:.1f}", f"{peak:.0f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
