"""The page of examples/web that learns, in a real Chromium: photos and boxes stay in the browser."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_driver import MARK, PageDriver, assert_close, make_photos
from teach_driver import add, kept_boxes, save

import fewbox
from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.detection import Detections
from fewbox.evaluation import LOWEST_SCORE, evaluate_detections
from waiting import wait_until


def test_photos_and_boxes_outlive_a_reload(
    open_teach: Any, tmp_path: Path, bases_come: threading.Event
) -> None:
    driver = open_teach(base=False, offline=True)
    driver.page.get_by_text("No photos here yet").wait_for()
    make_photos(tmp_path, 2)
    add(driver, tmp_path / "photo1.png", tmp_path / "photo2.png")
    driver.until_open("photo1.png")
    driver.draw_mark("mug")
    driver.until_saved()
    driver.page.reload()
    driver.until_open("photo1.png")
    ((label, box),) = kept_boxes(driver)["photo1.png"]
    assert label == "mug"
    assert_close(box, MARK)
    assert driver.rows() == ["mug"]
    assert kept_boxes(driver)["photo2.png"] == []

    # Nothing answers any more: page, photos and boxes are all in this browser.
    bases_come.set()
    driver.page.evaluate("async () => { await navigator.serviceWorker.ready; }")
    driver.page.context.set_offline(True)
    try:
        driver.page.reload()
        driver.until_open("photo1.png")
        assert driver.rows() == ["mug"]
        # With what the service worker adds to headers, the runtime may use more than one core.
        assert driver.page.evaluate("crossOriginIsolated")
        driver.page.get_by_text("Base: starter").wait_for()  # it runs
    finally:
        driver.page.context.set_offline(False)


def test_after_a_class_has_got_another_name_keys_are_for_the_photo(open_teach: Any, tmp_path: Path) -> None:
    driver = open_teach(base=False)
    make_photos(tmp_path, 2)
    add(driver, tmp_path / "photo1.png", tmp_path / "photo2.png")
    driver.until_open("photo1.png")
    driver.draw_mark("mug")
    driver.until_saved()
    driver.press("Escape")
    driver.page.locator(".side .row", has_text="mug").first.hover()
    driver.page.get_by_label("Rename mug").click()
    driver.answer("cup")
    driver.press(" ")
    driver.until_open("photo2.png")
    assert driver.page.locator("dialog[open]").count() == 0


_COPY_A_PHOTO = """async () => {
  const canvas = new OffscreenCanvas(40, 30);
  canvas.getContext("2d").fillRect(10, 10, 20, 10);
  const photo = await canvas.convertToBlob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": photo })]);
}"""


def test_photos_are_pasted_by_the_keys_of_any_program(open_teach: Any) -> None:
    driver = open_teach(base=False, permissions=["clipboard-read", "clipboard-write"])
    driver.page.evaluate(_COPY_A_PHOTO)
    driver.press("Control+v")  # into a project without photos
    driver.page.locator("h1", has_text="image.png").wait_for()
    driver.press("Control+v")
    driver.page.get_by_text("1 photo is here already").wait_for()


@pytest.mark.parametrize(
    ("page", "listed"), [("learn.html", ".photos .row"), ("index.html", "#photos li h2")]
)
def test_the_photos_of_a_folder_are_dropped(
    open_page: Any, open_teach: Any, teach_site: str, tmp_path: Path, page: str, listed: str
) -> None:
    make_photos(tmp_path / "mugs", 2)
    (tmp_path / "mugs" / "notes.txt").write_text("no photo")
    if page == "learn.html":
        driver = open_teach(base=False)
    else:
        driver = open_page(f"{teach_site}{page}", service_workers="block")
        driver.page.wait_for_function("Boolean(document.querySelector('#start-button').onclick)")
    devtools = driver.page.context.new_cdp_session(driver.page)  # a page itself cannot drop a folder
    data = {"items": [], "files": [str(tmp_path / "mugs")], "dragOperationsMask": 1}

    def drag(kind: str) -> bool:
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 400, "data": data})
        return driver.page.locator("body.dragging").is_visible()

    drag("dragEnter")
    wait_until(lambda: drag("dragOver"))  # again and again, as with a mouse that is held there
    drag("drop")
    driver.page.locator(listed, has_text="photo2.png").wait_for()
    assert driver.page.locator(listed).count() == 2
    assert driver.page.get_by_text("cannot read it").count() == 0


# Notes what the window says, as each number of the countdown stays for a second only.
_HEAR = """() => {
  window.heard = [];
  const note = (changes) => {
    for (const { target } of changes) window.heard.push(target.textContent.split(",")[0]);
  };
  const told = document.querySelectorAll("#shooting output, #shooting p");
  for (const element of told) new MutationObserver(note).observe(element, { childList: true });
}"""
_TAKEN = "Number.parseInt(document.querySelector('#shooting p').textContent)"


def open_camera(driver: Any) -> Any:
    """The window in which photos are taken."""
    driver.page.get_by_role("button", name="Take photos").click()
    return driver.page.get_by_role("dialog", name="Take photos")


def test_photos_are_taken_one_after_the_other_each_after_a_countdown(open_teach: Any) -> None:
    driver = open_teach(base=False, permissions=["camera"])
    dialog = open_camera(driver)
    driver.page.evaluate(_HEAR)
    dialog.get_by_role("button", name="Start").click()
    driver.page.wait_for_function(f"() => {_TAKEN} >= 2")
    dialog.get_by_role("button", name="Stop").click()
    countdown = ["3", "2", "1", ""]
    expected = [*countdown, "1 photo taken", *countdown, "2 photos taken"]
    assert driver.page.evaluate("window.heard")[: len(expected)] == expected
    before = driver.page.evaluate(_TAKEN)
    dialog.get_by_role("button", name="Take one now").click()
    driver.page.wait_for_function(f"(before) => {_TAKEN} > before", arg=before)
    track = driver.page.evaluate_handle(
        "() => document.querySelector('#shooting video').srcObject.getTracks()[0]"
    )
    dialog.get_by_role("button", name="Done").click()
    # Its light goes out, once the window has closed.
    driver.page.wait_for_function("(track) => track.readyState === 'ended'", arg=track)
    driver.page.wait_for_function(f"() => document.querySelectorAll('.photos .row').length === {_TAKEN}")
    assert driver.page.locator("h1").inner_text().startswith("camera-")


_FULL = """() => {
  IDBObjectStore.prototype.put = () => {
    throw new DOMException("The quota has been exceeded.", "QuotaExceededError");
  };
}"""


def test_with_the_storage_full_no_photo_is_said_to_be_taken(open_teach: Any) -> None:
    driver = open_teach(base=False, permissions=["camera"])
    dialog = open_camera(driver)
    driver.page.evaluate(_FULL)
    dialog.get_by_role("button", name="Take one now").click()
    dialog.get_by_text("Stopped: The quota has been exceeded.").wait_for()
    assert driver.page.locator(".photos .row").count() == 0


LOOK = """async ({ width, height, lowest }) => {
  const { learner } = await import("./teach/start.js");
  const found = [];
  for (const file of document.querySelector("#handed-over").files) {
    found.push((await learner.look(file, { width, height }, lowest)).boxes);
  }
  return found;
}"""


def test_what_comes_out_is_what_fewbox_opens(open_teach: Any, tmp_path: Path) -> None:
    train, test = demo_photos()
    train = replace(train, images=train.images[:3])
    project = tmp_path / "annotations.json"
    for image in train:
        shutil.copy(image.path, tmp_path)
    other = Path(shutil.copy(test.images[0].path, tmp_path / "other.jpg"))
    here = [replace(image, path=tmp_path / image.path.name) for image in train]
    fewbox.write_annotations(replace(train, images=tuple(here)), project)

    driver = open_teach()
    add(driver, project, *(image.path for image in here), other)
    driver.page.locator('.learning[data-state="ready"]').wait_for()

    saved = save(driver, "Save project", tmp_path / "saved")
    assert_same_boxes(fewbox.read_annotations(saved, tmp_path).reviewed_only(), here)
    file = save(driver, "Download", tmp_path)
    assert_found_by_both(driver, file, replace(test, images=test.images[:3]))

    driver.page.get_by_role("button", name="Finish").click()
    finish = driver.page.get_by_role("dialog")
    finish.get_by_text("How it gets better").wait_for()
    said = finish.inner_text()
    assert "it learns again by itself" in said
    for of_a_command_line in ("fine-tune", "Fine-tune", "--threshold"):
        assert of_a_command_line not in said
    driver.page.keyboard.press("Escape")

    driver.page.locator(".row", has_text="other.jpg").click()
    driver.page.get_by_role("button", name="Accept", exact=False).first.wait_for()
    assert len(driver.rows()) == len(test.images[0].boxes)  # proposed
    driver.page.keyboard.press("Enter")
    driver.until_saved()
    assert len(kept_boxes(driver)["other.jpg"]) == 1

    driver.page.context.grant_permissions(["camera"])
    driver.page.get_by_role("button", name="Live camera").click()
    ducks = len(test.images[0].boxes)  # of which the camera shows a film
    driver.page.get_by_text(re.compile(rf"^{ducks} found, \d+\.\d pictures a second")).wait_for()
    driver.page.get_by_role("button", name="Close").click()


def assert_same_boxes(saved: AnnotationSet, expected: list[AnnotatedImage]) -> None:
    assert [image.path.name for image in saved] == [image.path.name for image in expected]
    for one, other in zip(saved, expected, strict=True):
        assert [box.label for box in one.boxes] == [box.label for box in other.boxes]
        for box, drawn in zip(one.boxes, other.boxes, strict=True):
            assert_close((box.x1, box.y1, box.x2, box.y2), (drawn.x1, drawn.y1, drawn.x2, drawn.y2), 0.011)


def assert_found_by_both(driver: PageDriver, file: Path, test: AnnotationSet) -> None:
    """The page finds what the file finds in Python, and so AP is the same."""
    detector = fewbox.open_detector(file)
    driver.page.evaluate(
        "() => document.body.append(Object.assign(document.createElement('input'),"
        " { id: 'handed-over', type: 'file', multiple: true, hidden: true }))"
    )
    driver.page.locator("#handed-over").set_input_files([str(image.path) for image in test])
    height, width = test.images[0].size_hw
    rows = driver.page.evaluate(LOOK, {"width": width, "height": height, "lowest": LOWEST_SCORE})
    found = [
        Detections(
            boxes=np.array([row["box"] for row in photo], np.float32).reshape(-1, 4),
            scores=np.array([row["score"] for row in photo], np.float32),
            class_ids=np.zeros(len(photo), np.int64),
            class_names=detector.labels,
            size_hw=image.size_hw,
            source=image.path,
        )
        for photo, image in zip(rows, test, strict=True)
    ]
    in_page = evaluate_detections(detector, test, found)
    in_python = fewbox.evaluate(file, test, show_progress=False)
    assert in_python.metrics.ap50 > 0.5
    assert in_page.metrics.ap50 == pytest.approx(in_python.metrics.ap50, abs=0.005)
