"""The detector tried on photos from elsewhere, and those that are taken into the project."""

from __future__ import annotations

from pathlib import Path

from page_driver import MARK, OpenPage, Serve, assert_close, boxes_in_file, make_photos, marked_photo
from test_drawing_boxes import PHONE

from fewbox.apps.annotate.trying import Proposal, Tried
from made_up_learner import MadeUpLearner

_DROP = """([name, numbers]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(numbers)], name));
  const where = document.querySelector(".stage");
  where.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""

_PRESS_T_IN_CYRILLIC = """(card) => {
  const pressed = { key: "\\u0435", code: "KeyT", bubbles: true, cancelable: true };
  card.dispatchEvent(new KeyboardEvent("keydown", pressed));
}"""


def test_what_is_found_is_seen_and_one_key_takes_the_photo_into_the_project_with_its_boxes_proposed(
    tmp_path: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    folder = make_photos(tmp_path / "photos", 1)
    new = make_photos(tmp_path / "elsewhere", 1) / "photo1.png"
    (tmp_path / "notes.txt").write_text("no photo")
    page = open_page(serve(folder), expects_trouble=True, permissions=["camera"])
    page.name()
    page.press("t")
    dialog = page.page.locator("dialog.try")
    dialog.get_by_text("Nothing has been learnt yet").wait_for()
    page.press("Escape")
    learner.tries = Tried((Proposal(MARK, "mug", 0.91), Proposal((10, 20, 90, 80), "mug", 0.47)), 0.4)
    page.page.evaluate(_DROP, [new.name, list(new.read_bytes())])
    card = dialog.locator(".card", has_text="photo1.png")
    card.get_by_text("2 boxes from 40% on").wait_for()
    assert card.locator(".name").all_inner_texts() == ["mug 91%", "mug 47%"]
    picture, mark = card.locator("img").bounding_box(), card.locator(".mark-box").first.bounding_box()
    assert picture is not None
    assert mark is not None
    assert abs((mark["x"] - picture["x"]) / picture["width"] - MARK[0] / 400) < 0.02
    assert abs((mark["y"] - picture["y"]) / picture["height"] - MARK[1] / 300) < 0.02
    dialog.locator("input[type=file]").set_input_files(tmp_path / "notes.txt")
    dialog.get_by_role("alert").get_by_text("notes.txt: not a photo by its name").wait_for()
    dialog.get_by_role("button", name="Camera").click()
    shoot = dialog.get_by_role("button", name="Take a picture")
    shoot.click(trial=True)  # which waits for the picture
    dialog.locator("video").click()
    page.press(" ")
    dialog.locator(".card", has_text="camera-").get_by_text("2 boxes").wait_for()
    page.page.screenshot(path=str(tmp_path / "try.png"))
    card.focus()
    card.evaluate(_PRESS_T_IN_CYRILLIC)
    dialog.get_by_text("In the project as photo1-2.png").wait_for()
    assert (folder / "photo1-2.png").read_bytes() == new.read_bytes()
    card.get_by_role("button", name="Correct its boxes").click()
    page.until_open("photo1-2.png")
    page.page.locator(".offers", has_text="2 proposed").wait_for()
    page.press("Enter", "Delete")  # accepts the surer one and turns the other down
    page.until_saved()
    ((label, box),) = boxes_in_file(folder, "photo1-2.png")
    assert label == "mug"
    assert_close(box, MARK)
    assert [path.name for path in sorted(folder.glob("*.png"))] == ["photo1-2.png", "photo1.png"]
    page.press("Control+z", "Control+z")
    page.until_saved()
    page.press("Control+z")  # before the boxes, the photo was taken in
    page.until_open("photo1.png")
    assert (folder / ".fewbox-trash" / "photo1-2.png").exists()


def test_on_a_phone_photos_are_chosen_from_finish_and_taken_in_with_a_button(
    tmp_path: Path, serve: Serve, open_page: OpenPage, learner: MadeUpLearner
) -> None:
    folder = make_photos(tmp_path / "photos", 1)
    marked_photo().save(tmp_path / "new.png")
    learner.tries = Tried((Proposal(MARK, "mug", 0.91),), 0.4)
    page = open_page(serve(folder), **PHONE)
    page.until_open("photo1.png")
    page.page.get_by_role("button", name="Finish").tap()
    page.page.get_by_role("button", name="Try it").first.tap()
    dialog = page.page.locator("dialog.try")
    dialog.get_by_text("they are looked at with mug.safetensors").wait_for()
    dialog.locator("input[type=file]").set_input_files(tmp_path / "new.png")
    dialog.locator(".card img").wait_for()
    page.page.screenshot(path=str(tmp_path / "try-phone.png"))
    dialog.get_by_role("button", name="Take it in").tap()
    dialog.get_by_text("In the project as new.png").wait_for()
    assert (folder / "new.png").exists()
    width = page.page.evaluate("document.querySelector('dialog.try').scrollWidth")
    assert width <= PHONE["viewport"]["width"]
