"""Two people on one project, one of them at a phone: nothing is lost, and both are told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_driver import OpenPage, boxes_in_file, make_photos
from test_drawing_boxes import PHONE

from fewbox.apps.annotate.app import AnnotateServer
from fewbox.data.project import Project
from made_up_learner import MadeUpLearner
from waiting import LONG


@pytest.fixture
def shared(tmp_path: Path, learner: MadeUpLearner) -> Iterator[AnnotateServer]:
    """The page of three photos, shared with other machines."""
    folder = make_photos(tmp_path / "photos")
    server = AnnotateServer(Project(folder), learner, 0, host="0.0.0.0")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(LONG)


def test_both_see_what_the_other_does_and_the_second_at_one_photo_is_told_and_chooses(
    tmp_path: Path, shared: AnnotateServer, open_page: OpenPage
) -> None:
    folder = tmp_path / "photos"
    one, phone = open_page(shared.local_url), open_page(shared.url, expects_trouble=True, **PHONE)
    one.draw_mark("mug")
    phone.page.locator(".tally", has_text="1 of 3 reviewed · 1 box").wait_for()  # by itself, within seconds
    phone.page.locator(".classes .label, .side .label", has_text="mug").first.wait_for()
    phone.press("t")
    dialog = phone.page.locator("dialog.try")
    dialog.get_by_role("button", name="Camera").tap()
    dialog.get_by_text("The camera needs https").wait_for()
    phone.press("Escape")
    dialog.wait_for(state="detached")  # a key pressed before that is the dialog's
    phone.press("d")
    phone.until_open("photo2.png")
    phone.draw_mark()
    phone.until_saved()
    one.page.get_by_role("option", name="photo2.png, 1 box").wait_for()
    assert [len(boxes_in_file(folder, f"photo{number}.png")) for number in (1, 2)] == [1, 1]
    assert not one.page.locator(".asks").inner_text()  # nobody was in the other's way

    # Both draw in one photo: the phone while it has no network, so that it cannot know.
    phone.press("d")
    phone.until_open("photo3.png")
    phone.page.context.set_offline(True)
    phone.draw_mark()
    phone.page.locator('.saved[data-state="failed"]').wait_for()
    one.press("d")
    one.until_open("photo2.png")
    one.press("d")
    one.until_open("photo3.png")
    x1, y1, x2, y2 = one.mark()
    one.drag((x1 + 20, y1 + 20), (x2 - 20, y2 - 20))
    one.until_saved()
    phone.page.context.set_offline(False)
    asks = phone.page.locator(".asks")
    asks.get_by_text("Somebody else has changed this photo").wait_for()
    phone.page.screenshot(path=str(tmp_path / "two-phone.png"))
    one.page.screenshot(path=str(tmp_path / "two.png"))
    assert len(boxes_in_file(folder, "photo3.png")) == 2
    phone.press("w")  # what is drawn from here on is counted, too
    asks.get_by_role("button", name="Only mine (2 boxes)").wait_for()
    phone.until_saved()
    asks.get_by_role("button", name="Only theirs (1 box)").tap()
    phone.until_saved()
    (theirs,) = boxes_in_file(folder, "photo3.png")
    assert theirs[1][2] - theirs[1][0] < 130
    one.page.get_by_role("option", name="photo3.png, 1 box").wait_for()
    phone.press("Control+z")
    phone.until_saved()
    assert len(boxes_in_file(folder, "photo3.png")) == 3
