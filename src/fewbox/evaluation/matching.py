"""Which detection found which annotation, for all photos at once.

The boxes of many photos as flat tables: one row per box, photo after photo.

Metrics over thousands of photos are sums over all their boxes; numpy is quick at those, and slow at
thousands of small arrays.

Letters in shapes: M annotations, K detections, C classes, T thresholds, R ranges of areas.

Which detection found which annotation: COCO's rule, for all thresholds and areas at once.

In each photo and class the detections choose in order of their score. Each takes, of the annotations
that are still free and overlap it by at least the threshold, the one it overlaps most; one to be ignored
only if no other will do. Detections that take one to be ignored count neither way. After ``COCOeval`` of
pycocotools, the reference: https://github.com/cocodataset/cocoapi.

Few detections overlap any annotation by half, and those of different photos or classes do not compete.
So all overlapping pairs are found first, and then the best detection of every photo and class chooses,
then every second best, and so on: as many rounds as one photo has rivals, not as many as there are boxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fewbox.core.boxes import box_areas, intersection_areas
from fewbox.data.annotations import AnnotatedImage
from fewbox.detection.detections import Detections


@dataclass(frozen=True, eq=False)
class GroundTruthTable:
    """All annotations of N photos.

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

        Raises:
            ValueError: a box has another label.
        """
        ids = {label: class_id for class_id, label in enumerate(labels)}
        unknown = {box.label for image in images for box in image.boxes} - ids.keys()
        if unknown:
            raise ValueError(f"labels that no class has: {sorted(unknown)}")
        rows = [(photo, box) for photo, image in enumerate(images) for box in image.boxes]
        corners = [(box.x1, box.y1, box.x2, box.y2) for _, box in rows]
        areas = [math.nan if box.area is None else box.area for _, box in rows]
        return cls(
            photo_ids=np.array([photo for photo, _ in rows], np.int64),
            class_ids=np.array([ids[box.label] for _, box in rows], np.int64),
            boxes=np.array(corners, np.float64).reshape(-1, 4),
            ignore=np.array([box.ignore for _, box in rows], bool),
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


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """All detections in N photos, in any order.

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
        counts = [len(found) for found in detections]
        empty = np.zeros((0, 4))
        return cls(
            photo_ids=np.repeat(np.arange(len(counts)), counts),
            class_ids=np.concatenate([np.zeros(0, np.int64), *(found.class_ids for found in detections)]),
            boxes=np.concatenate([empty, *(found.boxes for found in detections)]),
            scores=np.concatenate([empty[:, 0], *(found.scores for found in detections)]),
        )

    def __len__(self) -> int:
        return len(self.photo_ids)


def overlaps(
    detected: npt.NDArray[np.float64],
    annotated: npt.NDArray[np.float64],
    ignore: npt.NDArray[np.bool_] | bool = False,
) -> npt.NDArray[np.float64]:
    """IoU of detected with annotated boxes, both ``[..., 4]``; their leading axes are broadcast.

    Where ``ignore`` is true the annotated box may be a crowd, so, as in COCO, the result is the part
    of the detected box that lies in it: that is why this is not ``paired_iou``.
    """
    shared = intersection_areas(detected, annotated)
    whole = box_areas(detected) + np.where(ignore, 0, box_areas(annotated) - shared)
    iou: npt.NDArray[np.float64] = shared / np.maximum(whole, 1e-12)
    return iou


ALL_AREAS = np.array([[0.0, 1e10]])
"""``[1, 2]``: one range, which leaves out no box."""

_MAX_PER_PHOTO = 100  # detections of one class in one photo, as in COCO; the others are not looked at
_CHUNK = 1_000_000  # pairs compared at once: some 100 MB


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each detection, at T thresholds of IoU and for R ranges of areas.

    Attributes:
        annotation: ``[K, T, R]`` the row of the annotation it took, -1 if none.
        ignored: ``[K, T, R]`` whether the detection counts neither as right nor as wrong.
        counted: ``[M, R]`` whether the annotation is one to be found.
        rank: ``[K]`` how many detections of its photo and class come before it.
    """

    annotation: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    rank: npt.NDArray[np.int64]

    @property
    def is_true_positive(self) -> npt.NDArray[np.bool_]:
        """``[K, T, R]`` detections that found an annotation."""
        return (self.annotation >= 0) & ~self.ignored

    @property
    def is_false_positive(self) -> npt.NDArray[np.bool_]:
        """``[K, T, R]`` false alarms."""
        return (self.annotation < 0) & ~self.ignored


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections with annotations of their group that they overlap.

    Pairs of one detection stand together, from the least overlap to the largest; of equal ones the
    later annotation is last, which COCO prefers.
    """

    detection: npt.NDArray[np.int64]
    annotation: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]

    def at(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Pairs:
        """Some of the pairs, in the order of ``rows``."""
        return Pairs(self.detection[rows], self.annotation[rows], self.iou[rows])


def match_boxes(
    found: PredictionTable,
    truth: GroundTruthTable,
    iou_thresholds: npt.NDArray[np.float64],
    area_ranges: npt.NDArray[np.float64] = ALL_AREAS,
) -> Matches:
    """Give each annotation to at most one detection of its class; one to be ignored, to any number.

    Args:
        found: the detections. Equal scores keep their order.
        truth: the annotations of the same photos.
        iou_thresholds: ``[T]``.
        area_ranges: ``[R, 2]`` lowest and highest area in square pixels, both inclusive. An annotation
            outside is ignored, and so is a detection outside that takes none.
    """
    ignore = truth.ignore[:, None] | _outside(truth.areas, area_ranges)
    num_classes = 1 + max(found.class_ids.max(initial=0), truth.class_ids.max(initial=0))
    found_groups = found.photo_ids * num_classes + found.class_ids
    order = np.lexsort((-found.scores, found_groups))
    rank = np.empty_like(order)
    rank[order] = _position_in_run(found_groups[order])
    # What follows is in the order of choosing, the result in the order of the table.
    chooses = order[rank[order] < _MAX_PER_PHOTO]
    pairs = overlapping_pairs(
        found,
        truth,
        chooses,
        found_groups,
        truth.photo_ids * num_classes + truth.class_ids,
        iou_thresholds.min(),
    )
    shape = (len(found), len(iou_thresholds), len(area_ranges))
    annotation = np.full(shape, -1, np.int32)
    ignored = np.broadcast_to(_outside(box_areas(found.boxes), area_ranges)[:, None], shape).copy()
    ignored[rank >= _MAX_PER_PHOTO] = True
    taken = np.zeros((len(truth), *shape[1:]), bool)
    for now in _rounds(pairs, found_groups):
        _choose(now, truth.ignore, ignore, iou_thresholds, taken, annotation, ignored)
    return Matches(annotation, ignored, ~ignore, rank)


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
    found: PredictionTable,
    truth: GroundTruthTable,
    rows: npt.NDArray[np.int64],
    found_groups: npt.NDArray[np.int64],
    truth_groups: npt.NDArray[np.int64],
    lowest_iou: float,
) -> Pairs:
    """The pairs of detections ``rows`` with annotations of their group that overlap enough.

    Args:
        found: the detections.
        truth: the annotations.
        rows: ``[R]`` which of the detections, in the order in which they are to stand.
        found_groups: ``[K]`` a number for each detection, such as its photo.
        truth_groups: ``[M]`` the same for each annotation.
        lowest_iou: overlap from which on two make a pair.
    """
    by_group = np.argsort(truth_groups, kind="stable")
    sorted_groups = truth_groups[by_group]
    starts = np.searchsorted(sorted_groups, found_groups[rows], "left")
    counts = np.searchsorted(sorted_groups, found_groups[rows], "right") - starts
    parts = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for part in _chunks(counts):
        detection = np.repeat(rows[part], counts[part])
        place = np.arange(len(detection)) - np.repeat(np.cumsum(counts[part]) - counts[part], counts[part])
        annotation = by_group[np.repeat(starts[part], counts[part]) + place]
        iou = overlaps(found.boxes[detection], truth.boxes[annotation], truth.ignore[annotation])
        near = iou >= lowest_iou
        sequence = np.lexsort((iou[near], np.repeat(np.arange(len(counts))[part], counts[part])[near]))
        rows_of_part = np.flatnonzero(near)[sequence]
        parts.append(Pairs(detection[rows_of_part], annotation[rows_of_part], iou[rows_of_part]))
    return Pairs(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.annotation for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )


def _chunks(counts: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Slices of ``counts`` that sum up to about ``_CHUNK`` each."""
    totals = np.cumsum(counts)
    cuts = np.searchsorted(totals, np.arange(_CHUNK, totals[-1] if len(totals) else 0, _CHUNK))
    edges = np.unique([0, *cuts, len(counts)])
    yield from (slice(low, high) for low, high in pairwise(edges))


def _rounds(pairs: Pairs, groups: npt.NDArray[np.int64]) -> Iterator[Pairs]:
    """The pairs of the best detection of every group, then of the second best, and so on."""
    starts = _run_starts(pairs.detection)
    turns = _position_in_run(groups[pairs.detection[starts]])
    turn = np.repeat(turns, np.diff(starts, append=len(pairs.detection)))
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
    annotation: npt.NDArray[np.int32],
    ignored: npt.NDArray[np.bool_],
) -> None:
    """Let the detections of one round, of which no two compete, choose; fills the last three arrays."""
    count = len(pairs.iou)
    free = ~taken[pairs.annotation] | crowd[pairs.annotation][:, None, None]  # [P, T, R]
    fits = free & (pairs.iou[:, None] >= iou_thresholds)[:, :, None]
    # A number that is higher for the better choice: to be found before to be ignored, then the overlap.
    worth = np.arange(count)[:, None] + count * ~ignore[pairs.annotation]  # [P, R]
    starts = _run_starts(pairs.detection)
    best = np.maximum.reduceat(np.where(fits, worth[:, None], -1), starts, axis=0)  # [K of this round, T, R]
    chose, threshold, area = np.nonzero(best >= 0)
    chosen = pairs.annotation[best[chose, threshold, area] % count]
    detection = pairs.detection[starts][chose]
    taken[chosen, threshold, area] = True
    annotation[detection, threshold, area] = chosen
    ignored[detection, threshold, area] = ignore[chosen, area]
