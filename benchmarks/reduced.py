"""What reading large photos at a reduced size does to detections.

Photos of COCO are enlarged to 12 megapixels and more, get the noise of a camera, and are saved as JPEG.
YOLOX-nano looks for objects in the photo as it was, in the large one read whole, and in the large one
read reduced. Printed are COCO AP by the annotations of COCO, and how far boxes and scores move.

    python benchmarks/reduced.py                about ten minutes
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from decode import with_noise, yolox_nano
from fewbox.data.formats import read_annotations
from fewbox.data.images import read_image
from fewbox.detection import Detections
from machine import SHARED, describe_machine

COCO128 = SHARED / "data/coco128_val"
TIMES = 7
MIN_SCORE = 0.001
SHOWN_SCORE = 0.5


def average_precision(truth: dict[str, Any], found: list[dict[str, Any]]) -> tuple[float, float]:
    """AP and AP50, 0 to 100."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * float(evaluation.stats[0]), 100 * float(evaluation.stats[1])


def moves(whole: Detections, reduced: Detections, input_px: float) -> list[tuple[float, float]]:
    """How far each detection's edges (in pixels of the input) and score move; infinite if it is gone."""
    rows = []
    for box, score, class_id in zip(whole.boxes, whole.scores, whole.class_ids, strict=True):
        same = np.flatnonzero(reduced.class_ids == class_id)
        if score <= SHOWN_SCORE:
            continue
        if len(same) == 0:
            rows.append((float("inf"), float(score)))
            continue
        shifts = np.abs(reduced.boxes[same] - box).max(1)
        nearest = same[shifts.argmin()]
        rows.append((float(shifts.min()) / input_px, float(abs(reduced.scores[nearest] - score))))
    return rows


def main() -> None:
    """Detect three ways and print what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=128)
    parsed = parser.parse_args()
    print(describe_machine())
    detector = yolox_nano()
    annotations = read_annotations(COCO128 / "labels_yolo", COCO128 / "images")
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [
        {"id": number, "name": str(number)} for number in range(1, len(detector.labels) + 1)
    ]
    found: dict[str, list[dict[str, Any]]] = {"as it was": [], "large, whole": [], "large, reduced": []}
    moved: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        for image_id, image in enumerate(list(annotations)[: parsed.photos], start=1):
            (height, width) = image.size_hw
            truth["images"].append({"id": image_id, "width": width, "height": height})
            for box in image.boxes:
                sides = (box.x2 - box.x1, box.y2 - box.y1)
                row = {"image_id": image_id, "bbox": [box.x1, box.y1, *sides], "area": sides[0] * sides[1]}
                row |= {"category_id": annotations.labels.index(box.label) + 1, "iscrowd": 0}
                truth["annotations"].append(row | {"id": len(truth["annotations"]) + 1})
            original = read_image(image.path)
            large = Image.fromarray(original).resize(
                (width * TIMES, height * TIMES), Image.Resampling.LANCZOS
            )
            with_noise(large, image_id).save(path, quality=90)
            seen = {"as it was": original, "large, whole": read_image(path), "large, reduced": path}
            results = {way: detector.detect(photo, threshold=MIN_SCORE) for way, photo in seen.items()}
            input_px = TIMES * max(image.size_hw) / detector.config.size_hw[0]
            moved += moves(results["large, whole"], results["large, reduced"], input_px)
            for way, detections in results.items():
                times = 1 if way == "as it was" else TIMES
                rows = detections.to_coco(image_id)
                found[way] += [row | {"bbox": [edge / times for edge in row["bbox"]]} for row in rows]
    print(f"\n| {parsed.photos} photos, {TIMES} times enlarged | AP | AP50 |\n|---|---|---|")
    for way, rows in found.items():
        ap, ap50 = average_precision(truth, rows)
        print(f"| {way} | {ap:.1f} | {ap50:.1f} |")
    shifts, scores = np.array(moved).T
    for name, values in (("edges, in pixels of the input", shifts), ("scores", scores)):
        median, most, nearly_all = np.quantile(values, (0.5, 0.9, 0.98))
        print(f"{name}: 50% move less than {median:.2f}, 90% than {most:.2f}, 98% than {nearly_all:.2f}")
    print(f"{len(moved)} detections above {SHOWN_SCORE}")


if __name__ == "__main__":
    main()
