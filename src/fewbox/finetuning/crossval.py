"""Cross-validation: what a detector finds in photos that it did not learn from, and the picture of that.

The photos are divided into folds. For each fold a head is learnt from the others and detects in the
fold. As the base is frozen and its features are cached, that takes matrix products only. What comes out
serves three ends: an estimate of AP50 with an interval, calibrated scores, and a threshold.

What it cannot know: whether the photos to come look like these. All numbers are for photos that do.

Letters in shapes: N photos, K detections, M annotations, C classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewbox.core import counted, single_blas_thread
from fewbox.core.boxes import nms_per_class
from fewbox.data.annotations import AnnotatedImage
from fewbox.data.images import read_reduced
from fewbox.data.remote import short_names
from fewbox.detection.drawing import contact_sheet, contained, draw_boxes, save_picture
from fewbox.detection.parallel import run_parallel
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.estimate import mean_ap50
from fewbox.finetuning.features import CachedPhoto, held_together
from fewbox.finetuning.linear_probe import DesignMatrix, logits_of
from fewbox.models.families import Config, family_of
from fewbox.models.features import AnchorFeatures, Coefficients, Floats

FOLD_STEPS = 40
"""Of L-BFGS: half of the fit to all photos, as every fold costs a fit."""
MIN_SCORE = 0.01
MIN_DETECTIONS = 100
"""Of each photo so many are kept, the surest; where photos are crowded twice as many as one has objects."""
SHEET_PHOTOS = 12
"""Photos on the sheet of held-out photos: those with mistakes first."""
SHEET_SIDE = 420
"""The longer side of a photo on the sheet, in pixels; each is there twice."""
_GAP = 6


Found = tuple[Floats, Floats, NDArray[np.int64]]
"""Boxes ``[K, 4]`` in pixels of the network's input, scores ``[K]`` and class ids ``[K]`` of one photo."""
Folds = Sequence[list[int]]
"""The numbers of the photos that each fold holds out; every photo is in one fold."""


def held_out_outcomes(
    photos: Sequence[CachedPhoto],
    design: DesignMatrix,
    folds: int,
    ridge: float,
    config: Config,
    num_classes: int,
) -> Outcomes | None:
    """As :func:`cross_validate`, of the linear probe.

    Args:
        photos: N of them.
        design: what there is to learn in all of them.
        folds: into how many the photos are divided, 2 to N.
        ridge: as in the fit to all photos.
        config: of the detector that is learnt.
        num_classes: C.
    """
    most = _most_detections(photos)

    def detect(held_out: list[int]) -> list[Found]:
        coefficients, _ = design.fit(ridge, FOLD_STEPS, held_out=held_out)
        return [detect_in(photos[number].features, coefficients, config, most) for number in held_out]

    return cross_validate(photos, folds_of(photos, folds), num_classes, detect)


def cross_validate(
    photos: Sequence[CachedPhoto],
    folds: Folds,
    num_classes: int,
    detect: Callable[[list[int]], list[Found]],
) -> Outcomes | None:
    """What became of detections in every photo by a detector that has not learnt from it.

    Args:
        photos: N of them.
        folds: two or more, as by :func:`folds_of`.
        num_classes: C.
        detect: learns from all photos but those of the given numbers, and detects in each of these.

    Returns:
        None if no class can be checked; see :func:`outcomes_in`.
    """
    if not checked_classes(photos, folds, num_classes).any():
        return None
    found: dict[int, Found] = {}
    # Beside each other: a fit has too little work for more than one thread.
    for held_out, done in zip(folds, run_parallel(detect, folds, 1), strict=True):
        found |= zip(held_out, done.result(), strict=True)
    return outcomes_in(photos, folds, num_classes, [found[number] for number in range(len(photos))])


def folds_of(photos: Sequence[CachedPhoto], num_folds: int) -> list[list[int]]:
    """The numbers of the photos that each fold holds out, copies of one photo together.

    Who has learnt from a copy knows the photo already. If there is nothing else, it is held out from itself:
    the estimate is too high then, which :func:`fewbox.finetuning.estimate.data_warnings` says.
    """
    groups = held_together(photos)
    shown = [np.concatenate([photos[number].class_ids for number in group]) for group in groups]
    folds = stratified_folds(shown, min(num_folds, len(groups)))
    return [sorted(number for place in fold for number in groups[place]) for fold in folds]


def stratified_folds(photos: Sequence[NDArray[np.int64]], num_folds: int) -> list[list[int]]:
    """The numbers of the photos that each fold holds out, with every class spread over the folds.

    Photos of the rarest classes come first, and each goes to the fold that shows its rarest class in the
    fewest photos, then its next rarest, then to the one with the fewest objects: a greedy form of iterative
    stratification (Sechidis et al., On the Stratification of Multi-Label Data, 2011). Of photos with one
    object of one class each, a fold has every ``num_folds``-th.

    Args:
        photos: the class ids of the objects in each of N.
        num_folds: 2 to N; the folds differ by one photo at the most.
    """
    seen_in = Counter(class_id for photo in photos for class_id in set(photo.tolist()))
    rarest_first = [sorted(set(photo.tolist()), key=lambda c: (seen_in[c], c)) for photo in photos]

    def rank(number: int) -> tuple[float, int]:
        fewest = min((seen_in[c] for c in rarest_first[number]), default=math.inf)
        return fewest, -len(photos[number])

    folds: list[list[int]] = [[] for _ in range(num_folds)]
    shows: list[Counter[int]] = [Counter() for _ in range(num_folds)]
    objects = [0] * num_folds
    size, larger = divmod(len(photos), num_folds)
    for number in sorted(range(len(photos)), key=rank):
        classes = rarest_first[number]
        room = [fold for fold in range(num_folds) if len(folds[fold]) < size + (larger > 0)]
        *_, fold = min(([shows[f][c] for c in classes], objects[f], len(folds[f]), f) for f in room)
        folds[fold].append(number)
        shows[fold].update(classes)
        objects[fold] += len(photos[number])
        larger -= len(folds[fold]) > size
    return [sorted(fold) for fold in folds]


def outcomes_in(
    photos: Sequence[CachedPhoto], folds: Folds, num_classes: int, found: Sequence[Found]
) -> Outcomes:
    """What became of what was found in photos held out.

    Boxes are in pixels of the network's input. A class of which all objects are in one fold is left out,
    as no detector could know it there, and what is found on its objects is ignored: once all photos are
    learnt from, they will no longer be taken for those of another class.

    Args:
        photos: N of them.
        folds: as by :func:`folds_of`.
        num_classes: C.
        found: in each photo, by a detector that has not learnt from it.
    """
    return _outcomes(photos, checked_classes(photos, folds, num_classes), found)


def ap50_where_learnt(
    photos: Sequence[CachedPhoto], coefficients: Coefficients, config: Config, num_classes: int
) -> float:
    """AP50 of a head in the very photos it has learnt from: low only where no box of the base holds them."""
    most = _most_detections(photos)
    with single_blas_thread():
        found = [detect_in(photo.features, coefficients, config, most) for photo in photos]
    return mean_ap50(_outcomes(photos, np.ones(num_classes, bool), found), num_classes)


def _outcomes(photos: Sequence[CachedPhoto], checked: NDArray[np.bool_], found: Sequence[Found]) -> Outcomes:
    """What became of what was found, as to the classes ``[C]`` that are checked."""
    parts: list[Found] = []
    copies = _copies(photos)
    for number, (boxes, scores, class_ids) in enumerate(found):
        known = checked[class_ids] & (number not in copies)
        parts.append((boxes[known], scores[known], class_ids[known]))
    all_boxes, all_scores, all_ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    predictions = PredictionTable(
        photo_ids=np.repeat(np.arange(len(parts)), [len(scores) for _, scores, _ in parts]),
        class_ids=all_ids,
        boxes=all_boxes.astype(np.float64),
        scores=all_scores.astype(np.float64),
    )
    return Outcomes.of(predictions, _ground_truth(photos, checked, copies))


def _copies(photos: Sequence[CachedPhoto]) -> set[int]:
    """The numbers of photos that are copies of another: what is found in them says nothing more."""
    said = [max(group, key=lambda number: len(photos[number].boxes)) for group in held_together(photos)]
    return set(range(len(photos))) - set(said)


def checked_classes(photos: Sequence[CachedPhoto], folds: Folds, num_classes: int) -> NDArray[np.bool_]:
    """Which classes ``[C]`` have objects in two folds or more."""
    in_fold = np.zeros((len(folds), num_classes), bool)
    for fold, held_out in enumerate(folds):
        for number in held_out:
            in_fold[fold, photos[number].class_ids] = True
    checked: NDArray[np.bool_] = in_fold.sum(0) > 1
    return checked


def _most_detections(photos: Sequence[CachedPhoto]) -> int:
    return max(MIN_DETECTIONS, 2 * max(len(photo.boxes) for photo in photos))


def detect_in(features: AnchorFeatures, coefficients: Coefficients, config: Config, most: int) -> Found:
    """What a head finds in one photo, ``most`` boxes at the most; of the same classes as a detector would."""
    logits = np.clip(logits_of(coefficients, features), -80, 80)  # of which the exponentials are finite
    scores = np.reciprocal(1 + np.exp(-logits))
    if family_of(config).one_class_per_anchor:
        scores = np.where(np.arange(scores.shape[1]) == scores.argmax(1)[:, None], scores, 0)
    index, class_ids = nms_per_class(
        features.boxes,
        scores,
        score_threshold=MIN_SCORE,
        iou_threshold=config.iou_threshold,
        max_per_class=most,
        max_detections=most,
    )
    return features.boxes[index], scores[index, class_ids], class_ids


def _ground_truth(
    photos: Sequence[CachedPhoto], checked: NDArray[np.bool_], copies: Set[int]
) -> GroundTruthTable:
    """The ground truth of the classes that are checked; objects of others are regions to ignore for them."""
    rows = []
    for number, photo in enumerate(photos):
        if number in copies:
            continue
        known = checked[photo.class_ids]
        learnt = zip(photo.class_ids[known].tolist(), photo.boxes[known].tolist(), strict=True)
        rows += [(number, class_id, box, False) for class_id, box in learnt]
        ignored = [*photo.ignored.tolist(), *photo.boxes[~known].tolist()]
        rows += [(number, c, box, True) for box in ignored for c in np.flatnonzero(checked)]
    return GroundTruthTable(
        photo_ids=np.array([row[0] for row in rows], np.int64),
        class_ids=np.array([row[1] for row in rows], np.int64),
        boxes=np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        ignore=np.array([row[3] for row in rows], bool),
    )


def save_held_out(
    target: Path,
    images: Sequence[AnnotatedImage],
    outcomes: Outcomes,
    scores: NDArray[np.float64],
    labels: Sequence[str],
    config: Config,
    threshold: float,
) -> None:
    """Draw held-out photos on one sheet, each twice: the boxes drawn, then the boxes found.

    A box drawn and not found is dashed, and so is a false alarm.

    Args:
        target: the picture to write.
        images: N photos.
        outcomes: of held-out detections in them; boxes in pixels of the network's input.
        scores: ``[K]`` of the detections, calibrated.
        labels: of the C classes.
        config: of the network, which knows its input from a photo.
        threshold: detections with a higher score are shown.

    Raises:
        OutputError: the picture cannot be written.
    """
    shown = scores > threshold
    sure = outcomes.found_score > outcomes.predictions.scores[~shown].max(initial=0.0)
    tiles = [_Tile(number, outcomes, shown, sure) for number in range(len(images))]
    tiles = [tile for tile in tiles if len(tile.drawn) or not images[tile.number].boxes]
    tiles = sorted(tiles, key=lambda tile: -tile.mistakes)[:SHEET_PHOTOS]
    if not tiles:
        return
    pictures = (tile.draw(images[tile.number], labels, config, scores) for tile in tiles)
    names = short_names([image.path for image in images])
    captions = [f"{names[tile.number]}: {tile}" for tile in tiles]
    save_picture(contact_sheet(pictures, min(2, len(tiles)), 2 * SHEET_SIDE + _GAP, captions), target)


class _Tile:
    """What became of one photo.

    Args:
        number: of the photo.
        outcomes: of all photos.
        shown: ``[K]`` detections above the threshold.
        sure: ``[M]`` annotations found by one of these.
    """

    def __init__(
        self, number: int, outcomes: Outcomes, shown: NDArray[np.bool_], sure: NDArray[np.bool_]
    ) -> None:
        self.number = number
        self.outcomes = outcomes
        self.drawn = np.flatnonzero((outcomes.ground_truth.photo_ids == number) & outcomes.counted)
        self.found = np.flatnonzero((outcomes.predictions.photo_ids == number) & shown)
        self.missed = ~sure[self.drawn]
        self.alarms = outcomes.is_false_positive[self.found]

    @property
    def mistakes(self) -> int:
        """Boxes missed and false alarms."""
        return int(self.missed.sum() + self.alarms.sum())

    def __str__(self) -> str:
        count, alarms = len(self.drawn), int(self.alarms.sum())
        words = [f"{int((~self.missed).sum())} of {count} found" if count else "nothing to find"]
        if alarms:
            words.append(counted(alarms, "false alarm"))
        return ", ".join(words)

    def draw(
        self, image: AnnotatedImage, labels: Sequence[str], config: Config, scores: NDArray[np.float64]
    ) -> Image.Image:
        """The photo with its boxes, beside the photo with what was found."""
        height, width = image.size_hw
        ratio = min(1.0, SHEET_SIDE / max(height, width))
        read = read_reduced(image.path, (ratio * height, ratio * width))
        truth, found = self.outcomes.ground_truth, self.outcomes.predictions

        def half(
            boxes: NDArray[np.float64], ids: NDArray[Any], tags: list[str], dashed: NDArray[np.bool_]
        ) -> Image.Image:
            corners = config.to_photo(boxes, image.size_hw)
            small = contained(Image.fromarray(read.image), (SHEET_SIDE, SHEET_SIDE))
            scale = np.array([small.width / width, small.height / height] * 2)
            return draw_boxes(np.asarray(small), corners * scale, tags, ids, dashed=dashed.tolist())

        ids, found_ids = truth.class_ids[self.drawn], found.class_ids[self.found]
        tags = [labels[class_id] for class_id in ids]
        found_tags = [
            f"{labels[class_id]} {score:.0%}"
            for class_id, score in zip(found_ids, scores[self.found], strict=True)
        ]
        left = half(truth.boxes[self.drawn], ids, tags, self.missed)
        right = half(found.boxes[self.found], found_ids, found_tags, self.alarms)
        pair = Image.new("RGB", (left.width + _GAP + right.width, left.height), "white")
        pair.paste(left, (0, 0))
        pair.paste(right, (left.width + _GAP, 0))
        return pair
