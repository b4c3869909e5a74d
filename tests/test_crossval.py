"""How photos are held out: what each fold shows, and what no fold could know."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotationSet
from fewbox.finetuning.crossval import (
    checked_classes,
    folds_of,
    held_out_outcomes,
    outcomes_in,
    stratified_folds,
)
from fewbox.finetuning.estimate import data_warnings, estimate_of_photos
from fewbox.finetuning.features import (
    CachedPhoto,
    extract_features,
    feature_extractor,
    groups_of_copies,
    has_same_boxes,
)
from fewbox.finetuning.linear_probe import assign_targets
from fewbox.finetuning.linear_probe.recipe import design_of
from fewbox.models.base import BaseModel
from fewbox.models.families import Config
from fewbox.models.features import AnchorFeatures, Coefficients
from tiny import make_base, tiny_config
from tiny_yolox import random_yolox, tiny_yolox_config

NO_HASH = np.zeros(0, bool)

photos_of_classes = st.lists(st.lists(st.integers(0, 7), max_size=6), min_size=2, max_size=30)
"""The class ids of the objects in each photo."""


def shown_in(class_ids: list[list[int]]) -> list[Any]:
    return [np.array(shown, np.int64) for shown in class_ids]


def made_photos(class_ids: list[list[int]]) -> Any:
    return [SimpleNamespace(class_ids=np.array(shown, np.int64)) for shown in class_ids]


def held_photo(features: AnchorFeatures, boxes: Any, class_ids: Any, name: str = "a.jpg") -> CachedPhoto:
    return CachedPhoto(name, features, boxes, class_ids, np.zeros((0, 4), np.float32), [], NO_HASH)


def made_photo(number: int, left: float, side: float = 80, **changes: Any) -> CachedPhoto:
    """One box in a picture that differs from others, and is alike to the hash."""
    box, first = np.array([[left, 10, left + side, 90]], np.float32), np.zeros(1, np.int64)
    none = np.zeros((1, 1), np.float32)
    features = AnchorFeatures(none, none, first, box, np.full(1, number, np.float32))
    return replace(held_photo(features, box, first), **{"picture_hash": np.zeros(512, bool)} | changes)


@given(photos_of_classes, st.integers(2, 10))
def test_every_photo_is_held_out_once_and_folds_are_as_large_as_each_other(
    class_ids: list[list[int]], num_folds: int
) -> None:
    num_folds = min(num_folds, len(class_ids))
    folds = stratified_folds(shown_in(class_ids), num_folds)
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
    folds = stratified_folds(shown_in(class_ids), num_folds)
    with_it = [number for number in range(len(class_ids)) if number % 4 == 0]
    if len(with_it) < len(class_ids) / 2:
        in_folds = [sum(number in with_it for number in fold) for fold in folds]
        assert max(in_folds) - min(in_folds) <= 1


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_photos_of_one_object_each_are_dealt_in_turn(num_folds: int) -> None:
    folds = stratified_folds(shown_in([[0]] * 8), num_folds)
    assert folds == [list(range(first, 8, num_folds)) for first in range(num_folds)]


def test_a_class_that_every_second_photo_shows_is_in_both_halves() -> None:
    class_ids = [[0, 1, 1], [0], [0, 1], [0], [0, 1], [0]]
    photos, folds = made_photos(class_ids), stratified_folds(shown_in(class_ids), 2)
    assert checked_classes(photos, folds, 2).all()
    assert not checked_classes(photos, [[0, 2, 4], [1, 3, 5]], 2).all()


def test_a_crowded_photo_has_the_sparse_ones_on_its_side() -> None:
    folds = stratified_folds(shown_in([[0] * 20, [0] * 9, [0], [0] * 8]), 2)
    assert folds == [[0, 2], [1, 3]]


def test_empty_photos_are_divided_too() -> None:
    folds = stratified_folds(shown_in([[], [0], [], [0], [], []]), 2)
    assert [sorted(number in (1, 3) for number in fold) for fold in folds] == [[False, False, True]] * 2


def test_objects_that_no_half_could_know_are_held_against_none() -> None:
    """The king is in one photo alone: who learns from the other has no name for it but pawn."""
    pawn, king = [10.0, 10.0, 50.0, 90.0], [60.0, 10.0, 100.0, 90.0]
    none, first = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    photos = [
        held_photo(
            AnchorFeatures(none, none, first, none, none[0] + number), np.array(boxes), np.arange(count)
        )
        for number, (boxes, count) in enumerate((([pawn, king], 2), ([pawn], 1)))
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
    photo = held_photo(features, boxes, first)
    head = Coefficients(np.zeros((1, 1), np.float32), np.zeros((1, 1, 1), np.float32), np.ones(1, np.float32))
    design: Any = SimpleNamespace(fit=lambda *_, **__: (head, []))
    outcomes = held_out_outcomes([photo, photo], design, 2, 1.0, tiny_yolox_config(), 1)
    assert outcomes is not None
    assert outcomes.is_true_positive.sum() == outcomes.counted.sum() == 300


@pytest.mark.parametrize(("config", "classes_found"), [(tiny_yolox_config(), {1}), (tiny_config(), {0, 1})])
def test_what_a_detector_would_not_show_is_no_false_alarm(config: Config, classes_found: set[int]) -> None:
    """A cell of a YOLOX shows its likeliest class alone; each of the others had counted as a mistake."""
    box = np.array([[10, 10, 50, 90]], np.float32)
    nothing, first = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    features = AnchorFeatures(nothing, nothing, first, box, nothing[:, 0])
    ids, boxes = np.arange(2), np.vstack((box, box + 100))
    photo = held_photo(features, boxes, ids)
    biases = np.array([1, 2], np.float32)
    head = Coefficients(np.zeros((1, 2), np.float32), np.zeros((1, 1, 2), np.float32), biases)
    design: Any = SimpleNamespace(fit=lambda *_, **__: (head, []))
    outcomes = held_out_outcomes([photo, photo], design, 2, 1.0, config, 2)
    assert outcomes is not None
    assert set(outcomes.predictions.class_ids.tolist()) == classes_found


def cached(photos: AnnotationSet, base: BaseModel) -> list[CachedPhoto]:
    assign = partial(assign_targets, num_classes=1, num_background=10)
    how = {"num_views": 0, "num_kept": 50, "seed": 0, "show_progress": False}
    return extract_features(feature_extractor(base), base.config, photos, assign, **how)


@pytest.mark.slow
def test_copies_of_a_photo_are_held_out_together(tmp_path: Path) -> None:
    """Of four photos with three such copies each, more than twice of what is found was expected."""
    ducks = demo_photos()[0].images[:4]
    written = []
    for number, duck in enumerate(ducks):
        for light in (1.0, 1.03, 1.06):
            path = tmp_path / f"{number}_{light}.jpg"
            ImageEnhance.Brightness(Image.open(duck.path)).enhance(light).save(
                path, quality=round(86 * light)
            )
            written.append(replace(duck, path=path))
    base = make_base(tiny_yolox_config(), random_yolox(tiny_yolox_config()).state_dict())
    few = AnnotationSet(tuple(written), ("rubber_duck",))
    photos = cached(few, base)
    together = [[number, number + 1, number + 2] for number in range(0, 12, 3)]
    assert groups_of_copies(photos) == together
    assert sorted(folds_of(photos, 5)) == together
    assert "2_1.03.jpg and 3 more; nothing more" in data_warnings(photos, None)[0]
    assert data_warnings(photos, None)[0].endswith("held out together with it")
    design = design_of(photos, feature_extractor(base))
    outcomes = held_out_outcomes(photos, design, 5, 1.0, base.config, 1)
    assert outcomes is not None
    assert outcomes.counted.sum() == sum(
        len(duck.objects) for duck in ducks
    )  # what is found in a copy says nothing more
    assert "4 photos tell little" in " ".join(estimate_of_photos(photos, ["rubber_duck"], outcomes).remarks)
    # One photo and its copies: held out from each other, as nothing else can be, with a warning.
    assert folds_of(photos[:3], 3) == [[0], [1], [2]]
    assert data_warnings(photos[:3], None)[0].endswith("so the estimate is too high")


def test_a_camera_that_does_not_move_takes_no_copies() -> None:
    """The pictures are alike to the hash; what lies in them lies elsewhere."""
    photos = [made_photo(number, left) for number, left in enumerate((10, 60, 62))]
    assert groups_of_copies(photos) == [[0], [1, 2]]
    unhashed = [replace(photo, picture_hash=NO_HASH) for photo in photos]
    assert groups_of_copies(unhashed) == [[0], [1], [2]]


def reversed_boxes(photo: CachedPhoto) -> CachedPhoto:
    return replace(photo, boxes=photo.boxes[::-1].copy(), class_ids=photo.class_ids[::-1].copy())


@pytest.mark.parametrize("class_ids", [[0, 1, 1], [0, 0, 0]])
def test_a_copy_is_known_in_whatever_order_its_boxes_were_drawn(class_ids: list[int]) -> None:
    """It was held out apart from its copy, so what was expected was made on what had been learnt."""
    boxes = np.array([[10, 10, 90, 90], [100, 10, 160, 60], [200, 10, 300, 40]], np.float32)
    photos = [
        replace(made_photo(number, 0), boxes=boxes + 400 * left, class_ids=np.array(class_ids))
        for number, left in enumerate((0, 1, 1, 0))
    ]
    photos[3] = reversed_boxes(photos[3])
    assert groups_of_copies(photos) == [[0, 3], [1, 2]]
    assert folds_of(photos, 4) in ([[0, 3], [1, 2]], [[1, 2], [0, 3]])
    assert data_warnings(photos, None)[0].startswith("the same picture as another: a.jpg, a.jpg; nothing")
    names = ["image_jpg.rf." + digit * 32 + ".jpg" for digit in "abcd"]
    unhashed = [
        replace(photo, name=name, picture_hash=NO_HASH) for photo, name in zip(photos, names, strict=True)
    ]
    unhashed[1] = replace(unhashed[1], boxes=boxes * [1, 1, 1.5, 1])
    assert groups_of_copies(unhashed) == [[0, 2, 3], [1]]


def test_tiny_boxes_are_told_of_as_check_tells_of_them() -> None:
    """A thin box was too small to be learnt well here, and had nothing wrong with it there."""
    thin, tiny = (
        replace(made_photo(number, 0), name=f"{number}.jpg", boxes=np.array([box], np.float32))
        for number, box in enumerate([(0, 0, 3.5, 30), (0, 0, 3.5, 18)])
    )
    (told,) = data_warnings([thin, tiny], None)
    assert told.startswith("boxes below 8 x 8 pixels, as the network sees them: 1.jpg; too small")


def test_frames_of_a_slow_film_are_no_copies_of_its_first() -> None:
    """Each frame is like the next; at the end nothing lies where it lay."""
    photos = [made_photo(number, 2 * number) for number in range(40)]
    groups = groups_of_copies(photos)
    assert max(map(len, groups)) <= 3
    assert len(folds_of(photos, 5)) == 5


def test_what_roboflow_made_of_a_photo_is_known_by_its_name() -> None:
    """A mirrored one too; but others may be called the same, as phones call what they send image.jpg."""
    first, mirrored, other = ("image_jpg.rf." + digit * 32 + ".jpg" for digit in "abc")
    photos = [
        made_photo(0, 10, name=first, picture_hash=NO_HASH),
        made_photo(1, 300, name=mirrored, picture_hash=NO_HASH),
        made_photo(2, 10, side=60, name=other, picture_hash=NO_HASH),
        made_photo(3, 300, name="shelf.rf.1.jpg", picture_hash=NO_HASH),
    ]
    assert groups_of_copies(photos) == [[0, 1], [2], [3]]


def test_a_photo_and_its_copies_are_all_there_is_beside_empty_ones() -> None:
    """Then it is held out from itself; and of two that are one picture, that with boxes counts."""
    empty = replace(made_photo(9, 0), boxes=np.zeros((0, 4), np.float32), class_ids=np.zeros(0, np.int64))
    twice = [made_photo(0, 10), made_photo(1, 10), empty]
    assert sum(len(fold) == 1 for fold in folds_of(twice, 3)) == 3
    assert data_warnings(twice, None)[0].endswith("so the estimate is too high")
    unmarked = replace(empty, features=twice[0].features)
    photos = [unmarked, twice[0], made_photo(2, 300)]
    found = [(photo.boxes, np.full(len(photo.boxes), 0.9), photo.class_ids) for photo in photos]
    assert folds_of(photos, 3) == [[0, 1], [2]]
    assert outcomes_in(photos, [[0, 1], [2]], 1, found).is_true_positive.tolist() == [True, True]


def test_copies_say_the_same_in_whatever_order_their_boxes_were_drawn() -> None:
    one = made_photo(0, 10)
    boxes, ids = np.array([[10, 10, 90, 90], [100, 10, 160, 60]], np.float32), np.array([0, 1])
    first = replace(one, boxes=boxes, class_ids=ids)
    again = replace(one, boxes=boxes[::-1] + np.float32([0, 0, 1, 0]), class_ids=ids[::-1])
    assert has_same_boxes(first, again)
    assert not has_same_boxes(first, replace(again, class_ids=ids))
    assert not has_same_boxes(first, replace(again, boxes=boxes[:1], class_ids=ids[:1]))
