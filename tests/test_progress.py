"""What is told of long work where nobody looks on: a line every half minute."""

from __future__ import annotations

import pytest

from fewbox.core import progress
from fewbox.core.progress import make_console, progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "console", progress._Lines())
    monkeypatch.setattr(progress._Lines, "is_terminal", False, raising=False)
    return now


def test_a_line_every_half_minute_with_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("looking", 100) as advance:
        for _ in range(40):
            clock[0] += 1
            advance("duck.jpg")
        clock[0] += 60
        advance("duck.jpg", 20)
    assert capsys.readouterr().err.splitlines() == [
        "looking: 30 of 100, 0:01:10 left, duck.jpg",
        "looking: 60 of 100, 0:01:33 left, duck.jpg",
    ]


def test_short_work_and_its_end_are_not_told(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("looking", 2) as advance:
        advance("")
        clock[0] += 100
        advance("")
    with progress_bar("looking", 3, show=False) as advance:
        clock[0] += 100
        advance("")
    assert capsys.readouterr().err == ""


def test_without_an_end_only_what_is_done_is_told(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("detecting", None) as advance:
        clock[0] += 31
        advance("")
    assert capsys.readouterr().err == "detecting: 1\n"


def test_what_looks_like_rich_markup_is_told_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    make_console().print("install '.[train]', then look at [red]duck[/].jpg and :duck:")
    assert capsys.readouterr().out == "install '.[train]', then look at [red]duck[/].jpg and :duck:\n"
