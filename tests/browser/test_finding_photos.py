"""Finding photos in the list, and what stays in sight meanwhile."""

from __future__ import annotations

from pathlib import Path

from page_driver import OpenPage, Serve, make_photos
from test_classes import press_in_row


def test_the_photo_stays_in_sight_however_many_others_a_search_has_found(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos", 9)))
    place = page.mark()
    page.press("j")
    for name in "345678":  # each time its neighbours are other photos, which are decoded ahead
        with page.page.expect_response(lambda answer: "side=1600" in answer.url):
            page.page.locator("input[type=search]").fill(f"photo{name}")
        page.page.wait_for_timeout(50)
    page.press("Escape", "+", "f")
    assert page.mark() == place


def test_a_list_of_one_class_follows_its_name(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos")))
    page.draw_mark("mug")
    page.until_saved()
    options = page.page.locator(".filter select")
    options.select_option(label="With mug (1)")
    rows = page.page.locator(".list .row")
    press_in_row(page, "mug", "Rename mug")
    page.answer("cup")
    page.page.locator(".filter option", has_text="With cup (1)").wait_for(state="attached")
    page.until_saved()
    assert options.evaluate("(all) => all.selectedOptions[0].textContent") == "With cup (1)"
    assert rows.count() == 1
    press_in_row(page, "cup", "Delete the class cup")
    page.confirm("Delete the class")
    page.page.locator(".list .row").nth(2).wait_for()  # all are listed, as the menu says
    assert options.evaluate("(all) => all.selectedOptions[0].textContent") == "All photos (3)"


def test_after_a_choice_with_the_mouse_the_keys_are_for_the_photo(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos")))
    options = page.page.locator(".filter select")
    options.click()
    page.press("Escape")
    options.dispatch_event("pointerdown")
    options.select_option(label="Not reviewed (3)")
    page.press("d")
    page.until_open("photo2.png")
    options.focus()
    page.press("ArrowDown")  # who chooses by keys goes on from there
    assert options.evaluate("(all) => document.activeElement === all")


def test_where_the_last_photo_has_gone_nothing_is_left_of_it(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    folder = make_photos(tmp_path / "photos", 1)
    page = open_page(serve(folder))
    page.name()
    (folder / "photo1.png").unlink()
    page.page.evaluate("() => dispatchEvent(new Event('focus'))")
    page.page.get_by_text("No photos here yet").wait_for()
    page.press("r", "Delete", "Control+z")
    assert page.rows() == []
