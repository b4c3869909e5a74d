"""How time and memory grow with the photos: fine-tuning from 5 to 500, detecting in 100 to 10,000.

Photos are those of the demo at other brightnesses, each a file of its own. Every run is a process of its own;
told are the seconds of processor time of all its threads, which other work on the machine does not stretch,
and its peak of resident memory. Part of a run's time does not depend on the photos, so from one row to the
next the seconds are told of each photo more; for fine-tuning, where many photos get fewer views, of each look
of the network at a photo or at a view of it.

    python benchmarks/growth.py
    python benchmarks/growth.py --only rows --detected 1000 4000 --against ../before
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageEnhance

from fewbox import read_annotations
from fewbox.data import DEMO_BOXES_NAME, DEMO_FOLDER
from fewbox.finetuning.linear_probe.recipe import budget_for
from machine import describe_machine

HERE = Path(__file__).resolve().parents[1]
ROWS = ("finetune", "pictures", "rows")


class Cost(NamedTuple):
    """Of one run."""

    seconds: float
    """Of processor time."""
    peak_mb: float


def make_photos(folder: Path, count: int, width: int) -> Path:
    """Write ``count`` different photos and their ``boxes.json``; the way to that."""
    annotations = read_annotations(DEMO_FOLDER / DEMO_BOXES_NAME, DEMO_FOLDER)
    folder.mkdir()
    small = []
    for shown in annotations:
        times = width / shown.size_hw[1]
        with Image.open(shown.path) as opened:
            small.append(opened.convert("RGB").resize((width, round(shown.size_hw[0] * times))))
    images, boxes = [], []
    for number in range(count):
        shown, photo = annotations.images[number % len(annotations)], small[number % len(annotations)]
        times = width / shown.size_hw[1]
        turns = number // len(annotations)
        photo = ImageEnhance.Brightness(photo).enhance(0.7 + 0.6 * (turns * 0.618034 % 1))
        name = f"{number:05d}.jpg"
        photo.save(folder / name, quality=88)
        image = {"id": number, "file_name": name, "width": photo.width, "height": photo.height}
        images.append(image | {"reviewed": True})
        for box in shown.boxes:
            corner, size = (
                (box.x1 * times, box.y1 * times),
                ((box.x2 - box.x1) * times, (box.y2 - box.y1) * times),
            )
            one = {"id": len(boxes), "image_id": number, "category_id": 1, "bbox": [*corner, *size]}
            boxes.append(one | {"iscrowd": 0, "area": size[0] * size[1]})
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "duck"}]}
    (folder / "boxes.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "boxes.json"


def cost_of(source: Path, cache: Path, *arguments: str) -> Cost:
    """Run one command of fewbox."""
    environment = os.environ | {
        "PYTHONPATH": str(source / "src"),
        "FEWBOX_CACHE": str(cache),
        "FEWBOX_BACKGROUND_EXPORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbox.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    status, peak_kb = Path(f"/proc/{process.pid}/status"), 0.0
    while True:
        pid, code, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        # Not what wait4 says: that is never below the peak of this process.
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        peak_kb = max(peak_kb, *map(float, peaks), 0.0)
        time.sleep(0.02)
    if code:
        sys.exit(f"failed: fewbox {' '.join(arguments)}")
    return Cost(usage.ru_utime + usage.ru_stime, peak_kb / 1024)


def per_piece(seconds: float, pieces: int) -> str:
    """Seconds for each piece of work more; nothing where there are no more pieces."""
    return f"{seconds / pieces:.4f}" if pieces > 0 else ""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    parser.add_argument(
        "--only", choices=ROWS, help="only fine-tuning, or detecting with or without pictures"
    )
    parser.add_argument("--efforts", nargs="+", default=["quick", "normal"], metavar="EFFORT")
    parser.add_argument("--learnt", nargs="+", type=int, default=[5, 50, 150, 500], metavar="N")
    parser.add_argument("--detected", nargs="+", type=int, default=[100, 1000, 10_000], metavar="N")
    parsed = parser.parse_args()
    print(describe_machine())
    sources = {"here": HERE} if parsed.against is None else {"before": parsed.against, "here": HERE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if parsed.only in (None, "finetune"):
            _measure_finetuning(folder, sources, parsed.efforts, parsed.learnt)
        kinds = {"pictures": (), "rows": ("--no-pictures",)}
        kinds = {kind: how for kind, how in kinds.items() if parsed.only in (None, kind)}
        if kinds:
            _measure_detecting(folder, sources, kinds, parsed.detected)


def _measure_finetuning(
    folder: Path, sources: dict[str, Path], efforts: list[str], counts: list[int]
) -> None:
    print("| finetune, recipe probe | photos | looks | CPU s | s for each look more | peak MB |")
    print("|---|---|---|---|---|---|")
    for effort in efforts:
        before: dict[str, Learning] = {}
        for each in finetuning_costs(folder, sources, effort, counts):
            more = ""
            if last := before.get(each.which):
                more = per_piece(each.cost.seconds - last.cost.seconds, each.looks - last.looks)
            row = f"{each.photos} | {each.looks} | {each.cost.seconds:.1f} | {more} | {each.cost.peak_mb:.0f}"
            print(f"| {effort}, {each.which} | {row} |", flush=True)
            before[each.which] = each


class Learning(NamedTuple):
    """One run of fine-tuning."""

    which: str
    """Of the checkouts."""
    photos: int
    looks: int
    """Passes of the network, over photos and views of them."""
    cost: Cost


def finetuning_costs(
    folder: Path, sources: dict[str, Path], effort: str, counts: list[int]
) -> Iterator[Learning]:
    """Fine-tune from so many photos in every checkout, in turns; files go into ``folder``."""
    folder.mkdir(exist_ok=True)
    for count in counts:
        photos = folder / f"learn{count}"
        boxes = photos / "boxes.json" if photos.exists() else make_photos(photos, count, 640)
        for which, source in sources.items():
            asked = ("--base", "starter", "--recipe", "probe", "--effort", effort, "--input-size", "416")
            cost = cost_of(
                source, folder / which, "finetune", str(photos), "--boxes", str(boxes), *asked,
                "-o", str(folder / "duck.safetensors"),
            )  # fmt: skip
            yield Learning(which, count, count * (1 + budget_for(count, effort).augmented_views), cost)


def _measure_detecting(
    folder: Path, sources: dict[str, Path], kinds: dict[str, tuple[str, ...]], counts: list[int]
) -> None:
    print("| detect | photos | CPU s | s for each photo more | peak MB |\n|---|---|---|---|---|")
    detector = folder / "starter.safetensors"
    boxes = make_photos(folder / "few", 5, 640)
    cost_of(
        HERE, folder / "here", "finetune", str(boxes.parent), "--boxes", str(boxes), "--base", "starter",
        "--effort", "quick", "-o", str(detector),
    )  # fmt: skip
    made = {n: make_photos(folder / f"look{n}", n, 320).parent for n in counts}
    for kind, options in kinds.items():
        for which, source in sources.items():
            before = (0, 0.0)
            for count, photos in made.items():
                out = folder / f"found-{which}-{count}"
                cost = cost_of(
                    source, folder / which, "detect", str(detector), str(photos), "-o", str(out), *options
                )
                more = per_piece(cost.seconds - before[1], count - before[0]) if before[0] else ""
                row = f"{count} | {cost.seconds:.1f} | {more} | {cost.peak_mb:.0f}"
                print(f"| {kind}, {which} | {row} |", flush=True)
                before = (count, cost.seconds)


if __name__ == "__main__":
    main()
