"""Frames per second of the annotation page in Chromium, while one draws, zooms and moves on 24 megapixels.

The frames of the page at rest, in the same minute, are what this machine can show at most: Chromium
draws without a graphics card here.

    python benchmarks/page.py                 about a minute
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from machine import describe_machine

SIZE_WH = (6000, 4000)
_COUNT_FRAMES = """() => {
  window.frames_ = [];
  const note = (now) => { window.frames_.push(now); requestAnimationFrame(note); };
  requestAnimationFrame(note);
}"""


def main() -> None:
    """Measure each activity in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each activity in a round")
    parsed = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        pixels = np.random.default_rng(0).integers(0, 255, (SIZE_WH[1] // 8, SIZE_WH[0] // 8, 3), np.uint8)
        Image.fromarray(pixels).resize(SIZE_WH, Image.Resampling.BICUBIC).save(Path(folder) / "large.jpg")
        server, url = serve(Path(folder))
        executable = shutil.which("chromium")
        browser = running.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url)
        page.locator(".cell.row").wait_for()
        page.keyboard.press("n")
        page.keyboard.type("thing")
        page.keyboard.press("Enter")
        page.wait_for_timeout(3000)
        page.evaluate(_COUNT_FRAMES)
        measure(page, parsed.rounds, parsed.seconds)
        browser.close()
        server.terminate()


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Run ``fewbox annotate``, and return the address of the page with it."""
    options = ["--no-browser", "--no-learn"]
    command = [sys.executable, "-m", "fewbox.cli", "annotate", str(folder), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = ""
    while "http" not in said:
        said = next(server.stdout)
    return server, said.split()[-1]


def measure(page: Any, rounds: int, seconds: float) -> None:
    """Do everything in turn, so that all meet the machine in the same moods."""
    stage = page.locator(".stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2

    def draw(step: int) -> None:
        page.mouse.move(x + 200 * np.cos(step / 9), y + 200 * np.sin(step / 9))

    def wheel(step: int) -> None:
        page.mouse.wheel(0, -60 if step // 25 % 2 == 0 else 60)

    activities: dict[str, Callable[[int], None]] = {
        "at rest": lambda _: page.wait_for_timeout(15),
        "drawing a box, whole photo": draw,
        "drawing a box, enlarged": draw,
        "zooming in and out": wheel,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in activities}
    for _ in range(rounds):
        for name, act in activities.items():
            prepare(page, name, x, y)
            found[name].append(frames_during(page, act, seconds))
            page.mouse.up()
            page.keyboard.press("Control+z")
    print(f"{'':28} frames/s   longest 1 in 20, ms")
    for name, results in found.items():
        rates, slow = zip(*results, strict=True)
        print(f"{name:28} {statistics.median(rates):8.1f}   {statistics.median(slow):8.1f}")


def prepare(page: Any, name: str, x: float, y: float) -> None:
    """Bring the page to where an activity begins."""
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.mouse.move(x, y)
    if "enlarged" in name:
        for _ in range(12):
            page.mouse.wheel(0, -120)
        page.wait_for_timeout(1500)
    if "drawing" in name:
        page.mouse.down()


def frames_during(page: Any, act: Callable[[int], None], seconds: float) -> tuple[float, float]:
    """Frames per second, and the time that one frame in twenty takes or exceeds, in milliseconds."""
    page.evaluate("() => { window.frames_.length = 0; }")
    start, step = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        act(step)
        step += 1
    gaps = np.diff(page.evaluate("() => window.frames_"))
    return 1000 / float(gaps.mean()), float(np.percentile(gaps, 95))


if __name__ == "__main__":
    main()
