"""What a person does at the page, and what they see.

Where things are is found by the pixels on the screen, not by the page's own numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from waiting import LONG

Serve = Callable[[Path], str]
OpenPage = Callable[..., "PageDriver"]
Corners = tuple[float, float, float, float]
MARK: Corners = (120, 80, 260, 200)
SIZE_WH = (400, 300)

# Where on the screen the red of a mark is, by the pixels of the canvas that shows the photo, once the
# page has drawn what is new: it does so in the next frame, and the photo in the one after.
_FIND_MARK = """async () => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  const canvas = document.querySelector(".stage canvas");
  if (!canvas?.width || !document.querySelector('.of-photo [aria-busy="false"]')) return null;
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [x1, y1, x2, y2] = [Infinity, Infinity, -1, -1];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] < 170 || data[at + 1] > 90 || data[at + 2] > 90) continue;
    const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)];
    [x1, y1, x2, y2] = [Math.min(x1, x), Math.min(y1, y), Math.max(x2, x + 1), Math.max(y2, y + 1)];
  }
  const { left, top } = canvas.getBoundingClientRect();
  const scale = canvas.width / canvas.getBoundingClientRect().width;
  return x2 < 0 ? null : [left + x1 / scale, top + y1 / scale, left + x2 / scale, top + y2 / scale];
}"""

# The boxes that are listed, once the page has drawn what is new.
_ROWS = """async () => {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [...document.querySelectorAll(".of-photo .row")].map((row) =>
    (row.classList.contains("active") ? "*" : "") + row.querySelector(".label").innerText);
}"""


def marked_photo(size_wh: tuple[int, int] = SIZE_WH, mark: Corners = MARK) -> Image.Image:
    """A grey photo with a red mark."""
    photo = Image.new("RGB", size_wh, (90, 110, 120))
    x1, y1, x2, y2 = mark
    ImageDraw.Draw(photo).rectangle((x1, y1, x2 - 1, y2 - 1), fill=(230, 20, 20))
    return photo


def make_photos(folder: Path, count: int = 3) -> Path:
    """A folder of photos ``photo1.png`` and so on, each with a mark at :data:`MARK`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        marked_photo().save(folder / f"photo{number}.png")
    return folder


def boxes_in_file(folder: Path, photo: str) -> list[tuple[str, Corners]]:
    """Label and corners of what ``annotations.json`` says of a photo, in the order of drawing."""
    if not (folder / "annotations.json").exists():
        return []
    content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    labels = {entry["id"]: entry["name"] for entry in content["categories"]}
    ids = [entry["id"] for entry in content["images"] if entry["file_name"] == photo]
    found = []
    for entry in content["annotations"]:
        if entry["image_id"] in ids:
            x, y, width, height = entry["bbox"]
            found.append((labels[entry["category_id"]], (x, y, x + width, y + height)))
    return found


def reviewed_in_file(folder: Path) -> list[str]:
    content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    return [entry["file_name"] for entry in content["images"] if entry["reviewed"]]


def assert_close(box: Corners, expected: Corners, tolerance: float = 1.0) -> None:
    assert np.abs(np.subtract(box, expected)).max() <= tolerance, (box, expected)


class PageDriver:
    """One window with the page in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.mouse = page.mouse
        self.keyboard = page.keyboard
        self._devices = page.context.new_cdp_session(page)

    def name(self) -> str:
        """The photo that is open, once it is on the screen."""
        self.mark()
        text: str = self.page.locator("h1").inner_text()
        return text

    def mark(self) -> Corners:
        """Where the mark is on the screen, once it stays where it is and the photo's boxes are there too.

        Where the size of a photo is known, it is shown before its boxes have come, and cannot be drawn in.
        """
        before, end = None, time.monotonic() + LONG
        while time.monotonic() < end:
            now = self.page.evaluate(_FIND_MARK)
            if now is not None and now == before:
                return tuple(now)
            before = now
        raise AssertionError(f"no mark on the screen: {before}")

    def until_sharp(self, aspect: float) -> None:
        """Wait until the mark has its true aspect, which it has not in a picture of fewer pixels."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            x1, y1, x2, y2 = self.mark()
            if abs((x2 - x1) / (y2 - y1) / aspect - 1) < 0.005:
                return
        raise AssertionError("the photo is still coarse")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse.move(*start)
        self.mouse.down()
        self.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.mouse.move(*end)
        self.mouse.up()

    def draw_mark(self, label: str | None = None) -> None:
        """Draw a box around the mark; ``label`` answers when the page asks what it is."""
        x1, y1, x2, y2 = self.mark()
        self.drag((x1, y1), (x2, y2))
        if label is not None:
            self.answer(label)

    def answer(self, label: str) -> None:
        """Type the name that a window asks for; when that has been taken in, it is gone."""
        self.page.locator("dialog input").fill(label)
        self.keyboard.press("Enter")
        self.page.locator("dialog[open]").wait_for(state="detached")
        self.page.locator(".label", has_text=label).first.wait_for()

    def confirm(self, what: str) -> None:
        """Press the button called ``what`` in the window that asks whether one is sure."""
        self.page.locator("dialog.sure").get_by_role("button", name=what, exact=True).click()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """``touchStart``, ``touchMove`` or ``touchEnd``: where the fingers are now."""
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._devices.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def move_to_screen(self, width: int, height: int, density: float) -> None:
        """Move the window to a screen of another density, where it is as large as before."""
        screen = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": False}
        self._devices.send("Emulation.setDeviceMetricsOverride", screen)
        self.page.wait_for_function("density => devicePixelRatio === density", arg=density)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.keyboard.press(key)

    def until_saved(self) -> None:
        self.page.locator('.saved[data-state="saved"]').wait_for()

    def until_open(self, photo: str) -> None:
        self.page.locator("h1", has_text=photo).wait_for()
        self.mark()

    def rows(self) -> list[str]:
        """The boxes and proposals listed beside the photo, the selected one with a star."""
        rows: list[str] = self.page.evaluate(_ROWS)
        return rows
