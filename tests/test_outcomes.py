"""What becomes of detections and annotations: right, wrong, missed, mistaken, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from fewbox.evaluation.error_analysis import worst_false_alarms, worst_misses
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import HUNDREDTHS, count_above, precision_recall
from fewbox.evaluation.outcomes import ALARM_KINDS, MISS_KINDS, Outcomes

LABELS = ("duck", "mug")
DUCK, MUG = 0, 1
LEFT, RIGHT, FAR = (0, 0, 40, 40), (100, 0, 140, 40), (200, 200, 240, 240)
LEFT_SHIFTED = (20, 0, 60, 40)  # IoU with LEFT: 800 / 2400


def outcomes_of(annotations: list[tuple], detections: list[tuple]) -> Outcomes:
    """Annotations are (photo, class, box), True added if to ignore; detections (photo, class, box, score)."""
    truth = GroundTruthTable(
        np.array([row[0] for row in annotations], np.int64),
        np.array([row[1] for row in annotations], np.int64),
        np.array([row[2] for row in annotations], np.float64).reshape(-1, 4),
        np.array([len(row) > 3 for row in annotations], bool),
    )
    found = PredictionTable(
        np.array([row[0] for row in detections], np.int64),
        np.array([row[1] for row in detections], np.int64),
        np.array([row[2] for row in detections], np.float64).reshape(-1, 4),
        np.array([row[3] for row in detections], np.float64),
    )
    return Outcomes.of(found, truth)


@pytest.fixture
def desk() -> Outcomes:
    """Two photos: a duck found at 0.9, a duck taken for a mug at 0.7 and found at 0.3, a mug missed."""
    return outcomes_of(
        [(0, DUCK, LEFT), (0, DUCK, RIGHT), (1, MUG, LEFT), (1, DUCK, FAR, True)],
        [
            (0, DUCK, LEFT, 0.9),
            (0, DUCK, RIGHT, 0.3),
            (0, MUG, RIGHT, 0.7),
            (0, DUCK, LEFT, 0.2),  # a second one
            (1, MUG, LEFT_SHIFTED, 0.6),
            (1, DUCK, RIGHT, 0.4),  # nothing there
            (1, DUCK, FAR, 0.8),  # on what is to be ignored
        ],
    )


def test_each_detection_is_right_wrong_or_neither(desk: Outcomes):
    assert desk.is_true_positive.tolist() == [True, True, False, False, False, False, False]
    assert desk.is_false_positive.tolist() == [False, False, True, True, True, True, False]
    assert desk.found_score.tolist() == [0.9, 0.3, 0, 0]
    assert desk.counted.tolist() == [True, True, True, False]


def test_former_names_of_the_tables_warn(desk: Outcomes):
    with pytest.warns(DeprecationWarning, match="now called predictions"):
        assert desk.found is desk.predictions
    with pytest.warns(DeprecationWarning, match="now called ground_truth"):
        assert desk.truth is desk.ground_truth


def test_confusion_follows_the_threshold(desk: Outcomes):
    # Rows: duck, mug, other false alarms. Columns: duck, mug, missed.
    assert desk.confusion(0.5, 2).tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert desk.confusion(0.25, 2).tolist() == [[2, 0, 0], [0, 0, 1], [1, 2, 0]]
    assert desk.confusion(0.95, 2).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.95])
def test_confusion_counts_every_annotation_and_every_shown_detection_once(desk: Outcomes, threshold: float):
    matrix = desk.confusion(threshold, 2)
    assert matrix[:2].sum() == 3
    shown = (desk.is_true_positive | desk.is_false_positive) & (desk.predictions.scores > threshold)
    assert matrix[:, :2].sum() == shown.sum()


def test_mistakes_say_what_kind_they_are(desk: Outcomes):
    misses = worst_misses(desk, LABELS, 10)
    assert [(miss.label, miss.score, miss.reason) for miss in misses] == [
        ("mug", 0.0, "box too far off: IoU 0.33, score 0.60"),
        ("duck", 0.3, "taken for mug, score 0.70; a right box has only 0.30"),
        ("duck", 0.9, "found, but its score is only 0.90"),
    ]
    alarms = worst_false_alarms(desk, LABELS, 10)
    assert [(alarm.label, alarm.reason) for alarm in alarms] == [
        ("mug", "score 0.70, annotated as duck"),
        ("mug", "score 0.60, box too far off: IoU 0.33"),
        ("duck", "score 0.40, nothing annotated here"),
        ("duck", "score 0.20, a second box on one object"),
    ]
    assert len(worst_misses(desk, LABELS, 1)) == len(worst_false_alarms(desk, LABELS, 1)) == 1


def shifted(iou: float, box: tuple = LEFT) -> tuple:
    """A box as large as ``box``, moved to the right so that they overlap by ``iou``."""
    x1, y1, x2, y2 = box
    step = (x2 - x1) * (1 - iou) / (1 + iou)
    return (x1 + step, y1, x2 + step, y2)


@pytest.mark.parametrize(
    ("others", "detections", "kind", "reason"),
    [
        (
            [],
            [(DUCK, shifted(0.45), 0.95), (DUCK, LEFT, 0.01)],
            "localization",
            "box too far off: IoU 0.45, score 0.95; a right box has only 0.01",
        ),
        ([], [(DUCK, LEFT, 0.01)], "low_score", "found, but its score is only 0.01"),
        ([], [(DUCK, LEFT, 0.002)], "low_score", "found, but its score is less than 0.01"),
        # A box that hardly touches it tells less than the right one, though its score is higher.
        ([], [(DUCK, shifted(0.12), 0.5), (DUCK, LEFT, 0.4)], "low_score", "its score is only 0.40"),
        ([], [(DUCK, shifted(0.499), 0.6)], "localization", "box too far off: IoU 0.49, score 0.60"),
        ([], [(DUCK, shifted(0.09), 0.9)], "not_seen", "not seen"),
        ([], [(DUCK, shifted(0.4), 0.05)], "not_seen", "not seen"),  # nobody is shown such a box
        ([], [(MUG, LEFT, 0.8), (DUCK, LEFT, 0.2)], "confusion", "taken for mug, score 0.80; a right box"),
        ([], [(MUG, LEFT, 0.6), (MUG, LEFT, 0.8)], "confusion", "taken for mug, score 0.80"),
        (
            [],
            [(MUG, shifted(0.3), 0.8)],
            "confusion",
            "taken for mug and box too far off: IoU 0.30, score 0.80",
        ),
        # Boxes on another object say nothing of this one.
        ([(MUG, shifted(0.4))], [(MUG, shifted(0.4), 0.9)], "not_seen", "not seen"),
        ([(DUCK, shifted(0.4))], 2 * [(DUCK, shifted(0.4), 0.9)], "not_seen", "not seen"),
        (
            [(DUCK, shifted(0.6))],
            [(DUCK, shifted(0.6), 0.9)],
            "shared_box",
            "one box for two objects, which counts for the other: score 0.90",
        ),
        # One box around two objects is on both.
        ([(DUCK, (40, 0, 80, 40))], [(DUCK, (5, 0, 75, 40), 0.9)], "localization", "IoU 0.47, score 0.90"),
    ],
)
def test_a_miss_is_told_by_the_box_that_is_nearest_to_the_truth(others, detections, kind, reason):
    annotations = [(0, DUCK, LEFT), *((0, *other) for other in others)]
    outcomes = outcomes_of(annotations, [(0, *row) for row in detections])
    assert MISS_KINDS[outcomes.causes.miss_kind[0]] == kind
    (text,) = (miss.reason for miss in worst_misses(outcomes, LABELS, 9) if miss.row == 0)
    assert reason in text


@pytest.mark.parametrize(
    ("annotations", "detection", "kind", "reason"),
    [
        ([(DUCK, LEFT)], (DUCK, shifted(0.6)), "duplicate", "a second box on one object"),
        ([(DUCK, LEFT)], (DUCK, shifted(0.49)), "localization", "box too far off: IoU 0.49"),
        ([(DUCK, LEFT)], (DUCK, shifted(0.11)), "localization", "box too far off: IoU 0.11"),
        ([(DUCK, LEFT)], (DUCK, shifted(0.09)), "background", "hardly on anything annotated: IoU 0.09"),
        ([(DUCK, LEFT)], (DUCK, (90, 90, 99, 99)), "background", "nothing annotated here"),
        ([(DUCK, LEFT)], (MUG, LEFT), "confusion", "annotated as duck"),
        ([(DUCK, LEFT)], (MUG, shifted(0.2)), "confusion", "annotated as duck and box too far off: IoU 0.20"),
        # It covers a duck; that it touches a mug says less.
        ([(DUCK, LEFT), (MUG, shifted(0.2))], (MUG, LEFT), "confusion", "annotated as duck"),
        # It covers neither: it is a duck that is too far off.
        ([(DUCK, LEFT), (MUG, (-20, 0, 0, 40))], (DUCK, (-16, 0, 24, 40)), "localization", "IoU 0.43"),
        ([(DUCK, LEFT, True)], (DUCK, shifted(0.2)), "background", "nothing annotated here"),
    ],
)
def test_a_false_alarm_is_on_an_object_or_on_something_else(annotations, detection, kind, reason):
    right = [(0, DUCK, LEFT, 0.9)] if annotations[0] == (DUCK, LEFT) else []
    outcomes = outcomes_of([(0, *row) for row in annotations], [*right, (0, *detection, 0.8)])
    assert ALARM_KINDS[outcomes.causes.alarm_kind[-1]] == kind
    (alarm,) = worst_false_alarms(outcomes, LABELS, 9)
    assert alarm.reason.startswith("score 0.80, ")
    assert reason in alarm.reason


@pytest.mark.parametrize("seed", range(20))
def test_kinds_of_mistakes_add_up_to_the_mistakes(seed: int):
    generator = np.random.default_rng(seed)

    def boxes(count: int) -> list[tuple]:
        corners = generator.uniform(0, 60, (count, 2))
        return [
            (x, y, x + w, y + h)
            for (x, y), (w, h) in zip(corners, generator.uniform(15, 50, (count, 2)), strict=True)
        ]

    def draw(count: int) -> tuple:
        return *generator.integers(3, size=(2, count)), boxes(count)

    annotations = [(*row, True) if generator.random() < 0.2 else row for row in zip(*draw(12), strict=True)]
    detections = list(zip(*draw(60), generator.uniform(0, 1, 60), strict=True))
    outcomes = outcomes_of(annotations, detections)
    counts = count_above(outcomes, 3)
    scores, classes = outcomes.predictions.scores, outcomes.predictions.class_ids
    assert counts.alarms_by_kind.min() >= 0
    assert counts.misses_by_kind.min() >= 0
    for place, threshold in enumerate(HUNDREDTHS):
        for class_id in range(3):
            wrong = outcomes.is_false_positive & (scores > threshold) & (classes == class_id)
            assert counts.alarms_by_kind[class_id, :, place].sum() == wrong.sum()
            assert counts.false_alarms[class_id, place] == wrong.sum()
            missed = counts.annotations[class_id, 0] - counts.found[class_id, place]
            assert counts.misses_by_kind[class_id, :, place].sum() == missed
    assert (outcomes.causes.alarm_kind >= 0).tolist() == outcomes.is_false_positive.tolist()


def test_what_nothing_was_seen_of_comes_first_and_large_before_small():
    small, large = (0, 0, 10, 10), (50, 50, 150, 150)
    outcomes = outcomes_of([(0, DUCK, small), (0, DUCK, large), (1, DUCK, LEFT)], [(1, DUCK, LEFT, 0.2)])
    assert [miss.row for miss in worst_misses(outcomes, LABELS, 10)] == [1, 0, 2]
    assert worst_misses(outcomes, LABELS, 1)[0].reason == "not seen"


def test_counts_at_thresholds(desk: Outcomes):
    counts = count_above(desk, 2)
    assert counts.annotations.tolist() == [[2], [1]]
    duck, total = counts.of_class(DUCK).at(0.5), counts.sum().at(0.25)
    assert (duck["found"], duck["false_alarms"], duck["precision"], duck["recall"]) == (1, 0, 1.0, 0.5)
    assert (total["annotations"], total["found"], total["false_alarms"]) == (3, 2, 3)
    assert total["f1"] == pytest.approx(2 * 2 / (3 + 5))
    # As in detecting, a score of exactly the threshold is not above it.
    assert counts.of_class(DUCK).at(0.9)["found"] == 0
    assert counts.of_class(DUCK).at(0.89)["found"] == 1


def test_counts_agree_with_the_confusion(desk: Outcomes):
    counts = count_above(desk, 2)
    for place, threshold in enumerate(counts.thresholds):
        matrix = desk.confusion(float(threshold), 2)
        assert matrix.diagonal()[:2].tolist() == counts.found[:, place].tolist()
        wrong = matrix[:, :2].sum(0) - matrix.diagonal()[:2]
        assert wrong.tolist() == counts.false_alarms[:, place].tolist()


def test_the_best_threshold_is_in_the_middle_of_the_best():
    # Right at 0.8, wrong at 0.4: every threshold from 0.40 to 0.79 is perfect.
    outcomes = outcomes_of([(0, DUCK, LEFT)], [(0, DUCK, LEFT, 0.8), (0, DUCK, FAR, 0.4)])
    assert count_above(outcomes, 1).sum().best_threshold() == pytest.approx(0.59)
    nothing_found = outcomes_of([(0, DUCK, LEFT)], [(0, DUCK, FAR, 0.4)])
    assert count_above(nothing_found, 1).sum().best_threshold() is None


def test_precision_recall_curve(desk: Outcomes):
    recall, precision = precision_recall(desk)
    assert recall == pytest.approx(np.array([0, 1, 1, 1, 1, 2, 2]) / 3)
    assert precision == pytest.approx([1, 1, 1 / 2, 1 / 3, 1 / 4, 2 / 5, 2 / 6])
    recall, precision = precision_recall(desk, DUCK)
    assert recall.tolist() == [0, 0.5, 0.5, 1, 1]
    recall, precision = precision_recall(outcomes_of([(0, DUCK, LEFT)], []))
    assert (recall.tolist(), precision.tolist()) == ([0], [1])
