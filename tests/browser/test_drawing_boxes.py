"""Drawing, editing, undoing and naming boxes, by mouse, keyboard and touch."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from page_driver import (
    MARK,
    SIZE_WH,
    OpenPage,
    Serve,
    assert_close,
    boxes_in_file,
    make_photos,
    marked_photo,
    reviewed_in_file,
)
from PIL import Image

from waiting import LONG

PHONE = {
    "viewport": {"width": 390, "height": 800},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def test_draw_and_the_file_has_it(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    assert page.name() == "photo1.png"
    page.draw_mark("mug")
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, "photo1.png")
    assert label == "mug"
    assert_close(box, MARK)
    assert reviewed_in_file(folder) == ["photo1.png"]
    assert page.page.locator(".tally").inner_text() == "1 of 3 reviewed · 1 box"

    page.press("d")  # zoomed while it is drawn, and while a corner is in hand, it stays in its place
    page.until_open("photo2.png")
    x1, y1, x2, y2 = page.mark()
    for start in ((x1, y1), (x2, y2)):
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2)
        page.mouse.wheel(0, -240)
        before, end = (x1, y1, x2, y2), time.monotonic() + LONG
        while (x1, y1, x2, y2) == before and time.monotonic() < end:
            x1, y1, x2, y2 = page.mark()
        page.mouse.move(x2, y2)
        page.mouse.up()
        page.until_saved()
        assert_close(boxes_in_file(folder, "photo2.png")[0][1], MARK)


def test_a_click_draws_nothing(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, _, _ = page.mark()
    page.drag((x1, y1), (x1 + 2, y1 + 1))
    assert page.page.locator("dialog").count() == 0
    assert page.rows() == []


def test_move_resize_delete_undo_redo(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    scale = (x2 - x1) / (MARK[2] - MARK[0])
    page.draw_mark("mug")
    page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)  # picks it up
    page.drag(((x1 + x2) / 2, (y1 + y2) / 2), ((x1 + x2) / 2 + 20 * scale, (y1 + y2) / 2 - 10 * scale))
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], (140, 70, 280, 190))
    page.drag((x2 + 20 * scale, y2 - 10 * scale), (x2, y2 + 20 * scale))  # its lower right corner
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], (140, 70, 260, 220))
    page.press("Delete")
    page.until_saved()
    assert boxes_in_file(folder, "photo1.png") == []
    assert reviewed_in_file(folder) == ["photo1.png"]  # looked at and empty

    for expected in [(140, 70, 260, 220), (140, 70, 280, 190), MARK]:
        page.press("Control+z")
        page.until_saved()
        assert_close(boxes_in_file(folder, "photo1.png")[0][1], expected)
    page.press("Control+z")
    page.until_saved()
    assert boxes_in_file(folder, "photo1.png") == []
    assert reviewed_in_file(folder) == []  # as before the first box
    page.press("Control+Shift+z", "Control+y")
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], (140, 70, 280, 190))


def test_an_object_in_the_object_just_drawn(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    scale = (x2 - x1) / (MARK[2] - MARK[0])
    page.draw_mark("mug")
    page.press("n")
    page.answer("lid")
    page.press("1")
    page.drag((x1 + 20 * scale, y1 + 20 * scale), (x2 - 20 * scale, y2 - 20 * scale))
    page.press("2")  # of the box just drawn alone
    page.page.locator(".said.seen", has_text="mug is now lid").wait_for()
    page.press("Escape", "1")
    page.drag((x1 + 40 * scale, y1 + 40 * scale), (x2 - 40 * scale, y2 - 40 * scale))
    page.until_saved()
    outer, middle, inner = boxes_in_file(folder, "photo1.png")
    assert [label for label, _ in (outer, middle, inner)] == ["mug", "lid", "mug"]
    assert_close(outer[1], MARK)
    assert_close(middle[1], (140, 100, 240, 180))
    assert_close(inner[1], (160, 120, 220, 160))


@pytest.mark.parametrize("modifier", ["Shift", "Control", "Alt"])
def test_with_a_modifier_a_drag_in_the_box_picked_up_draws(
    tmp_path: Path, serve: Serve, open_page: OpenPage, modifier: str
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    page.draw_mark("mug")
    page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
    page.keyboard.down(modifier)
    page.drag((x1 + 30, y1 + 30), (x2 - 30, y2 - 30))
    page.keyboard.up(modifier)
    page.until_saved()
    outer, inner = boxes_in_file(folder, "photo1.png")
    assert_close(outer[1], MARK)
    assert inner[1][0] > MARK[0] + 5


def test_a_small_box_is_moved_by_its_knob(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, _ = page.mark()
    scale = (x2 - x1) / (MARK[2] - MARK[0])
    page.drag((x1 - 60, y1), (x1 - 50, y1 + 12))
    page.answer("mug")
    page.until_saved()
    ((_, before),) = boxes_in_file(folder, "photo1.png")
    page.mouse.click(x1 - 55, y1 + 6)  # picks it up
    knob = (x1 - 55, y1 + 12 + 19.5)
    page.drag(knob, (knob[0] + 10 * scale, knob[1] + 20 * scale))
    page.until_saved()
    ((_, after),) = boxes_in_file(folder, "photo1.png")
    assert_close(after, (before[0] + 10, before[1] + 20, before[2] + 10, before[3] + 20), 0.3)


def test_boxes_end_at_the_border(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    stage = page.page.locator(".stage").bounding_box()
    page.drag(((x1 + x2) / 2, (y1 + y2) / 2), (stage["x"] + 3, stage["y"] + 3))
    page.answer("mug")
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], (0, 0, 190, 140))


def test_classes_by_digits(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    page.draw_mark("mug")
    page.press("n")
    page.answer("lid")  # the selected box becomes a lid, and lids are drawn from now on
    page.drag((x2 + 10, y1), (x2 + 60, y2))
    page.until_saved()
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["lid", "lid"]
    page.press("1")
    page.until_saved()
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["lid", "mug"]
    page.press("Escape", "2", "7")
    page.drag((x1 - 60, y1), (x1 - 10, y2))
    page.until_saved()
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["lid", "mug", "lid"]


def test_rename_and_remove_a_class(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.draw_mark("mugg")
    page.press("n")
    page.answer("nothing")
    page.press("1")
    page.until_saved()
    page.page.get_by_role("button", name="Rename mugg").click()
    page.answer("mug")
    page.page.get_by_role("button", name="Rename mug", exact=True).wait_for(state="attached")
    page.until_saved()
    page.page.get_by_role("button", name="Remove nothing").click()
    page.page.get_by_role("button", name="Remove nothing").wait_for(state="detached")
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["mug"]
    assert page.rows() in (["mug"], ["*mug"])


def test_a_box_to_ignore_and_boxes_over_boxes(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    x1, y1, x2, y2 = page.mark()
    page.draw_mark("mug")
    page.keyboard.down("Shift")
    page.drag((x1 + 30, y1 + 30), (x2 - 30, y2 - 30))  # inside the selected box, which it leaves alone
    page.keyboard.up("Shift")
    page.press("i")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 2
    assert '"iscrowd": 1' in (folder / "annotations.json").read_text()
    # A click takes the smaller box, the next one the larger, and one more lets go.
    page.press("Escape")
    for expected in (["mug", "*mug"], ["*mug", "mug"], ["mug", "mug"]):
        page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
        assert page.rows() == expected


def test_zoomed_drawing_lands_within_a_pixel_of_24_megapixels(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    mark = (4211, 2803, 4262, 2847)
    marked_photo((6000, 4000), mark).save(folder / "large.jpg", quality=90)
    page = open_page(serve(folder))
    before = page.mark()
    page.mouse.move((before[0] + before[2]) / 2, (before[1] + before[3]) / 2)
    for _ in range(14):
        page.mouse.wheel(0, -120)
    after = page.mark()
    assert after[2] - after[0] > 10 * (before[2] - before[0])
    page.until_sharp((mark[2] - mark[0]) / (mark[3] - mark[1]))
    page.draw_mark("mug")
    page.until_saved()
    assert_close(boxes_in_file(folder, "large.jpg")[0][1], mark)


def test_space_and_drag_moves_the_photo_and_reviews_nothing(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    before = page.mark()
    page.keyboard.down(" ")
    page.drag((before[0], before[1]), (before[0] + 40, before[1] + 30))
    page.keyboard.up(" ")
    assert_close(page.mark(), (before[0] + 40, before[1] + 30, before[2] + 40, before[3] + 30))
    assert page.name() == "photo1.png"
    page.press("f")
    assert_close(page.mark(), before)


def test_space_that_comes_up_in_another_window_moves_nothing_any_more(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    before = page.mark()
    page.keyboard.down(" ")
    page.page.evaluate("() => window.dispatchEvent(new Event('blur'))")
    page.drag((before[0], before[1]), (before[2], before[3]))
    page.keyboard.up(" ")
    page.answer("mug")
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], MARK)


def test_the_keyboard_alone_is_enough(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.name()
    page.press("n")
    page.keyboard.type("mug")
    page.press("Enter")
    page.page.locator("dialog").wait_for(state="detached")
    page.press("w")  # a box in the middle: a quarter of what is in sight
    page.until_saved()
    (start,) = [box for _, box in boxes_in_file(folder, "photo1.png")]
    page.press("ArrowRight", "ArrowRight", "Shift+ArrowDown", "Alt+ArrowLeft", "Alt+Shift+ArrowDown")
    page.press("w", "Shift+ArrowLeft", "Delete")
    page.until_saved()
    (box,) = [box for _, box in boxes_in_file(folder, "photo1.png")]
    assert_close(box, (start[0] + 2, start[1] + 10, start[2] + 1, start[3] + 20), 0.11)

    page.press(" ")
    page.until_open("photo2.png")
    page.press(" ")  # looked at and empty
    page.until_open("photo3.png")
    page.press("a", "a")
    page.until_open("photo1.png")
    page.press("d", "d", "c")  # to the third; the second had none to copy
    page.until_open("photo3.png")
    page.press("w", " ")
    page.page.locator("dialog.end").wait_for()  # all are reviewed
    page.press("Escape")
    page.until_saved()
    assert reviewed_in_file(folder) == ["photo1.png", "photo2.png", "photo3.png"]


def test_tab_goes_through_the_boxes_and_then_on(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    _, y1, x2, y2 = page.mark()
    page.draw_mark("mug")
    page.drag((x2 + 10, y1), (x2 + 60, y2))
    page.press("Escape", "Tab")
    assert page.rows() == ["*mug", "mug"]
    page.press("Tab")
    assert page.rows() == ["mug", "*mug"]
    page.press("Shift+Tab")
    assert page.rows() == ["*mug", "mug"]
    page.press("Tab", "Tab")  # past the last: nobody is caught in the photo
    assert page.page.evaluate("document.activeElement.classList.contains('stage')") is False
    page.press("w")  # and the keys are the same wherever one is
    assert len(page.rows()) == 3


def test_copy_from_the_photo_before(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos", 1)
    marked_photo((800, 600), tuple(2 * edge for edge in MARK)).save(folder / "photo2.png")
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("d")
    page.until_open("photo2.png")
    page.press("c")
    page.page.locator(".of-photo .row").wait_for()
    page.press("c")  # now there is nothing new
    page.page.get_by_text("0 copied from photo1.png").wait_for()
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, "photo2.png")
    assert label == "mug"
    assert_close(box, tuple(2 * edge for edge in MARK), 2.0)


def test_touch_draws_and_two_fingers_zoom(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder), **PHONE)
    before = page.mark()
    x, y = (before[0] + before[2]) / 2, (before[1] + before[3]) / 2
    page.touch("touchStart", (x - 20, y))
    page.touch("touchMove", (x - 25, y + 5))  # already a box, which the second finger takes back
    page.touch("touchStart", (x - 25, y + 5), (x + 25, y + 5))
    page.touch("touchMove", (x - 50, y + 5), (x + 50, y + 5))
    page.touch("touchEnd")
    after = page.mark()
    assert after[2] - after[0] == pytest.approx(2 * (before[2] - before[0]), rel=0.05)
    assert page.page.locator("dialog").count() == 0

    page.touch("touchStart", (after[0], after[1]))
    page.touch("touchMove", (x, y))
    page.touch("touchMove", (after[2], after[3]))
    page.touch("touchEnd")
    page.answer("mug")
    page.until_saved()
    assert_close(boxes_in_file(folder, "photo1.png")[0][1], MARK)
    page.page.get_by_role("button", name="Reviewed, next").tap()
    page.until_open("photo2.png")


def test_by_touch_a_tap_picks_up_and_lets_go(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder), **PHONE)
    x1, y1, x2, y2 = page.mark()
    scale, middle = (x2 - x1) / (MARK[2] - MARK[0]), ((x1 + x2) / 2, (y1 + y2) / 2)

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        page.touch("touchStart", start)
        page.touch("touchMove", end)
        page.touch("touchEnd")

    drag((x1, y1), (x2, y2))
    page.answer("mug")
    page.page.touchscreen.tap(*middle)  # picked up
    drag(middle, (middle[0] + 10 * scale, middle[1] + 10 * scale))
    page.until_saved()
    ((_, moved),) = boxes_in_file(folder, "photo1.png")
    assert_close(moved, (130, 90, 270, 210))
    page.page.touchscreen.tap(*middle)  # let go of
    drag((middle[0] - 15, middle[1] - 15), (middle[0] + 15, middle[1] + 15))
    page.until_saved()
    (_, outer), (_, inner) = boxes_in_file(folder, "photo1.png")
    assert_close(outer, moved, 0.1)
    assert inner[0] > outer[0]


def test_boxes_on_turned_photos_are_where_they_are_seen(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    # Stored as cameras do: turned, with a note on how to turn it back. Pillow's transpositions that do so:
    turns = [None, 0, 3, 1, 5, 2, 6, 4]
    for orientation, turn in enumerate(turns, start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = marked_photo()
        stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
        stored.save(folder / f"turned{orientation}.jpg", exif=exif, quality=95)
    page = open_page(serve(folder))
    for orientation in range(1, 9):
        page.until_open(f"turned{orientation}.jpg")
        x1, y1, x2, y2 = page.mark()
        aspect = (MARK[2] - MARK[0]) / (MARK[3] - MARK[1])
        assert (x2 - x1) / (y2 - y1) == pytest.approx(aspect, rel=0.03)
        page.draw_mark("mug" if orientation == 1 else None)
        page.press(" ")
    page.page.locator("dialog.end").wait_for()
    page.until_saved()
    for orientation in range(1, 9):
        ((_, box),) = boxes_in_file(folder, f"turned{orientation}.jpg")
        assert_close(box, MARK)
    content = (folder / "annotations.json").read_text()
    assert content.count(f'"width": {SIZE_WH[0]}, "height": {SIZE_WH[1]}') == 8
