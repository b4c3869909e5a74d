"""Exports from the page hold what ``fewbox convert`` writes."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from annotate_client import Page, a_box, make_photos
from fewbox.data import FOLDER_FORMATS, FORMATS
from fewbox.data.formats import read_annotations


@pytest.fixture
def page(tmp_path: Path) -> Page:
    page = Page(make_photos(tmp_path / "photos", "out1.jpg", "out2.jpg", "out3.jpg"))
    page.patch(page.address("out1.jpg"), json={"put": [a_box("k1"), a_box("k2", label="Deckel ü")]})
    page.patch(page.address("out2.jpg"), json={"put": [a_box("k1")], "left_out": True})
    return page


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_reads_back(page: Page, tmp_path: Path, form: str) -> None:
    answer = page.get(f"/api/export?format={form}")
    assert answer.status_code == 200
    says = json.loads(answer.headers["Fewbox-Export"])
    made = tmp_path / "made"
    made.mkdir()
    if form in FOLDER_FORMATS:
        assert says["name"] == f"photos_{form}.zip"
        zipfile.ZipFile(io.BytesIO(answer.content)).extractall(made)
    else:
        (made / says["name"]).write_bytes(answer.content)
    (page.folder / "out2.jpg").unlink()
    found = read_annotations(made, page.folder, format=form)
    assert [box.label for image in found for box in image.boxes] == ["mug", "Deckel ü"]


def test_what_a_format_cannot_hold_is_said(page: Page) -> None:
    says = json.loads(page.get("/api/export?format=voc").headers["Fewbox-Export"])
    assert says["remarks"] == ["voc does not list photos that nobody has looked at: 1"]


def test_the_formats_are_listed_and_another_one_is_refused(page: Page) -> None:
    assert page.get("/api/export").json() == FORMATS
    answer = page.get("/api/export?format=vocc")
    assert (answer.status_code, answer.json()["hint"][:16]) == (409, "did you mean voc")


def test_before_anything_is_drawn_it_is_said_that_there_is_nothing(tmp_path: Path) -> None:
    page = Page(make_photos(tmp_path / "none", "out1.jpg"))
    assert page.get("/api/export?format=coco").status_code == 409


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("form", FORMATS)
def test_a_name_that_is_no_text_is_written_or_refused(tmp_path: Path, form: str) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    page = Page(make_photos(tmp_path / "photos", name))
    page.patch(page.address(name), json={"put": [a_box("k1")]})
    answer = page.get(f"/api/export?format={form}")
    if form in ("coco", "labelstudio"):
        assert answer.status_code == 200
    else:
        assert answer.status_code == 409
        assert "caf" in answer.json()["error"]
        assert "rename" in answer.json()["hint"]
