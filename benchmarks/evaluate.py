"""COCO's numbers by fewbox and by pycocotools: the same numbers, and how much sooner.

Made-up sets of boxes: some detections are a shifted annotation, the others are anywhere. Both take
turns in one run and use one core; their processor time is measured, which a busy machine does not stretch.

    python benchmarks/evaluate.py
    python benchmarks/evaluate.py --photos 5000 --classes 80     the size of COCO's validation photos
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import coco_metrics
from machine import describe_machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from coco_reference import reference_metrics

ANNOTATIONS_PER_PHOTO = 7  # as in COCO
DETECTIONS_PER_PHOTO = 67
SETS = ((50, 1), (200, 5), (1000, 80))  # photos and classes
SHIFTED = 0.4  # part of the detections that are near an annotation


def made_up_set(num_photos: int, num_classes: int) -> tuple[PredictionTable, GroundTruthTable]:
    """Annotations and detections whose scores say little, so that many false alarms lie between the hits."""
    random = np.random.default_rng(0)
    count = num_photos * ANNOTATIONS_PER_PHOTO
    truth = GroundTruthTable(
        np.sort(random.integers(0, num_photos, count)),
        random.integers(0, num_classes, count),
        random_boxes(random, count),
        random.random(count) < 0.02,
    )
    count = num_photos * DETECTIONS_PER_PHOTO
    near = random.integers(0, len(truth), count)
    sides = truth.boxes[near, 2:] - truth.boxes[near, :2]
    boxes = truth.boxes[near] + random.normal(0, 0.08, (count, 4)) * np.tile(sides, 2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    anywhere = random.random(count) > SHIFTED
    boxes[anywhere] = random_boxes(random, int(anywhere.sum()))
    photo_ids = np.where(anywhere, random.integers(0, num_photos, count), truth.photo_ids[near])
    class_ids = np.where(anywhere, random.integers(0, num_classes, count), truth.class_ids[near])
    return PredictionTable(photo_ids, class_ids, boxes, random.random(count)), truth


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Boxes ``[count, 4]`` with sides from 7 to 245 pixels."""
    corners = random.uniform(0, 400, (count, 2))
    return np.concatenate([corners, corners + np.exp(random.uniform(2, 5.5, (count, 2)))], 1)


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parsed = parser.parse_args()
    print(describe_machine())
    print("\nCPU seconds:\n")
    print("| photos | classes | annotations | detections | pycocotools | fewbox | ratio | differ by |")
    print("|---|---|---|---|---|---|---|---|")
    for num_photos, num_classes in [(parsed.photos, parsed.classes)] if parsed.photos else SETS:
        found, truth = made_up_set(num_photos, num_classes)
        reference_s, ours_s = [], []
        for _ in range(parsed.repeats):
            start = time.process_time()
            expected = reference_metrics(found, truth, num_photos, num_classes)
            reference_s.append(time.process_time() - start)
            start = time.process_time()
            numbers = coco_metrics(found, truth, num_classes).to_dict().values()
            ours_s.append(time.process_time() - start)
        difference = np.nanmax(abs(np.array(list(numbers), float) - expected))
        seconds = statistics.median(reference_s), statistics.median(ours_s)
        ratio = statistics.median(a / b for a, b in zip(reference_s, ours_s, strict=True))
        size = f"{num_photos} | {num_classes} | {len(truth)} | {len(found)}"
        print(
            f"| {size} | {seconds[0]:.2f} | {seconds[1]:.3f} | {ratio:.0f} | {difference:.0e} |", flush=True
        )


if __name__ == "__main__":
    main()
