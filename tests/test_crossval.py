"""How photos are held out: what each fold shows, and what no fold could know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbox.finetuning.crossval import checked_classes, held_out_outcomes, outcomes_in, stratified_folds
from fewbox.models.families import Config
from fewbox.models.features import AnchorFeatures, Coefficients
from tiny import tiny_config
from tiny_yolox import tiny_yolox_config

photos_of_classes = st.lists(st.lists(st.integers(0, 7), max_size=6), min_size=2, max_size=30)
"""The class ids of the objects in each photo."""


def made_photos(class_ids: list[list[int]]) -> Any:
    return [SimpleNamespace(class_ids=np.array(shown, np.int64)) for shown in class_ids]


@given(photos_of_classes, st.integers(2, 10))
def test_every_photo_is_held_out_once_and_folds_are_as_large_as_each_other(
    class_ids: list[list[int]], num_folds: int
) -> None:
    num_folds = min(num_folds, len(class_ids))
    folds = stratified_folds(made_photos(class_ids), num_folds)
    assert sorted(number for fold in folds for number in fold) == list(range(len(class_ids)))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@given(photos_of_classes, st.integers(2, 10))
def test_the_one_rarest_class_is_in_as_many_folds_as_can_be(
    class_ids: list[list[int]], num_folds: int
) -> None:
    num_folds = min(num_folds, len(class_ids))
    class_ids = [
        [*shown, 8] if number % 4 == 0 else [*shown, *range(8)] for number, shown in enumerate(class_ids)
    ]
    folds = stratified_folds(made_photos(class_ids), num_folds)
    with_it = [number for number in range(len(class_ids)) if number % 4 == 0]
    if len(with_it) < len(class_ids) / 2:
        in_folds = [sum(number in with_it for number in fold) for fold in folds]
        assert max(in_folds) - min(in_folds) <= 1


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_photos_of_one_object_each_are_dealt_in_turn(num_folds: int) -> None:
    folds = stratified_folds(made_photos([[0]] * 8), num_folds)
    assert folds == [list(range(first, 8, num_folds)) for first in range(num_folds)]


def test_a_class_that_every_second_photo_shows_is_in_both_halves() -> None:
    photos = made_photos([[0, 1, 1], [0], [0, 1], [0], [0, 1], [0]])
    folds = stratified_folds(photos, 2)
    assert checked_classes(photos, folds, 2).all()
    assert not checked_classes(photos, [[0, 2, 4], [1, 3, 5]], 2).all()


def test_a_crowded_photo_has_the_sparse_ones_on_its_side() -> None:
    folds = stratified_folds(made_photos([[0] * 20, [0] * 9, [0], [0] * 8]), 2)
    assert folds == [[0, 2], [1, 3]]


def test_empty_photos_are_divided_too() -> None:
    folds = stratified_folds(made_photos([[], [0], [], [0], [], []]), 2)
    assert [sorted(number in (1, 3) for number in fold) for fold in folds] == [[False, False, True]] * 2


def test_objects_that_no_half_could_know_are_held_against_none() -> None:
    """The king is in one photo alone: who learns from the other has no name for it but pawn."""
    pawn, king = [10.0, 10.0, 50.0, 90.0], [60.0, 10.0, 100.0, 90.0]
    photos: Any = [
        SimpleNamespace(
            boxes=np.array(boxes), class_ids=np.arange(len(boxes)), ignored=np.zeros((0, 4), np.float32)
        )
        for boxes in ([pawn, king], [pawn])
    ]
    elsewhere = [200.0, 10.0, 240.0, 90.0]
    found = [
        (np.array([pawn, king, elsewhere]), np.array([0.9, 0.8, 0.7]), np.zeros(3, np.int64)),
        (np.array([pawn]), np.array([0.9]), np.zeros(1, np.int64)),
    ]
    outcomes = outcomes_in(photos, [[0], [1]], 2, found)
    assert outcomes.is_true_positive.tolist() == [True, False, False, True]
    assert outcomes.is_false_positive.tolist() == [False, False, True, False]


def test_every_object_of_a_crowded_photo_may_be_found() -> None:
    """Of 150 objects a hundred were looked for, so that finding all was expected to be two thirds."""
    left = 10.0 * np.arange(150)
    boxes = np.stack((left, 0 * left, left + 9, 0 * left + 9), 1).astype(np.float32)
    nothing, first = np.zeros((150, 1), np.float32), np.zeros(150, np.int64)
    features = AnchorFeatures(nothing, nothing, first, boxes, nothing[:, 0])
    photo = SimpleNamespace(class_ids=first, boxes=boxes, ignored=np.zeros((0, 4)), features=features)
    head = Coefficients(np.zeros((1, 1), np.float32), np.zeros((1, 1, 1), np.float32), np.ones(1, np.float32))
    design: Any = SimpleNamespace(fit=lambda *_, **__: (head, []))
    photos: Any = [photo, photo]
    outcomes = held_out_outcomes(photos, design, 2, 1.0, tiny_yolox_config(), 1)
    assert outcomes is not None
    assert outcomes.is_true_positive.sum() == outcomes.counted.sum() == 300


@pytest.mark.parametrize(("config", "classes_found"), [(tiny_yolox_config(), {1}), (tiny_config(), {0, 1})])
def test_what_a_detector_would_not_show_is_no_false_alarm(config: Config, classes_found: set[int]) -> None:
    """A cell of a YOLOX shows its likeliest class alone; each of the others had counted as a mistake."""
    box = np.array([[10, 10, 50, 90]], np.float32)
    nothing, first = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    features = AnchorFeatures(nothing, nothing, first, box, nothing[:, 0])
    ids, boxes = np.arange(2), np.vstack((box, box + 100))
    photo: Any = SimpleNamespace(class_ids=ids, boxes=boxes, ignored=np.zeros((0, 4)), features=features)
    biases = np.array([1, 2], np.float32)
    head = Coefficients(np.zeros((1, 2), np.float32), np.zeros((1, 1, 2), np.float32), biases)
    design: Any = SimpleNamespace(fit=lambda *_, **__: (head, []))
    outcomes = held_out_outcomes([photo, photo], design, 2, 1.0, config, 2)
    assert outcomes is not None
    assert set(outcomes.predictions.class_ids.tolist()) == classes_found
