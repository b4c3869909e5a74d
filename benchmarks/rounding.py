"""How far bfloat16 moves boxes: a detector of real ducks, in OpenVINO and in PyTorch.

The starter learns five photos and looks at 49 others, in float32 and rounded. Each box above a threshold
is compared with the nearest one of its class, and of its four edges the one that moved furthest counts.
Needs a processor that computes in bfloat16.

    python benchmarks/rounding.py                   about a minute
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import openvino

import fewbox
from fewbox.apps.openvino_export import export_openvino
from fewbox.data.images import find_photos
from fewbox.detection.loading import ExportedDetector
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.detection.precision import MIN_SCORE, shifts_px
from fewbox.runtimes.openvino import OpenVinoEngine
from machine import DUCKY, describe_machine


def main() -> None:
    """Print a row for each engine and threshold."""
    print(describe_machine() + f", openvino {openvino.__version__}")
    photos = fewbox.read_annotations(DUCKY / "train_boxes.csv", DUCKY / "train")
    detector = fewbox.finetune(photos, "starter", show_progress=False).with_precision("float32")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "duck.xml"
        export_openvino(detector, target)
        engine = OpenVinoEngine(target, precision="bfloat16")
        print("| | boxes with a score above | boxes | median | 95 of 100 | furthest |")
        print("|---|---|---|---|---|---|")
        compare("OpenVINO, bfloat16", detector, ExportedDetector(engine, target))
        compare("PyTorch folded, bfloat16", detector, detector.with_precision("bfloat16"))


def compare(way: str, exact: fewbox.Detector, rounded: PhotoDetector) -> None:
    """Print how far ``rounded`` moves the boxes of ``exact``, in pixels of the photo."""
    scores, shifts = [], []
    for path in find_photos(DUCKY / "test"):
        before, after = (one.detect(path, threshold=0.03) for one in (exact, rounded))
        compared = before.above(MIN_SCORE)
        scores += compared.scores.tolist()
        shifts += shifts_px(compared, after)
    for threshold in (MIN_SCORE, exact.threshold):
        chosen = np.array(shifts)[np.array(scores) > threshold]
        figures = " | ".join(f"{value:.2f}" for value in np.quantile(chosen, (0.5, 0.95, 1)))
        print(f"| {way} | {threshold:.2f} | {len(chosen)} | {figures} |")


if __name__ == "__main__":
    main()
