"""The boxes of many photos as flat tables: one row per box, photo after photo.

Metrics over thousands of photos are sums over all their boxes; numpy is quick at those, and slow at
thousands of small arrays.

Letters in shapes: M annotations, K detections, C classes, T thresholds, R ranges of areas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewbox.data.annotations import AnnotatedImage
from fewbox.detect.detections import Detections


@dataclass(frozen=True, eq=False)
class AnnotationTable:
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
    def of(cls, images: Sequence[AnnotatedImage], labels: Sequence[str]) -> AnnotationTable:
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
class DetectionTable:
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
    def of(cls, detections: Sequence[Detections]) -> DetectionTable:
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
    of the detected box that lies in it.
    """
    low, high = (
        np.maximum(detected[..., :2], annotated[..., :2]),
        np.minimum(detected[..., 2:], annotated[..., 2:]),
    )
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    whole = box_areas(detected) + np.where(ignore, 0, box_areas(annotated) - shared)
    iou: npt.NDArray[np.float64] = shared / np.maximum(whole, 1e-12)
    return iou


def box_areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Areas ``[...]`` of boxes ``[..., 4]``."""
    areas: npt.NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas
