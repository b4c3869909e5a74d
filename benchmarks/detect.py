"""Milliseconds per photo: the network as it is usually run, and as ``detect`` runs it.

Every way sees each photo before the next photo comes, so that all meet the machine in the same
moods. What bfloat16 does to the boxes is measured over all photos.

    python benchmarks/detect.py                 about two minutes
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fewbox.data.formats import read_annotations
from fewbox.data.images import find_photos, read_image
from fewbox.detection.precision import MAX_SHIFT_PX, MIN_SCORE, moved_boxes
from fewbox.finetuning import finetune
from fewbox.models.ssd.network import SsdDetector
from machine import DUCKY, GOLDEN_BASE, describe_machine


def main() -> None:
    """Time all ways and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=GOLDEN_BASE)
    parser.add_argument("--photos", type=int, default=20, help="how many test photos")
    parsed = parser.parse_args()
    print(describe_machine())
    annotations = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    tuned = finetune(annotations, str(parsed.base), recipe="seed", show_progress=False)
    exact, rounded = tuned.with_precision("float32"), tuned.with_precision("bfloat16")
    plain = SsdDetector(tuned.config)
    plain.load_state_dict({name: torch.tensor(weight) for name, weight in tuned.weights.items()})
    anchors = plain.anchors(plain.config.size_hw)

    def eager(image: np.ndarray) -> None:
        with torch.inference_mode():
            codes, logits = plain(plain.prepare(image)[None])
            plain.select(codes[0], logits[0], anchors, MIN_SCORE)

    cores = torch.get_num_threads()
    ways: dict[str, tuple[int, Callable[[np.ndarray], object]]] = {
        "eager float32, as built": (cores, eager),
        "folded, channels_last, float32": (
            cores,
            lambda image: exact.detect(image, threshold=MIN_SCORE),
        ),
        "the same, 1 thread": (1, lambda image: exact.detect(image, threshold=MIN_SCORE)),
        "folded, channels_last, bfloat16": (
            cores,
            lambda image: rounded.detect(image, threshold=MIN_SCORE),
        ),
    }
    photos = find_photos(DUCKY / "test")[: parsed.photos]
    times: dict[str, list[float]] = {name: [] for name in ways}
    shifts, boxes = [], 0
    for number, path in enumerate([photos[0], *photos]):
        image = read_image(path)
        for name, (threads, run) in ways.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            run(image)
            if number > 0:  # the first photo warms up
                times[name].append((time.perf_counter() - start) * 1000)
        torch.set_num_threads(cores)
        found, shift_px = moved_boxes(exact, rounded, image)
        boxes += found
        shifts.append(shift_px)

    baseline = statistics.median(times["eager float32, as built"])
    print(f"\n| one photo 960x540, {cores} threads, median of {len(photos)} | ms | ratio |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.0f} | {baseline / median:.2f} |")
    print(
        f"\nbfloat16 moves an edge by up to {max(shifts):.1f} pixels, in the median photo by "
        f"{statistics.median(shifts):.1f} ({boxes} boxes above {MIN_SCORE}; allowed: {MAX_SHIFT_PX}), "
        f"so this detector uses {tuned.precision}."
    )


if __name__ == "__main__":
    main()
