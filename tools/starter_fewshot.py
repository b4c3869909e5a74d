"""How good a base is to learn from: fine-tune on a few photos, look for the thing in others, COCO's AP."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from goldeneye.config import FinetuneConfig
from goldeneye.data.annotations import AnnotationSet
from goldeneye.data.formats import read_annotations, write_coco
from goldeneye.detect.detector import Detector
from goldeneye.finetuning.trainer import finetune
from goldeneye.models.base import BaseModel

_LOWEST_SCORE = 0.001  # AP counts the uncertain detections too


@dataclass(frozen=True)
class Score:
    """COCO's AP, at overlaps of 0.5 to 0.95, and at 0.5 alone; from 0 to 1."""

    ap: float
    ap50: float


def few_shot_score(base: BaseModel, train: AnnotationSet, test: AnnotationSet, seed: int) -> Score:
    """What a detector tuned from ``base`` on ``train`` reaches on ``test``."""
    detector = finetune(train, base, config=FinetuneConfig(seed=seed), show_progress=False)
    return score(detector, test)


def score(detector: Detector, test: AnnotationSet) -> Score:
    """AP of a detector of one class; regions to ignore count neither way."""
    found = []
    for image_id, image in enumerate(test, start=1):  # as write_coco counts them
        for (x1, y1, x2, y2), certainty, _ in detector.detect(image.path, score_threshold=_LOWEST_SCORE):
            box = [x1, y1, x2 - x1, y2 - y1]
            found.append({"image_id": image_id, "category_id": 1, "bbox": box, "score": certainty})
    if not found:
        return Score(0.0, 0.0)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        write_coco(test, Path(folder) / "truth.json")
        truth = COCO(str(Path(folder) / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return Score(float(evaluation.stats[0]), float(evaluation.stats[1]))


def real_ducks(folder: Path) -> tuple[AnnotationSet, AnnotationSet]:
    """The photos of rubber ducks to learn from, and those to test on; reflections are to ignore."""
    return (
        read_annotations(folder / "train_boxes.csv", folder / "train", label="rubber_ducky"),
        read_annotations(folder / "test_boxes_coco.json", folder / "test"),
    )
