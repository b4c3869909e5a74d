"""Which photos a round of learning on the page is about, once there are more than it learns from."""

from __future__ import annotations

import pytest

from fewbox.apps.annotate.learning import choose_lessons
from fewbox.data.annotations import Box
from fewbox.data.project_file import DrawnBox, PhotoState


def a_photo(*labels: str, ignored: str = "") -> PhotoState:
    boxes = [Box(1, 2, 30, 40, label) for label in labels]
    boxes += [Box(1, 2, 30, 40, ignored, ignore=True)] * bool(ignored)
    drawn = tuple(DrawnBox(f"b{number}", box) for number, box in enumerate(boxes))
    return PhotoState(drawn, reviewed=True)


def photos(prefix: str, count: int, *labels: str, ignored: str = "") -> dict[str, PhotoState]:
    return {f"{prefix}{number:03d}.jpg": a_photo(*labels, ignored=ignored) for number in range(count)}


def test_all_of_few_photos() -> None:
    states = photos("duck", 3, "duck") | photos("empty", 7)
    assert choose_lessons(states, 10) == sorted(states)


def test_photos_with_boxes_count_more_than_empty_ones_that_were_reviewed_before_them() -> None:
    states = photos("empty", 38) | photos("first", 2, "duck") | photos("later", 20, "duck")
    chosen = choose_lessons(states, 40)
    assert len(chosen) == 40
    assert sum(name.startswith(("first", "later")) for name in chosen) == 22


def test_some_empty_photos_teach_what_is_no_object_among_any_number_with_boxes() -> None:
    states = photos("duck", 500, "duck") | photos("empty", 100, ignored="duck")
    chosen = choose_lessons(states, 40)
    assert len(chosen) == 40
    assert sum(name.startswith("empty") for name in chosen) == 10


@pytest.mark.parametrize("name", ["aaa.jpg", "zzz.jpg"])
def test_a_class_that_is_drawn_late_is_learnt(name: str) -> None:
    states = photos("duck", 100, "duck") | photos("empty", 100) | {name: a_photo("mug", "mug")}
    assert name in choose_lessons(states, 40)


def test_classes_have_equally_many_photos_as_far_as_there_are() -> None:
    states = photos("duck", 300, "duck") | photos("mug", 60, "mug") | photos("lid", 4, "lid")
    chosen = choose_lessons(states, 40)
    assert [sum(name.startswith(label) for name in chosen) for label in ("duck", "mug", "lid")] == [18, 18, 4]


def test_it_is_the_same_choice_whatever_was_reviewed_first() -> None:
    states = photos("duck", 60, "duck") | photos("empty", 60) | {"a\udc80.jpg": a_photo("duck")}
    backwards = dict(reversed(states.items()))
    assert choose_lessons(states, 40) == choose_lessons(backwards, 40)


def test_frames_of_a_film_come_from_all_of_it() -> None:
    chosen = choose_lessons(photos("frame", 400, "duck"), 40)
    quarters = [
        sum(quarter <= int(name[5:8]) < quarter + 100 for name in chosen) for quarter in range(0, 400, 100)
    ]
    assert min(quarters) >= 4


def test_one_more_photo_changes_what_is_kept_by_one_at_most() -> None:
    states = photos("duck", 100, "duck") | photos("mug", 30, "mug") | photos("empty", 30)
    before = set(choose_lessons(states, 40))
    after = set(choose_lessons(states | {"new.jpg": a_photo("lid")}, 40))
    assert (after - before, len(before - after)) == ({"new.jpg"}, 1)
