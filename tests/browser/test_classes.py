"""Classes that are renamed, merged and deleted from the page, and what undo brings back."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_driver import OpenPage, PageDriver, Serve, boxes_in_file, make_photos, reviewed_in_file
from test_seeing_and_copying import draw_mug_and_lid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def drawn(page: PageDriver) -> None:
    """A mug and a lid in the first photo, a lid alone in the second."""
    draw_mug_and_lid(page)
    page.press("Escape", "d")
    page.until_open("photo2.png")
    page.draw_mark()
    page.until_saved()


def labels_in_file(folder: Path, photo: str) -> list[str]:
    return [label for label, _ in boxes_in_file(folder, photo)]


def press_in_row(page: PageDriver, label: str, says: str) -> None:
    page.page.locator(".side .row", has=page.page.locator(".label", has_text=label)).first.hover()
    page.page.get_by_role("button", name=says, exact=True).click()


def until_class(page: PageDriver, *labels: str) -> None:
    """Wait until the classes are these and all is saved: a step that is on its way cannot be undone."""
    says = f"""() => [...document.querySelectorAll("[aria-label=Classes] .label")]
        .map((label) => label.textContent).join() === {",".join(labels)!r}"""
    page.page.wait_for_function(says)
    page.until_saved()


def test_two_classes_are_merged_once_the_number_of_boxes_is_told_and_undo_parts_them(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    drawn(page)
    press_in_row(page, "lid", "Rename lid")
    page.page.locator("dialog input").fill("mug")
    page.press("Enter")
    dialog = page.page.locator("dialog.sure")
    assert "2 boxes in 2 photos will be mug" in dialog.inner_text()
    dialog.get_by_role("button", name="Merge").click()
    until_class(page, "mug")
    assert labels_in_file(folder, "photo1.png") == ["mug", "mug"]
    assert labels_in_file(folder, "photo2.png") == ["mug"]
    page.page.locator(".of-photo .label", has_text="mug").wait_for()
    page.press("Control+z")
    until_class(page, "mug", "lid")
    page.page.locator(".of-photo .label", has_text="lid").wait_for()
    page.until_saved()
    assert labels_in_file(folder, "photo1.png") == ["mug", "lid"]
    assert labels_in_file(folder, "photo2.png") == ["lid"]


def test_merging_can_be_thought_better_of(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder))
    drawn(page)
    press_in_row(page, "lid", "Rename lid")
    page.page.locator("dialog input").fill("mug")
    page.press("Enter")
    page.confirm("Cancel")
    page.page.locator("dialog").wait_for(state="detached")
    assert labels_in_file(folder, "photo1.png") == ["mug", "lid"]


def test_a_class_is_deleted_with_its_boxes_no_photo_becomes_background_and_undo_brings_all_back(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    drawn(page)
    press_in_row(page, "lid", "Delete the class lid")
    dialog = page.page.locator("dialog.sure")
    assert "2 boxes in 2 photos will be deleted" in dialog.inner_text()
    dialog.get_by_role("button", name="Delete the class").click()
    until_class(page, "mug")
    assert labels_in_file(folder, "photo1.png") == ["mug"]
    assert reviewed_in_file(folder) == ["photo1.png"]  # of photo2 nobody has said that it is empty
    page.press("Control+z")
    until_class(page, "mug", "lid")
    page.page.locator(".of-photo .label", has_text="lid").wait_for()
    page.until_saved()
    page.press("Control+y")  # and again, without a question
    until_class(page, "mug")
    assert labels_in_file(folder, "photo1.png") == ["mug"]
    page.press("Control+z")
    until_class(page, "mug", "lid")
    page.until_saved()
    assert labels_in_file(folder, "photo1.png") == ["mug", "lid"]
    assert labels_in_file(folder, "photo2.png") == ["lid"]
    assert reviewed_in_file(folder) == ["photo1.png", "photo2.png"]


def test_a_new_name_is_undone_done_again_and_what_was_drawn_before_it_is_undone_too(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    drawn(page)
    press_in_row(page, "lid", "Rename lid")
    page.answer("cap")
    assert labels_in_file(folder, "photo2.png") == ["cap"]
    said = page.page.locator(".said", has_text="lid is cap now")
    said.get_by_role("button", name="Undo").click()
    until_class(page, "mug", "lid")
    assert labels_in_file(folder, "photo2.png") == ["lid"]
    page.press("Control+Shift+z")
    until_class(page, "mug", "cap")
    assert labels_in_file(folder, "photo2.png") == ["cap"]
    page.press("Control+z")
    until_class(page, "mug", "lid")
    page.press("Control+z")  # the box that was drawn before
    page.until_saved()
    page.page.locator(".of-photo .row").wait_for(state="detached")
    assert labels_in_file(folder, "photo2.png") == []


def test_undo_brings_a_class_back_to_its_place_with_the_boxes_of_photos_in_the_trash(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    drawn(page)
    page.press("Escape", "1", "d")
    page.until_open("photo3.png")
    page.draw_mark()
    page.until_saved()
    assert labels_in_file(folder, "photo3.png") == ["mug"]
    page.press("Shift+Delete")
    page.confirm("Delete the photo")
    page.until_open("photo2.png")
    press_in_row(page, "mug", "Delete the class mug")
    page.confirm("Delete the class")
    until_class(page, "lid")
    page.press("Control+z")
    until_class(page, "mug", "lid")  # the digit 1 means mug again
    page.until_saved()
    page.press("Control+z")
    page.until_open("photo3.png")
    page.until_saved()
    assert page.rows() == ["mug"]
    assert sorted(labels_in_file(folder, "photo1.png")) == ["lid", "mug"]
    assert labels_in_file(folder, "photo3.png") == ["mug"]
