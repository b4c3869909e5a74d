"""How good a detector is: it is run over annotated photos, and what it finds is matched with their boxes.

COCO's numbers are in ``metrics.py``, what became of each box in ``outcomes.py``, the mistakes in
``error_analysis.py``, and a report to look at in ``report.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fewbox import __version__
from fewbox.core import counted
from fewbox.core.arguments import AUTO, CPU, former_threshold, takes_score_threshold
from fewbox.core.progress import console, progress_bar
from fewbox.data import SPELLING_HINT
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, require_size
from fewbox.data.formats import annotation_set
from fewbox.data.images import StrPath
from fewbox.detection import Detections
from fewbox.detection.loading import opened_detector
from fewbox.detection.parallel import run_each
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.errors import PhotoError
from fewbox.evaluation.error_analysis import (
    alarm_kinds_in_words,
    alarms_in_words,
    expected_in_words,
    found_in_words,
    learnt_from_in_words,
    miss_kinds_in_words,
    others_in_words,
    some_names,
    too_few_in_words,
)
from fewbox.evaluation.matching import (
    GroundTruthTable,
    PredictionTable,
    photos_learnt_from,
    require_known_labels,
)
from fewbox.evaluation.metrics import (
    HUNDREDTHS,
    MAX_PER_PHOTO,
    TARGET_PRECISION,
    CocoMetrics,
    ReliabilityBin,
    ThresholdCounts,
    calibration_error,
    coco_metrics,
    count_above,
    none_if_nan,
    reliability_bins,
)
from fewbox.evaluation.outcomes import SHOWN_SCORE, Outcomes
from fewbox.runtimes import expected_ap50

ENOUGH_SURE = 10
"""Boxes above a threshold, to tell of it that nine in ten are right."""
LOWEST_SCORE = 0.001
"""Detections down to here count for AP, as is usual with COCO."""

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a detector is on annotated photos.

    Attributes:
        labels: the detector's classes.
        threshold: the detector's own.
        annotations: the photos that were looked at, in their order.
        skipped: names of photos that could not be read.
        learnt_from: names of photos that the detector was taught with, which make it look too good.
        expected_ap50: what photos held out in fine-tuning promised: ``ap50``, and ``low`` and ``high``,
            between which it should be four times in five; None if the detector's file says nothing.
        outcomes: every ground-truth box and every prediction of an annotated class, and what it came to.
        metrics: COCO's numbers.
        counts: what was found and what was wrong, for each class and threshold.
        not_annotated: of classes that the annotations do not have, how many boxes are above the threshold;
            nobody can say which of these are right, so they count neither way.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/test/boxes.csv").reviewed_only()
        >>> evaluation = fewbox.evaluate("duck.safetensors", photos, show_progress=False)
        >>> evaluation.at(0.4)["annotations"], evaluation.at(0.4)["found"] > 10
        (14, True)
    """

    labels: tuple[str, ...]
    threshold: float
    annotations: AnnotationSet
    skipped: tuple[str, ...]
    learnt_from: tuple[str, ...]
    expected_ap50: Mapping[str, float] | None
    outcomes: Outcomes
    metrics: CocoMetrics
    counts: ThresholdCounts
    not_annotated: Mapping[str, int]

    score_threshold = former_threshold()

    @cached_property
    def best_threshold(self) -> float | None:
        """The score threshold with the highest F1, all classes together; None if nothing was found."""
        return self.counts.sum().best_threshold()

    def threshold_for(self, precision: float) -> float | None:
        """The lowest score threshold from which on such a share of the boxes is right, all classes together.

        None where no threshold is high enough. The share is that in these photos: of 20 boxes that are all
        right, on others like these 16 may be.

        Raises:
            SettingError: ``precision`` is no number from 0 to 1.

        Examples:
            >>> photos = fewbox.read_annotations("ducks/test/boxes.csv").reviewed_only()
            >>> evaluation = fewbox.evaluate("duck.safetensors", photos, show_progress=False)
            >>> 0 < evaluation.threshold_for(precision=0.95) < 1
            True
        """
        return self.counts.sum().threshold_for(precision)

    @cached_property
    def precise_threshold(self) -> float | None:
        """From which nine boxes in ten are right; None if they are so at its own threshold, or the best.

        None also where ``too_few_sure``.
        """
        return None if self.too_few_sure else self._precise

    @cached_property
    def too_few_sure(self) -> str:
        """That too few boxes tell from which threshold nine in ten are right; empty if that is no matter."""
        precise = self._precise
        at = self.at(precise or 0)
        few = precise is not None and at["found"] + at["false_alarms"] < ENOUGH_SURE
        return too_few_in_words(at) if few else ""

    @cached_property
    def _precise(self) -> float | None:
        precise = self.threshold_for(TARGET_PRECISION)
        return precise if precise and precise > max(self.threshold, self.best_threshold or 0) else None

    @cached_property
    def reliability(self) -> tuple[ReliabilityBin, ...]:
        """How often predictions of each score are true positives.

        Those of 0.05 and below are left out: there are thousands, nearly all false positives,
        and they would make any detector look honest.
        """
        outcomes = self.outcomes
        rows = (outcomes.is_true_positive | outcomes.is_false_positive) & (
            outcomes.predictions.scores > SHOWN_SCORE
        )
        return reliability_bins(outcomes.predictions.scores[rows], outcomes.is_true_positive[rows])

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance between a score and the share of right boxes with that score, 0 to 1."""
        return calibration_error(self.reliability)

    @takes_score_threshold
    def at(self, threshold: float) -> dict[str, Any]:
        """Counts and shares of all classes together at the nearest of the thresholds tried.

        Raises:
            SettingError: ``threshold`` is no number from 0 to 1; so for the words.
        """
        return self.counts.sum().at(threshold)

    def __str__(self) -> str:
        metrics, num_photos = self.metrics, len(self.annotations)
        own, best = self.threshold, self.best_threshold
        lines = [
            f"{counted(num_photos, 'photo')}, {counted(self.annotations.num_boxes, 'box')}",
            f"at threshold {own:.2f}, the detector's own: {self.in_words(own)}",
            *(f"  {line}" for line in self.mistakes_in_words(own)),
        ]
        if best is not None and f"{best:.2f}" != f"{own:.2f}":
            lines.append(f"at threshold {best:.2f}, the best balance: {self.in_words(best)}")
        if (precise := self.precise_threshold) is not None:
            words = self.in_words(precise)
            lines.append(f"at threshold {precise:.2f}, from which nine boxes in ten are right: {words}")
        lines += filter(None, [self.too_few_sure])
        if self.not_annotated:
            lines.append(others_in_words(self.not_annotated))
        lines.append(f"COCO AP {metrics.ap:.3f}, AP50 {metrics.ap50:.3f}, AP75 {metrics.ap75:.3f}")
        if crowded := self._num_crowded_photos():
            are = "is a photo" if crowded == 1 else f"are {crowded} photos"
            lines.append(
                f"there {are} with more than {MAX_PER_PHOTO} objects of one class: COCO looks at the surest "
                f"{MAX_PER_PHOTO} boxes there, the counts above at all"
            )
        if self.expected_ap50:
            lines.append(expected_in_words(**self.expected_ap50))
        if self.skipped:
            lines.append(
                f"{counted(len(self.skipped), 'photo')} could not be read: {some_names(self.skipped)}"
            )
        if self.learnt_from:
            told = learnt_from_in_words(len(self.learnt_from), len(self.annotations))
            lines.append(f"{told}: {some_names(self.learnt_from)}")
        return "\n".join(lines)

    def _num_crowded_photos(self) -> int:
        """Photos with more objects of a class than COCO looks at boxes."""
        truth = self.outcomes.ground_truth
        groups = np.stack((truth.photo_ids, truth.class_ids), 1)[self.outcomes.counted]
        found, counts = np.unique(groups, axis=0, return_counts=True)
        return len(np.unique(found[counts > MAX_PER_PHOTO, 0]))

    @takes_score_threshold
    def in_words(self, threshold: float) -> str:
        """What the detector does at a threshold, such as ``finds 9 of 10; none of its 9 boxes is wrong``."""
        at = self.at(threshold)
        found, false_alarms = at["found"], at["false_alarms"]
        return f"{found_in_words(found, at['annotations'])}; {alarms_in_words(found, false_alarms)}"

    @takes_score_threshold
    def mistakes_in_words(self, threshold: float) -> list[str]:
        """What the mistakes are at a threshold: a line for the misses, if any, one for the false alarms."""
        at = self.at(threshold)
        lines = []
        if missed := at["annotations"] - at["found"]:
            lines.append(f"{missed} missed: {miss_kinds_in_words(at['miss_kinds'])}")
        if alarms := at["false_alarms"]:
            lines.append(f"{counted(alarms, 'false alarm')}: {alarm_kinds_in_words(at['false_alarm_kinds'])}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON, as the reference describes them."""
        class_ids = range(len(self.labels))
        confusion = self.outcomes.confusion(self.threshold, len(self.labels))
        return {
            "format_version": FORMAT_VERSION,
            "fewbox": __version__,
            "labels": self.labels,
            "photos": len(self.annotations),
            "skipped": self.skipped,
            "learnt_from": self.learnt_from,
            "expected_ap50": self.expected_ap50,
            "not_annotated": self.not_annotated,
            "coco": self.metrics.to_dict(),
            "at_own_threshold": self.at(self.threshold),
            "at_best_threshold": None if self.best_threshold is None else self.at(self.best_threshold),
            "thresholds": self.counts.thresholds.tolist(),
            "classes": [self._class_numbers(class_id) for class_id in class_ids],
            "confusion": confusion.tolist(),
            "calibration": {
                "expected_calibration_error": self.expected_calibration_error,
                "scores_above": SHOWN_SCORE,
                "bins": [asdict(one) for one in self.reliability],
            },
        }

    def _class_numbers(self, class_id: int) -> dict[str, Any]:
        counts = self.counts.of_class(class_id)
        return {
            "label": self.labels[class_id],
            "ap": none_if_nan(self.metrics.class_ap[class_id]),
            "ap50": none_if_nan(self.metrics.class_ap50[class_id]),
            "at_own_threshold": counts.at(self.threshold),
            "best_threshold": counts.best_threshold(),
            "found_above": counts.found.tolist(),
            "false_alarms_above": counts.false_alarms.tolist(),
        }


def evaluate(
    detector: PhotoDetector | StrPath,
    annotations: AnnotationSet | StrPath,
    *,
    show_progress: bool = True,
    device: str = AUTO,
) -> Evaluation:
    """Look for a detector's objects in annotated photos and compare.

    A photo that cannot be read is reported and left out.

    Args:
        detector: the detector, or its file.
        annotations: the photos and what is in them, or where they are, as for :func:`read_annotations`;
            every photo must have been looked at. Boxes to ignore count neither as found nor as missed; nor
            do detections of classes that are not among ``annotations.labels``.
        show_progress: show how far the work has come, and which photos are left out.
        device: what computes, if the detector is given as a file; as for :func:`open_detector`.

    Raises:
        AnnotationError: a photo has not been looked at, there is no box at all, or a box has a label that
            the detector does not know.
        PhotoError: no photo can be read.
        DetectorFileError: the detector's file cannot be read, or it is no detector.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/test/boxes.csv").reviewed_only()
        >>> evaluation = fewbox.evaluate("duck.safetensors", photos, show_progress=False)
        >>> evaluation.metrics.ap50 > 0.8
        True
    """
    detector = opened_detector(detector, device)
    annotations = annotation_set(annotations)
    annotations.require_reviewed()
    require_known_labels(annotations, detector.labels)
    read, detections, skipped = detect_all(detector, annotations, show_progress=show_progress)
    if skipped:
        read.require_reviewed()
    return evaluate_detections(detector, read, detections, skipped)


def evaluate_detections(
    detector: PhotoDetector,
    annotations: AnnotationSet,
    detections: Sequence[Detections],
    skipped: Sequence[str] = (),
) -> Evaluation:
    """As :func:`evaluate`, of what the detector has found already, down to ``LOWEST_SCORE``.

    Classes without objects in these photos are annotated if the annotations name them among their labels.

    Args:
        detector: the detector.
        annotations: the photos that could be read.
        detections: what was found in each of them.
        skipped: names of photos that could not be read.
    """
    labels, found = detector.labels, PredictionTable.of(detections)
    annotated = np.isin(found.class_ids, [c for c, label in enumerate(labels) if label in annotations.labels])
    others = found.class_ids[~annotated & (found.scores > detector.threshold)].tolist()
    truth = GroundTruthTable.of(annotations.images, labels)
    outcomes = Outcomes.of(found.at(annotated), truth)
    num_classes, has_objects = len(labels), set(truth.class_ids[~truth.ignore].tolist())
    thresholds = np.union1d(HUNDREDTHS, detector.threshold)
    return Evaluation(
        labels=labels,
        threshold=detector.threshold,
        annotations=annotations,
        skipped=tuple(skipped),
        learnt_from=photos_learnt_from(detector.provenance, annotations),
        expected_ap50=expected_ap50(detector.provenance, labels, has_objects),
        outcomes=outcomes,
        metrics=coco_metrics(outcomes.predictions, outcomes.ground_truth, num_classes),
        counts=count_above(outcomes, num_classes, thresholds),
        not_annotated={labels[class_id]: count for class_id, count in Counter(others).most_common()},
    )


def detect_all(
    detector: PhotoDetector, annotations: AnnotationSet, *, show_progress: bool
) -> tuple[AnnotationSet, list[Detections], list[str]]:
    """The photos that can be read, what was found in each down to ``LOWEST_SCORE``, the names of the others.

    Raises:
        PhotoError: none of the photos can be read.
        AnnotationError: a photo has another size now than its boxes were drawn in.
    """

    def look(image: AnnotatedImage) -> Detections:
        found = detector.detect(image.path, threshold=LOWEST_SCORE)
        if image.boxes:
            require_size(image.size_hw, found.size_hw, image.path.name)
        return found

    images: list[AnnotatedImage] = []
    detections: list[Detections] = []
    skipped: dict[str, PhotoError] = {}
    with progress_bar("detecting", len(annotations), show=show_progress) as advance:
        beside = getattr(detector, "runs_on", CPU) != CPU  # a detector may be of any kind that detects
        looks = run_each(look, annotations, beside=beside)
        for image, name, done in zip(annotations, annotations.names, looks, strict=True):
            try:
                detections.append(done.result())
                images.append(image)
            except PhotoError as error:
                if show_progress:
                    console.print(f"skipped: {error.message}")
                skipped[name] = error
            advance(name)
    if not images:
        photos, names = counted(len(annotations), "photo"), some_names(list(skipped))
        are_gone = {error.hint for error in skipped.values()} == {SPELLING_HINT}
        hint = SPELLING_HINT if are_gone else "copy the photos again"
        raise PhotoError(f"{annotations.source}: none of {photos} can be read: {names}", hint=hint)
    return replace(annotations, images=tuple(images)), detections, list(skipped)
