"""What a person does at the page of examples/web that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page_driver import PageDriver

BASES = ("/base.onnx.gz", "/base.onnx")
"""Where the page asks for what it learns from."""

FORGET = """() => new Promise((done) => {
  Object.assign(indexedDB.deleteDatabase("fewbox"), { onsuccess: done });
})"""
"""What the test before has left in this browser."""


def until_it_runs(driver: PageDriver) -> None:
    """Wait for all of a page just loaded: before that nobody takes the files that Playwright hands over."""
    driver.page.evaluate('async () => void (await import("./teach/start.js"))')


def add(driver: PageDriver, *photos: Path) -> None:
    until_it_runs(driver)
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


def until_learnt(driver: PageDriver) -> None:
    driver.page.locator('.learning[data-state="ready"]').wait_for()


def save(driver: PageDriver, button: str, folder: Path) -> Path:
    """Press a button above the page, or in a window of it, and put what it hands out into a folder."""
    with driver.page.expect_download() as saved:
        driver.page.locator("header.own, dialog[open]").get_by_role("button", name=button).last.click()
    to = folder / saved.value.suggested_filename
    saved.value.save_as(to)
    return to
