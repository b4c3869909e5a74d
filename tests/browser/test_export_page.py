"""The boxes in other formats, downloaded from the page."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from page_driver import MARK, OpenPage, Serve, make_photos

from fewbox.data import FOLDER_FORMATS, FORMATS
from fewbox.data.formats import read_annotations


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_what_is_downloaded_holds_what_was_drawn(
    tmp_path: Path, serve: Serve, open_page: OpenPage, form: str
) -> None:
    folder = make_photos(tmp_path / "photos")
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("d", "o")
    page.until_saved()
    page.page.locator(".finish").click()
    formats = page.page.locator(".export select")
    formats.locator("option").first.wait_for(state="attached")
    assert formats.locator("option").count() == len(FORMATS)
    formats.select_option(form)
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Export").click()
    name = download.value.suggested_filename
    assert name == ("photos_voc.zip" if form == "voc" else "photos_coco.json")
    made = tmp_path / "made" / name
    download.value.save_as(made)
    if form in FOLDER_FORMATS:
        with zipfile.ZipFile(made) as archive:
            archive.extractall(made.parent)
    (folder / "photo2.png").unlink()  # which was left out
    found = read_annotations(made.parent if form in FOLDER_FORMATS else made, folder, format=form)
    boxes = [(image.path.name, box.label) for image in found for box in image.boxes]
    assert boxes == [("photo1.png", "mug")]
    (box,) = found.images[0].boxes
    assert abs(box.x1 - MARK[0]) <= 1.5
    assert name in page.page.locator(".export p").inner_text()


def test_why_nothing_is_downloaded_is_said_in_the_window(
    tmp_path: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(make_photos(tmp_path / "photos")), expects_trouble=True)
    page.mark()
    refusal = {"status": 409, "json": {"error": "not in this test"}}
    page.page.route(
        "**/api/photos/*",
        lambda route: route.fulfill(**refusal) if route.request.method == "PATCH" else route.continue_(),
    )
    page.draw_mark("mug")
    page.page.locator('.saved[data-state="refused"]').wait_for()
    page.page.locator(".finish").click()
    page.page.get_by_role("button", name="Export").click()
    page.page.locator(".export p", has_text="not now: wait until everything is saved").wait_for()
