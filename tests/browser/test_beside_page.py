"""Boxes of other programs beside the photos: the page offers them at start."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_driver import OpenPage, Serve, boxes_in_file, make_photos, reviewed_in_file

_VOC = """<annotation><filename>{photo}</filename>
<size><width>400</width><height>300</height><depth>3</depth></size>
<object><name>mug</name>
<bndbox><xmin>120</xmin><ymin>80</ymin><xmax>{right}</xmax><ymax>200</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, boxes of Pascal VOC for two of them, and a file that is damaged."""
    folder = make_photos(tmp_path / "photos")
    for number in (1, 2):
        text = _VOC.format(photo=f"photo{number}.png", right=260)
        (folder / f"photo{number}.xml").write_text(text, encoding="utf-8")
    (folder / "photo3.xml").write_text(_VOC.format(photo="photo3.png", right="x"), encoding="utf-8")
    return folder


def test_they_are_taken_over_once_that_is_wanted_and_undo_takes_them_out(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    dialog = page.page.locator("dialog")
    dialog.wait_for()
    says = dialog.inner_text()
    assert "2 boxes of 1 class in 2 photos lie beside these photos as Pascal VOC XML" in says
    assert "photo3.xml" in says
    assert not (folder / "annotations.json").exists()
    dialog.get_by_role("button", name="Take over").click()
    page.page.locator(".of-photo .label", has_text="mug").wait_for()
    assert boxes_in_file(folder, "photo2.png") == [("mug", (120, 80, 260, 200))]
    assert boxes_in_file(folder, "photo3.png") == []
    page.press("Control+z")
    page.page.locator(".of-photo .row").wait_for(state="detached")
    page.until_saved()
    assert boxes_in_file(folder, "photo1.png") == boxes_in_file(folder, "photo2.png") == []
    assert reviewed_in_file(folder) == []


def test_a_reload_does_not_ask_again(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder))
    dialog = page.page.locator("dialog")
    dialog.get_by_role("button", name="Not now").click()
    dialog.wait_for(state="detached")
    with page.page.expect_response("**/api/beside"):
        page.page.reload()
    page.draw_mark("mug")  # no window is in the way
    page.until_saved()
    assert [label for label, _ in boxes_in_file(folder, "photo1.png")] == ["mug"]
