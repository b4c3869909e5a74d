"""Counting: what passes a line or a zone counts once, in the direction it goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fewbox.errors import SettingError
from fewbox.video.counting import LineCounter, PassCounter, ZoneCounter, read_points
from fewbox.video.tracking import TrackedBox


def at(
    x: float, y: float, track_id: int | None = 1, *, label: str = "duck", candidate: int | None = None
) -> TrackedBox:
    """A box of 40 x 40 around a point: to be clearly beyond a line takes it 6 pixels."""
    return TrackedBox((x - 20, y - 20, x + 20, y + 20), label, 0, 0.9, track_id, candidate)


def go(counter: PassCounter, points: Sequence[tuple[float, float]], track_id: int = 1) -> dict[str, int]:
    """One object goes through ``points``; how many have gone each way so far."""
    for x, y in points:
        counter.update([at(x, y, track_id)])
    return {name: found.total() for name, found in counter.counts.items()}


@pytest.mark.parametrize("ends", [(0, 100, 200, 100), (200, 100, 0, 100), (0, 60, 200, 140)])
def test_a_level_line_counts_down_and_up(ends: tuple[float, ...]) -> None:
    line = LineCounter(ends)
    assert go(line, [(100, 20), (100, 180)]) == {"down": 1, "up": 0}
    assert go(line, [(100, 180), (100, 20)], 2) == {"down": 1, "up": 1}


@pytest.mark.parametrize("ends", [(100, 0, 100, 200), (100, 200, 100, 0)])
def test_a_steep_line_counts_right_and_left(ends: tuple[float, ...]) -> None:
    line = LineCounter(ends)
    assert go(line, [(20, 100), (60, 100), (140, 100), (180, 100)]) == {"right": 1, "left": 0}
    assert go(line, [(180, 100), (20, 100)], 2) == {"right": 1, "left": 1}


def test_what_passes_beside_the_ends_of_a_line_is_not_counted() -> None:
    line = LineCounter((100, 100, 200, 100))
    assert go(line, [(80, 20), (80, 180)]) == {"down": 0, "up": 0}
    assert go(line, [(150, 180), (150, 20)]) == {"down": 0, "up": 1}


def test_what_goes_along_a_line_passes_it_where_it_crosses() -> None:
    line = LineCounter((0, 100, 200, 100))
    along = [(x, 97) for x in range(100, 301, 20)]  # not clearly on a side
    across = [(300, y) for y in range(98, 130, 4)]
    assert go(line, [(100, 80), *along, *across]) == {"down": 0, "up": 0}
    assert go(line, [(300, 80), *along[::-1], (100, 101), (300, 104), (300, 120)], 2) == {"down": 1, "up": 0}


def test_a_box_that_trembles_on_the_line_counts_once() -> None:
    line = LineCounter((0, 100, 200, 100))
    trembling = [(100, 100 + 5 * (-1) ** number) for number in range(50)]
    assert go(line, trembling) == {"down": 0, "up": 0}  # where did it come from?
    assert go(line, [(100, 80), *trembling]) == {"down": 0, "up": 0}
    assert go(line, [(100, 120), *trembling, (100, 120)]) == {"down": 1, "up": 0}


def test_an_object_counts_once_in_each_direction_however_often_it_passes() -> None:
    line = LineCounter((0, 100, 200, 100))
    assert go(line, [(100, 50), (100, 150)] * 5) == {"down": 1, "up": 1}
    assert go(line, [(100, 50), (100, 150)], 2) == {"down": 2, "up": 1}


def test_one_that_passes_before_it_has_a_number_counts_when_it_has_one() -> None:
    line = LineCounter((0, 100, 200, 100))
    line.update([at(100, 50, None, candidate=7)])
    line.update([at(100, 150, None, candidate=7)])
    assert line.counts["down"].total() == 0
    line.update([at(100, 180, 3, candidate=7)])
    line.update([at(100, 190, 3, candidate=7)])
    assert line.counts["down"] == {"duck": 1}


def test_predicted_boxes_and_boxes_without_tracks_count_nothing() -> None:
    line = LineCounter((0, 100, 200, 100))
    line.update([at(100, 50)])
    line.update([at(100, 150)._replace(score=None)])
    line.update([at(100, 50, None)])
    line.update([at(100, 150, None)])
    assert line.counts["down"].total() == 0
    line.update([at(100, 150)])
    assert line.counts["down"].total() == 1


def test_counts_are_by_label() -> None:
    line = LineCounter((0, 100, 200, 100))
    for number, label in enumerate(["duck", "duck", "cup"], start=1):
        line.update([at(100, 50, number, label=label)])
        line.update([at(100, 150, number, label=label)])
    assert line.counts["down"] == {"duck": 2, "cup": 1}
    assert str(line) == "down 3 (2 duck, 1 cup), up 0"
    assert line.to_dict() == {
        "line": [[0.0, 100.0], [200.0, 100.0]],
        "counts": {"down": {"duck": 2, "cup": 1}, "up": {}},
    }


def test_a_zone_counts_who_comes_who_goes_and_who_was_there() -> None:
    zone = ZoneCounter((100, 100, 300, 100, 300, 300, 200, 200, 100, 300))  # with a bay below
    assert go(zone, [(50, 150), (200, 150), (350, 150)]) == {"in": 1, "out": 1, "inside": 1}
    assert go(zone, [(200, 150), (200, 50)], 2) == {"in": 1, "out": 2, "inside": 2}  # it was there before
    assert go(zone, [(200, 280), (200, 320)], 3) == {"in": 1, "out": 2, "inside": 2}  # in the bay: outside
    assert str(zone) == "in 1, out 2, inside 2"
    edge = [(200, 100 + 5 * (-1) ** number) for number in range(50)]
    assert go(zone, [(200, 50), *edge], 4) == {"in": 1, "out": 2, "inside": 2}


def test_memory_does_not_grow_with_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewbox.video.counting._MAX_REMEMBERED", 3)
    line = LineCounter((0, 100, 200, 100))
    for number in range(1, 30):
        go(line, [(100, 50)], number)
    assert len(line._passages) == 3
    assert go(line, [(100, 150)], 29) == {"down": 1, "up": 0}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: LineCounter((1, 2, 3)), "these numbers are no line: 1,2,3\nhint: two points"),
        (lambda: LineCounter((1, 2, 3, float("nan"))), "these numbers are no line: 1,2,3,nan"),
        (lambda: LineCounter("0,0,10,10"), "a line is a list of numbers: '0,0,10,10'\nhint: two points"),
        (lambda: LineCounter((0, 0, "a", 10)), "a line is a list of numbers: (0, 0, 'a', 10)\nhint"),
        (lambda: ZoneCounter(None), "a zone is a list of numbers: None\nhint: three corners"),
        (lambda: ZoneCounter([(0, 0), (9, 0), (9, 9)]), "a zone is a list of numbers: [(0, 0), "),
        (lambda: LineCounter((0, 0, 10**400, 9)), "a line is a list of numbers: (0, 0, 1000"),
        (lambda: LineCounter((5, 5, 5, 5)), "the two ends of a line are one point: 5,5,5,5"),
        (
            lambda: LineCounter((0, 0.5, 1, 0.5)),
            "a line is in pixels, not in parts of the frame: 0,0.5,1,0.5\nhint",
        ),
        (lambda: ZoneCounter((0, 0, 1, 0, 1, 1)), "a zone is in pixels, not in parts of the frame"),
        (lambda: ZoneCounter((1, 2, 3, 4)), "these numbers are no zone: 1,2,3,4\nhint: three corners"),
        (lambda: ZoneCounter((0, 0, 5, 5, 9, 9)), "a zone without an area: 0,0,5,5,9,9"),
        (
            lambda: ZoneCounter((0, 0, 90, 0, 0, 50, 99, 50)),
            "a zone whose edges cross: 0,0,90,0,0,50,99,50\nhint: give its corners in the order in which",
        ),
    ],
)
def test_what_is_no_line_or_zone(wrong: object, says: str) -> None:
    assert callable(wrong)
    with pytest.raises(SettingError) as raised:
        wrong()
    assert str(raised.value).startswith(says)


def test_numbers_are_parts_of_the_frame_if_none_is_above_1_and_else_pixels() -> None:
    assert read_points("--count-line", "0,0.5,1,0.5", (720, 1280)) == [0, 360, 1280, 360]
    assert read_points("--count-line", "0,1,1280,720", (720, 1280)) == [0, 1, 1280, 720]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,half,1,half", "--count-line: not numbers with commas between them: 0,half,1,half"),
        ("", "--count-line: not numbers with commas between them: "),
        ("1,2,3", "--count-line: a point is two numbers, x and y: 1,2,3"),
        ("0,nan,1,1", "--count-line: a point is two numbers, x and y: 0,nan,1,1"),
        ("0,0.5,1280,0.5", "--count-line: some numbers are parts of the frame and some are pixels"),
        ("0,900,9,900", "--count-line: outside the frame, which is 1280x720: 0,900,9,900\nhint: in pixels"),
        ("-1,0,1,1", "--count-line: outside the frame, which is 1280x720: -1,0,1,1"),
    ],
)
def test_what_the_option_refuses(text: str, says: str) -> None:
    with pytest.raises(SettingError) as raised:
        read_points("--count-line", text, (720, 1280))
    assert str(raised.value).startswith(says)
