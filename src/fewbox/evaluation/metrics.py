"""COCO's measures of a detector: average precision and average recall.

    AP     mean precision at 101 levels of recall, over IoU 0.50 to 0.95 and the classes with annotations
    AP50   the same at IoU 0.50 alone: was the object found, wherever exactly its edges are
    AR     the largest recall, over the same IoUs and classes, with up to 1, 10 or 100 detections of a
           class in a photo

As defined at https://cocodataset.org/#detection-eval and computed by pycocotools, with which a test
compares; but a measure of nothing is NaN here, not -1. The area of an annotation is the one that its
file states, which in COCO's own files is that of the object's outline; else that of its box.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fewbox.evaluation.matches import match_boxes
from fewbox.evaluation.tables import AnnotationTable, DetectionTable

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
"""All, small, medium and large boxes, in square pixels."""

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's twelve numbers, 0 to 1, and two for each class; NaN where there is no annotation.

    ``ap_small`` and the like count objects of up to 32², up to 96² and more square pixels; ``ar_10`` is
    the average recall with up to 10 detections of a class in a photo, ``ar_small`` with up to 100.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    class_ap: tuple[float, ...]
    class_ap50: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The twelve numbers by name, ready for JSON: None where there is no annotation."""
        numbers = asdict(self)
        del numbers["class_ap"], numbers["class_ap50"]
        return {name: none_if_nan(value) for name, value in numbers.items()}


def none_if_nan(value: float) -> float | None:
    """``value``, but None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def coco_metrics(found: DetectionTable, truth: AnnotationTable, num_classes: int) -> CocoMetrics:
    """Measure detections, down to very low scores, against the annotations of the same photos."""
    matches = match_boxes(found, truth, IOU_THRESHOLDS, AREA_RANGES)
    right, wrong = matches.right, matches.wrong
    shape = (num_classes, len(IOU_THRESHOLDS), len(AREA_RANGES))
    ap, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    recall_1, recall_10 = np.full(shape[:2], np.nan), np.full(shape[:2], np.nan)
    # Photo after photo, in each by rank, before sorting by score: so COCO orders equal scores.
    order = np.lexsort((matches.rank, found.photo_ids))
    order = order[np.lexsort((-found.scores[order], found.class_ids[order]))]
    edges = np.searchsorted(found.class_ids[order], np.arange(num_classes + 1))
    for class_id in range(num_classes):
        rows = order[edges[class_id] : edges[class_id + 1]]
        counts = matches.counted[truth.class_ids == class_id].sum(0)  # [R]
        of_class, not_of_class = right[rows], wrong[rows]
        for area in np.flatnonzero(counts):
            recall[class_id, :, area] = of_class[:, :, area].sum(0) / counts[area]
            for threshold in range(len(IOU_THRESHOLDS)):
                ap[class_id, threshold, area] = average_precision(
                    of_class[:, threshold, area], not_of_class[:, threshold, area], int(counts[area])
                )
        if counts[0]:
            recall_1[class_id] = of_class[matches.rank[rows] < 1, :, 0].sum(0) / counts[0]
            recall_10[class_id] = of_class[matches.rank[rows] < 10, :, 0].sum(0) / counts[0]
    at_75 = int(np.argmin(abs(IOU_THRESHOLDS - 0.75)))
    ap_of_areas, recall_of_areas = (
        [_mean(values[..., area]) for area in range(len(AREA_RANGES))] for values in (ap, recall)
    )
    return CocoMetrics(
        ap=ap_of_areas[0],
        ap50=_mean(ap[:, 0, 0]),
        ap75=_mean(ap[:, at_75, 0]),
        ap_small=ap_of_areas[1],
        ap_medium=ap_of_areas[2],
        ap_large=ap_of_areas[3],
        ar_1=_mean(recall_1),
        ar_10=_mean(recall_10),
        ar_100=recall_of_areas[0],
        ar_small=recall_of_areas[1],
        ar_medium=recall_of_areas[2],
        ar_large=recall_of_areas[3],
        class_ap=tuple(ap[..., 0].mean(1).tolist()),
        class_ap50=tuple(ap[:, 0, 0].tolist()),
    )


def average_precision(
    right: npt.NDArray[np.bool_], wrong: npt.NDArray[np.bool_], num_annotations: int
) -> float:
    """Mean over 101 levels of recall, 0 to 1, of the best precision at that recall or a higher one.

    Args:
        right: ``[K]``, the detections with the highest score first: those that found an annotation.
        wrong: ``[K]``: the false alarms. A detection that is neither does not count.
        num_annotations: how many there are to be found, more than 0.
    """
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    precision = hits / np.maximum(hits + misses, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / num_annotations, _RECALLS, "left")
    return float(best[place[place < len(best)]].sum() / len(_RECALLS))


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
