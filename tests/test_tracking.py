"""Tracks: an object keeps its number, whatever the others do."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewbox.detection import Detections
from fewbox.errors import SettingError
from fewbox.video import Untracked
from fewbox.video.tracking import TrackedBox, Tracker, assign

SIZE_HW = (1000, 1000)


def found(
    boxes: list[list[float]], scores: list[float] | None = None, class_ids: list[int] | None = None
) -> Detections:
    scores = [0.9] * len(boxes) if scores is None else scores
    order = np.argsort([-score for score in scores], kind="stable").astype(np.int64)
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4)[order],
        scores=np.array(scores, np.float32)[order],
        class_ids=np.array(class_ids or [0] * len(boxes), np.int64)[order],
        class_names=("duck", "cup"),
        size_hw=SIZE_HW,
    )


def ids_by_place(tracked: list[TrackedBox], boxes: list[list[float]]) -> list[int | None]:
    """The number given to each of ``boxes``; None for one without."""
    numbers = {tuple(np.float32(edge) for edge in seen.box): seen.track_id for seen in tracked}
    return [numbers.get(tuple(np.float32(edge) for edge in box)) for box in boxes]


def square(x: float, y: float, side: float = 60) -> list[float]:
    return [x, y, x + side, y + side]


costs = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: arrays(
        float, shape, elements=st.one_of(st.integers(0, 4).map(float), st.just(np.inf), st.floats(0, 4))
    )
)


@settings(max_examples=30, deadline=None)
@given(costs=costs, limit=st.floats(0.1, 4))
def test_no_other_pairs_cost_less(costs: np.ndarray, limit: float) -> None:
    pairs = assign(costs, limit)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(costs[pair] < limit for pair in pairs)
    gain = sum(limit - costs[pair] for pair in pairs)
    few, many = (costs, costs.shape[1]) if costs.shape[0] <= costs.shape[1] else (costs.T, costs.shape[0])
    best = max(
        sum(max(limit - few[row, column], 0) for row, column in enumerate(columns))
        for columns in itertools.permutations(range(many), few.shape[0])
    )
    assert gain == pytest.approx(best)


NOISE = 1.5
"""How far from its place a box is found at most, in pixels."""
TOO_NEAR = 4 * NOISE
"""Two objects nearer to each other cannot be told apart in that frame.

Either is expected where its noisy past says, up to NOISE off, and found up to NOISE off: two that are
less than 2 * NOISE apart may each lie nearer to where the other is expected. Twice that is a margin for
how slowly the filter learns a speed; in thousands of random passages no swap was seen above 2.5 pixels.
They approach each other by 6 pixels or more a frame, so this lasts for three frames at most.
"""


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@example(speed=(6.015625, 8.015625), heights=(100, 100), noise=[0.0] * 8, swap=False)
@example(speed=(6.015625, 8.015625), heights=(100, 100), noise=[0.0] * 8, swap=True)
@example(speed=(3.0, 7.0), heights=(100, 100), noise=[0.0] * 8, swap=False)
@example(speed=(5.03125, 3.96875), heights=(430, 430), noise=[-1.5, 1.5] * 4, swap=False)
@given(
    speed=st.tuples(st.floats(3, 9), st.floats(3, 9)),
    heights=st.tuples(st.floats(100, 800), st.floats(100, 800)),
    noise=st.lists(st.floats(-NOISE, NOISE), min_size=8, max_size=8),
    swap=st.booleans(),
)
def test_objects_that_pass_each_other_keep_their_numbers(
    speed: tuple[float, float], heights: tuple[float, float], noise: list[float], swap: bool
) -> None:
    """Before they meet and after; while one hides the other, there are still two, with these numbers."""
    tracker = Tracker(0.5)
    first: list[int | None] = []
    for frame in range(100):
        jitter = noise[frame % 8]
        boxes = [
            square(50 + speed[0] * frame + jitter, heights[0]),
            square(850 - speed[1] * frame, heights[1] + jitter),
        ]
        boxes = boxes[::-1] if swap and frame % 2 else boxes  # which is named first must not matter
        tracked = tracker.update(found(boxes))
        if max(abs(boxes[0][side] - boxes[1][side]) for side in (0, 1)) < TOO_NEAR:
            assert {seen.track_id for seen in tracked} == set(first)
            continue
        numbers = ids_by_place(tracked, boxes)
        numbers = numbers[::-1] if swap and frame % 2 else numbers
        first = first or numbers
        assert numbers == first
    assert tracker.num_tracks == 2


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    hidden=st.integers(1, 25),
    speed=st.tuples(st.floats(-2, 4), st.floats(-2, 4)),
    side=st.floats(50, 120),
)
def test_an_object_out_of_sight_comes_back_with_its_number(
    hidden: int, speed: tuple[float, float], side: float
) -> None:
    tracker = Tracker(0.5)
    for frame in range(60):
        box = square(300 + speed[0] * frame, 300 + speed[1] * frame, side)
        in_sight = not 30 <= frame < 30 + hidden
        tracked = tracker.update(found([box] if in_sight else []))
        assert [seen.track_id for seen in tracked] == ([1] if in_sight else [])


def test_an_object_away_for_longer_is_a_new_one() -> None:
    tracker = Tracker(0.5, lost_s=10 / 30)
    shown = []
    for frame in range(40):
        tracked = tracker.update(found([] if 10 <= frame < 25 else [square(300, 300)]))
        shown += [seen.track_id for seen in tracked]
    assert shown == [1] * 10 + [None] + [2] * 14


def test_one_half_hidden_is_followed_by_its_low_scores_but_none_begins_with_one() -> None:
    tracker = Tracker(0.5)
    for frame in range(30):
        score = 0.2 if frame >= 10 else 0.9
        boxes = [square(100 + 3 * frame, 100), square(600, 600)]
        numbers = ids_by_place(tracker.update(found(boxes, [score, 0.3])), boxes)
        assert numbers == [1, None]


def test_a_mistake_of_one_frame_takes_no_number_and_numbers_have_no_gaps() -> None:
    tracker = Tracker(0.5)
    duck = square(100, 100)
    assert ids_by_place(tracker.update(found([duck])), [duck]) == [1]  # the first frame is believed
    for place in (300, 500, 700):
        mistake = square(place, 700)
        assert ids_by_place(tracker.update(found([duck, mistake])), [duck, mistake]) == [1, None]
        tracker.update(found([duck]))
    boxes = [duck, square(700, 700)]
    assert ids_by_place(tracker.update(found(boxes)), boxes) == [1, None]
    assert ids_by_place(tracker.update(found(boxes)), boxes) == [1, 2]
    assert tracker.num_tracks == 2


@pytest.mark.parametrize("confirm", [1, 2, 4])
def test_a_new_object_has_its_number_from_the_frame_that_confirms_it(confirm: int) -> None:
    tracker = Tracker(0.5, confirm=confirm)
    tracker.update(found([]))
    shown = [tracker.update(found([square(100, 100)])) for _ in range(6)]
    assert [seen.track_id for (seen,) in shown] == [None] * (confirm - 1) + [1] * (7 - confirm)
    assert len({seen.candidate for (seen,) in shown}) == 1


@pytest.mark.parametrize("rate", [5, 10, 30])
def test_the_same_film_at_any_rate_has_the_same_objects(rate: int) -> None:
    """Two that pass each other by 3 and 4 times their size a second, one hidden for 0.4 s; and a mistake."""
    tracker = Tracker(0.5, rate=rate)
    numbers: dict[str, set[int | None]] = {"slow": set(), "fast": set()}
    for step in range(3 * rate):
        time_s = step / rate
        slow, fast = square(50 + 180 * time_s, 300), square(850 - 240 * time_s, 420)
        boxes = [slow] if 1.5 < time_s < 1.9 else [slow, fast]
        boxes += [square(850, 850)] if step == rate else []
        places = ids_by_place(tracker.update(found(boxes)), [slow, fast])
        numbers["slow"].add(places[0])
        numbers["fast"].add(places[1])
    assert {name: seen - {None} for name, seen in numbers.items()} == {"slow": {1}, "fast": {2}}
    assert tracker.num_tracks == 2


def test_irregular_times_count_as_they_are() -> None:
    """An object of constant speed is expected where it is, however long the frame before was shown."""
    tracker = Tracker(0.5)
    for time_s in np.cumsum([0.0, *[0.03, 0.1, 0.05, 0.2] * 4]):
        (seen,) = tracker.update(found([square(100 + 200 * time_s, 100)]), time_s)
        assert seen.track_id == 1
    (soon,) = tracker.predict(time_s + 0.01)
    (later,) = tracker.predict(time_s + 0.4)
    assert soon.box[0] == pytest.approx(100 + 200 * (time_s + 0.01), abs=3)
    assert later.box[0] == pytest.approx(100 + 200 * (time_s + 0.4), abs=12)


def test_what_a_tracker_refuses() -> None:
    with pytest.raises(
        SettingError, match=r"confirm must be a whole number from 1: 0\nhint: 1 gives numbers at once"
    ):
        Tracker(0.5, confirm=0)
    with pytest.raises(SettingError, match="rate must be a number above 0: 0"):
        Tracker(0.5, rate=0)
    with pytest.raises(SettingError, match="lost_s must be a number from 0: -1"):
        Tracker(0.5, lost_s=-1)
    with pytest.raises(SettingError, match="the threshold must be a number from 0 to 1: 2"):
        Tracker(2)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("confirm", [math.nan, 1.5, "2", None]),
        ("rate", [math.nan, math.inf, "25", None]),
        ("lost_s", [math.nan, "2", None]),
    ],
)
def test_what_is_no_number_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SettingError, match=f"{name} must be a .*number") as error:
            Tracker(0.5, **{name: value})
        assert error.value.hint


def test_times_may_be_fractions_as_films_have_them() -> None:
    trackers = Tracker(0.5), Tracker(0.5, rate=Fraction(90_000, 3600), lost_s=math.inf)
    for pts in range(0, 36_000, 3600):
        time_s = Fraction(pts, 90_000)
        seen = found([square(100 + 200 * float(time_s), 100)])
        assert trackers[0].update(seen, time_s) == trackers[1].update(seen)  # type: ignore[arg-type]
    assert trackers[0].predict(time_s + 1)[0].box[0] == pytest.approx(100 + 200 * float(time_s + 1), abs=12)  # type: ignore[arg-type]


@pytest.mark.parametrize("time_s", [math.nan, math.inf, 1e300, 1.7e12, "1"])
def test_a_time_is_in_seconds(time_s: Any) -> None:
    tracker = Tracker(0.5)
    tracker.update(found([square(100, 100)]), 1.7e9)
    for go_on in (lambda: tracker.predict(time_s), lambda: tracker.update(found([]), time_s)):
        with pytest.raises(SettingError, match=r"time_s must be a number.*: .*\nhint: .* in seconds"):
            go_on()
    assert [seen.track_id for seen in tracker.update(found([square(101, 100)]), 1.7e9 + 0.1)] == [1]


def test_a_time_in_milliseconds_is_told_what_it_may_be_at_most() -> None:
    with pytest.raises(SettingError, match=r"time_s must be a number up to 1e\+11: 1700000000000"):
        Tracker(0.5).update(found([]), 1700000000000)
    with pytest.raises(SettingError, match="rate must be a number above 0, and finite: inf"):
        Tracker(0.5, rate=math.inf)


def test_detections_of_another_library_are_named_by_it() -> None:
    other = type("Detections", (), {"__module__": "supervision.detection.core"})()
    with pytest.raises(SettingError, match=r"type fewbox\.Detections, not supervision\.Detections"):
        Tracker(0.5).update(other)


def test_boxes_alone_are_no_detections() -> None:
    with pytest.raises(SettingError, match="found must be of the type Detections, not ndarray"):
        Tracker(0.5).update(np.zeros((1, 4), np.float32))  # type: ignore[arg-type]


def test_another_class_in_the_same_place_is_another_object() -> None:
    tracker = Tracker(0.5, confirm=1)
    tracker.update(found([square(100, 100)], class_ids=[0]))
    (seen,) = tracker.update(found([square(100, 100)], class_ids=[1]))
    assert (seen.track_id, seen.label) == (2, "cup")


@settings(max_examples=30, deadline=None)
@given(
    frames=st.lists(
        st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(0, 100)), max_size=6),
        max_size=12,
    )
)
def test_whatever_comes_numbers_are_given_once_and_boxes_are_those_detected(
    frames: list[list[tuple[int, int, int]]],
) -> None:
    tracker = Tracker(0.5)
    given: set[int] = set()
    for frame in frames:
        detections = found([square(x, y) for x, y, _ in frame], [score / 100 for _, _, score in frame])
        tracked = tracker.update(detections)
        numbers = [seen.track_id for seen in tracked if seen.track_id is not None]
        assert len(set(numbers)) == len(numbers)
        given |= set(numbers)
        assert given == set(range(1, len(given) + 1))  # no number is left out
        assert {seen.box for seen in tracked} <= {box for box, _, _ in detections}
        certain = [score for score in detections.scores.tolist() if score > 0.5]
        assert [seen.score for seen in tracked][: len(certain)] == certain
    assert all(0 < x2 - x1 <= 1000 and 0 < y2 - y1 <= 1000 for (x1, y1, x2, y2), *_ in tracker.predict())


def test_between_looks_boxes_move_on_as_they_did() -> None:
    tracker = Tracker(0.5)
    for frame in range(61):
        x = 100 + 4 * frame
        if frame % 3 == 0:
            (seen,) = tracker.update(found([square(x, 200)]))
        else:
            (seen,) = tracker.predict()
            assert seen.score is None
            if frame > 20:
                assert seen.box == pytest.approx(square(x, 200), abs=1.5)
        assert seen.track_id == 1


def test_a_carried_box_stays_in_the_frame_and_goes_with_it() -> None:
    tracker = Tracker(0.5)
    for frame in range(12):
        tracker.update(found([square(800 + 15 * frame, 200)]))
    seen_at_edge = tracker.predict()
    assert seen_at_edge[0].box[2] == 1000
    for _ in range(10):
        last = tracker.predict()
    assert last == []


def test_without_tracking_there_are_no_numbers_and_boxes_stand_still() -> None:
    follower = Untracked(0.5)
    (seen,) = follower.update(found([square(1, 2)]))
    assert (seen.track_id, seen.score) == (None, pytest.approx(0.9))
    (again,) = follower.predict()
    assert (again.box, again.score) == (seen.box, None)
    assert follower.update(found([])) == follower.predict() == []
