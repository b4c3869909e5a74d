"""Which prediction found which ground-truth box: COCO's rule, for all photos, thresholds and areas at once.

In each photo and class the predictions choose in order of their score. Each takes, of the ground-truth
boxes that are still free and overlap it by at least the threshold, the one it overlaps most; one to be
ignored only if no other will do. Predictions that take one to be ignored count neither way. After
``COCOeval`` of pycocotools, the reference: https://github.com/cocodataset/cocoapi.

Metrics over thousands of photos are sums over all their boxes; numpy is quick at those, and slow at
thousands of small arrays. So the boxes of all photos stand in flat tables, one row per box. Few
predictions overlap any ground truth by half, and those of different photos or classes do not compete: all
overlapping pairs are found first, and then the best prediction of every photo and class chooses, then
every second best, and so on: as many rounds as one photo has rivals, not as many as there are boxes.

Letters in shapes: N photos, M ground-truth boxes and K predictions in all of them, P pairs of one of each,
C classes, T thresholds, R ranges of areas.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbox.core import some_of
from fewbox.core.boxes import box_areas, intersection_areas
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.photo_file import content_hash
from fewbox.detection import Detections
from fewbox.errors import AnnotationError


@dataclass(frozen=True, eq=False)
class GroundTruthTable:
    """All ground-truth boxes of N photos: what was annotated.

    Attributes:
        photo_ids: ``[M]`` int64, 0 to N-1.
        class_ids: ``[M]`` int64.
        boxes: ``[M, 4]`` float64.
        ignore: ``[M]`` bool, true for a box that counts neither as found nor as missed.
        stated_areas: ``[M]`` float64 square pixels, NaN for the box's own; none if all are.
    """

    photo_ids: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    ignore: npt.NDArray[np.bool_]
    stated_areas: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(cls, images: Sequence[AnnotatedImage], labels: Sequence[str]) -> GroundTruthTable:
        """The boxes of ``images`` in their order; class ``c`` is ``labels[c]``.

        A box to ignore with another label, such as "crowd", is one for each class: it counts neither way.

        Raises:
            ValueError: an object has another label.
        """
        ids = {label: [class_id] for class_id, label in enumerate(labels)}
        unknown = {box.label for image in images for box in image.objects} - ids.keys()
        if unknown:
            raise ValueError(f"labels that no class has: {sorted(unknown)}")
        boxes = [(photo, box) for photo, image in enumerate(images) for box in image.boxes]
        every = range(len(labels))
        rows = [(photo, box, c) for photo, box in boxes for c in ids.get(box.label, every)]
        corners = [(box.x1, box.y1, box.x2, box.y2) for _, box, _ in rows]
        areas = [math.nan if box.area is None else box.area for _, box, _ in rows]
        return cls(
            photo_ids=np.array([photo for photo, _, _ in rows], np.int64),
            class_ids=np.array([class_id for _, _, class_id in rows], np.int64),
            boxes=np.array(corners, np.float64).reshape(-1, 4),
            ignore=np.array([box.ignore for _, box, _ in rows], bool),
            stated_areas=np.array(areas, np.float64),
        )

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """``[M]`` square pixels, as stated, else of the box."""
        areas = box_areas(self.boxes)
        if self.stated_areas is None:
            return areas
        return np.where(np.isnan(self.stated_areas), areas, self.stated_areas)

    def __len__(self) -> int:
        return len(self.photo_ids)


def require_known_labels(annotations: AnnotationSet, labels: Sequence[str]) -> None:
    """Refuse annotations of objects that the detector was not taught; what is to be ignored may be anything.

    Raises:
        AnnotationError: an object has a label that is not one of ``labels``.
    """
    used = dict.fromkeys(box.label for image in annotations for box in image.objects)
    unknown = [label for label in used if label not in labels]
    if not unknown:
        return
    near = [(label, difflib.get_close_matches(label, labels, n=1)) for label in unknown]
    guesses = [f"{label!r} may be {close[0]!r}" for label, close in near if close]
    knows = f"the detector knows {some_of(labels, 10)}"
    raise AnnotationError(
        f"{annotations.source}: labels that the detector does not know: {', '.join(unknown)}",
        hint="; ".join([knows, *guesses, "give the boxes its labels, or leave those of other objects out"]),
    )


def photos_learnt_from(provenance: Mapping[str, Any], annotations: AnnotationSet) -> tuple[str, ...]:
    """Names of photos that seem to be ones the detector was taught with.

    The detector's file knows them by their content. An older one knows their names and numbers of boxes
    only. Two sets may both have a ``duck_04.jpg`` with one duck in it, so only if at least half of the
    photos it was taught with are there, they are.
    """
    photos = provenance.get("photos", ())
    if known := {photo.get("sha256") for photo in photos} - {None}:
        return names_among(annotations, known)
    named = zip(annotations.names, annotations, strict=True)
    taught = {(photo["name"], photo["boxes"]) for photo in photos}
    names = tuple(name for name, image in named if (image.path.name, len(image.boxes)) in taught)
    return names if 2 * len(names) >= len(taught) else ()


def names_among(annotations: AnnotationSet, contents: Set[str | None]) -> tuple[str, ...]:
    """Names of the photos whose files have one of these hashes."""
    named = zip(annotations.names, annotations, strict=True)
    return tuple(name for name, image in named if content_hash(image.path) in contents - {None})


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """All predictions in N photos, in any order: what was detected.

    Attributes:
        photo_ids: ``[K]`` int64, 0 to N-1.
        class_ids: ``[K]`` int64.
        boxes: ``[K, 4]`` float64.
        scores: ``[K]`` float64.
    """

    photo_ids: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    @classmethod
    def of(cls, detections: Sequence[Detections]) -> PredictionTable:
        """What one detector found in N photos, in the order of the photos and of each one's detections."""
        counts = [len(one) for one in detections]
        empty = np.zeros((0, 4))
        return cls(
            photo_ids=np.repeat(np.arange(len(counts)), counts),
            class_ids=np.concatenate([np.zeros(0, np.int64), *(one.class_ids for one in detections)]),
            boxes=np.concatenate([empty, *(one.boxes for one in detections)]),
            scores=np.concatenate([empty[:, 0], *(one.scores for one in detections)]),
        )

    def at(self, rows: npt.NDArray[np.bool_]) -> PredictionTable:
        """Some of them, in their order."""
        return PredictionTable(
            self.photo_ids[rows], self.class_ids[rows], self.boxes[rows], self.scores[rows]
        )

    def __len__(self) -> int:
        return len(self.photo_ids)


def overlaps(
    predicted: npt.NDArray[np.float64],
    ground_truth: npt.NDArray[np.float64],
    ignore: npt.NDArray[np.bool_] | bool = False,
) -> npt.NDArray[np.float64]:
    """IoU of predicted with ground-truth boxes, both ``[..., 4]``; their leading axes are broadcast.

    Where ``ignore`` is true the ground truth may be a crowd, so, as in COCO, the result is the part
    of the predicted box that lies in it: that is why this is not ``paired_iou``.
    """
    shared = intersection_areas(predicted, ground_truth)
    whole = box_areas(predicted) + np.where(ignore, 0, box_areas(ground_truth) - shared)
    iou: npt.NDArray[np.float64] = shared / np.maximum(whole, 1e-12)
    return iou


ALL_AREAS = np.array([[0.0, 1e10]])
"""``[1, 2]``: one range, which leaves out no box."""

_CHUNK = 1_000_000  # pairs compared at once: some 100 MB


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each prediction, at T thresholds of IoU and for R ranges of areas.

    Attributes:
        ground_truth_rows: ``[K, T, R]`` the row of the ground truth it took, -1 if none.
        ignored: ``[K, T, R]`` whether the prediction is neither a true nor a false positive.
        counted: ``[M, R]`` whether the ground truth is to be found.
        rank: ``[K]`` how many predictions of its photo and class come before it.
    """

    ground_truth_rows: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    rank: npt.NDArray[np.int64]

    @property
    def is_true_positive(self) -> npt.NDArray[np.bool_]:
        """``[K, T, R]`` predictions that found a ground-truth box."""
        return (self.ground_truth_rows >= 0) & ~self.ignored

    @property
    def is_false_positive(self) -> npt.NDArray[np.bool_]:
        """``[K, T, R]`` predictions that found none."""
        return (self.ground_truth_rows < 0) & ~self.ignored


@dataclass(frozen=True, eq=False)
class Pairs:
    """Predictions with ground truth of their group that they overlap.

    Pairs of one prediction stand together, from the least overlap to the largest; of equal ones the
    later ground truth is last, which COCO prefers.

    Attributes:
        prediction_rows: ``[P]`` the row of each prediction.
        ground_truth_rows: ``[P]`` the row of each ground-truth box.
        iou: ``[P]`` of the two.
    """

    prediction_rows: npt.NDArray[np.int64]
    ground_truth_rows: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]

    def at(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Pairs:
        """Some of the pairs, in the order of ``rows``."""
        return Pairs(self.prediction_rows[rows], self.ground_truth_rows[rows], self.iou[rows])


def match_boxes(
    predictions: PredictionTable,
    ground_truth: GroundTruthTable,
    iou_thresholds: npt.NDArray[np.float64],
    area_ranges: npt.NDArray[np.float64] = ALL_AREAS,
    max_per_photo: int | None = None,
) -> Matches:
    """Give each ground truth to at most one prediction of its class; one to be ignored, to any number.

    Args:
        predictions: in any order; equal scores keep theirs.
        ground_truth: of the same photos.
        iou_thresholds: ``[T]``.
        area_ranges: ``[R, 2]`` lowest and highest area in square pixels, both inclusive. Ground
            truth outside is ignored, and so is a prediction outside that takes none.
        max_per_photo: how many predictions of one class in one photo are looked at, the surest; the
            others are ignored. None for all.
    """
    ignore = ground_truth.ignore[:, None] | _outside(ground_truth.areas, area_ranges)
    num_classes = 1 + max(predictions.class_ids.max(initial=0), ground_truth.class_ids.max(initial=0))
    prediction_groups = predictions.photo_ids * num_classes + predictions.class_ids
    order = np.lexsort((-predictions.scores, prediction_groups))
    rank = np.empty_like(order)
    rank[order] = _position_in_run(prediction_groups[order])
    # What follows is in the order of choosing, the result in the order of the table.
    is_over = np.zeros(len(rank), bool) if max_per_photo is None else rank >= max_per_photo
    chooses = order[~is_over[order]]
    pairs = overlapping_pairs(
        predictions,
        ground_truth,
        chooses,
        prediction_groups,
        ground_truth.photo_ids * num_classes + ground_truth.class_ids,
        iou_thresholds.min(),
    )
    shape = (len(predictions), len(iou_thresholds), len(area_ranges))
    ground_truth_rows = np.full(shape, -1, np.int32)
    ignored = np.broadcast_to(_outside(box_areas(predictions.boxes), area_ranges)[:, None], shape).copy()
    ignored[is_over] = True
    taken = np.zeros((len(ground_truth), *shape[1:]), bool)
    for now in _rounds(pairs, prediction_groups):
        _choose(now, ground_truth.ignore, ignore, iou_thresholds, taken, ground_truth_rows, ignored)
    return Matches(ground_truth_rows, ignored, ~ignore, rank)


def _outside(areas: npt.NDArray[np.float64], area_ranges: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return (areas[:, None] < area_ranges[:, 0]) | (areas[:, None] > area_ranges[:, 1])


def _position_in_run(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each of ``values``, in which equal ones stand together, how many equal ones precede it."""
    starts = _run_starts(values)
    lengths = np.diff(starts, append=len(values))
    return np.arange(len(values)) - np.repeat(starts, lengths)


def _run_starts(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1))


def overlapping_pairs(
    predictions: PredictionTable,
    ground_truth: GroundTruthTable,
    rows: npt.NDArray[np.int64],
    prediction_groups: npt.NDArray[np.int64],
    ground_truth_groups: npt.NDArray[np.int64],
    lowest_iou: float,
) -> Pairs:
    """The pairs of predictions ``rows`` with ground truth of their group that overlap enough.

    Args:
        predictions: K of them.
        ground_truth: M boxes.
        rows: which of the predictions, in the order in which they are to stand.
        prediction_groups: ``[K]`` a number for each prediction, such as its photo.
        ground_truth_groups: ``[M]`` the same for each ground truth.
        lowest_iou: overlap from which on two make a pair.
    """
    by_group = np.argsort(ground_truth_groups, kind="stable")
    sorted_groups = ground_truth_groups[by_group]
    starts = np.searchsorted(sorted_groups, prediction_groups[rows], "left")
    counts = np.searchsorted(sorted_groups, prediction_groups[rows], "right") - starts
    parts = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in _chunks(counts):
        predicted = np.repeat(rows[part], counts[part])
        place = np.arange(len(predicted)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        target = by_group[np.repeat(starts[part], counts[part]) + place]
        iou = overlaps(predictions.boxes[predicted], ground_truth.boxes[target], ground_truth.ignore[target])
        near = iou >= lowest_iou
        sequence = np.lexsort((iou[near], np.repeat(np.arange(len(counts))[part], counts[part])[near]))
        rows_of_part = np.flatnonzero(near)[sequence]
        parts.append(Pairs(predicted[rows_of_part], target[rows_of_part], iou[rows_of_part]))
    return Pairs(
        np.concatenate([part.prediction_rows for part in parts]),
        np.concatenate([part.ground_truth_rows for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )


def _chunks(counts: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Slices of ``counts`` that sum up to about ``_CHUNK`` each."""
    totals = np.cumsum(counts)
    cuts = np.searchsorted(totals, np.arange(_CHUNK, totals[-1] if len(totals) else 0, _CHUNK))
    edges = np.unique([0, *cuts, len(counts)])
    yield from (slice(low, high) for low, high in pairwise(edges))


def _rounds(pairs: Pairs, groups: npt.NDArray[np.int64]) -> Iterator[Pairs]:
    """The pairs of the best prediction of every group, then of the second best, and so on."""
    starts = _run_starts(pairs.prediction_rows)
    turns = _position_in_run(groups[pairs.prediction_rows[starts]])
    turn = np.repeat(turns, np.diff(starts, append=len(pairs.prediction_rows)))
    sequence = np.argsort(turn, kind="stable")
    edges = np.searchsorted(turn[sequence], np.arange(turn.max(initial=-1) + 2))
    for low, high in pairwise(edges):
        rows = sequence[low:high]
        yield pairs.at(rows)


def _choose(
    pairs: Pairs,
    crowd: npt.NDArray[np.bool_],
    ignore: npt.NDArray[np.bool_],
    iou_thresholds: npt.NDArray[np.float64],
    taken: npt.NDArray[np.bool_],
    ground_truth_rows: npt.NDArray[np.int32],
    ignored: npt.NDArray[np.bool_],
) -> None:
    """Let the predictions of one round, of which no two compete, choose; fills the last three arrays."""
    count = len(pairs.iou)
    free = ~taken[pairs.ground_truth_rows] | crowd[pairs.ground_truth_rows][:, None, None]  # [P, T, R]
    fits = free & (pairs.iou[:, None] >= iou_thresholds)[:, :, None]
    # A number that is higher for the better choice: to be found before to be ignored, then the overlap.
    worth = np.arange(count)[:, None] + count * ~ignore[pairs.ground_truth_rows]  # [P, R]
    starts = _run_starts(pairs.prediction_rows)
    best = np.maximum.reduceat(np.where(fits, worth[:, None], -1), starts, axis=0)  # [K of this round, T, R]
    chose, threshold, area = np.nonzero(best >= 0)
    chosen = pairs.ground_truth_rows[best[chose, threshold, area] % count]
    prediction_rows = pairs.prediction_rows[starts][chose]
    taken[chosen, threshold, area] = True
    ground_truth_rows[prediction_rows, threshold, area] = chosen
    ignored[prediction_rows, threshold, area] = ignore[chosen, area]
