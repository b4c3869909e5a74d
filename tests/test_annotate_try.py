"""Photos from elsewhere that the detector is tried on, and taken into the project."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from annotate_client import Page, a_box, make_photos
from exported_duck import ExportedDuck
from fewbox.apps.annotate.guard import MAX_PHOTO_BYTES
from fewbox.apps.annotate.trying import Proposal, Tried, TryingProcess
from fewbox.errors import PhotoError, SettingError

FOUND = Tried((Proposal((10, 20, 40, 50), "mug", 0.9),), 0.4)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    page = Page(make_photos(tmp_path / "photos", "a.jpg", "b.jpg"))
    page.learner.tries = FOUND
    return page


def jpeg(colour: str = "teal") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (100, 60), colour).save(file, "JPEG")
    return file.getvalue()


def tried(page: Page, name: str = "new.jpg", content: bytes | None = None, **headers: str) -> Any:
    kind = {"Content-Type": "application/octet-stream"} | headers
    return page.post("/api/try", params={"name": name}, content=content or jpeg(), headers=kind)


def test_what_is_found_is_told_with_the_threshold_and_nothing_gets_into_the_project(page: Page) -> None:
    assert page.get("/api/try").json() == {"detector": "mug.safetensors"}
    answer = tried(page).json()
    box = {"box": [10, 20, 40, 50], "label": "mug", "score": 0.9}
    assert answer == {
        "id": "1", "name": "new.jpg", "width": 100, "height": 60, "threshold": 0.4, "boxes": [box],
    }  # fmt: skip
    assert page.get("/api/tried/1/image?side=50").headers["content-type"] == "image/jpeg"
    assert list(page.photos()) == ["a.jpg", "b.jpg"]


def test_where_the_disk_is_full_nothing_of_the_photo_is_left(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Path] = []

    def half(path: Path, content: bytes) -> int:
        parts.append(path)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", half)
        answer = tried(page)
    assert answer.status_code == 507
    assert [path.exists() for path in parts] == [False]


def test_a_photo_taken_in_is_new_not_reviewed_and_its_boxes_are_proposed(page: Page) -> None:
    page.learner.proposed = {}
    taken = page.post(f"/api/tried/{tried(page).json()['id']}/take", json={}).json()
    row = page.photos()["new.jpg"]
    assert (row["id"], row["reviewed"], row["num_boxes"], row["tried"]) == (taken["id"], False, 0, True)
    proposed = page.get(f"/api/photos/{taken['id']}/proposals?reviewed=1").json()
    assert proposed["boxes"] == [{"box": [10, 20, 40, 50], "label": "mug", "score": 0.9}]
    assert (page.folder / "new.jpg").read_bytes() == jpeg()
    (page.folder / "new.jpg").write_bytes(jpeg("red"))  # in which nothing was looked for
    assert page.get(f"/api/photos/{taken['id']}/proposals?reviewed=1").json()["boxes"] == []


def test_a_name_that_is_taken_gets_a_number_also_that_of_a_photo_in_the_trash(page: Page) -> None:
    before = (page.folder / "a.jpg").read_bytes()
    assert page.patch(page.address("b.jpg"), json={"put": [a_box()]}).status_code == 200
    assert page.post(f"{page.address('b.jpg')}/trash", json={}).status_code == 200
    names = []
    for name in ("a.jpg", "a.jpg", "A.JPG", "b.jpg"):
        key = tried(page, name, jpeg("red")).json()["id"]
        names.append(page.post(f"/api/tried/{key}/take", json={}).json()["name"])
    assert names[:2] == ["a-2.jpg", "a-3.jpg"]
    assert names[3] == "b-2.jpg"  # whose boxes would otherwise become its own
    assert (page.folder / "a.jpg").read_bytes() == before


def test_a_photo_is_in_the_project_whatever_its_pattern_is(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", "one/a.jpg")
    page = Page(tmp_path / "photos/*/*.jpg")
    page.learner.tries = FOUND
    page.post(f"/api/tried/{tried(page).json()['id']}/take", json={})
    assert list(page.photos()) == ["one/a.jpg", "new.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"hello", "notes.txt: not a photo by its name"),
        ("new.jpg", b"no photo at all", "new.jpg: "),
        ("new.jpg", jpeg()[:400], "new.jpg: "),
        ("", jpeg(), "this: not a photo by its name"),
    ],
)
def test_what_is_no_photo_is_told_by_its_name(page: Page, name: str, content: bytes, says: str) -> None:
    answer = tried(page, name, content)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(says)
    assert "fewbox-try" not in answer.text


@pytest.mark.parametrize(
    "name", ["../../evil.jpg", "..\\evil.jpg", "/tmp/evil.jpg", ".evil.jpg", "ev\0il.jpg"]
)
def test_a_name_leads_nowhere_else(page: Page, name: str) -> None:
    key = tried(page, name).json()["id"]
    taken = page.post(f"/api/tried/{key}/take", json={}).json()["name"]
    assert taken in ("evil.jpg", "ev_il.jpg")
    assert (page.folder / taken).exists()


def test_without_a_detector_it_is_said_how_to_get_one(page: Page) -> None:
    page.learner.tries = None
    assert page.get("/api/try").json() == {"detector": None}
    answer = tried(page)
    assert answer.status_code == 409
    assert "learnt" in answer.json()["error"]


def test_what_a_form_can_send_and_what_is_too_large_is_refused(page: Page) -> None:
    for kind in ("multipart/form-data", "text/plain", "image/jpeg", "application/json"):
        assert tried(page, **{"Content-Type": kind}).status_code == 415
    assert tried(page, Origin="http://evil.example").status_code == 403
    answer = tried(page, **{"Content-Length": str(MAX_PHOTO_BYTES + 1)})
    assert (answer.status_code, answer.json()["hint"]) == (413, "make the photo smaller")
    assert page.post("/api/tried/99/take", json={}).status_code == 404


@pytest.mark.slow
def test_a_process_of_its_own_detects_and_says_what_is_wrong(
    tmp_path: Path, exported_duck: ExportedDuck
) -> None:
    make_photos(tmp_path, "a.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    process = TryingProcess("cpu")
    try:
        found = process.look(exported_duck.onnx, tmp_path / "a.jpg")
        assert 0 < found.threshold < 1
        with pytest.raises(PhotoError, match=r"broken\.jpg"):
            process.look(exported_duck.onnx, tmp_path / "broken.jpg")
        with pytest.raises(SettingError, match="gone"):
            process.look(tmp_path / "gone.safetensors", tmp_path / "a.jpg")
    finally:
        process.close()
