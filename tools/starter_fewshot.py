"""How good a base is to learn from: fine-tune on a few photos, look for the thing in others, COCO's AP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotationSet
from fewbox.data.formats import read_annotations
from fewbox.detection.detector import Detector
from fewbox.evaluation import evaluate
from fewbox.finetuning import finetune
from fewbox.models.base import BaseModel


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
    """AP of a detector; regions to ignore count neither way."""
    metrics = evaluate(detector, test, show_progress=False).metrics
    return Score(metrics.ap, metrics.ap50)


def real_ducks(folder: Path) -> tuple[AnnotationSet, AnnotationSet]:
    """The photos of rubber ducks to learn from, and those to test on; reflections are to ignore."""
    return (
        read_annotations(folder / "train_boxes.csv", folder / "train", label="rubber_ducky"),
        read_annotations(folder / "test_boxes_coco.json", folder / "test"),
    )
