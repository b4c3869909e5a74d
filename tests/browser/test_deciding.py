"""Proposals that nobody has decided on: no photo counts as empty in silence, and all can be taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_driver import (
    MARK,
    OpenPage,
    PageDriver,
    Serve,
    assert_close,
    boxes_in_file,
    make_photos,
    reviewed_in_file,
)
from test_drawing_boxes import PHONE

from fewbox.apps.annotate.background import Learning, Proposal, Proposals
from fewbox.data.project import Project
from made_up_learner import MadeUpLearner

ONE = Proposals(1, (Proposal(MARK, "raccoon", 0.93),))


@pytest.fixture
def folder(tmp_path: Path, learner: MadeUpLearner) -> Path:
    """Three photos, in the first of which a raccoon is proposed."""
    folder = make_photos(tmp_path / "photos")
    with Project(folder).editing() as content:
        content.add_labels(["raccoon", "cat"])
    learner.proposed = {"photo1.png": ONE}
    learner.says = Learning("ready", "", 1, 1.0)
    return folder


def open_at_proposals(open_page: OpenPage, url: str, **options: object) -> PageDriver:
    page = open_page(url, **options)
    page.until_open("photo1.png")
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    return page


def test_space_asks_and_space_again_accepts_and_undo_brings_all_back(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_at_proposals(open_page, serve(folder))
    page.press(" ")
    page.page.locator(".asks", has_text="1 proposed box to decide").wait_for()
    assert reviewed_in_file(folder) == []
    page.press("Escape")
    page.page.locator(".asks", has_text="to decide").wait_for(state="detached")
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    assert page.name() == "photo1.png"

    page.press(" ", " ")
    page.until_open("photo2.png")
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, "photo1.png")
    assert label == "raccoon"
    assert_close(box, MARK, 0.1)
    page.press("Control+z")
    page.until_open("photo1.png")
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    page.until_saved()
    assert boxes_in_file(folder, "photo1.png") == []
    assert reviewed_in_file(folder) == []


@pytest.mark.parametrize("key", ["n", "Shift+Space"])
def test_really_empty_is_a_key_and_undone_as_any_other(
    folder: Path, serve: Serve, open_page: OpenPage, key: str
) -> None:
    page = open_at_proposals(open_page, serve(folder))
    page.press(" ", key)
    page.until_open("photo2.png")
    page.press(" ")  # nothing is proposed in this one
    page.until_open("photo3.png")
    page.until_saved()
    assert reviewed_in_file(folder) == ["photo1.png", "photo2.png"]
    page.press("Control+z", "Control+z")
    page.until_open("photo1.png")
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    page.until_saved()
    assert reviewed_in_file(folder) == []


def test_on_a_phone_the_button_asks_too(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_at_proposals(open_page, serve(folder), **PHONE)
    page.page.get_by_role("button", name="Reviewed, next").tap()
    page.page.get_by_role("button", name="Reviewed, next").tap()  # tapped twice it is no answer
    assert reviewed_in_file(folder) == []
    page.page.locator(".asks").get_by_role("button", name="Accept it").tap()
    page.until_open("photo2.png")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1
    page.page.get_by_role("button", name="Undo").tap()
    page.until_open("photo1.png")
    page.until_saved()
    assert boxes_in_file(folder, "photo1.png") == []


def test_beside_a_box_of_ones_own_every_way_out_asks(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_at_proposals(open_page, serve(folder))
    x1, y1, _, y2 = page.mark()
    page.drag((x1 - 90, y1), (x1 - 20, y2))
    asks = page.page.locator(".asks", has_text="Only my boxes")
    for leave in (
        lambda: page.press("d"),
        lambda: page.page.get_by_role("option", name="photo3.png").click(),
        lambda: page.page.get_by_role("button", name="Finish").click(),
    ):
        leave()
        asks.wait_for()
        page.press("Escape")
        asks.wait_for(state="detached")
    assert page.name() == "photo1.png"
    page.press("d")
    asks.wait_for()
    x1, y1, x2, y2 = page.mark()
    page.drag((x2 + 30, y1), (x2 + 90, y2))  # who draws on has not answered
    asks.wait_for(state="detached")
    assert page.rows() == ["raccoon", "*raccoon", "raccoon"]
    page.press(" ", " ")
    page.until_open("photo2.png")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 3


def test_what_is_proposed_after_space_is_told(
    folder: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    learner.proposed = {"photo1.png": Proposals(0, (), pending=True)}
    page = open_page(serve(folder))
    page.until_open("photo1.png")
    page.press(" ")
    page.until_open("photo2.png")
    page.until_saved()
    assert reviewed_in_file(folder) == ["photo1.png"]
    learner.proposed = {"photo1.png": ONE}
    page.page.locator(".asks", has_text="photo1.png counts as empty").wait_for()
    page.press("l")
    page.until_open("photo1.png")
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    page.until_saved()
    assert reviewed_in_file(folder) == []
