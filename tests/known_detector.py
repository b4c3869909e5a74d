"""A detector that finds what it is told to, to see what is made of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fewbox.data.annotations import Box
from fewbox.data.images import read_image
from fewbox.detection import Detections

Row = tuple[tuple[float, float, float, float], float, int]


class KnownDetector:
    """Finds what it is told to: by the name of the photo, boxes with their scores and class ids."""

    provenance: dict[str, object] = {}  # noqa: RUF012

    def __init__(
        self, found: dict[str, Sequence[Row]], labels: Sequence[str], threshold: float = 0.5
    ) -> None:
        self.found, self.labels, self.threshold = found, tuple(labels), threshold

    def detect(self, photo: Path, *, threshold: float) -> Detections:
        image = read_image(photo)
        rows = [row for row in self.found.get(photo.name, ()) if row[1] > threshold]
        rows.sort(key=lambda row: -row[1])
        return Detections(
            boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
            scores=np.array([row[1] for row in rows], np.float32),
            class_ids=np.array([row[2] for row in rows], np.int64),
            class_names=self.labels,
            size_hw=image.shape[:2],
            source=photo,
        )


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2
