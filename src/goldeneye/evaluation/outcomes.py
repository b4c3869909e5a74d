"""What became of every detection and annotation: right or a false alarm, found or missed, and why.

A detection is right if it overlaps an annotation of its class by at least half (IoU 0.5), as in COCO's
AP50. Detections choose in order of their score, so one match serves every score threshold: raising it
takes detections away from the end and changes nothing for those before.

Letters in shapes: M annotations, K detections, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from goldeneye.evaluation.matches import match_boxes
from goldeneye.evaluation.tables import AnnotationTable, DetectionTable

HIT_IOU = 0.5
"""Overlap with an annotation from which on a detection is right."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The detections and annotations of N photos, and what each came to.

    Attributes:
        found: the detections.
        truth: the annotations.
        right: ``[K]`` detections that found an annotation.
        wrong: ``[K]`` false alarms; a detection that is neither lies on a box to ignore.
        counted: ``[M]`` annotations that are to be found.
        found_score: ``[M]`` the score of the detection that found each, 0 if none did: the annotation is
            found at every threshold below it.
        mistaken: ``[K]`` the annotation of another class that a false alarm covers, -1 if none.
    """

    found: DetectionTable
    truth: AnnotationTable
    right: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    found_score: npt.NDArray[np.float64]
    mistaken: npt.NDArray[np.int32]

    @classmethod
    def of(cls, found: DetectionTable, truth: AnnotationTable) -> Outcomes:
        """Match detections with the annotations of the same photos."""
        matches = match_boxes(found, truth, np.array([HIT_IOU]))
        right, wrong, counted = matches.right[:, 0, 0], matches.wrong[:, 0, 0], matches.counted[:, 0]
        found_score = np.zeros(len(truth))
        found_score[matches.annotation[right, 0, 0]] = found.scores[right]
        return cls(found, truth, right, wrong, counted, found_score, _mistaken(found, truth, wrong, counted))

    def confusion(self, score_threshold: float, num_classes: int) -> npt.NDArray[np.int64]:
        """How often annotations of one class were detected as another, ``[C + 1, C + 1]``.

        Row ``a``, column ``b``: annotations of class ``a`` with a detection of class ``b`` above the
        threshold. The last column counts the missed, the last row the other false alarms.
        """
        classes, seen = self.truth.class_ids, self.found_score > score_threshold
        alarms = self.wrong & (self.found.scores > score_threshold)
        mistaken = alarms & (self.mistaken >= 0)
        mistaken[mistaken] = ~seen[self.mistaken[mistaken]]
        covered = self.mistaken[mistaken]
        missed = self.counted & ~seen
        missed[covered] = False
        others, detected = alarms & ~mistaken, self.found.class_ids
        cells = [
            (classes[seen], classes[seen]),
            (classes[covered], detected[mistaken]),
            (classes[missed], np.full(np.count_nonzero(missed), num_classes)),
            (np.full(np.count_nonzero(others), num_classes), detected[others]),
        ]
        rows, columns = (np.concatenate(part) for part in zip(*cells, strict=True))
        matrix = np.bincount(rows * (num_classes + 1) + columns, minlength=(num_classes + 1) ** 2)
        return matrix.reshape(num_classes + 1, num_classes + 1)


def _mistaken(
    found: DetectionTable,
    truth: AnnotationTable,
    wrong: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Match the false alarms with all annotations, whatever their class; ``[K]`` as in Outcomes."""
    alarms, targets = np.flatnonzero(wrong), np.flatnonzero(counted)
    matches = match_boxes(
        DetectionTable(found.photo_ids[alarms], 0 * alarms, found.boxes[alarms], found.scores[alarms]),
        AnnotationTable(
            truth.photo_ids[targets], 0 * targets, truth.boxes[targets], np.zeros(len(targets), bool)
        ),
        np.array([HIT_IOU]),
    )
    mistaken = np.full(len(found), -1, np.int32)
    taken = matches.annotation[:, 0, 0]
    alarms, covered = alarms[taken >= 0], targets[taken[taken >= 0]]
    other = found.class_ids[alarms] != truth.class_ids[covered]
    mistaken[alarms[other]] = covered[other]  # on its own class, it is a second detection of one object
    return mistaken
