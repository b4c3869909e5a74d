"""Cross-validation: what a detector finds in photos that it did not learn from.

The photos are divided into folds. For each fold a head is learnt from the others and detects in the
fold. As the base is frozen and its features are cached, that takes matrix products only. What comes out
serves three ends: an estimate of AP50 with an interval, calibrated scores, and a threshold.

What it cannot know: whether the photos to come look like these. All numbers are for photos that do.

Letters in shapes: N photos, K detections, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import nms_per_class
from fewbox.detection.parallel import run_parallel
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.features import CachedPhoto
from fewbox.finetuning.linear_probe.logistic import logits_of
from fewbox.finetuning.linear_probe.targets import DesignMatrix
from fewbox.models.features import AnchorFeatures, Coefficients, Floats

NOTHING_HELD_OUT = "not adapted: no photos to hold out that could say whether it finds more"
FOLD_STEPS = 40
"""Of L-BFGS: half of the fit to all photos, as every fold costs a fit."""
MIN_SCORE = 0.01
MAX_DETECTIONS = 100


Found = tuple[Floats, Floats, NDArray[np.int64]]
"""Boxes ``[K, 4]`` in pixels of the network's input, scores ``[K]`` and class ids ``[K]`` of one photo."""


def held_out_outcomes(
    photos: Sequence[CachedPhoto],
    design: DesignMatrix,
    folds: int,
    ridge: float,
    iou_threshold: float,
    num_classes: int,
) -> Outcomes | None:
    """As :func:`cross_validate`, of the linear probe.

    Args:
        photos: N of them.
        design: what there is to learn in all of them.
        folds: into how many parts the photos are divided, 2 to N.
        ridge: as in the fit to all photos.
        iou_threshold: of NMS.
        num_classes: C.
    """

    def detect(held_out: list[int]) -> list[Found]:
        coefficients, _ = design.fit(ridge, FOLD_STEPS, held_out=held_out)
        return [detect_in(photos[number].features, coefficients, iou_threshold) for number in held_out]

    return cross_validate(photos, folds, num_classes, detect)


def cross_validate(
    photos: Sequence[CachedPhoto],
    folds: int,
    num_classes: int,
    detect: Callable[[list[int]], list[Found]],
) -> Outcomes | None:
    """What became of detections in every photo by a detector that has not learnt from it.

    Args:
        photos: N of them.
        folds: into how many parts the photos are divided, 2 to N.
        num_classes: C.
        detect: learns from all photos but those of the given numbers, and detects in each of these.

    Returns:
        None if no class can be checked; see :func:`outcomes_in`.
    """
    if not checked_classes(photos, folds, num_classes).any():
        return None
    found: dict[int, Found] = {}
    each = folds_of(len(photos), folds)
    # Beside each other: a fit has too little work for more than one thread.
    for held_out, done in zip(each, run_parallel(detect, each, 1), strict=True):
        found |= zip(held_out, done.result(), strict=True)
    return outcomes_in(photos, folds, num_classes, [found[number] for number in range(len(photos))])


def folds_of(num_photos: int, folds: int) -> list[list[int]]:
    """The numbers of the photos that each fold holds out."""
    return [list(range(fold, num_photos, folds)) for fold in range(folds)]


def outcomes_in(
    photos: Sequence[CachedPhoto], folds: int, num_classes: int, found: Sequence[Found]
) -> Outcomes:
    """What became of what was found in photos held out.

    Boxes are in pixels of the network's input. A class of which all objects are in one fold is left out,
    as no detector could know it there.

    Args:
        photos: N of them.
        folds: into how many parts they were divided, as by :func:`folds_of`.
        num_classes: C.
        found: in each photo, by a detector that has not learnt from it.
    """
    checked = checked_classes(photos, folds, num_classes)
    parts: list[Found] = []
    for boxes, scores, class_ids in found:
        known = checked[class_ids]
        parts.append((boxes[known], scores[known], class_ids[known]))
    all_boxes, all_scores, all_ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    predictions = PredictionTable(
        photo_ids=np.repeat(np.arange(len(parts)), [len(scores) for _, scores, _ in parts]),
        class_ids=all_ids,
        boxes=all_boxes.astype(np.float64),
        scores=all_scores.astype(np.float64),
    )
    return Outcomes.of(predictions, _ground_truth(photos, checked))


def checked_classes(photos: Sequence[CachedPhoto], folds: int, num_classes: int) -> NDArray[np.bool_]:
    """Which classes ``[C]`` have objects in two folds or more."""
    in_fold = np.zeros((folds, num_classes), bool)
    for number, photo in enumerate(photos):
        in_fold[number % folds, photo.class_ids] = True
    checked: NDArray[np.bool_] = in_fold.sum(0) > 1
    return checked


def detect_in(features: AnchorFeatures, coefficients: Coefficients, iou_threshold: float) -> Found:
    """What a head finds in one photo."""
    logits = np.clip(logits_of(coefficients, features), -80, 80)  # of which the exponentials are finite
    scores = np.reciprocal(1 + np.exp(-logits))
    index, class_ids = nms_per_class(
        features.boxes,
        scores,
        score_threshold=MIN_SCORE,
        iou_threshold=iou_threshold,
        max_per_class=MAX_DETECTIONS,
        max_detections=MAX_DETECTIONS,
    )
    return features.boxes[index], scores[index, class_ids], class_ids


def _ground_truth(photos: Sequence[CachedPhoto], checked: NDArray[np.bool_]) -> GroundTruthTable:
    """The ground truth of the classes that are checked; a region to ignore counts for each of them."""
    rows = []
    for number, photo in enumerate(photos):
        learnt = zip(photo.class_ids.tolist(), photo.boxes.tolist(), strict=True)
        rows += [(number, class_id, box, False) for class_id, box in learnt if checked[class_id]]
        rows += [(number, c, box, True) for box in photo.ignored.tolist() for c in np.flatnonzero(checked)]
    return GroundTruthTable(
        photo_ids=np.array([row[0] for row in rows], np.int64),
        class_ids=np.array([row[1] for row in rows], np.int64),
        boxes=np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        ignore=np.array([row[3] for row in rows], bool),
    )
