"""What became of every prediction and ground-truth box: a true or false positive, found or missed, and why.

A prediction is a true positive if it overlaps ground truth of its class by at least half (IoU 0.5), as in
COCO's AP50. A false positive is a false alarm in messages and in the report. Predictions choose in order
of their score, so one match serves every score threshold: raising it takes predictions away from the end
and changes nothing for those before.

Letters in shapes: M ground-truth boxes, K predictions, P pairs of one of each that overlap, C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fewbox.core.arguments import checked_threshold
from fewbox.evaluation.matching import (
    GroundTruthTable,
    Pairs,
    PredictionTable,
    match_boxes,
    overlapping_pairs,
)

HIT_IOU = 0.5
"""Overlap with ground truth from which on a prediction is a true positive."""
NEAR_IOU = 0.1
"""Overlap below which two boxes have nothing to do with each other: Bolya et al., 2020, section 2.1."""
SHOWN_SCORE = 0.05
"""Predictions with a lower score count for AP and are not shown to anybody."""

ALARM_KINDS = ("duplicate", "localization", "confusion", "background")
"""What is wrong with a false alarm; the first three are on an object, the last on something else."""
MISS_KINDS = ("low_score", "localization", "confusion", "shared_box", "not_seen")
"""What became of ground truth that was missed."""
_DUPLICATE, _ALARM_OFF, _CONFUSED, _BACKGROUND = range(len(ALARM_KINDS))
_LOW_SCORE, _MISS_OFF, _TAKEN_FOR, _SHARED, _NOT_SEEN = range(len(MISS_KINDS))


@dataclass(frozen=True, eq=False)
class Causes:
    """What lies behind each mistake.

    The kinds of false alarms are those of Bolya et al., "TIDE: A General Toolbox for Identifying Object
    Detection Errors" (2020), after Hoiem et al., "Diagnosing Error in Object Detectors" (2012), with
    their overlaps. A box on several objects is on the one it overlaps most: an object that it covers (by
    ``HIT_IOU``) before others, then one of its class. It is

        duplicate      if it covers an object of its class; another box with a higher score found that
        localization   if it overlaps one of its class by ``NEAR_IOU`` to ``HIT_IOU``
        confusion      if it is on an object of another class, by ``NEAR_IOU`` or more as in Hoiem et al.;
                       TIDE puts those that do not cover it in a class of their own, "both"
        background     if it overlaps no ground truth by ``NEAR_IOU``

    A miss is told by the prediction that came nearest to finding the object: of those that are not on
    another object, the one with the highest score times IoU, where ``HIT_IOU`` is as good as more. The miss
    is a ``low_score`` if that is the true positive, a ``localization`` or ``confusion`` if it is a false
    alarm. It is a ``shared_box`` if the only box on it found another object of its class, else ``not_seen``.

    Attributes:
        alarm_kind: ``[K]`` place in ``ALARM_KINDS``, -1 for predictions that are no false alarms.
        alarm_on: ``[K]`` the ground truth that a false alarm is on, -1 if none.
        miss_kind: ``[M]`` place in ``MISS_KINDS``, should it be missed; -1 for boxes to ignore.
        miss_by: ``[M]`` the prediction that tells so, -1 if none.
    """

    alarm_kind: npt.NDArray[np.int64]
    alarm_on: npt.NDArray[np.int64]
    miss_kind: npt.NDArray[np.int64]
    miss_by: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The predictions and ground truth of N photos, and what each came to.

    Attributes:
        predictions: what was detected.
        ground_truth: what was annotated.
        is_true_positive: ``[K]`` predictions that found a ground-truth box.
        is_false_positive: ``[K]`` false alarms; a prediction that is neither lies on a box to ignore.
        counted: ``[M]`` ground truth that is to be found.
        found_score: ``[M]`` the score of the prediction that found each, 0 if none did: the ground truth
            is found at every threshold below it.
        found_by: ``[M]`` that prediction, -1 if none.
        mistaken: ``[K]`` the ground truth of another class that a false alarm covers, -1 if none.
    """

    predictions: PredictionTable
    ground_truth: GroundTruthTable
    is_true_positive: npt.NDArray[np.bool_]
    is_false_positive: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    found_score: npt.NDArray[np.float64]
    found_by: npt.NDArray[np.int64]
    mistaken: npt.NDArray[np.int32]

    @classmethod
    def of(cls, predictions: PredictionTable, ground_truth: GroundTruthTable) -> Outcomes:
        """Match predictions with the ground truth of the same photos."""
        matches = match_boxes(predictions, ground_truth, np.array([HIT_IOU]))
        is_true_positive, is_false_positive = (
            matches.is_true_positive[:, 0, 0],
            matches.is_false_positive[:, 0, 0],
        )
        counted = matches.counted[:, 0]
        found_by = np.full(len(ground_truth), -1)
        found_by[matches.ground_truth_rows[is_true_positive, 0, 0]] = np.flatnonzero(is_true_positive)
        found_score = np.zeros(len(ground_truth))
        found_score[found_by >= 0] = predictions.scores[found_by[found_by >= 0]]
        mistaken = _mistaken(predictions, ground_truth, is_false_positive, counted)
        return cls(
            predictions,
            ground_truth,
            is_true_positive,
            is_false_positive,
            counted,
            found_score,
            found_by,
            mistaken,
        )

    @property
    def found(self) -> PredictionTable:
        """The former name of ``predictions``."""
        warnings.warn("Outcomes.found is now called predictions", DeprecationWarning, stacklevel=2)
        return self.predictions

    @property
    def truth(self) -> GroundTruthTable:
        """The former name of ``ground_truth``."""
        warnings.warn("Outcomes.truth is now called ground_truth", DeprecationWarning, stacklevel=2)
        return self.ground_truth

    @cached_property
    def causes(self) -> Causes:
        """What lies behind each mistake; the same at every score threshold."""
        rows = np.flatnonzero(self.is_true_positive | self.is_false_positive)
        predictions, ground_truth = self.predictions, self.ground_truth
        pairs = overlapping_pairs(
            predictions, ground_truth, rows, predictions.photo_ids, ground_truth.photo_ids, NEAR_IOU
        )
        pairs = pairs.at(self.counted[pairs.ground_truth_rows])
        predicted, target = pairs.prediction_rows, pairs.ground_truth_rows
        same = predictions.class_ids[predicted] == ground_truth.class_ids[target]
        alarm_kind, alarm_on, alarm_iou = _why_wrong(self, pairs, same)
        covers_another = alarm_iou >= HIT_IOU
        elsewhere = covers_another[predicted] & (alarm_on[predicted] != target)
        return Causes(alarm_kind, alarm_on, *_why_missed(self, pairs, same, elsewhere))

    def confusion(self, threshold: float, num_classes: int) -> npt.NDArray[np.int64]:
        """How often ground truth of one class was detected as another, ``[C + 1, C + 1]``.

        Row ``a``, column ``b``: ground truth of class ``a`` with a prediction of class ``b`` above the
        threshold. The last column counts the missed, the last row the other false alarms.

        Raises:
            SettingError: ``threshold`` is no number from 0 to 1.
        """
        threshold = checked_threshold(threshold)
        classes, seen = self.ground_truth.class_ids, self.found_score > threshold
        alarms = self.is_false_positive & (self.predictions.scores > threshold)
        mistaken = alarms & (self.mistaken >= 0)
        mistaken[mistaken] = ~seen[self.mistaken[mistaken]]
        covered = self.mistaken[mistaken]
        missed = self.counted & ~seen
        missed[covered] = False
        others, detected = alarms & ~mistaken, self.predictions.class_ids
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
    predictions: PredictionTable,
    ground_truth: GroundTruthTable,
    is_false_positive: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int32]:
    """Match the false alarms with all ground truth, whatever their class; ``[K]`` as in Outcomes."""
    alarms, targets = np.flatnonzero(is_false_positive), np.flatnonzero(counted)
    matches = match_boxes(
        PredictionTable(
            predictions.photo_ids[alarms], 0 * alarms, predictions.boxes[alarms], predictions.scores[alarms]
        ),
        GroundTruthTable(
            ground_truth.photo_ids[targets],
            0 * targets,
            ground_truth.boxes[targets],
            np.zeros(len(targets), bool),
        ),
        np.array([HIT_IOU]),
    )
    mistaken = np.full(len(predictions), -1, np.int32)
    taken = matches.ground_truth_rows[:, 0, 0]
    alarms, covered = alarms[taken >= 0], targets[taken[taken >= 0]]
    other = predictions.class_ids[alarms] != ground_truth.class_ids[covered]
    mistaken[alarms[other]] = covered[other]  # on its own class, it is a second prediction of one object
    return mistaken


def _why_wrong(
    outcomes: Outcomes, pairs: Pairs, same: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """``alarm_kind`` and ``alarm_on`` as in Causes, and the IoU with that ``[K]``.

    Args:
        outcomes: so far.
        pairs: P of the same photo, with ground truth that is to be found.
        same: ``[P]`` whether both are of one class.
    """
    predicted, covers = pairs.prediction_rows, pairs.iou >= HIT_IOU
    order = np.lexsort((same, pairs.iou, covers | same, covers, predicted))
    order = order[outcomes.is_false_positive[predicted[order]]]
    best = order[_is_last(predicted[order])]
    kind = np.where(outcomes.is_false_positive, _BACKGROUND, -1)
    of_its_class = np.where(covers, _DUPLICATE, _ALARM_OFF)
    kind[predicted[best]] = np.where(same, of_its_class, _CONFUSED)[best]
    on, overlap = np.full(len(outcomes.predictions), -1), np.zeros(len(outcomes.predictions))
    on[predicted[best]], overlap[predicted[best]] = pairs.ground_truth_rows[best], pairs.iou[best]
    return kind, on, overlap


def _why_missed(
    outcomes: Outcomes, pairs: Pairs, same: npt.NDArray[np.bool_], elsewhere: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``miss_kind`` and ``miss_by`` as in Causes.

    Args:
        outcomes: so far.
        pairs: as for false alarms.
        same: as for false alarms.
        elsewhere: ``[P]`` whether the prediction is a false alarm that covers other ground truth.
    """
    predicted, target, covers = pairs.prediction_rows, pairs.ground_truth_rows, pairs.iou >= HIT_IOU
    alarm, scores = outcomes.is_false_positive[predicted], outcomes.predictions.scores[predicted]
    shown = scores > SHOWN_SCORE
    kind = np.full(len(scores), -1)
    kind[~alarm & same & covers & shown] = _SHARED
    kind[alarm & ~same & shown & (covers | ~elsewhere)] = _TAKEN_FOR
    kind[alarm & same & shown & ~covers & ~elsewhere] = _MISS_OFF
    kind[outcomes.found_by[target] == predicted] = _LOW_SCORE
    order = np.lexsort((scores * np.minimum(pairs.iou, HIT_IOU), kind != _SHARED, target))
    order = order[kind[order] >= 0]
    best = order[_is_last(target[order])]
    miss_kind, miss_by = np.where(outcomes.counted, _NOT_SEEN, -1), np.full(len(outcomes.ground_truth), -1)
    miss_kind[target[best]], miss_by[target[best]] = kind[best], predicted[best]
    return miss_kind, miss_by


def _is_last(values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For each of ``values``, in which equal ones stand together, whether it is the last of them."""
    last: npt.NDArray[np.bool_] = np.diff(values, append=-1) != 0
    return last
