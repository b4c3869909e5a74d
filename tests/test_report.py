"""The report: self-contained, bounded, safe against what photos and classes are called; and in a browser."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from goldeneye.data.annotations import AnnotatedImage, AnnotationSet, Box
from goldeneye.evaluation import report as report_module
from goldeneye.evaluation.evaluator import Evaluation, evaluate
from goldeneye.evaluation.report import render_report, save_report
from test_evaluator import KnownDetector, corners
from tiny import make_photos

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

EVIL_LABEL = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
EVIL_NAME = "\"><img src=x onerror=document.title='pwned'>.png"


def evaluation_of(photos: AnnotationSet, labels: tuple[str, str] = ("square", "circle")) -> Evaluation:
    """Of four photos: one right at 0.9, one at 0.6, one missed, one taken for the other class at 0.7."""
    boxes = [corners(image.boxes[0]) for image in photos]
    names = [image.path.name for image in photos]
    found = {
        names[0]: [(boxes[0], 0.9, 0)],
        names[1]: [(boxes[1], 0.6, 0), ((0, 0, 8, 8), 0.3, 0)],
        names[3]: [(boxes[3], 0.7, 1)],
    }
    return evaluate(KnownDetector(found, labels), photos)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotationSet:
    return make_photos(tmp_path_factory.mktemp("photos"), count=4)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """An evaluation whose label, detector and photos are called what an attacker would call them."""
    photos = make_photos(tmp_path_factory.mktemp("evil"), count=4)
    images = []
    for number, image in enumerate(photos):
        path = image.path.rename(image.path.with_name(f"{number}{EVIL_NAME}"))
        boxes = tuple(replace(box, label=EVIL_LABEL) for box in image.boxes)
        images.append(AnnotatedImage(path, image.size_hw, boxes, reviewed=True))
    return evaluation_of(AnnotationSet(tuple(images), (EVIL_LABEL,)), (EVIL_LABEL, "circle"))


def test_the_report_needs_nothing_from_anywhere(photos: AnnotationSet):
    html = render_report(evaluation_of(photos), "duck.safetensors")
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]*)""", html)
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert "default-src 'none'" in html
    assert "@import" not in html


def test_the_report_says_the_numbers(photos: AnnotationSet):
    html = render_report(evaluation_of(photos), "duck.safetensors")
    assert "<title>duck.safetensors · goldeneye</title>" in html
    assert "finds 2 of 4; 1 of its 3 boxes is wrong" in html
    assert "taken for circle, score 0.70" in html
    assert "annotated as square" in html
    assert "not seen" in html


def test_a_report_of_many_photos_is_bounded(monkeypatch: pytest.MonkeyPatch, photos: AnnotationSet):
    monkeypatch.setattr(report_module, "MAX_PHOTOS", 2)
    monkeypatch.setattr(report_module, "MAX_MISTAKES", 1)
    html = render_report(evaluation_of(photos), "duck")
    assert html.count("data:image/jpeg") == 2 + 1 + 1
    assert "the 2 of 4 with the most mistakes" in html
    # The two photos with a mistake are the ones that are shown.
    assert set(re.findall(r'<span class="name">(.+?)</span>', html)) == {"photo2.png", "photo3.png"}


def test_names_that_are_markup_stay_text(evil: Evaluation):
    html = render_report(evil, EVIL_LABEL)
    assert html.count("<script>") == 1
    assert html.count("<script") == 2  # the numbers, which are no script to a browser, and ours
    assert "<img" not in html


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are no text")
def test_names_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path):
    photos = make_photos(tmp_path, count=4)
    strange = tmp_path / os.fsdecode(b"caf\xe9.png")
    photos.images[0].path.rename(strange)
    images = (replace(photos.images[0], path=strange), *photos.images[1:])
    save_report(evaluation_of(replace(photos, images=images)), tmp_path / "report.html")
    assert "caf\ufffd.png" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_detector_of_many_classes(tmp_path: Path):
    photos = make_photos(tmp_path, count=2)
    labels = tuple(f"class {number}" for number in range(30))
    image = photos.images[0]
    boxes = tuple(Box(4 * n, 0, 4 * n + 3, 9, label) for n, label in enumerate(labels[:25]))
    annotations = AnnotationSet((replace(image, boxes=boxes),), labels)
    found = [(corners(box), 0.9, (n + 1) % 25) for n, box in enumerate(boxes)]  # each taken for the next
    html = render_report(evaluate(KnownDetector({image.path.name: found}, labels), annotations), "many")
    assert "The 12 classes that are mixed up most, of 30." in html
    assert "5 more classes were neither annotated nor found." in html


def test_nothing_found_at_all_is_a_report_too(photos: AnnotationSet):
    html = render_report(evaluate(KnownDetector({}, ("square",)), photos), "blind")
    assert "finds none of 4; no boxes" in html
    assert "There are no boxes above its threshold." in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser, {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that opens the report of an evaluation; at the end the browser must not have complained."""
    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    def open_(evaluation: Evaluation, title: str = "duck.safetensors") -> Any:
        save_report(evaluation, tmp_path / "report.html", title=title)
        page.goto((tmp_path / "report.html").as_uri())
        return page

    yield open_
    page.close()
    assert not complaints
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in requests) == 1


def set_threshold(page: Any, threshold: float) -> None:
    page.locator("#threshold").fill(str(round(100 * threshold)))


def shown(page: Any, selector: str) -> int:
    return page.locator(selector).filter(visible=True).count()


def test_moving_the_threshold_redraws_boxes_and_counts(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    counts = lambda: [page.locator(f"#{name}").inner_text() for name in ("found", "missed", "alarms")]  # noqa: E731
    marks = lambda: [shown(page, f"#photos .mark.{kind}") for kind in ("hit", "miss", "alarm")]  # noqa: E731
    assert counts() == ["2", "2", "1"]
    assert marks() == [2, 2, 1]
    assert shown(page, ".crop") == 3
    set_threshold(page, 0.65)
    assert counts() == ["1", "3", "1"]
    assert marks() == [1, 3, 1]
    assert page.locator("#words").inner_text() == "Finds 1 of 4; 1 of its 2 boxes is wrong"
    set_threshold(page, 0.2)
    assert counts() == ["2", "2", "2"]
    assert page.locator("#alarms-count").inner_text() == "2"
    set_threshold(page, 0.95)
    assert counts() == ["0", "4", "0"]
    assert page.get_by_text("No false alarms at this threshold.").is_visible()
    page.get_by_role("button", name="its own: 0.50").click()
    assert counts() == ["2", "2", "1"]


def test_tables_follow_the_threshold(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    cells = lambda table: [row.split() for row in page.locator(f"{table} tbody").inner_text().splitlines()]  # noqa: E731
    assert cells("#classes")[0][:7] == ["square", "4", "2", "2", "0", "100%", "50%"]
    assert cells("#confusion")[0] == ["square", "2", "1", "1"]
    set_threshold(page, 0.8)
    assert cells("#classes")[0][:7] == ["square", "4", "1", "3", "0", "100%", "25%"]
    assert cells("#confusion")[0] == ["square", "1", "·", "3"]


def test_photos_can_be_filtered_and_enlarged_by_keyboard(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    assert shown(page, "#photos > li") == 4
    page.get_by_label("only photos with mistakes").check()
    assert shown(page, "#photos > li") == 2
    page.locator("#photos > li button").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    caption = dialog.locator(".caption")
    assert caption.inner_text() == "photo3.png: 1 missed · 1 false"
    page.keyboard.press("ArrowRight")
    assert caption.inner_text() == "photo2.png: 1 missed"
    page.keyboard.press("ArrowRight")  # round to the first, as photos without mistakes are not shown
    assert caption.inner_text().startswith("photo3.png")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.locator("#photos > li .picture").count() == 4


def test_dark_and_light(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    brightness = lambda: np.mean([int(part) for part in re.findall(r"\d+", paper())])  # noqa: E731
    page.emulate_media(color_scheme="light")
    assert brightness() > 200
    page.get_by_role("button", name="dark or light").click()
    assert brightness() < 60
    page.get_by_role("button", name="dark or light").click()
    page.emulate_media(color_scheme="dark")
    assert brightness() > 200  # what was chosen by hand stays


def test_nothing_that_things_are_called_runs(open_report: Any, evil: Evaluation):
    page = open_report(evil, title=EVIL_LABEL)
    set_threshold(page, 0.1)
    page.locator("#photos > li button").first.click()
    assert page.title() == f"{EVIL_LABEL} · goldeneye"
    assert page.locator("h1").inner_text() == EVIL_LABEL
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
