"""Take the pictures of the docs that show what the demo leaves: the report, and the README's first picture.

    make demo
    python tools/demo_pictures.py demo docs/images

Needs Chromium. The page in the README's picture is the one that page_screenshots.py took.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

HEIGHT, GAP, CAPTION = 400, 14, 34
FOUND = ("duck_03.jpg", "duck_06.jpg")
"""Two of the demo's photos, one above the other."""


def main() -> None:
    """Take the report's picture, and put three side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder that make demo has made")
    parser.add_argument("output", type=Path)
    parsed = parser.parse_args()
    report = picture_of(parsed.demo / "report.html")
    report.save(parsed.output / "report.jpg", quality=80, optimize=True)
    page = Image.open(parsed.output / "annotate-proposals.png").convert("RGB")
    found = stacked([Image.open(parsed.demo / "found" / name).convert("RGB") for name in FOUND])
    panels = [
        ("Draw some boxes: it proposes the rest", fitted(page)),
        ("It finds the object in other photos", fitted(found)),
        ("It says how good it is, and what helps", fitted(report.crop((0, 0, report.width, 640)))),
    ]
    side_by_side(panels).save(parsed.output / "overview.jpg", quality=85, optimize=True)


def picture_of(page: Path) -> Image.Image:
    """The first screen of a page."""
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 960, "height": 1000}, color_scheme="light")
        tab.goto(page.resolve().as_uri())
        tab.wait_for_timeout(800)
        taken = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        browser.close()
    return taken


def fitted(picture: Image.Image) -> Image.Image:
    """The picture as high as the others."""
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS)


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """One above the other, as wide as the first."""
    width = pictures[0].width
    pictures = [
        picture.resize((width, round(picture.height * width / picture.width))) for picture in pictures
    ]
    whole = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def side_by_side(panels: list[tuple[str, Image.Image]]) -> Image.Image:
    """The pictures in a row, with their captions below."""
    width = sum(picture.width for _, picture in panels) + GAP * (len(panels) - 1)
    whole = Image.new("RGB", (width, HEIGHT + CAPTION), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(18)
    left = 0
    for caption, picture in panels:
        whole.paste(picture, (left, 0))
        middle = left + picture.width / 2
        pen.text((middle, HEIGHT + CAPTION / 2), caption, fill="#333333", font=font, anchor="mm")
        left += picture.width + GAP
    return whole


if __name__ == "__main__":
    main()
