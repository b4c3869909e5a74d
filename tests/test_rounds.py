"""Rounds of learning on the page, as photos are reviewed, changed and changed back."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewbox.apps.annotate import learning
from fewbox.apps.annotate.learning import Rounds
from fewbox.core import files
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


def last_said(said: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page shows of learning."""
    return [message["learning"] for message in said if "learning" in message][-1]


class TestBackToWhatItWas:
    """A change, and then its undo: what has been learnt is at hand, and the page says so."""

    def test_a_box_deleted_and_put_back(self, rounds: Rounds, said: list[dict[str, Any]]) -> None:
        draw(rounds, 0, 1)
        rounds.learn()
        rounds.project.change_photo("photo1.png", delete=["k"], reviewed=False)
        rounds.learn()
        assert last_said(said)["message"] == "draw boxes in one more photo"
        draw(rounds, 1)
        rounds.learn()
        assert (last_said(said)["state"], last_said(said)["message"]) == ("ready", "learnt from 2 photos")
        assert last_said(said)["round"] == 1  # nothing had to be learnt again

    def test_after_a_round_that_failed(self, rounds: Rounds, said: list[dict[str, Any]]) -> None:
        draw(rounds, 0, 1)
        rounds.learn()
        path = rounds.project.path_of("photo1.png")
        at, good = path.stat(), path.read_bytes()
        path.write_bytes(good[:200])
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns + 10**9))
        run_once(rounds)
        assert "too few of the photos" in last_said(said)["message"]
        rounds.propose("photo4.png")
        assert last_said(said)["state"] == "failed"  # why is not lost once another photo is opened
        path.write_bytes(good)
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
        run_once(rounds)
        assert (last_said(said)["state"], last_said(said)["message"]) == ("ready", "learnt from 2 photos")

    def test_where_a_class_is_spelled_in_two_ways(self, rounds: Rounds, said: list[dict[str, Any]]) -> None:
        """As other tools may; each photo is refused for it, and the page said that too few can be read."""
        draw(rounds, 0, label="caf\u00e9")
        draw(rounds, 1, label="tea")
        file = rounds.project.file
        file.write_text(file.read_text().replace('"tea"', '"cafe\\u0301"'))
        run_once(rounds)
        assert (last_said(said)["state"], rounds.detector) == ("failed", None)
        assert "two classes have one label" in last_said(said)["message"]

    def test_where_photos_were_turned_since(self, rounds: Rounds, said: list[dict[str, Any]]) -> None:
        """Of three photos one has no objects, and that alone is left to learn from."""
        draw(rounds, 0, 1)
        rounds.project.change_photo("photo2.png", reviewed=True)
        for name in ("photo0.png", "photo1.png"):
            path = rounds.project.path_of(name)
            Image.open(path).resize((50, 70)).save(path)
        run_once(rounds)
        assert (last_said(said)["state"], rounds.detector) == ("failed", None)
        assert "have the size that they had" in last_said(said)["message"]

    def test_while_it_waits_it_says_for_what_whichever_photo_is_opened(
        self, rounds: Rounds, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(learning, "CANDIDATES", 2)
        draw(rounds, 0, 1)
        rounds.learn()
        rounds.project.change_photo("photo1.png", delete=["k"], reviewed=False)
        rounds.learn()
        rounds.propose("photo6.png")
        assert said[-1]["name"] == "photo6.png"
        assert last_said(said)["message"] == "draw boxes in one more photo"

    def test_a_photo_that_was_left_out_is_not_proposed_as_the_next_one(
        self, rounds: Rounds, said: list[dict[str, Any]]
    ) -> None:
        draw(rounds, 0, 1)
        rounds.learn()
        suggested = last_said(said)["suggested_next"]
        assert suggested is not None
        rounds.project.change_photo(suggested, left_out=True)
        rounds.learn()
        assert last_said(said)["suggested_next"] not in (None, suggested)


def test_a_photo_turned_since_its_boxes_were_drawn_is_passed_by(
    rounds: Rounds, said: list[dict[str, Any]]
) -> None:
    draw(rounds, 0, 1, 2)
    path = rounds.project.path_of("photo2.png")
    with Image.open(path) as photo:
        photo.rotate(90, expand=True).save(path)
    rounds.learn()
    assert last_said(said)["message"] == "learnt from 2 photos"


def test_a_photo_turned_since_it_was_looked_at_is_looked_at_again(
    rounds: Rounds, said: list[dict[str, Any]]
) -> None:
    draw(rounds, 0, 1)
    rounds.learn()
    path = rounds.project.path_of("photo2.png")
    with Image.open(path) as photo:
        turned = photo.transpose(Image.Transpose.ROTATE_90)
    turned.save(path)
    for _ in range(2):
        rounds.propose("photo2.png")
    looks = [message["file"] for message in said if message.get("name") == "photo2.png"]
    assert len(looks) == 2
    assert looks[1] == files.version_of(path) != looks[0]


class OneRound(queue.Queue[dict[str, Any]]):
    """Orders of a person who waits for one round, and then ends everything."""

    waited = False

    def get(self, block: bool = True, timeout: float | None = None) -> dict[str, Any]:
        if not self.waited:
            self.waited = True
            raise queue.Empty
        raise KeyboardInterrupt


def run_once(rounds: Rounds) -> None:
    """Learn as the process does, which tells what goes wrong."""
    with pytest.raises(KeyboardInterrupt):
        learning.serve_orders(rounds, OneRound())


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
