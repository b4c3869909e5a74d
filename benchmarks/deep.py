"""What deep fine-tuning finds that a new head does not, on two thirds of the raccoon photos.

The other third is held out. All detectors start from YOLOX-nano and are measured in the same run.

    python benchmarks/deep.py                        the best recipe, then three depths of ten epochs
    python benchmarks/deep.py --layers neck --epochs 20
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewbox.config import DeepConfig, FinetuneConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations
from fewbox.detection.detector import Detector
from fewbox.evaluation import evaluate
from fewbox.finetuning import finetune
from fewbox.finetuning.deep import finetune_deep
from fewbox.models.base import load_base
from fewbox.models.device import process_group
from machine import SHARED, describe_machine

RACCOONS = SHARED / "data/raccoon"
NANO = SHARED / "weights/yolox_nano_coco.onnx"


def main() -> None:
    """Train, measure, print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", default=["towers", "neck", "all"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--effort", default="normal", help="of the best recipe")
    parser.add_argument("--learning-rate", type=float, default=DeepConfig().learning_rate)
    parsed = parser.parse_args()
    taught, held_out = split(read_annotations(RACCOONS / "annotations", RACCOONS / "images"))
    print(describe_machine())
    print(f"{len(taught)} photos to learn from, {len(held_out)} held out", flush=True)
    base = load_base(NANO)
    start = time.perf_counter()
    best = finetune(taught, base, config=FinetuneConfig(effort=parsed.effort), show_progress=False)
    report(f"best recipe, {parsed.effort}", best, held_out, start)
    for layers in parsed.layers:
        config = DeepConfig(layers=layers, epochs=parsed.epochs, learning_rate=parsed.learning_rate)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, process_group() as group:
            checkpoint = Path(folder) / "checkpoint.pt"
            detector = finetune_deep(taught, base, checkpoint, group, config=config, show_progress=False)
        report(f"deep, {layers}, {parsed.epochs} epochs", detector, held_out, start)


def split(annotations: AnnotationSet) -> tuple[AnnotationSet, AnnotationSet]:
    """Two thirds and one third, by a fixed shuffle."""
    order = np.random.default_rng(0).permutation(len(annotations)).tolist()
    third = len(order) // 3
    return tuple(  # type: ignore[return-value]
        replace(annotations, images=tuple(annotations.images[i] for i in sorted(part)))
        for part in (order[third:], order[:third])
    )


def report(name: str, detector: Detector, held_out: AnnotationSet, start: float) -> None:
    """Print a row."""
    seconds = time.perf_counter() - start
    metrics = evaluate(detector, held_out, show_progress=False).metrics
    print(f"{name:24} AP {100 * metrics.ap:.1f}  AP50 {100 * metrics.ap50:.1f}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
