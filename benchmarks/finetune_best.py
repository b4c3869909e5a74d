"""What the linear probe and adapting cost: seconds and memory, for each base and effort.

``best`` costs as much as ``adapt`` where it adapts, and as ``probe`` where it does not; where boxes are small
it tries larger inputs too, as of dice and under water. Every row is a process of its own, so that its peak of
memory is its own. ``15 photos`` are the five ducks three times: what they cost, not what they teach.

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
from fewbox.finetuning import finetune
from fewbox.models.base import load_base
from fewshot import data_set
from machine import DUCKY, GOLDEN_BASE, SHARED, describe_machine, peak_of_this_process_mb

YOLOX_NANO = SHARED / "weights/yolox_nano_coco.onnx"
ROWS: tuple[tuple[str, str, str, str, str, int], ...] = (
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "probe", "quick", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "probe", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "probe", "long", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "probe", "long", 15),
    ("starter", "starter", "ducks", "probe", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "adapt", "normal", 5),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "adapt", "normal", 10),
    ("YOLOX-nano", str(YOLOX_NANO), "ducks", "adapt", "normal", 15),
    ("starter", "starter", "ducks", "adapt", "normal", 10),
    ("YOLOX-nano", str(YOLOX_NANO), "dice", "best", "normal", 10),
    ("YOLOX-nano", str(YOLOX_NANO), "underwater_robosub", "best", "normal", 10),
    ("YOLOX-nano", str(YOLOX_NANO), "underwater_robosub", "adapt at 416", "normal", 10),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "ducks", "probe", "quick", 5),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "ducks", "probe", "normal", 5),
    ("SSD ResNet-50 640", str(GOLDEN_BASE), "ducks", "probe", "long", 15),
)


def photos_of(objects: str, count: int, folder: Path) -> AnnotationSet:
    """So many photos: of ducks some twice, of a set far from COCO those of its first draw."""
    if objects != "ducks":
        return data_set(objects).draw_photos(count, 0)
    read = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    images = []
    for number in range(count):
        image = read.images[number % len(read)]
        copy = folder / f"{number}{image.path.suffix}"
        shutil.copyfile(image.path, copy)
        images.append(replace(image, path=copy))
    return AnnotationSet(tuple(images), read.labels)


def run(base: str, objects: str, recipe: str, effort: str, num_photos: int) -> None:
    """Fine-tune once; prints wall seconds, processor seconds and the peak of memory."""
    name, _, side = recipe.partition(" at ")
    config = FinetuneConfig(effort=effort, input_size=int(side or 0))
    loaded = load_base(base)
    with tempfile.TemporaryDirectory() as folder:
        photos = photos_of(objects, num_photos, Path(folder))
        start, start_cpu = time.perf_counter(), time.process_time()
        finetune(photos, loaded, recipe=name, config=config, show_progress=False)
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
    parser.add_argument("--recipes", nargs="+", default=["probe", "adapt", "best", "adapt at 416"])
    parser.add_argument(
        "--only", nargs=5, metavar=("BASE", "OBJECTS", "RECIPE", "EFFORT", "PHOTOS"), help=argparse.SUPPRESS
    )
    parsed = parser.parse_args()
    if parsed.only:
        run(*parsed.only[:4], int(parsed.only[4]))
        return
    print(describe_machine(), f"{torch.get_num_threads()} threads", sep=", ")
    print(
        "| base | objects | recipe | effort | photos | seconds | with start-up | of both cores together "
        "| peak MB |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name, base, objects, recipe, effort, num_photos in ROWS:
        if recipe not in parsed.recipes:
            continue
        of = (base, objects, recipe, effort, str(num_photos))
        start = time.perf_counter()
        command = [sys.executable, str(Path(__file__)), "--only", *of]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        whole = time.perf_counter() - start
        wall, processor, peak = map(float, printed.split()[-3:])
        measured = (f"{wall:.1f}", f"{whole:.1f}", f"{processor:.1f}", f"{peak:.0f}")
        print(f"| {' | '.join((name, *of[1:], *measured))} |", flush=True)


if __name__ == "__main__":
    main()
