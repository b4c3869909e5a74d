"""The report in a real Chromium: the threshold moves it, the keyboard is enough, and no name is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbox.data.annotations import AnnotationSet
from fewbox.evaluation import Evaluation
from fewbox.evaluation.report import save_report
from report_samples import EVIL_LABEL, evaluation_of, evil_evaluation
from tiny import make_photos
from waiting import LONG


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotationSet:
    return make_photos(tmp_path_factory.mktemp("photos"), count=4)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evil_evaluation(tmp_path_factory.mktemp("evil"))


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A function that opens the report of an evaluation; at the end the browser must not have complained."""
    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(1000 * LONG)
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
    assert page.locator("#threshold").get_attribute("min") == "5"  # boxes with lower scores are not drawn
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


def test_kinds_of_mistakes_follow_the_threshold(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    kinds = lambda of: {  # noqa: E731
        row.get_attribute("data-kind"): row.locator("td").first.inner_text()
        for row in page.locator(f"[data-kinds={of}] tbody tr").all()
    }
    alarms = {"duplicate": "0", "localization": "0", "confusion": "1", "background": "0"}
    assert kinds("alarm_kinds") == alarms
    assert page.locator("#alarm-words").inner_text() == "1 on an object (1 class confusion)"
    assert page.locator("#miss-words").inner_text() == "1 taken for another class, 1 not seen"
    set_threshold(page, 0.2)
    assert kinds("alarm_kinds") == alarms | {"background": "1"}
    assert page.locator("#alarm-words").inner_text().endswith(", 1 on the background")
    set_threshold(page, 0.65)
    assert kinds("miss_kinds")["low_score"] == "1"


def test_a_miss_shows_the_box_that_it_is_told_by(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    miss = page.locator(".crop", has_text="taken for circle")
    for threshold in (0.5, 0.9):  # the circle has 0.70
        set_threshold(page, threshold)
        assert miss.locator(".mark.alarm").is_visible()
        assert miss.locator(".mark.miss").is_visible()


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
    # The picture goes back when the browser has told the page that the dialog is closed.
    page.wait_for_function("() => document.querySelectorAll('#photos > li .picture').length === 4")


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
    assert page.title() == f"{EVIL_LABEL} · fewbox"
    assert page.locator("h1").inner_text() == EVIL_LABEL
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_on_a_phone_nothing_but_tables_scrolls_sideways(open_report: Any, photos: AnnotationSet):
    page = open_report(evaluation_of(photos))
    page.set_viewport_size({"width": 390, "height": 760})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
