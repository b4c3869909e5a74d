"""Rounds of learning on the page, as photos are reviewed, changed and changed back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewbox.apps.annotate import learning
from fewbox.apps.annotate.learning import Rounds
from fewbox.data.annotations import Box
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from tiny import make_base, make_photos
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = [pytest.mark.usefixtures("in_float32"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(learning, "_send", messages.append)
    return messages


def rounds_of(folder: Path) -> Rounds:
    config = tiny_yolox_config()
    return Rounds(Project(folder), make_base(config, random_yolox(config).state_dict()))


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    make_photos(tmp_path, count=8)
    return rounds_of(tmp_path)


def draw(rounds: Rounds, *numbers: int, label: str = "square") -> None:
    for number in numbers:
        rounds.project.change_photo(f"photo{number}.png", put=[DrawnBox("k", Box(20, 30, 60, 70, label))])


class TestMorePhotosThanItLearnsFrom:
    @pytest.fixture(autouse=True)
    def learn_from_four(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(learning, "MAX_PHOTOS", 4)

    def test_boxes_drawn_after_many_empty_photos_are_learnt(self, rounds: Rounds) -> None:
        draw(rounds, 0, 1)
        for number in (2, 3, 4):
            rounds.project.change_photo(f"photo{number}.png", reviewed=True)
        rounds.learn()
        draw(rounds, 5)
        rounds.learn()
        assert rounds.number == 2
        assert {"photo0.png", "photo1.png", "photo5.png"} < set(rounds.cached)

    def test_a_class_drawn_late_is_learnt_and_a_page_started_anew_learns_the_same(
        self, rounds: Rounds
    ) -> None:
        draw(rounds, 0, 1, 2, 3, 4, 5)
        rounds.learn()
        draw(rounds, 7, label="other")
        rounds.learn()
        assert "photo7.png" in rounds.cached
        anew = rounds_of(rounds.project.folder)
        anew.learn()
        assert list(anew.cached) == list(rounds.cached)
