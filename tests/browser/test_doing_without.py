"""Photos that are left out or deleted, and how they come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_driver import OpenPage, PageDriver, Serve, boxes_in_file, make_photos, reviewed_in_file

TRASH = ".fewbox-trash"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def left_out_in_file(folder: Path) -> list[str]:
    content: Any = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return [entry["file_name"] for entry in content["images"] if entry.get("left_out")]


def listed(page: PageDriver) -> list[str]:
    return [row.get_attribute("aria-label") for row in page.page.get_by_role("option").all() if row]


def options(page: PageDriver) -> list[str]:
    found: list[str] = page.page.locator(".filter option").all_inner_texts()
    return found


def test_a_photo_left_out_is_not_to_do_and_comes_back_with_the_same_key(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.name()
    page.press("o")
    page.until_saved()
    page.page.locator(".cell.out").wait_for()
    page.page.locator(".said").get_by_role("button", name="Undo").click()
    page.page.locator(".cell.out").wait_for(state="detached")
    page.press("Control+Shift+z")
    page.page.locator(".cell.out").wait_for()
    page.until_saved()
    assert left_out_in_file(folder) == ["photo1.png"]
    assert "0 of 2 reviewed" in page.page.locator(".tally").inner_text()
    assert "1 left out" in page.page.locator(".tally").inner_text()
    assert "Left out" in page.page.locator(".hints").inner_text()
    assert {"Not reviewed (2)", "Left out (1)"} <= set(options(page))
    page.page.reload()  # it is kept in the file
    page.until_open("photo1.png")  # the one that was open
    page.press("o")
    page.until_saved()
    page.page.locator(".cell.out").wait_for(state="detached")
    assert left_out_in_file(folder) == []


def test_leaving_out_is_undone_and_an_empty_photo_is_reviewed_again(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.name()
    page.press("r", "o")
    page.until_saved()
    assert (left_out_in_file(folder), reviewed_in_file(folder)) == (["photo1.png"], [])
    page.press("Control+z")
    page.until_saved()
    assert (left_out_in_file(folder), reviewed_in_file(folder)) == ([], ["photo1.png"])


def test_space_marks_no_photo_that_is_left_out_and_passes_it_over(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.name()
    page.press("d")
    page.until_open("photo2.png")
    page.press("o", "a")
    page.until_open("photo1.png")
    page.press(" ")
    page.until_open("photo3.png")
    page.press("a")
    page.until_open("photo2.png")
    page.press(" ")
    page.until_open("photo3.png")
    page.until_saved()
    assert (left_out_in_file(folder), reviewed_in_file(folder)) == (["photo2.png"], ["photo1.png"])


def test_a_filter_shows_what_is_left_out(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder))
    page.name()
    page.press("d", "o")
    page.page.locator(".cell.out").wait_for()
    page.page.locator(".filter select").select_option("out")
    page.page.get_by_role("option", name="photo1.png").wait_for(state="detached")
    assert page.page.locator(".list .cell .file").all_inner_texts() == ["photo2.png"]


def test_a_photo_that_cannot_be_read_is_left_out_and_brought_back_by_undo(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    (folder / "photo2.png").write_bytes(b"no photo")
    page = open_page(serve(folder), expects_trouble=True)
    page.name()
    page.press("d")
    page.page.locator(".notice", has_text="photo2.png cannot be opened").wait_for()
    page.press("o")
    page.until_saved()
    assert left_out_in_file(folder) == ["photo2.png"]
    page.press("Control+z")
    page.until_saved()
    assert left_out_in_file(folder) == []


def test_a_photo_is_deleted_only_once_that_is_confirmed_and_undo_brings_it_back_with_its_boxes(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.until_saved()
    page.press("Shift+Delete")
    dialog = page.page.locator("dialog")
    assert TRASH in dialog.inner_text()
    page.press("Escape")
    dialog.wait_for(state="detached")
    assert (folder / "photo1.png").exists()
    page.press("Shift+Delete")
    dialog.get_by_role("button", name="Delete the photo").click()
    page.until_open("photo2.png")
    assert (folder / TRASH / "photo1.png").exists()
    assert not (folder / "photo1.png").exists()
    assert page.page.locator(".list .cell .file").all_inner_texts() == ["photo2.png", "photo3.png"]
    page.press("Control+z")
    page.until_open("photo1.png")
    page.page.locator(".of-photo .row").wait_for()
    page.until_saved()
    assert (folder / "photo1.png").exists()
    assert left_out_in_file(folder) == []
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["mug"]
    page.press("Control+Shift+z")  # deletes it again, which does not ask again
    page.until_open("photo2.png")
    assert not (folder / "photo1.png").exists()


def test_after_a_window_that_was_opened_with_the_mouse_keys_are_for_the_photo(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.mark()
    page.page.locator(".of-photo").get_by_label("Delete the photo (Shift Delete)").click()
    page.confirm("Delete the photo")
    page.until_open("photo2.png")
    page.press(" ")
    page.until_open("photo3.png")
    assert page.page.locator("dialog").count() == 0
    keys = page.page.get_by_label("Keys (?)")
    keys.focus()
    page.press("Enter", "Escape")
    page.page.locator("dialog").wait_for(state="detached")
    assert keys.evaluate("button => button === document.activeElement")  # who goes by Tab goes on from there


def test_undo_takes_back_what_was_done_after_a_deletion_first(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.name()
    page.press("Shift+Delete", "Enter")
    page.until_open("photo2.png")
    page.draw_mark("mug")
    page.until_saved()
    page.press("Control+z")
    page.until_saved()
    assert boxes_in_file(folder, "photo2.png") == []
    assert not (folder / "photo1.png").exists()
    page.press("Control+z")
    page.until_open("photo1.png")
