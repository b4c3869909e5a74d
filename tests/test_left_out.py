"""A photo that was left out on the page: nothing learns from it, and nothing takes it for background."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from annotate_client import Page, a_box, make_photos
from fewbox.apps.annotate import previews
from fewbox.data.checks import check_annotations
from fewbox.data.formats import read_annotations, write_annotations
from fewbox.data.project import TRASH, Project
from fewbox.errors import AnnotationError
from waiting import LONG


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Boxes in out1, nothing in out2, which was looked at, and out3, which was left out."""
    folder = make_photos(tmp_path / "photos", "out1.jpg", "out2.jpg", "out3.jpg")
    page = Page(folder)
    page.patch(page.address("out1.jpg"), json={"put": [a_box()]})
    page.patch(page.address("out2.jpg"), json={"reviewed": True})
    page.patch(page.address("out3.jpg"), json={"left_out": True})
    return folder


def names(found: object) -> list[str]:
    return [image.path.name for image in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize("boxes", ["", "annotations.json"])
def test_it_is_neither_learnt_from_nor_to_do(
    folder: Path, boxes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_annotations(folder / boxes)
    assert names(found) == ["out1.jpg", "out2.jpg"]
    found.require_reviewed()
    assert "1 photo left out on the page: out3.jpg" in capsys.readouterr().err


def test_check_says_that_it_is_left_out_and_misses_nothing(folder: Path) -> None:
    report = check_annotations(folder / "annotations.json", folder, show_progress=False)
    assert report.num_photos == 2
    assert "photo-not-reviewed" not in [row.kind for row in report.findings]
    assert "1 photo left out on the page: out3.jpg" in [row.what for row in report.findings]


def test_it_is_in_no_export(folder: Path, tmp_path: Path) -> None:
    write_annotations(read_annotations(folder), tmp_path / "voc", "voc")
    assert not list((tmp_path / "voc").rglob("out3*"))


def test_a_program_that_does_not_know_the_field_takes_an_empty_one_for_not_looked_at(folder: Path) -> None:
    project = Project(folder)
    project.change_photo("out2.jpg", left_out=True)
    entries = json.loads(project.file.read_text())["images"]
    assert [(entry["reviewed"], entry.get("left_out")) for entry in entries] == [
        (True, None),
        (False, True),
        (False, True),
    ]


def test_one_that_cannot_be_read_can_be_left_out(folder: Path) -> None:
    (folder / "out4.jpg").write_bytes(b"no photo")
    page = Page(folder)
    answer = page.patch(page.address("out4.jpg"), json={"left_out": True})
    assert (answer.status_code, answer.json()["left_out"]) == (200, True)
    assert names(read_annotations(folder)) == ["out1.jpg", "out2.jpg"]


class TestTurned:
    """A photo that was turned after its boxes were drawn: nothing learns from the project while it counts."""

    @pytest.fixture(autouse=True)
    def turn_out1(self, folder: Path) -> None:
        with Image.open(folder / "out1.jpg") as photo:
            photo.rotate(90, expand=True).save(folder / "out1.jpg")
        with pytest.raises(AnnotationError, match="width x height differ"):
            read_annotations(folder)

    def test_it_can_be_left_out_and_is_still_noticed_when_it_is_taken_in_again(self, folder: Path) -> None:
        page = Page(folder)
        address = page.address("out1.jpg")
        assert page.patch(address, json={"left_out": True}).status_code == 200
        for boxes in ("", "annotations.json"):
            assert names(read_annotations(folder / boxes)) == ["out2.jpg"]
        refused = page.patch(address, json={"left_out": False})
        assert refused.status_code == 409
        assert "width x height differ: 100 x 60 in the file, 60 x 100 upright" in refused.text
        make_photos(folder, "out1.jpg")  # turned back
        assert page.patch(address, json={"left_out": False}).status_code == 200
        assert [len(image.boxes) for image in read_annotations(folder)] == [1, 0]

    def test_it_can_be_put_into_the_trash(self, folder: Path) -> None:
        page = Page(folder)
        assert page.post(f"{page.address('out1.jpg')}/trash", json={}).status_code == 200
        assert (folder / TRASH / "out1.jpg").exists()
        assert names(read_annotations(folder)) == ["out2.jpg"]

    def test_it_is_not_left_out_if_it_cannot_be_put_into_the_trash(self, folder: Path) -> None:
        (folder / TRASH).write_text("in the way")
        page = Page(folder)
        assert page.post(f"{page.address('out1.jpg')}/trash", json={}).status_code >= 400
        assert page.photos()["out1.jpg"]["left_out"] is False

    def test_its_boxes_can_be_deleted_and_drawn_anew(self, folder: Path) -> None:
        page = Page(folder)
        address = page.address("out1.jpg")
        assert page.patch(address, json={"delete": ["k1"], "reviewed": False}).status_code == 200
        assert page.patch(address, json={"put": [a_box("k2", (20, 10, 50, 90))]}).status_code == 200
        (image, _) = read_annotations(folder)
        assert [(box.x1, box.y1, box.x2, box.y2) for box in image.boxes] == [(20, 10, 50, 90)]

    @pytest.mark.parametrize("change", [{}, {"delete": ["k1"]}, {"left_out": True}])
    def test_a_window_that_shows_it_as_it_was_draws_nothing_in_it(
        self, folder: Path, change: dict[str, Any]
    ) -> None:
        page = Page(folder)
        drawn = change | {"put": [a_box("k2", (20, 10, 50, 50))]}
        assert page.patch(page.address("out1.jpg"), json=drawn).status_code == 409


def test_the_learner_passes_it_over(folder: Path) -> None:
    page = Page(folder)
    assert "--reviewed-only" not in page.get("/api/finish").json()["command"]
    assert page.get(f"{page.address('out3.jpg')}/proposals").json()["boxes"] == []


def test_one_in_the_trash_is_neither_listed_nor_missed_and_comes_back_with_its_boxes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Page(folder)
    address = page.address("out1.jpg")
    bytes_before = (folder / "out1.jpg").read_bytes()
    for _ in range(2):  # the second time from a server that has just begun
        assert page.post(f"{address}/trash", json={}).status_code == 200
        assert (folder / TRASH / "out1.jpg").read_bytes() == bytes_before
        assert list(Page(folder).photos()) == ["out2.jpg", "out3.jpg"]
        assert names(read_annotations(folder)) == ["out2.jpg"]
        assert "no longer there" not in capsys.readouterr().err
        assert page.post(f"{address}/restore", json={}).status_code == 200
        page.patch(address, json={"left_out": False})
        assert (folder / "out1.jpg").read_bytes() == bytes_before
        assert page.photos()["out1.jpg"]["num_boxes"] == 1


def test_photos_of_one_name_do_not_replace_each_other_in_the_trash(folder: Path) -> None:
    project = Project(folder)
    first = (folder / "out1.jpg").read_bytes()
    project.trash("out1.jpg")
    (folder / "out1.jpg").write_bytes((folder / "out2.jpg").read_bytes() + b" ")
    project.trash("out1.jpg")
    assert (folder / TRASH / "out1.jpg").read_bytes() == first
    project.restore("out1.jpg")
    assert (folder / "out1.jpg").read_bytes().endswith(b" ")


def test_a_photo_whose_name_looks_like_a_numbered_one_is_not_brought_back_for_another(folder: Path) -> None:
    """Telephones call a photo that was edited ``out1~1.jpg``."""
    project = Project(folder)
    first = (folder / "out1.jpg").read_bytes()
    (folder / "out2.jpg").rename(folder / "out1~1.jpg")
    project.trash("out1~1.jpg")
    project.trash("out1.jpg")
    project.restore("out1.jpg")
    assert (folder / "out1.jpg").read_bytes() == first
    project.restore("out1~1.jpg")
    assert (folder / "out1~1.jpg").exists()


def test_a_photo_that_has_come_since_is_not_written_over(folder: Path) -> None:
    page = Page(folder)
    address = page.address("out1.jpg")
    page.post(f"{address}/trash", json={})
    (folder / "out1.jpg").write_bytes(b"another")
    answer = page.post(f"{address}/restore", json={})
    assert answer.status_code == 422
    assert "another photo has this name" in answer.json()["error"]
    assert (folder / "out1.jpg").read_bytes() == b"another"


def test_whoever_asks_for_the_picture_of_a_photo_that_goes_to_the_trash_is_not_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(folder)
    address = page.address("out1.jpg")
    make = previews.make_picture

    def gone_meanwhile(path: Path, side: int | None) -> bytes:
        if (folder / "out1.jpg").exists():
            page.project.trash("out1.jpg")
        return make(path, side)

    monkeypatch.setattr(previews, "make_picture", gone_meanwhile)
    assert page.get(f"{address}/image?side=160").status_code == 200
    assert not (folder / "out1.jpg").exists()
    assert page.get(f"{address}/image?side=160").status_code == 200
    page.post(f"{address}/restore", json={})
    assert page.photos()["out1.jpg"]["error"] is None
    (folder / "out1.jpg").unlink()
    assert page.get(f"{address}/image?side=160").status_code == 422


def test_a_photo_that_is_gone_is_not_put_into_the_trash_and_the_cure_that_is_named_helps(
    folder: Path,
) -> None:
    page = Page(folder)
    address = page.address("out1.jpg")
    (folder / "out1.jpg").unlink()
    answer = page.post(f"{address}/trash", json={}).json()
    assert answer["error"] == "out1.jpg: no longer there"
    assert answer["hint"] == "O takes it off the list"
    assert page.patch(address, json={"left_out": True}).status_code == 200
    assert "out1.jpg" not in page.photos()


def test_nobody_is_told_of_a_photo_half_way_to_the_trash(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, listed = Project(folder), []
    change = project.change_photo

    def change_and_list(name: str, **change_to: Any) -> None:
        change(name, **change_to)
        asking.start()
        asking.join(0.2)  # it is made to wait

    asking = threading.Thread(target=lambda: listed.append(project.photo_names()))
    monkeypatch.setattr(project, "change_photo", change_and_list)
    project.trash("out1.jpg")
    asking.join(LONG)
    assert listed == [["out2.jpg", "out3.jpg"]]
