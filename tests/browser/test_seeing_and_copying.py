"""Copies of boxes, what is shown of boxes and photo, and jumps from photo to photo."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
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
)
from PIL import Image
from test_drawing_boxes import PHONE

if TYPE_CHECKING:
    import numpy.typing as npt

# How many pixels of the canvas that shows the boxes have the colour of a class: sky blue is the first, orange
# the second.
_COUNT_COLOURED = """() => {
  const canvas = document.querySelectorAll(".stage canvas")[1];
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const counts = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    const [r, g, b, a] = data.slice(at, at + 4);
    if (a < 250) continue;
    if (Math.abs(r - 0x56) + Math.abs(g - 0xb4) + Math.abs(b - 0xe9) < 12) counts[0]++;
    if (Math.abs(r - 0xe6) + Math.abs(g - 0x9f) + Math.abs(b - 0x00) < 12) counts[1]++;
  }
  return counts;
}"""

# The page as a notebook shows it, 900 pixels wide, in the place of the one that is served. What it asks the
# kernel is answered by the server, and keys that reach the notebook are counted.
_AS_A_NOTEBOOK_DOES = """async (bundle) => {
  const { httpStore } = await import("/page/http_store.js");
  const { default: widget } = await import(`data:text/javascript,${encodeURIComponent(bundle)}`);
  let take;
  const model = {
    on: (type, handle) => (take = handle),
    send: async ({ id, method, values }) => {
      const result = await httpStore[method](...values);
      if (method === "image") take({ id }, [await result.arrayBuffer()]);
      else take({ id, result }, []);
    },
  };
  const el = document.createElement("div");
  el.style.width = "900px";
  document.body.className = "";
  document.body.replaceChildren(el);
  window.keysOfNotebook = 0;
  document.addEventListener("keydown", () => window.keysOfNotebook++);
  widget.render({ model, el });
}"""


def drawn_classes(page: PageDriver) -> list[str]:
    """Of the first two classes those whose boxes are drawn over the photo."""
    page.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    counts = page.page.evaluate(_COUNT_COLOURED)
    return [name for name, count in zip(("mug", "lid"), counts, strict=True) if count > 20]


def screen(page: PageDriver) -> npt.NDArray[np.uint8]:
    """What a person sees of the photo: the stage, ``[H, W, 3]``."""
    shot = page.page.locator(".stage").screenshot(scale="css")
    return np.array(Image.open(io.BytesIO(shot)).convert("RGB"))


def seen_background(page: PageDriver) -> tuple[int, ...]:
    """The colour of the photo left of its mark, as it is on the screen."""
    x1, y1, _, y2 = page.mark()
    stage = page.page.locator(".stage").bounding_box()
    return tuple(int(v) for v in screen(page)[int((y1 + y2) / 2 - stage["y"]), int(x1 - 20 - stage["x"])])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of one scene, the second twice as large."""
    folder = make_photos(tmp_path / "photos")
    marked_photo((800, 600), tuple(2 * edge for edge in MARK)).save(folder / "photo2.png")
    return folder


def draw_mug_and_lid(page: PageDriver) -> None:
    """A mug around the mark, and right of it a lid, which is selected."""
    _, y1, x2, y2 = page.mark()
    page.draw_mark("mug")
    page.drag((x2 + 30, y1), (x2 + 90, y2))
    page.press("n")
    page.answer("lid")
    page.until_saved()


def test_a_box_pasted_into_another_photo_is_saved_and_undone(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("Control+c", "d")
    page.until_open("photo2.png")
    page.press("Control+v", "ArrowRight")  # a copy is in hand at once
    page.until_saved()
    page.page.reload()
    page.until_open("photo2.png")
    page.page.locator(".of-photo .row").wait_for()
    ((label, box),) = boxes_in_file(folder, "photo2.png")
    assert label == "mug"
    x1, y1, x2, y2 = (2 * edge for edge in MARK)
    assert_close(box, (x1 + 1, y1, x2 + 1, y2), 2.5)
    assert len(boxes_in_file(folder, "photo1.png")) == 1


def test_paste_and_duplicate_in_one_photo_lie_beside_and_are_undone(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("Meta+c", "Meta+v", "Control+d")
    page.until_saved()
    boxes = [box for _, box in boxes_in_file(folder, "photo1.png")]
    assert_close(boxes[1], tuple(edge + 8 for edge in boxes[0]), 0.11)
    assert_close(boxes[2], tuple(edge + 16 for edge in boxes[0]), 0.21)
    assert page.rows() == ["mug", "mug", "*mug"]
    page.press("Control+z", "Control+z")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1
    page.press("Control+Shift+z")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 2


def test_by_buttons_all_boxes_are_copied_if_none_is_selected(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder), **PHONE)
    x1, y1, x2, y2 = page.mark()
    page.touch("touchStart", (x1, y1))
    page.touch("touchMove", (x2, y2))
    page.touch("touchEnd")
    page.answer("mug")
    button = page.page.get_by_role("button", name="Duplicate the selected box")
    button.tap()
    page.page.touchscreen.tap(x1 - 20, y1 - 20)  # lets go
    page.page.get_by_role("button", name="Copy (Ctrl C)").tap()
    page.page.get_by_role("button", name="Next photo (D)").tap()
    page.until_open("photo2.png")
    page.page.get_by_role("button", name="Paste").tap()
    page.page.get_by_text("2 boxes pasted").wait_for()
    page.until_saved()
    for (_, one), (_, other) in zip(
        boxes_in_file(folder, "photo1.png"), boxes_in_file(folder, "photo2.png"), strict=True
    ):
        assert_close(other, tuple(2 * edge for edge in one), 0.11)


def test_hidden_boxes_are_not_drawn_and_stay_in_the_file(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    draw_mug_and_lid(page)
    x1, y1, x2, y2 = page.mark()
    saved = (folder / "annotations.json").read_bytes()
    assert drawn_classes(page) == ["mug", "lid"]
    for _ in range(3):  # held down
        page.keyboard.down("h")
    page.keyboard.up("h")
    assert drawn_classes(page) == []
    page.keyboard.down("h")
    page.keyboard.down("h")
    page.keyboard.up("h")
    assert drawn_classes(page) == ["mug", "lid"]
    page.press("h")
    page.page.get_by_role("button", name="Boxes are hidden").wait_for()
    page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)  # what is not seen cannot be picked up
    assert drawn_classes(page) == []
    page.press("h")
    assert drawn_classes(page) == ["mug", "lid"]

    page.page.get_by_role("button", name="Hide lid").click()
    assert drawn_classes(page) == ["mug"]
    page.page.get_by_role("button", name="Show lid").click()
    assert drawn_classes(page) == ["mug", "lid"]
    page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
    page.press("Shift+H")
    assert drawn_classes(page) == ["lid"]
    page.page.get_by_role("button", name="Hidden: mug").click()
    assert drawn_classes(page) == ["mug", "lid"]
    assert (folder / "annotations.json").read_bytes() == saved


def test_what_is_drawn_while_boxes_are_hidden_is_shown(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    draw_mug_and_lid(page)
    page.press("Escape", "1", "h")
    x1, y1, _, _ = page.mark()
    page.drag((x1 - 70, y1), (x1 - 20, y1 + 60))
    page.until_saved()
    assert drawn_classes(page) == ["mug", "lid"]
    assert page.page.get_by_role("button", name="Boxes are hidden").count() == 0


def test_brightness_changes_what_is_seen_and_nothing_else(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.until_saved()
    page.press("Escape")
    saved = (folder / "annotations.json").read_bytes()
    photo = hashlib.sha256((folder / "photo1.png").read_bytes()).hexdigest()
    np.testing.assert_allclose(seen_background(page), (90, 110, 120), atol=2)
    page.press("b")
    page.page.get_by_text("neither the file nor what is learnt from it changes").wait_for()
    page.press(*["ArrowRight"] * 10)  # +50: twice as bright
    np.testing.assert_allclose(seen_background(page), (180, 220, 240), atol=2)
    page.press("b")
    page.page.get_by_role("button", name="Brightness +50").wait_for()

    page.press("d")  # the next photo is shown so too, and all is after a reload
    page.until_open("photo2.png")
    np.testing.assert_allclose(seen_background(page), (180, 220, 240), atol=2)
    page.page.reload()
    page.until_open("photo2.png")
    np.testing.assert_allclose(seen_background(page), (180, 220, 240), atol=2)
    page.page.locator(".stage").focus()
    page.press("Shift+B")
    np.testing.assert_allclose(seen_background(page), (90, 110, 120), atol=2)
    assert (folder / "annotations.json").read_bytes() == saved
    assert hashlib.sha256((folder / "photo1.png").read_bytes()).hexdigest() == photo


def test_contrast_by_touch(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder), **PHONE)
    page.mark()
    page.page.get_by_role("button", name="Brightness and contrast").tap()
    slider = page.page.get_by_role("slider", name="Contrast").bounding_box()
    page.page.touchscreen.tap(slider["x"] + slider["width"] - 1, slider["y"] + slider["height"] / 2)
    r, _, b = seen_background(page)
    assert r < 10 < 60 < b  # (90, 110, 120), four times as far from grey
    assert page.rows() == []  # nothing was drawn
    page.page.get_by_role("button", name="Reset").tap()
    page.page.get_by_role("button", name="Close").tap()
    assert page.page.get_by_role("slider").count() == 0
    np.testing.assert_allclose(seen_background(page), (90, 110, 120), atol=2)


def test_zoom_to_the_box_and_back(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder))
    whole = page.mark()
    page.press("z")
    page.page.get_by_text("no box is selected").wait_for()
    page.draw_mark("mug")
    page.press("z")
    x1, y1, x2, y2 = page.mark()
    stage = page.page.locator(".stage").bounding_box()
    assert (x1 + x2) / 2 == pytest.approx(stage["x"] + stage["width"] / 2, abs=2)
    assert (y1 + y2) / 2 == pytest.approx(stage["y"] + stage["height"] / 2, abs=2)
    share = max((x2 - x1) / stage["width"], (y2 - y1) / stage["height"])
    assert share == pytest.approx(0.5, abs=0.02)
    page.press("z")
    assert_close(page.mark(), whole)
    page.page.get_by_role("button", name="Enlarge the selected box").click()
    assert_close(page.mark(), (x1, y1, x2, y2))
    page.page.get_by_role("button", name="The whole photo").click()
    assert_close(page.mark(), whole)


def test_jump_to_a_photo_by_a_part_of_its_name(tmp_path: Path, serve: Serve, open_page: OpenPage) -> None:
    folder = make_photos(tmp_path / "photos", 12)
    page = open_page(serve(folder))
    page.name()
    page.press("j")
    page.keyboard.type("o1")
    options = page.page.locator(".list [role=option]")
    page.page.get_by_role("option", name="photo2.png").wait_for(state="detached")
    assert options.count() == 4  # 1, 10, 11, 12
    page.keyboard.type("2")
    page.press("Enter")
    page.until_open("photo12.png")
    assert options.count() > 4  # all are listed again
    page.press("Home")
    page.until_open("photo1.png")
    page.press("End")
    page.page.locator(".count", has_text="12 / 12").wait_for()

    page.press("j")
    page.keyboard.type("cat")
    page.page.get_by_text("No photo is called so.").wait_for()
    page.press("Enter", "Escape", "Home", "w")  # and the keys are the photo's again
    page.answer("mug")
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1


def test_search_by_touch_and_the_next_photo_without_boxes(
    folder: Path, serve: Serve, open_page: OpenPage
) -> None:
    page = open_page(serve(folder), **PHONE)
    page.mark()
    page.page.get_by_role("button", name="New box in the middle").tap()
    page.answer("mug")
    page.page.get_by_role("button", name="Photos", exact=True).tap()
    page.page.get_by_role("searchbox").fill("o3")
    page.page.get_by_role("option", name="photo3.png").tap()
    page.until_open("photo3.png")
    page.page.get_by_role("button", name="Photos", exact=True).tap()
    assert page.page.get_by_role("searchbox").input_value() == ""
    page.page.get_by_role("button", name="Next photo without boxes").tap()
    page.until_open("photo2.png")  # past the last one, and past the first, which has a box
    page.page.get_by_role("button", name="First photo").tap()
    page.until_open("photo1.png")
    page.page.get_by_role("button", name="Last photo").tap()
    page.until_open("photo3.png")


def test_the_browser_keeps_its_keys_in_the_fields(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    page = open_page(serve(folder))
    page.draw_mark("mug")
    page.press("Control+c", "j")
    page.keyboard.type("hb1")  # letters, not keys of the page
    assert page.page.get_by_role("searchbox").input_value() == "hb1"
    page.press("Control+a", "Control+c", "End", "Control+v")
    assert page.page.get_by_role("searchbox").input_value() == "hb1hb1"
    page.until_saved()
    assert len(boxes_in_file(folder, "photo1.png")) == 1
    assert json.loads((folder / "annotations.json").read_text())["categories"][0]["name"] == "mug"


def test_all_of_it_in_a_notebook(folder: Path, serve: Serve, open_page: OpenPage) -> None:
    pytest.importorskip("anywidget", reason="needs anywidget: pip install '.[notebook]'")
    from fewbox.apps.annotate.notebook_page import bundled

    page = open_page(serve(folder), bypass_csp=True)
    page.mark()
    page.page.evaluate(_AS_A_NOTEBOOK_DOES, bundled("widget"))
    page.draw_mark("mug")
    page.press("Control+c", "Control+d", "z", "f", "h")
    assert drawn_classes(page) == []
    page.press("h", "b", *["ArrowRight"] * 10, "b")
    np.testing.assert_allclose(seen_background(page), (180, 220, 240), atol=2)
    page.press("Shift+B", "j")
    page.keyboard.type("o2")
    page.press("Enter")
    page.until_open("photo2.png")
    page.press("Control+v", "End")
    page.until_open("photo3.png")
    page.press("Home", "e")
    page.until_open("photo3.png")
    page.until_saved()
    assert [len(boxes_in_file(folder, f"photo{number}.png")) for number in (1, 2, 3)] == [2, 1, 0]
    assert page.page.evaluate("window.keysOfNotebook") == 0
