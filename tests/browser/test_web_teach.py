"""The page of examples/web that learns, in a real Chromium: photos and boxes stay in the browser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_driver import MARK, PageDriver, assert_close, make_photos
from web_example import install_page, served

import fewbox.apps.annotate
from fewbox.export.base import export_base
from fewbox.models.base import load_base
from made_once import made_once

PAGE = Path(fewbox.apps.annotate.__file__).parent / "page"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[str]:  # noqa: ARG001 - or it skips
    folder = install_page(tmp_path_factory.mktemp("web") / "page")
    base = made_once("base_of_starter", lambda to: export_base(load_base("starter"), to / "base.onnx"))
    shutil.copy(base / "base.onnx", folder)
    subprocess.run(["node", "build.js", str(PAGE)], cwd=folder, check=True)
    with served(folder) as url:
        yield url


@pytest.fixture
def open_teach(open_page: Any, site: str) -> Any:
    """Open the page; a request to anybody but its own server fails the test."""

    def start(**options: Any) -> PageDriver:
        driver: PageDriver = open_page(f"{site}", **options)
        driver.page.goto(f"{site}learn.html")
        return driver

    return start


def add(driver: PageDriver, *photos: Path) -> None:
    driver.page.locator("#photo-files").set_input_files([str(photo) for photo in photos])


def kept_boxes(driver: PageDriver) -> dict[str, list[Any]]:
    """Label and corners of the boxes in the browser's database, by photo."""
    photos = driver.page.evaluate(
        """async () => {
          const { Database } = await import("./teach/database.js");
          return new Database().all("photos");
        }"""
    )
    return {photo["name"]: [(box["label"], box["box"]) for box in photo["boxes"]] for photo in photos}


def test_photos_and_boxes_outlive_a_reload(open_teach: Any, tmp_path: Path) -> None:
    driver = open_teach()
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
    driver.press("Control+z")  # nothing to undo after a reload; the box stays
    assert driver.rows() == ["mug"]
