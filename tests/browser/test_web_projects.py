"""Projects and base models in the page of examples/web that learns."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_driver import MARK, PageDriver, assert_close, make_photos
from teach_driver import add, kept_boxes, save, until_learnt
from test_classes import press_in_row, until_class

import fewbox
from fewbox.cli import main
from fewbox.data import demo_photos
from made_once import made_once

DROP = """() => {
  const files = new DataTransfer();
  for (const file of document.querySelector("#handed-over").files) files.items.add(file);
  const where = document.querySelector(".stage");
  where.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""


def drop(driver: PageDriver, *files: Path) -> None:
    driver.page.evaluate(
        "() => document.querySelector('#handed-over') ?? document.body.append(Object.assign("
        "document.createElement('input'), { id: 'handed-over', type: 'file', multiple: true, hidden: true }))"
    )
    driver.page.locator("#handed-over").set_input_files([str(file) for file in files])
    driver.page.evaluate(DROP)


def with_a_mug_in_one_of_two(open_teach: Any, folder: Path) -> PageDriver:
    """The page with two photos, in the first of which a mug is drawn."""
    driver: PageDriver = open_teach(base=False)
    make_photos(folder, 2)
    add(driver, folder / "photo1.png", folder / "photo2.png")
    driver.until_open("photo1.png")
    driver.draw_mark("mug")
    return driver


def test_a_project_begins_anew_and_what_was_saved_before_comes_back(open_teach: Any, tmp_path: Path) -> None:
    driver = with_a_mug_in_one_of_two(open_teach, tmp_path)
    driver.until_saved()
    dialog = driver.page.get_by_role("dialog", name="New project")

    driver.page.get_by_role("button", name="New project").click()
    dialog.get_by_text("2 photos with 1 box will be deleted from this browser").wait_for()
    file = save(driver, "Save it first, with its photos", tmp_path)
    dialog.get_by_text("Saved").wait_for()
    dialog.get_by_role("button", name="Keep this one").click()
    assert set(kept_boxes(driver)) == {"photo1.png", "photo2.png"}

    driver.page.get_by_role("button", name="New project").click()
    dialog.get_by_role("button", name="Delete it").click()
    driver.page.get_by_text("No photos here yet").wait_for()
    assert kept_boxes(driver) == {}
    assert driver.page.locator(".classes .label").count() == 0

    driver.page.locator("#project-files").set_input_files(str(file))
    driver.until_open("photo1.png")
    driver.page.locator(".photos .row", has_text="photo2.png").wait_for()
    driver.press("d")  # nobody has clicked into the page, and its keys work
    driver.until_open("photo2.png")
    ((label, box),) = kept_boxes(driver)["photo1.png"]
    assert label == "mug"
    assert_close(box, MARK)
    shutil.unpack_archive(file, tmp_path / "unpacked")  # and for Python it is a folder
    (first, second) = fewbox.read_annotations(tmp_path / "unpacked" / "annotations.json")
    assert [one.label for one in first.boxes] == ["mug"]
    assert second.path.read_bytes() == (tmp_path / "photo2.png").read_bytes()


def test_a_zip_that_another_program_has_packed_is_a_project_too(open_teach: Any, tmp_path: Path) -> None:
    train, _ = demo_photos()
    train = replace(train, images=train.images[:1])
    folder = tmp_path / "ducks"
    folder.mkdir()
    image = replace(train.images[0], path=Path(shutil.copy(train.images[0].path, folder)))
    fewbox.write_annotations(replace(train, images=(image,)), folder / "annotations.json")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "ducks")
    driver = open_teach(base=False)
    driver.page.locator("#project-files").set_input_files(packed)
    driver.page.locator("h1", has_text=image.path.name).wait_for()
    assert len(kept_boxes(driver)[image.path.name]) == len(image.boxes)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(Path(packed).read_bytes()[:-30])
    driver.page.locator("#project-files").set_input_files(str(broken))
    driver.page.get_by_text("broken.zip: not a ZIP, or damaged").wait_for()


@pytest.mark.shared
def test_another_base_is_dropped_learnt_from_and_remembered(
    open_teach: Any, tmp_path: Path, shared: Path
) -> None:
    official = shared / "weights" / "yolox_nano_coco.onnx"

    def make(folder: Path) -> None:
        assert main(["export", "--base", str(official), "-o", str(folder / "base.onnx")]) == 0

    base = made_once("base_of_yolox_nano", make) / "base.onnx"
    train, test = demo_photos()
    images = [replace(image, path=Path(shutil.copy(image.path, tmp_path))) for image in train.images[:2]]
    project = tmp_path / "annotations.json"
    fewbox.write_annotations(replace(train, images=tuple(images)), project)

    driver = open_teach()
    drop(driver, official)
    driver.page.get_by_text(
        "prepare it with: fewbox export --base yolox_nano_coco.onnx -o base.onnx"
    ).wait_for()
    drop(driver, base)
    told = driver.page.get_by_role("button", name="Base model")
    driver.page.get_by_text("learning from yolox_nano_coco from now on").wait_for()
    assert told.inner_text() == "Base: yolox_nano_coco"
    driver.page.reload()
    add(driver, project, *(image.path for image in images))
    until_learnt(driver)
    assert told.inner_text() == "Base: yolox_nano_coco"

    file = save(driver, "Download", tmp_path)
    assert fewbox.open_detector(file).base["name"] == "yolox_nano_coco"
    found = tmp_path / "found"
    assert main(["detect", str(file), str(test.images[0].path), "-o", str(found)]) == 0
    others = replace(test, images=test.images[:3])
    assert fewbox.evaluate(file, others, show_progress=False).metrics.ap50 > 0.5

    told.click()
    driver.page.get_by_role("button", name="Back to the one of this page").click()
    driver.page.get_by_text("Base: starter").wait_for()
    until_learnt(driver)
    file = save(driver, "Download", tmp_path)
    assert fewbox.open_detector(file).base["name"] == "starter"


def test_undo_brings_a_class_back_to_its_place_with_the_boxes_of_photos_in_the_trash(
    open_teach: Any, tmp_path: Path
) -> None:
    driver = with_a_mug_in_one_of_two(open_teach, tmp_path)
    driver.press("Escape", "n")
    driver.answer("constructor")  # which all objects of JavaScript have
    driver.press("1", "d")
    driver.until_open("photo2.png")
    driver.draw_mark()
    driver.until_saved()
    driver.press("Shift+Delete")
    driver.confirm("Delete the photo")
    driver.until_open("photo1.png")
    press_in_row(driver, "mug", "Rename mug")
    driver.answer("cup")
    until_class(driver, "cup", "constructor")
    press_in_row(driver, "cup", "Delete the class cup")
    driver.confirm("Delete the class")
    until_class(driver, "constructor")
    driver.press("Control+z")
    until_class(driver, "cup", "constructor")
    driver.until_saved()
    driver.press("Control+z")
    until_class(driver, "mug", "constructor")
    driver.press("Control+z")
    driver.until_open("photo2.png")
    assert driver.rows() == ["mug"]
    assert [[label for label, _ in boxes] for boxes in kept_boxes(driver).values()] == [["mug"], ["mug"]]


def test_two_windows_see_each_others_work_and_neither_empties_the_trash_of_the_other(
    open_teach: Any, tmp_path: Path
) -> None:
    driver = with_a_mug_in_one_of_two(open_teach, tmp_path)
    driver.until_saved()
    driver.press("Shift+Delete")
    driver.confirm("Delete the photo")
    driver.until_open("photo2.png")
    other = PageDriver(driver.page.context.new_page())
    other.page.goto(driver.page.url)
    other.until_open("photo2.png")
    driver.page.bring_to_front()
    driver.press("Control+z")
    driver.until_open("photo1.png")
    assert driver.rows() == ["mug"]
    other.page.locator(".list .row", has_text="photo1.png").wait_for()  # by itself, within seconds
    other.page.bring_to_front()
    other.draw_mark()
    driver.page.locator(".tally", has_text="2 boxes").wait_for()
    other.page.close()
    driver.page.bring_to_front()
    driver.press("Shift+Delete")
    driver.confirm("Delete the photo")
    driver.until_open("photo2.png")
    driver.page.reload()
    driver.until_open("photo2.png")
    assert set(kept_boxes(driver)) == {"photo2.png"}  # alone, it empties the trash


def test_no_photo_is_suggested_that_is_left_out_nor_one_by_what_is_forgotten(
    open_teach: Any, tmp_path: Path
) -> None:
    train, test = demo_photos()
    project = tmp_path / "annotations.json"
    fewbox.write_annotations(replace(train, images=train.images[:2]), project)
    others = [
        Path(shutil.copy(image.path, tmp_path / f"other{n}.jpg")) for n, image in enumerate(test.images[:2])
    ]
    driver = open_teach()
    add(driver, project, *(image.path for image in train.images[:2]), *others)
    until_learnt(driver)
    suggestion = driver.page.locator(".suggestion strong")
    suggestion.wait_for()
    driver.press("Home", "o")  # one photo is too few
    driver.page.locator('.learning[data-state="waiting"]').wait_for()
    suggestion.wait_for(state="detached")
    driver.press("o")
    until_learnt(driver)
    suggestion.wait_for()
    driver.press("g")
    driver.page.locator("h1", has_text="other").wait_for()
    driver.press("o", "Home")
    driver.page.locator("h1", has_text=train.images[0].path.name).wait_for()
    suggestion.wait_for(state="detached")


def test_what_cannot_be_tried_is_told_by_its_name(open_teach: Any, tmp_path: Path) -> None:
    driver = open_teach()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    driver.page.locator(".stage").focus()
    driver.press("t")
    driver.page.locator("dialog.try input[type=file]").set_input_files(str(broken))
    driver.page.get_by_text("broken.jpg: this browser cannot read it as a picture").wait_for()
