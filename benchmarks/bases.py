"""Base models on the real ducks: five photos to learn from, 49 to be tested on, several seeds.

Prints a row per base: COCO AP and AP50 as mean and spread over seeds, seconds to fine-tune and
milliseconds to detect (medians), and the size of the detector file. A mirrored duck counts neither
way. Scores down to 0.001 are kept, as COCO's evaluation expects.

    python benchmarks/bases.py                                  the starter, and YOLOX-nano in ../shared
    python benchmarks/bases.py yolox_nano path/to/archive.tar.gz any others
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from fewbox.config import FinetuneConfig
from fewbox.data.formats import read_annotations
from fewbox.detection.detector import Detector
from fewbox.evaluation import LOWEST_SCORE
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import coco_metrics
from fewbox.finetuning import finetune
from fewbox.models.base import BaseModel, load_base
from machine import DUCKY, SHARED, describe_machine


def run_once(base: BaseModel, seed: int) -> dict[str, float]:
    """Fine-tune with one seed and test; AP from 0 to 100."""
    train = read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train", label="rubber_ducky")
    test = read_annotations(DUCKY / "test_boxes_coco.json", DUCKY / "test")
    start = time.perf_counter()
    detector = finetune(train, base, config=FinetuneConfig(seed=seed), show_progress=False)
    row = {"finetune_s": time.perf_counter() - start}
    found, times = [], []
    for image in test:
        start = time.perf_counter()
        found.append(detector.detect(image.path, threshold=LOWEST_SCORE))
        times.append((time.perf_counter() - start) * 1000)
    truth = GroundTruthTable.of(test.images, detector.labels)
    metrics = coco_metrics(PredictionTable.of(found), truth, len(detector.labels))
    row |= {"ap": 100 * metrics.ap, "ap50": 100 * metrics.ap50}
    return row | {"detect_ms": statistics.median(times), "mb": file_size_mb(detector)}


def file_size_mb(detector: Detector) -> float:
    """Megabytes of the saved detector."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.safetensors"
        detector.save(path)
        return path.stat().st_size / 1e6


def main() -> None:
    """Run all bases and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bases", nargs="*", default=["starter", str(SHARED / "weights/yolox_nano_coco.onnx")])
    parser.add_argument("--seeds", type=int, default=5)
    parsed = parser.parse_args()
    print(describe_machine())
    header = f"{parsed.seeds} seeds | AP | AP50 | fine-tune s | detect ms | MB"
    print(f"\n| base, {header} |\n|---|---|---|---|---|---|")
    for name in parsed.bases:
        base = load_base(name)
        rows = [run_once(base, seed) for seed in range(parsed.seeds)]

        def spread(key: str, rows: list[dict[str, float]] = rows) -> str:
            values = [row[key] for row in rows]
            return f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"

        seconds, ms = (statistics.median(row[key] for row in rows) for key in ("finetune_s", "detect_ms"))
        figures = f"{spread('ap')} | {spread('ap50')} | {seconds:.1f} | {ms:.0f} | {rows[0]['mb']:.1f}"
        print(f"| {base.name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
