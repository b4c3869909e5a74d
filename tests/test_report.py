"""The report: self-contained, bounded, safe against what photos and classes are called."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fewbox.data.annotations import AnnotationSet, Box
from fewbox.errors import OutputError
from fewbox.evaluation import Evaluation, evaluate
from fewbox.evaluation import report as report_module
from fewbox.evaluation.report import render_report, save_report
from known_detector import KnownDetector, corners
from report_samples import EVIL_LABEL, evaluation_of, evil_evaluation
from tiny import make_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotationSet:
    return make_photos(tmp_path_factory.mktemp("photos"), count=4)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evil_evaluation(tmp_path_factory.mktemp("evil"))


def test_the_report_needs_nothing_from_anywhere(photos: AnnotationSet):
    html = render_report(evaluation_of(photos), "duck.safetensors")
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]*)""", html)
    assert links
    assert all(link.startswith("data:image/") for link in links)
    assert "default-src 'none'" in html
    assert "@import" not in html


def test_the_report_says_the_numbers(photos: AnnotationSet):
    html = render_report(evaluation_of(photos), "duck.safetensors")
    assert "<title>duck.safetensors · fewbox</title>" in html
    assert "finds 2 of 4; 1 of its 3 boxes is wrong" in html
    assert "taken for circle, score 0.70" in html
    assert "annotated as square" in html
    assert "not seen" in html


def test_a_photo_is_not_replaced_by_a_report(photos: AnnotationSet):
    own = photos.images[0].path
    before = own.read_bytes()
    with pytest.raises(OutputError, match=r"only photos are called \.png\nhint: choose another name"):
        save_report(evaluation_of(photos), own)
    assert own.read_bytes() == before


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
