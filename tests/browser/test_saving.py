"""Nothing is lost, whatever happens to page and server; and photos by the thousand, damaged, proposed for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from page_driver import (
    MARK,
    OpenPage,
    PageDriver,
    Serve,
    assert_close,
    boxes_in_file,
    make_photos,
    marked_photo,
    reviewed_in_file,
)
from PIL import Image

from fewbox.apps.annotate.app import AnnotateServer
from fewbox.apps.annotate.background import Learning, Proposal, Proposals
from fewbox.data.project import Project
from made_up_learner import MadeUpLearner
from waiting import LONG, free_port


def test_a_reload_keeps_everything(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.name()
    page.press("d")
    page.until_open("photo2.png")
    page.draw_mark("mug")
    page.until_saved()
    page.page.reload()
    page.until_open("photo2.png")
    page.page.locator(".of-photo .row").wait_for()
    assert page.rows() == ["mug"]
    assert page.page.locator(".tally").inner_text() == "1 of 3 reviewed · 1 box"


def hold(page: PageDriver, asked: str) -> Callable[[], None]:
    """Hold back what the page asks from now on, until what this returns is called."""
    held: list[Any] = []
    is_over: list[bool] = []
    page.page.route(asked, lambda route: route.continue_() if is_over else held.append(route))

    def go_on() -> None:
        is_over.append(True)
        for route in held:
            route.continue_()

    return go_on


def test_until_the_boxes_of_a_photo_have_come_their_list_is_busy(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.until_saved()
    go_on = hold(page, "**/api/photos/*")
    page.page.reload()
    page.page.locator("h1", has_text="photo1.png").wait_for()
    page.page.locator('.of-photo [aria-busy="true"]').wait_for(state="attached")
    go_on()
    page.mark()
    assert page.rows() == ["mug"]


def start_command(folder: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    """Run ``fewbox annotate`` as a person would, and read the address it prints."""
    options = ["--no-browser", "--no-learn", "--port", str(port)]
    command = [sys.executable, "-m", "fewbox.cli", "annotate", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if address := re.search(r"http://\S+", line):
            return process, address[0]
    raise AssertionError(f"fewbox annotate ended with {process.wait()}")


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_server_killed_while_drawing_loses_nothing(tmp_path: Path, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    port = free_port()
    process, url = start_command(folder, port)
    try:
        page = open_page(url, expects_trouble=True)
        page.draw_mark("mug")
        page.until_saved()
        x1, y1, x2, y2 = page.mark()
        page.mouse.move(x2 + 10, y1)
        page.mouse.down()  # a box is half drawn when the server dies
        kill(process)
        assert len(boxes_in_file(folder, "photo1.png")) == 1
        page.mouse.move(x2 + 60, y2)
        page.mouse.up()
        page.page.locator(".trouble", has_text="Not saved").wait_for()
        assert "kept in this browser" in page.page.get_by_role("alert").inner_text()
        page.press("Escape")
        page.drag((x1 - 60, y1), (x1 - 10, y2))

        go_on = hold(page, "**/api/photos/*")  # or it could be saved before the button is pressed
        process, _ = start_command(folder, port)  # the same token: the open page goes on
        page.page.get_by_role("button", name="Try now").click()
        go_on()
        page.until_saved()
        assert len(boxes_in_file(folder, "photo1.png")) == 3

        kill(process)
        page.press("Delete")
        page.page.locator(".trouble").wait_for()
        page.page.close()  # and now the window is gone, too
        process, url = start_command(folder, port)
        again = page.page.context.new_page()
        again.goto(url)
        again.get_by_role("option", name="photo1.png").click()
        again.locator(".of-photo .row").nth(1).wait_for()
        again.locator('.saved[data-state="saved"]', has_text=re.compile(r"\d\d:\d\d")).wait_for()
        assert len(boxes_in_file(folder, "photo1.png")) == 2
        assert again.locator(".of-photo .row").count() == 2
    finally:
        kill(process)


@contextmanager
def served_at(port: int, folder: Path) -> Iterator[str]:
    """Serve a folder at a port at which another one may have been served before."""
    server = AnnotateServer(Project(folder), MadeUpLearner(), port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(LONG)


def test_a_page_left_open_saves_nothing_in_another_folder_that_is_served_at_its_address(
    tmp_path: Path, open_page: OpenPage
) -> None:
    mine, other = make_photos(tmp_path / "mine"), make_photos(tmp_path / "other")
    port = free_port()
    with served_at(port, mine) as url:
        page = open_page(url, expects_trouble=True)
        page.draw_mark("mug")
        page.until_saved()
    with served_at(port, other) as url:
        tab = page.page.context.new_page()
        tab.goto(url)  # by which this browser may save there
        tab.locator("h1", has_text="photo1.png").wait_for()
        page.press("Escape")
        x1, y1, _, y2 = page.mark()
        page.drag((x1 - 60, y1), (x1 - 10, y2))
        trouble = page.page.get_by_role("alert")
        trouble.filter(has_text="this address shows another folder now").wait_for()
        assert "kept in this browser" in trouble.inner_text()
        tab.reload()
        tab.locator("h1", has_text="photo1.png").wait_for()
        assert tab.locator(".of-photo .row").count() == 0
    with served_at(port, mine) as url:
        tab.goto(url)
        page.page.evaluate("dispatchEvent(new Event('online'))")  # by which it tries again at once
        page.until_saved()
        tab.close()
    assert [len(boxes_in_file(folder, "photo1.png")) for folder in (mine, other)] == [2, 0]


def is_save(route: Any) -> bool:
    return route.request.method == "PATCH"


def test_a_failed_save_is_loud_and_tried_again(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder), expects_trouble=True)
    page.name()
    page.page.route("**/api/photos/*", lambda route: route.abort() if is_save(route) else route.continue_())
    page.draw_mark("mug")
    trouble = page.page.get_by_role("alert")
    trouble.filter(has_text="the server does not answer").wait_for()
    page.page.unroute("**/api/photos/*")
    page.until_saved()  # by itself
    assert len(boxes_in_file(folder, "photo1.png")) == 1
    assert page.page.locator(".trouble").count() == 0

    lost: list[Any] = []  # what is saved, and the page does not hear of it

    def lose(route: Any) -> None:
        if is_save(route) and not lost:
            lost.append(route.fetch())
            route.abort()
        else:
            route.continue_()

    page.page.route("**/api/photos/*", lose)
    x1, y1, x2, y2 = page.mark()
    for left, right in ((x1 - 60, x1 - 10), (x2 + 10, x2 + 60)):
        page.press("Escape")
        page.drag((left, y1), (right, y2))
        trouble.filter(has_text="Not saved").wait_for()
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 3
    assert not page.page.locator(".asks").inner_text()  # nobody else was there


def test_what_the_server_refuses_is_said_and_can_be_given_up(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder), expects_trouble=True)
    page.draw_mark("mug")
    page.until_saved()
    (folder / "photo1.png").rename(folder / "elsewhere.txt")
    page.press("Delete")
    trouble = page.page.get_by_role("alert")
    trouble.filter(has_text="photo1.png").wait_for()
    trouble.get_by_role("button", name="Discard").click()
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1


def test_no_box_is_saved_where_it_was_in_a_photo_that_is_turned_meanwhile(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder), expects_trouble=True)

    def turn(name: str) -> None:
        with Image.open(folder / name) as photo:
            turned = photo.transpose(Image.Transpose.ROTATE_90)
        turned.save(folder / name)

    page.name()
    turn("photo1.png")
    page.draw_mark("mug")
    trouble = page.page.get_by_role("alert")
    trouble.filter(has_text="photo1.png: the photo has changed since it was shown").wait_for()
    assert boxes_in_file(folder, "photo1.png") == []
    trouble.get_by_role("button", name="Discard").click()
    page.page.locator(".of-photo .row").wait_for(state="detached")
    page.until_sharp(120 / 140)  # it is shown as it is now
    page.draw_mark()
    page.until_saved()
    ((_, box),) = boxes_in_file(folder, "photo1.png")
    assert_close(box, (80, 140, 200, 280))
    turn("photo2.png")  # whose picture has come ahead
    page.press("d")
    page.until_open("photo2.png")
    page.until_sharp(120 / 140)
    page.draw_mark()
    page.until_saved()
    assert boxes_in_file(folder, "photo2.png")[0][1] == pytest.approx(box, abs=1)


def test_two_windows_lose_no_box(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    url = serve(folder)
    one, two = open_page(url), open_page(url)
    x1, y1, x2, y2 = one.mark()
    two.mark()
    one.draw_mark("mug")
    one.until_saved()
    two.page.evaluate("dispatchEvent(new Event('focus'))")  # as when one clicks on the other window
    two.page.locator(".of-photo .row").wait_for()
    for number in range(3):
        one.press("Escape")
        one.drag((x1 - 90 + 25 * number, y1), (x1 - 70 + 25 * number, y2))
        two.press("Escape")
        two.drag((x2 + 10 + 25 * number, y1), (x2 + 30 + 25 * number, y2))
    one.until_saved()
    two.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 7
    one.press("w")  # whoever saves is told what the other has drawn
    one.page.locator(".of-photo .row").nth(7).wait_for()


def test_proposals_are_shown_accepted_and_only_then_saved(
    tmp_path: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    folder = make_photos(tmp_path / "photos", 4)
    places = [(MARK, 0.83), ((280, 80, 340, 200), 0.55), ((20, 80, 80, 200), 0.4)]
    boxes = tuple(Proposal(box, "mug", score) for box, score in places)
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.until_saved()
    learner.proposed = {name: Proposals(1, boxes) for name in ("photo1.png", "photo2.png", "photo3.png")}
    learner.says = Learning("ready", "", 1, 1.0)
    page.page.reload()
    page.until_open("photo1.png")
    page.press("d")
    page.until_open("photo2.png")
    page.page.locator(".offers", has_text="3 proposed").wait_for()
    assert boxes_in_file(folder, "photo2.png") == []
    assert page.page.locator(".of-photo .proposed").count() == 3
    page.press("Enter")  # the surest
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, "photo2.png")
    assert label == "mug"
    assert_close(box, MARK, 0.1)
    page.press("Delete")  # the next one is selected; dismissing it saves nothing
    page.page.locator(".offers", has_text="1 proposed").wait_for()
    page.press(" ")  # one is neither accepted nor turned down
    page.page.locator(".asks", has_text="1 proposed box to decide").wait_for()
    page.press("n")
    page.until_open("photo3.png")
    assert len(boxes_in_file(folder, "photo2.png")) == 1
    page.page.locator(".offers", has_text="3 proposed").wait_for()
    page.press("Tab", "Shift+ArrowRight")  # moved, it is a box; the others are still proposals
    page.page.locator(".offers", has_text="2 proposed").wait_for()
    page.press("Shift+Enter")
    page.until_saved()
    found = [box for _, box in boxes_in_file(folder, "photo3.png")]
    assert_close(found[0], (130, 80, 270, 200), 0.1)
    assert len(found) == 3
    assert page.page.locator(".offers button").count() == 0


def test_the_photo_it_is_least_sure_of_is_offered(
    tmp_path: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    folder = make_photos(tmp_path / "photos", 5)
    learner.says = Learning("ready", "", 1, 1.0, suggested_next="photo4.png")
    page = open_page(serve(folder))
    page.name()
    page.page.get_by_role("button", name="Least sure of photo4.png").wait_for()
    page.press("g")
    page.until_open("photo4.png")


def test_a_damaged_photo_is_shown_as_such_and_can_be_skipped(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    whole = (folder / "photo2.png").read_bytes()
    (folder / "photo2.png").write_bytes(whole[: len(whole) // 2])
    page = open_page(serve(folder), expects_trouble=True)
    page.name()
    page.press("d")
    page.page.locator(".notice", has_text="photo2.png cannot be opened").wait_for()
    page.page.get_by_role("button", name="Skip it").click()
    page.until_open("photo3.png")
    assert page.page.locator(".tally").inner_text() == "0 of 2 reviewed · 0 boxes · 1 unreadable"
    assert page.page.get_by_role("option", name="photo2.png, cannot be opened").count() == 1


def test_a_project_without_photos_says_so(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    (tmp_path / "photos").mkdir()
    page = open_page(serve(tmp_path / "photos"))
    page.page.get_by_text("No photos here yet").wait_for()
    page.press("d", "w", " ", "Tab", "?")
    page.page.get_by_role("dialog", name="Keys").wait_for()


def test_a_window_that_comes_back_while_a_label_is_asked_for_loses_no_box(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.draw_mark()
    page.page.locator("dialog input").wait_for()
    with page.page.expect_response("**/api/project"):
        page.page.evaluate("dispatchEvent(new Event('focus'))")
    page.answer("mug")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1


def test_filters(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos", 4)
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press(" ")
    page.until_open("photo2.png")
    page.press("r")
    page.until_saved()
    options = page.page.get_by_label("Which photos to show")
    unseen = ["photo3.png, not looked at", "photo4.png, not looked at"]
    for label, expected in [
        ("Not reviewed (2)", unseen),
        ("Reviewed, no boxes (1)", ["photo2.png, reviewed, no boxes"]),
        ("With mug (1)", ["photo1.png, 1 box"]),
        ("All photos (4)", ["photo1.png, 1 box", "photo2.png, reviewed, no boxes", *unseen]),
    ]:
        options.select_option(label=label)
        page.rows()  # once it is shown
        names = [row.get_attribute("aria-label") for row in page.page.locator(".list .row").all()]
        assert sorted(names) == expected


def test_five_thousand_photos_stay_fluid(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    marked_photo().save(folder / "photo1.png")
    for number in range(2, 5001):
        os.link(folder / "photo1.png", folder / f"photo{number}.png")
    page = open_page(serve(folder))
    assert page.name() == "photo1.png"
    shown = page.page.locator(".list .cell")
    assert shown.count() < 60
    page.page.locator(".list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    last = page.page.get_by_role("option", name="photo5000.png, not looked at")
    last.wait_for()
    last.locator("img[src]").wait_for()
    assert shown.count() < 60
    last.click()
    page.until_open("photo5000.png")
    page.draw_mark("mug")
    page.until_saved()
    assert reviewed_in_file(folder) == ["photo5000.png"]
    assert page.page.locator(".tally").inner_text() == "1 of 5000 reviewed · 1 box"
    page.page.get_by_role("button", name="Finish").click()
    page.page.locator(".sheet img[src]").first.wait_for()
    assert page.page.locator(".sheet .cell").count() < 200


def test_finish_shows_the_photos_the_command_and_makes_the_detector(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos", 3)
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.until_saved()
    page.page.get_by_role("button", name="Finish").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_text("2 of 3 photos are not reviewed yet.").wait_for()
    dialog.get_by_text("fewbox finetune photos -o photos.safetensors").wait_for()
    assert dialog.locator(".sheet .cell").count() == 3
    # The box is drawn around the mark of the thumbnail.
    mark_box = dialog.locator(".mark-box")
    mark_box.wait_for()
    picture, box = dialog.locator(".sheet img").first.bounding_box(), mark_box.bounding_box()
    scale = picture["width"] / 400
    assert box["x"] - picture["x"] == pytest.approx(MARK[0] * scale, abs=1.5)
    assert box["width"] == pytest.approx((MARK[2] - MARK[0]) * scale, abs=1.5)
    dialog.get_by_role("button", name="Fine-tune now").click()
    dialog.get_by_text("step 10 of 100").wait_for()
    page.press("Escape")
    dialog.wait_for(state="detached")
    assert page.name() == "photo1.png"


def test_the_help_shows_every_key_and_everything_has_a_name(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("?")
    dialog = page.page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    says = dialog.locator("dd").all_inner_texts()
    assert "reviewed, and on to the next photo" in says
    assert len(says) > 20
    page.press("Escape")
    dialog.wait_for(state="detached")
    unnamed = page.page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, [role=listbox], [role=application]")]
          .filter((element) => !(element.innerText || element.getAttribute("aria-label"))).length"""
    )
    assert unnamed == 0
    assert page.page.locator(".saved").get_attribute("role") == "status"
