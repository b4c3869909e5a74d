"""What looking twice is worth: AP and AP50 with ``--mirror`` and without, and how much longer it takes.

python benchmarks/mirror.py --draws 5
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from fewbox.config import FinetuneConfig
from fewbox.data.images import read_image
from fewbox.detection.photo_detector import PhotoDetector, TtaDetector
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import coco_metrics
from fewbox.finetuning import finetune
from fewbox.models.base import load_base
from fewshot import DATA_SETS, MIN_SCORE, DataSet
from machine import SHARED, describe_machine


def measure(detector: PhotoDetector, data: DataSet) -> tuple[float, float, float]:
    """AP and AP50, 0 to 100, on the test photos, and the seconds they took."""
    images = [read_image(image.path) for image in data.test]
    start = time.perf_counter()
    found = [detector.detect(image, threshold=MIN_SCORE) for image in images]
    seconds = time.perf_counter() - start
    truth = GroundTruthTable.of(data.test, data.labels)
    metrics = coco_metrics(PredictionTable.of(found), truth, len(data.labels))
    return 100 * metrics.ap, 100 * metrics.ap50, seconds


def main() -> None:
    """Print a row per data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--base", default=str(SHARED / "weights/yolox_nano_coco.onnx"))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    base = load_base(parsed.base)
    print("| data | AP | AP50 | AP gained by --mirror | AP50 gained | times as long |")
    print("|---|---|---|---|---|---|")
    for name, load in DATA_SETS.items():
        data, rows = load(), []
        for draw in range(parsed.draws):
            photos = data.draw(parsed.shots, draw)
            detector = finetune(photos, base, config=FinetuneConfig(seed=draw), show_progress=False)
            once, twice = measure(detector, data), measure(TtaDetector(detector), data)
            rows.append((*once[:2], twice[0] - once[0], twice[1] - once[1], twice[2] / once[2]))
        columns = list(zip(*rows, strict=True))
        spreads = [f"{statistics.mean(c):.1f} ± {statistics.pstdev(c):.1f}" for c in columns[:4]]
        print(f"| {name} | {' | '.join(spreads)} | {statistics.median(columns[4]):.1f} |", flush=True)


if __name__ == "__main__":
    main()
