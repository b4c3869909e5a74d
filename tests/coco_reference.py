"""pycocotools, the reference for COCO's numbers, on our tables."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fewbox.evaluation.matching import GroundTruthTable, PredictionTable


def reference_metrics(
    found: PredictionTable, truth: GroundTruthTable, num_photos: int, num_classes: int
) -> np.ndarray:
    """The twelve numbers ``[12]``; NaN, where pycocotools says -1, for a measure of nothing."""
    ids = [{"id": number + 1} for number in range(max(num_photos, num_classes))]
    dataset = {"images": ids[:num_photos], "categories": ids[:num_classes]}
    more = zip(truth.ignore.tolist(), truth.areas.tolist(), strict=True)
    rows = [
        row | {"iscrowd": int(crowd), "area": area}
        for row, (crowd, area) in zip(_rows(truth), more, strict=True)
    ]
    return _numbers(_coco(dataset, rows), _coco(dataset, _scored(found)))


def reference_metrics_of_file(path: Path, found: PredictionTable) -> np.ndarray:
    """The same twelve numbers, with the annotations as pycocotools itself reads them from a file.

    Photos are numbered in the order of the file, classes in that of their ids, from 0.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
    images, categories = [image["id"] for image in truth.dataset["images"]], sorted(truth.cats)
    rows = [
        row | {"image_id": images[row["image_id"] - 1], "category_id": categories[row["category_id"] - 1]}
        for row in _scored(found)
    ]
    return _numbers(truth, _coco({"images": truth.dataset["images"], "categories": []}, rows))


def _scored(found: PredictionTable) -> list[dict[str, Any]]:
    return [row | {"score": score} for row, score in zip(_rows(found), found.scores.tolist(), strict=True)]


def _numbers(truth: COCO, found: COCO) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats < 0, np.nan, evaluation.stats)


def _rows(table: GroundTruthTable | PredictionTable) -> list[dict[str, Any]]:
    rows = zip(table.photo_ids.tolist(), table.class_ids.tolist(), table.boxes.tolist(), strict=True)
    return [
        {
            "id": number,
            "image_id": photo + 1,
            "category_id": class_id + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
        }
        for number, (photo, class_id, (x1, y1, x2, y2)) in enumerate(rows, start=1)
    ]


def _coco(dataset: dict[str, Any], annotations: list[dict[str, Any]]) -> COCO:
    """Made without a file, and without loadRes, which fails on no detections."""
    coco = COCO()
    coco.dataset = dataset | {"annotations": annotations}
    coco.createIndex()
    return coco
