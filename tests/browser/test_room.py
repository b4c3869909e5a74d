"""Room for everything: with many classes, long names, small screens, and colours that the system sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_driver import MARK, OpenPage, PageDriver, Serve, assert_close, boxes_in_file, make_photos
from teach_driver import add

ENLARGED: dict[str, Any] = {"viewport": {"width": 683, "height": 384}}  # a laptop of 1366 × 768 at 200%
# In the colour of the first class, what is drawn of boxes left of x1 and above y2 of the stage.
TAGGED = """([x1, y2]) => {
  const canvas = document.querySelectorAll(".stage canvas")[1];
  const { data } = canvas.getContext("2d").getImageData(0, 0, x1, y2);
  const isOurs = (at) => data[at] === 0x56 && data[at + 1] === 0xb4 && data[at + 2] === 0xe9;
  return Array.from({ length: data.length / 4 }, (_, at) => 4 * at).filter(isOurs).length;
}"""

# Whether photo and boxes are drawn at the pixels of the screen.
IS_SHARP = """() => [...document.querySelectorAll(".stage canvas")].every(
  (canvas) => Math.abs(canvas.width - canvas.clientWidth * devicePixelRatio) <= 1)"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def with_classes(folder: Path, *labels: str) -> Path:
    categories = [{"id": number, "name": label} for number, label in enumerate(labels, start=1)]
    content = {"images": [], "annotations": [], "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def painted(page: PageDriver, x1: float, y2: float) -> int:
    page.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    return int(page.page.evaluate(TAGGED, [x1, y2]))


def test_with_a_hundred_classes_the_boxes_of_the_photo_are_listed_too(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(with_classes(folder, *(f"class {number}" for number in range(100)))))
    page.draw_mark()
    box = page.page.locator(".of-photo .row").bounding_box()
    status = page.page.locator(".status").bounding_box()
    assert box
    assert status
    assert box["y"] + box["height"] <= status["y"]
    page.page.locator(".of-photo .row").hover()
    page.page.locator(".of-photo").get_by_role("button", name="Delete class 0").click()
    assert page.rows() == []


def test_the_label_of_a_box_stays_in_sight(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(with_classes(folder, "a class of which the name is rather long, " * 2)))
    page.draw_mark()
    page.press("Escape")
    left, top, *_ = page.mark()
    stage = page.page.locator(".stage").bounding_box()
    assert stage
    assert painted(page, left - stage["x"] - 4, top - stage["y"]) > 300  # it does not end at the edge
    for _ in range(12):
        page.press("+")  # until all edges of the box are out of sight
    assert painted(page, stage["width"], 20) > 300


def test_names_from_right_to_left_begin_at_the_right(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(with_classes(folder, "קומקום עם ידית", "mug")))
    page.draw_mark()
    labels = page.page.locator(".side .label")
    says = "(all) => all.map((one) => getComputedStyle(one).direction)"
    assert labels.evaluate_all(says) == ["rtl", "ltr", "rtl"]


def test_on_a_phone_the_formats_are_in_the_window(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder), viewport={"width": 390, "height": 800})
    page.page.get_by_role("button", name="Finish").click()
    formats = page.page.get_by_label("Format of the export")
    formats.locator("option").nth(3).wait_for(state="attached")
    dialog = page.page.locator("dialog.end")
    assert dialog.evaluate("(all) => all.scrollWidth <= all.clientWidth")


def test_on_an_enlarged_page_there_is_room_for_the_photo(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder), **ENLARGED)
    page.draw_mark("mug")
    stage = page.page.locator(".stage").bounding_box()
    assert stage
    assert stage["height"] > 200
    for name in ("Delete the photo (Shift Delete)", "Reviewed, next"):  # what has no room is scrolled to
        page.page.get_by_role("button", name=name).first.click(trial=True)


def test_on_a_screen_of_another_density_boxes_are_where_they_are_seen(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    width, height = 1000, 700
    page = open_page(serve(folder), viewport={"width": width, "height": height})
    page.draw_mark("mug")
    before = page.mark()
    for number, density in enumerate((2, 1.25), 2):
        page.move_to_screen(width, height, density)
        page.press("d")  # all is drawn anew
        page.until_open(f"photo{number}.png")
        assert_close(page.mark(), before)
        assert page.page.evaluate(IS_SHARP)
        page.draw_mark()
        page.until_saved()
        ((_, box),) = boxes_in_file(folder, f"photo{number}.png")
        assert_close(box, MARK)


def test_on_an_enlarged_page_that_learns_too(open_teach: Any, tmp_path: Path) -> None:
    driver = open_teach(base=False, **ENLARGED)
    make_photos(tmp_path, 1)
    add(driver, tmp_path / "photo1.png")
    _, top, _, bottom = driver.mark()
    assert bottom - top > 30


def test_what_colours_say_is_seen_where_the_system_sets_them(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(with_classes(folder, "mug", "lid")), forced_colors="active")
    page.draw_mark()
    page.press("Escape", "d")
    page.until_open("photo2.png")
    page.press("r")
    page.page.locator('.mark[data-state="empty"]').wait_for()
    looks = "(all) => all.map((one) => getComputedStyle(one)).map((one) => one.backgroundColor)"
    boxes, empty, _ = page.page.locator(".list .mark").evaluate_all(looks)
    assert boxes != empty
    mug, lid = page.page.locator(".swatch").evaluate_all(looks)
    assert mug != lid
    edges = "(all) => all.map((one) => getComputedStyle(one).borderLeftColor)"
    first, current, third = page.page.locator(".list .row").evaluate_all(edges)
    assert first == third != current


CONTRAST = """(element) => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  let [behind, opacity] = [null, 1];
  for (let at = element; at; at = at.parentElement) {
    const { backgroundColor, opacity: own } = getComputedStyle(at);
    opacity *= own;
    if (!behind && (parts(backgroundColor)[3] ?? 1) > 0) behind = parts(backgroundColor);
  }
  const ink = parts(getComputedStyle(element).color).slice(0, 3);
  const light = (colour) => colour.slice(0, 3)
    .map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const seen = light(ink.map((value, at) => opacity * value + (1 - opacity) * behind[at]));
  const [dark, bright] = [seen, light(behind)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}"""  # of WCAG 2.2, between a text and what is behind it


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_key_on_new_class_can_be_read(
    folder: Path, serve: Serve, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(serve(folder), color_scheme=scheme)
    assert page.page.locator(".add kbd").evaluate(CONTRAST) >= 4.5
