"""Landmarks after a box are told from outlines, or nothing is said: neither is ever taken for the other."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from fewbox.data.formats.raw import COMPUTED, LANDMARKS, OUTLINES, UNCLEAR, kind_of

FACE = ((-0.2, -0.1), (0.2, -0.1), (0, 0.08), (-0.17, 0.25), (0.17, 0.25))
PLATE = ((-0.46, -0.45), (0.46, -0.45), (0.46, 0.45), (-0.46, 0.45))


def outline(rng: random.Random, corners: int) -> list[float]:
    """A jagged outline somewhere in the photo, 0.03 to 0.6 of it wide; tools begin at an extreme corner."""
    width, height = (math.exp(rng.uniform(math.log(0.03), math.log(0.6))) for _ in range(2))
    x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
    start = rng.choice([0, -math.pi / 2, math.pi])
    numbers = []
    for number in range(corners):
        turn = start + (2 * math.pi * number + rng.uniform(-0.3, 0.3)) / corners
        reach = rng.uniform(0.5, 1)
        numbers += [x + width / 2 * reach * math.cos(turn), y + height / 2 * reach * math.sin(turn)]
    return numbers


def landmarks(rng: random.Random, points: tuple[tuple[float, float], ...]) -> list[float]:
    """A box of 0.03 to 0.3 of the photo, and points in it with a little noise."""
    width, height = (math.exp(rng.uniform(math.log(0.03), math.log(0.3))) for _ in range(2))
    x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
    places = [
        (x + width * (a + rng.gauss(0, 0.03)), y + height * (b + rng.gauss(0, 0.03))) for a, b in points
    ]
    return [x, y, width, height, *(value for place in places for value in place)]


@pytest.mark.parametrize("corners", [4, 5, 6, 8, 20, pytest.param(100, marks=pytest.mark.slow)])
def test_outlines_all_of_so_many_corners(corners: int) -> None:
    rng = random.Random(corners)
    assert all(kind_of([outline(rng, corners) for _ in range(10)]) == OUTLINES for _ in range(200))
    singles = {kind_of([outline(rng, corners)]) for _ in range(500)}
    assert singles <= {OUTLINES, UNCLEAR, COMPUTED}


@pytest.mark.parametrize("points", [FACE, PLATE])
def test_landmarks(points: tuple[tuple[float, float], ...]) -> None:
    rng = random.Random(0)
    assert all(kind_of([landmarks(rng, points) for _ in range(10)]) == LANDMARKS for _ in range(200))
    singles = {kind_of([landmarks(rng, points)]) for _ in range(500)}
    assert singles <= {LANDMARKS, UNCLEAR}


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("points", [FACE, PLATE])
def test_a_point_outside_its_box_makes_no_outlines_of_all(
    points: tuple[tuple[float, float], ...], step: int
) -> None:
    rng = random.Random(2)
    for number in (1, 2):  # of ten lines
        lines = [landmarks(rng, points) for _ in range(10)]
        for line in lines[:number]:
            line[4] = line[0] + 0.8 * line[2]
        if step == 3:
            lines = [[*line[:4], *with_each(line[4:], lambda: 1)] for line in lines]
        is_odd = len(lines[0]) % 2 == 1  # then it is refused, as no outline has so many numbers
        assert kind_of(lines) in (LANDMARKS, OUTLINES if is_odd else UNCLEAR)
        assert (kind_of(lines) == LANDMARKS) >= (number == 1 and step == 3)


@pytest.mark.parametrize("is_box_scored", [True, False])
@pytest.mark.parametrize("points", [FACE, PLATE, FACE * 3])
def test_landmarks_with_scores_were_computed(
    points: tuple[tuple[float, float], ...], is_box_scored: bool
) -> None:
    rng = random.Random(3)
    for _ in range(50):
        lines = [landmarks(rng, points) for _ in range(10)]
        scored = [[*line[:4], *with_each(line[4:], lambda: rng.uniform(0.4, 1))] for line in lines]
        assert kind_of([[*line, 0.9] for line in scored] if is_box_scored else scored) == COMPUTED


def with_each(points: list[float], more: Callable[[], float]) -> list[float]:
    """The points, each followed by one number more."""
    return [value for x, y in zip(points[::2], points[1::2], strict=True) for value in (x, y, more())]


@pytest.mark.parametrize("spoil", [lambda n: [*n, 0.5, 0.5], lambda n: [n[0] + 0.4, *n[1:]]])
def test_one_of_two_lines_that_does_not_fit_speaks_against_landmarks(
    spoil: Callable[[list[float]], list[float]],
) -> None:
    line = landmarks(random.Random(1), FACE)
    assert kind_of([line, line]) == LANDMARKS
    assert kind_of([line, spoil(line)]) != LANDMARKS
