"""What the annotation page asks for, and what it is answered."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotate_client import Page, a_box, make_photos
from fewbox.apps.annotate import app as app_module
from fewbox.apps.annotate.background import Learning, Proposal, Proposals
from fewbox.data.images import read_image

# How a camera that says orientation 2, 3 ... 8 has turned what a person sees, by Pillow's names.
STORED_BY = (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270"
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "out2.jpg", "out10.jpg", "out1.jpg")


@pytest.fixture
def page(folder: Path) -> Page:
    return Page(folder)


def picture(page: Page, address: str) -> Image.Image:
    answer = page.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return Image.open(io.BytesIO(answer.content))


class TestProject:
    def test_before_anything_is_drawn(self, page: Page) -> None:
        answer = page.get("/api/project").json()
        assert (answer["name"], answer["labels"], answer["suggested_next"]) == ("photos", [], None)
        assert [row.pop("name") for row in answer["photos"]] == ["out1.jpg", "out2.jpg", "out10.jpg"]
        ids = [row.pop("id") for row in answer["photos"]]
        assert len(set(ids)) == 3
        for row in answer["photos"]:
            assert row.pop("file")
            assert row == {
                "width": None, "height": None, "reviewed": False, "left_out": False, "num_boxes": 0,
                "labels": [], "tried": False, "error": None,
            }  # fmt: skip
        assert [row["id"] for row in Page(page.folder).get("/api/project").json()["photos"]] == ids

    def test_a_photo_that_was_copied_only_by_half_is_one_again_when_all_of_it_has_come(
        self, page: Page
    ) -> None:
        path, address = page.folder / "out2.jpg", page.address("out2.jpg")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])

        def errors() -> list[str | None]:
            return [row["error"] for row in page.get("/api/project").json()["photos"]]

        assert page.get(f"{address}/image").status_code == 422
        assert ["damaged" in str(error) for error in errors()] == [False, True, False]
        path.write_bytes(whole)
        assert errors() == [None, None, None]
        assert page.get(f"{address}/image").status_code == 200

    def test_after_drawing(self, page: Page) -> None:
        boxes = [a_box("k1"), a_box("k2", label="lid"), a_box("k3", label="lid")]
        page.patch(page.address("out2.jpg"), json={"put": boxes})
        page.patch(page.address("out10.jpg"), json={"reviewed": True})
        rows = page.photos()
        assert rows["out2.jpg"]["labels"] == ["lid", "mug"]
        assert [(row["reviewed"], row["num_boxes"]) for row in rows.values()] == [
            (False, 0),
            (True, 3),
            (True, 0),
        ]
        assert (rows["out2.jpg"]["width"], rows["out2.jpg"]["height"]) == (100, 60)

    def test_photos_that_come_and_go(self, page: Page) -> None:
        address = page.address("out2.jpg")
        page.patch(address, json={"put": [a_box()]})
        (page.folder / "out2.jpg").unlink()
        make_photos(page.folder, "out3.jpg")
        rows = page.photos()
        assert list(rows) == ["out1.jpg", "out3.jpg", "out10.jpg", "out2.jpg"]
        assert rows["out2.jpg"]["error"] == "no longer there; its 1 box is kept"
        for answer in (
            page.get(address),
            page.get(f"{address}/image"),
            page.patch(address, json={"put": []}),
        ):
            assert answer.status_code == 422
            assert answer.json()["error"]

    def test_photos_that_cannot_be_read(self, page: Page) -> None:
        data = (page.folder / "out2.jpg").read_bytes()
        (page.folder / "out2.jpg").write_bytes(data[: len(data) // 2])
        (page.folder / "out10.jpg").write_bytes(b"no photo")
        for name in ("out2.jpg", "out10.jpg"):
            answer = page.get(f"{page.address(name)}/image?side=160")
            assert answer.status_code == 422
            assert name in answer.json()["error"]
            assert answer.json()["hint"]
            assert name in page.photos()[name]["error"]
        assert page.get(f"{page.address('out1.jpg')}/image").status_code == 200
        (page.folder / "out2.jpg").write_bytes(data)
        assert page.get(f"{page.address('out2.jpg')}/image").status_code == 200
        assert page.photos()["out2.jpg"]["error"] is None

    @pytest.mark.skipif(os.name != "posix", reason="names are text there")
    def test_a_name_that_is_no_text(self, page: Page) -> None:
        try:
            make_photos(page.folder, "a\udcff.png")
        except (OSError, UnicodeError):
            pytest.skip("not on this file system")
        address = page.address("a\udcff.png")
        assert page.patch(address, json={"put": [a_box()]}).status_code == 200
        assert Page(page.folder).photos()["a\udcff.png"]["num_boxes"] == 1


class TestDrawing:
    def test_put_change_and_delete(self, page: Page) -> None:
        address = page.address("out1.jpg")
        answer = page.patch(address, json={"put": [a_box("k1"), a_box("k2")], "rev": 7}).json()
        assert [box["id"] for box in answer["boxes"]] == ["k1", "k2"]
        assert answer["boxes"][0] == {"id": "k1", "box": [10, 20, 40, 50], "label": "mug", "ignore": False}
        assert (answer["width"], answer["height"], answer["reviewed"]) == (100, 60, True)
        moved = a_box("k1", [11.5, 20, 40, 50]) | {"ignore": True}
        answer = page.patch(address, json={"put": [moved], "delete": ["k2"]}).json()
        assert answer.pop("files")[1] == page.get("/api/version").json()["version"]
        assert [(box["box"], box["ignore"]) for box in answer["boxes"]] == [([11.5, 20, 40, 50], True)]
        assert page.get(address).json() == answer
        assert Page(page.folder).get(address).json() == answer
        assert page.learner.changes == 2

    def test_who_has_not_seen_what_somebody_else_did_is_told_what_that_was(self, page: Page) -> None:
        address = page.address("out1.jpg")
        seen = page.get(address).json()["version"]
        first = page.patch(address, json={"put": [a_box("k1")], "seen": seen}).json()
        assert "meanwhile" not in first
        change = {"put": [a_box("k2")], "seen": seen}
        second = page.patch(address, json=change).json()
        assert [box["id"] for box in second["meanwhile"]["boxes"]] == ["k1"]
        assert [box["id"] for box in second["boxes"]] == ["k1", "k2"]
        again = page.patch(address, json=change).json()  # as the answer was lost, and with it what it told
        assert [box["id"] for box in again["meanwhile"]["boxes"]] == ["k1", "k2"]
        third = page.patch(address, json={"delete": ["k1"], "seen": second["version"]}).json()
        assert "meanwhile" not in third

    @pytest.mark.parametrize("is_elsewhere", [False, True], ids=["by one server", "by another"])
    def test_who_sends_a_change_again_is_told_of_somebody_else_alone(
        self, page: Page, is_elsewhere: bool
    ) -> None:
        address = page.address("out1.jpg")
        change = {"put": [a_box("k1")], "seen": page.get(address).json()["version"]}
        for _ in range(3):  # as two answers were lost
            assert "meanwhile" not in page.patch(address, json=change).json()
        other = Page(page.folder) if is_elsewhere else page
        other.patch(address, json={"put": [a_box("k2")]})
        answer = page.patch(address, json=change).json()
        assert [box["id"] for box in answer["meanwhile"]["boxes"]] == ["k1", "k2"]
        later = {"put": [a_box("k3")], "seen": answer["version"]}
        assert "meanwhile" not in page.patch(address, json=later).json()

    def test_undoing_the_first_box(self, page: Page) -> None:
        address = page.address("out1.jpg")
        page.patch(address, json={"put": [a_box("k1")]})
        assert page.patch(address, json={"delete": ["k1"], "reviewed": False}).json()["reviewed"] is False

    def test_two_windows(self, page: Page) -> None:
        address, other = page.address("out1.jpg"), Page(page.folder)
        page.patch(address, json={"put": [a_box("k1")]})
        answer = other.patch(address, json={"put": [a_box("k2")]}).json()
        assert [box["id"] for box in answer["boxes"]] == ["k1", "k2"]
        assert [box["id"] for box in page.get(address).json()["boxes"]] == ["k1", "k2"]

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "not valid JSON"),
            (b"\xff", "not UTF-8"),
            (b"[]", "must be an object"),
            (b"[" * 100_000, "not valid JSON"),
            (b'{"put": [{"id": "k", "box": [1, 2, NaN, 4], "label": "mug"}]}', "NaN"),
            ({"put": {}}, "put must be a list"),
            ({"put": [1]}, r"put[0] must be an object"),
            ({"put": [a_box(), a_box(box=[1, 2, 3])]}, "put[1]: box must be four numbers"),
            ({"put": [a_box(box=[1, 2, True, 4])]}, "put[0]: box must be four numbers"),
            ({"put": [a_box(label=3)]}, "put[0]: label must be a text"),
            ({"put": [a_box(box_id="a/b")]}, "not an id of a box"),
            ({"put": [a_box(box_id="x" * 65)]}, "not an id of a box"),
            ({"put": [a_box() | {"ignore": "yes"}]}, "put[0]: ignore must be true or false"),
            ({"delete": "k1"}, "delete must be a list"),
            ({"delete": [1]}, "delete must be a list of texts"),
            ({"reviewed": "yes"}, "reviewed must be true or false"),
        ],
    )
    def test_what_is_no_change(self, page: Page, body: Any, says: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = page.patch(page.address("out1.jpg"), content=content, headers=headers)
        assert answer.status_code == 400
        assert says in answer.json()["error"]
        assert not (page.folder / "annotations.json").exists()

    @pytest.mark.parametrize(
        ("box", "says"),
        [([10, 20, 10, 50], "x2 must be greater"), ([10, 20, 300, 50], "outside the photo"),
         ([10, 20, 1e300, 50], "outside"), ([10, 20, 10.003, 50], "too small")],
    )  # fmt: skip
    def test_boxes_that_do_not_fit(self, page: Page, box: list[float], says: str) -> None:
        body = {"put": [a_box("k1"), a_box("k2", box)]}
        answer = page.patch(page.address("out1.jpg"), json=body)
        assert answer.status_code == 409
        assert says in answer.json()["error"]
        assert page.get(page.address("out1.jpg")).json()["boxes"] == []  # not the good one alone

    def test_a_photo_turned_since_its_boxes_were_drawn(self, page: Page) -> None:
        address = page.address("out1.jpg")
        page.patch(address, json={"put": [a_box()]})
        Image.new("RGB", (60, 100)).save(page.folder / "out1.jpg")
        for answer in (page.get(address), page.patch(address, json={"put": [a_box("k2")]})):
            assert answer.status_code == 409
            assert "100 x 60 in the file, 60 x 100 upright" in answer.json()["error"]

    def test_boxes_drawn_in_a_photo_that_was_turned_since_are_refused(self, page: Page) -> None:
        address, path = page.address("out1.jpg"), page.folder / "out1.jpg"
        shown = page.get(address).json()
        assert page.photos()["out1.jpg"]["file"] == shown["file"]
        with Image.open(path) as photo:
            turned = photo.transpose(Image.Transpose.ROTATE_90)
        turned.save(path)
        for change in ({"put": [a_box()]}, {"reviewed": True}):
            answer = page.patch(address, json=change | {"content": shown["content"]})
            assert answer.status_code == 422
            assert answer.json()["error"] == "out1.jpg: the photo has changed since it was shown"
        row = page.photos()["out1.jpg"]
        assert (row["width"], row["reviewed"]) == (None, False)  # the size is that of the file before
        now = page.get(address).json()
        assert (now["width"], now["height"], now["file"]) == (*turned.size, row["file"])
        assert page.patch(address, json={"put": [a_box()], "content": now["content"]}).status_code == 200

    def test_a_photo_that_was_only_touched_or_replaced_by_itself_takes_its_boxes(self, page: Page) -> None:
        address, path = page.address("out1.jpg"), page.folder / "out1.jpg"
        content = page.get(address).json()["content"]
        os.utime(path, (1, 1))
        answer = page.patch(address, json={"put": [a_box("k1")], "content": content})
        assert (answer.status_code, answer.json()["content"]) == (200, content)
        shutil.copy(path, path.with_suffix(".part")).replace(path)  # as tools that synchronise folders do
        another = Page(page.folder)  # of a server that was started meanwhile
        assert another.patch(address, json={"put": [a_box("k2")], "content": content}).status_code == 200
        path.unlink()
        gone = page.patch(address, json={"left_out": True, "content": content}).json()
        assert (gone["left_out"], gone["content"]) == (True, "")

    def test_a_project_file_that_was_broken_by_hand(self, page: Page) -> None:
        address = page.address("out1.jpg")
        page.patch(address, json={"put": [a_box("k1")]})
        page.patch(address, json={"put": [a_box("k2")]})
        path = page.folder / "annotations.json"
        path.write_text(path.read_text().replace("}", "", 1))
        for answer in (
            page.get("/api/project"),
            page.get(address),
            page.patch(address, json={"put": [a_box()]}),
        ):
            assert answer.status_code == 409
            assert "annotations.json: line" in answer.json()["error"]
            assert "annotations.json.bak" in answer.json()["hint"]

    def test_a_full_disk(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        address = page.address("out1.jpg")
        page.patch(address, json={"put": [a_box("k1")]})

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            answer = page.patch(address, json={"put": [a_box("k2")]})
        assert answer.status_code == 507
        assert "no space left on the disk" in answer.json()["error"]
        assert "free some space" in answer.json()["hint"]
        assert [box["id"] for box in page.get(address).json()["boxes"]] == ["k1"]
        assert [box["id"] for box in page.patch(address, json={"put": [a_box("k2")]}).json()["boxes"]] == [
            "k1",
            "k2",
        ]

    def test_a_fault_of_ours(self, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(page.project, "labels", lambda: 1 / 0)
        answer = page.get("/api/project")
        assert answer.status_code == 500
        assert "terminal" in answer.json()["hint"]


class TestLabels:
    def test_adding_renaming_and_removing(self, page: Page) -> None:
        assert page.put("/api/labels", json={"labels": ["mug", "lid"]}).json()["labels"] == ["mug", "lid"]
        # A window that does not know of "lid" does not remove it.
        assert page.put("/api/labels", json={"labels": ["mug", "cup"]}).json()["labels"] == [
            "mug",
            "lid",
            "cup",
        ]
        page.patch(page.address("out1.jpg"), json={"put": [a_box(label="mug")]})
        answer = page.put("/api/labels", json={"rename": {"mug": "Tässchen"}, "remove": ["cup"]})
        assert answer.json()["labels"] == ["Tässchen", "lid"]
        lost = answer.json()["lost"]
        assert page.put("/api/labels", json={"restore": lost}).json()["labels"] == ["Tässchen", "lid", "cup"]
        page.put("/api/labels", json={"remove": ["cup"]})
        assert page.photos()["out1.jpg"]["labels"] == ["Tässchen"]

    def test_boxes_of_a_deleted_class_come_back_once_however_a_photo_is_spelled(self, page: Page) -> None:
        page.patch(page.address("out1.jpg"), json={"put": [a_box(label="mug")]})
        text = page.project.file.read_text()
        page.project.file.write_text(text.replace('"out1.jpg"', '"./out1.jpg"'))  # another tool
        answer = page.put("/api/labels", json={"delete": ["mug"]}).json()
        assert [photo for photo, _ in answer["before"]] == [page.photos()["out1.jpg"]["id"]]
        assert answer["lost"]["photos"] == []

    def test_refused(self, page: Page) -> None:
        page.patch(page.address("out1.jpg"), json={"put": [a_box(label="mug")]})
        for body, status in (
            ({"remove": ["mug"]}, 409), ({"labels": ["lid", " "]}, 409), ({"labels": ["a" * 101]}, 409),
            ({"rename": {"cup": "lid"}}, 409), ({"rename": {}}, 400), ({"rename": {"mug": 1}}, 400),
            ({"labels": "lid"}, 400),
        ):  # fmt: skip
            answer = page.put("/api/labels", json=body)
            assert answer.status_code == status, body
            assert answer.json()["error"]
        assert page.get("/api/project").json()["labels"] == ["mug"]


class TestPictures:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
    def test_upright_for_every_orientation(self, folder: Path, orientation: int, suffix: str) -> None:
        # What a person sees: a red thing at the top left of a photo that is wider than high.
        upright = np.full((60, 100, 3), 40, np.uint8)
        upright[8:24, 8:40] = (250, 0, 0)
        stored = Image.fromarray(upright)
        turns = (None, *(Image.Transpose[name] for name in STORED_BY))
        exif = Image.Exif()
        exif[0x0112] = orientation
        turn = turns[orientation - 1]
        stored = stored if turn is None else stored.transpose(turn)
        stored.save(folder / f"turned.{suffix}", exif=exif)
        page = Page(folder)
        address = page.address(f"turned.{suffix}")
        state = page.get(address).json()
        assert (state["width"], state["height"]) == (100, 60)
        for side, size in (("", (100, 60)), ("?side=50", (50, 30))):
            shown = picture(page, f"{address}/image{side}")
            assert shown.size == size
            assert not shown.getexif().get(0x0112)  # else the browser would turn it once more
            reds = np.argwhere(np.asarray(shown)[..., 0] > 140) * (60 / size[1])
            assert np.abs(reds.min(0) - (8, 8)).max() <= 2
            assert np.abs(reds.max(0) - (23, 39)).max() <= 2
        # The box that is drawn around it there is the one that is learnt from.
        box = a_box(box=[8, 8, 40, 24])
        assert page.patch(address, json={"put": [box]}).json()["boxes"][0]["box"] == [8, 8, 40, 24]
        (image,) = [i for i in page.project.annotation_set() if i.path.name == f"turned.{suffix}"]
        assert image.size_hw == (60, 100)
        assert read_image(image.path)[10:22, 10:38, 0].min() > 150

    @pytest.mark.slow
    def test_sizes(self, page: Page, folder: Path) -> None:
        Image.effect_noise((2000, 1500), 80).save(folder / "large.jpg")
        address = page.address("large.jpg")
        assert picture(page, f"{address}/image?side=160").size == (160, 120)
        assert picture(page, f"{address}/image?side=1600").size == (1600, 1200)
        assert picture(page, f"{address}/image").size == (2000, 1500)
        assert picture(page, f"{page.address('out1.jpg')}/image?side=1600").size == (
            100,
            60,
        )  # never enlarged
        for side in ("0", "-1", "x", "1e3", "99999", "", "1" * 30, "٣"):
            assert page.get(f"{address}/image?side={side}").status_code == 400

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
    def test_any_kind_of_photo(self, page: Page, folder: Path, mode: str) -> None:
        name = "kind.tif" if mode in ("CMYK", "I;16") else "kind.png"
        Image.new(mode, (100, 60)).save(folder / name)
        shown = picture(page, f"{page.address(name)}/image?side=50")
        assert (shown.size, shown.mode) == ((50, 30), "RGB")

    def test_a_picture_is_sent_again_only_if_the_photo_has_changed(self, page: Page) -> None:
        address = f"{page.address('out1.jpg')}/image?side=50"
        first = page.get(address)
        assert first.headers["cache-control"] == "private, no-cache"
        tag = {"If-None-Match": first.headers["etag"]}
        again = page.get(address, headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        Image.new("RGB", (100, 60), "red").save(page.folder / "out1.jpg")
        changed = page.get(address, headers=tag)
        assert changed.status_code == 200
        assert changed.content != first.content


class TestLearning:
    def test_states_and_the_suggestion(self, page: Page) -> None:
        page.learner.says = Learning("ready", "learnt from 2 photos", 3, 1.0, "out2.jpg")
        key = page.photos()["out2.jpg"]["id"]
        assert page.get("/api/learning").json() == {
            "state": "ready", "message": "learnt from 2 photos", "round": 3, "progress": 1.0,
            "suggested_next": key,
        }  # fmt: skip
        assert page.get("/api/project").json()["suggested_next"] == key
        page.patch(page.address("out2.jpg"), json={"reviewed": True})
        assert page.get("/api/learning").json()["suggested_next"] is None

    def test_proposals_are_shown_and_never_saved(self, page: Page) -> None:
        page.learner.proposed["out2.jpg"] = Proposals(3, (Proposal((1, 2, 3, 4), "mug", 0.83),), pending=True)
        address = page.address("out2.jpg")
        assert page.get(f"{address}/proposals").json() == {
            "round": 3, "boxes": [{"box": [1, 2, 3, 4], "label": "mug", "score": 0.83}], "pending": True
        }  # fmt: skip
        assert page.get(f"{page.address('out1.jpg')}/proposals").json()["boxes"] == []
        assert page.get(address).json()["boxes"] == []
        assert not (page.folder / "annotations.json").exists()
        page.patch(address, json={"reviewed": True})
        assert page.get(f"{address}/proposals").json()["boxes"] == []
        assert len(page.get(f"{address}/proposals?reviewed=1").json()["boxes"]) == 1

    def test_there_is_no_picture_before_there_is_a_detector(self, page: Page) -> None:
        assert page.get("/api/finish/picture").status_code == 404

    def test_finishing(self, page: Page) -> None:
        assert page.get("/api/finish").json()["state"] == "idle"
        assert page.post("/api/finish", json={}).json()["state"] == "running"
        assert page.get("/api/finish").json() == {
            "state": "running", "message": "", "command": "fewbox finetune photos",
            "output": "photos.safetensors",
        }  # fmt: skip


def test_the_files_of_the_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page").mkdir()
    for name in ("index.html", "app.js", "app.css", "icon.svg", "notes.txt", "secret.py"):
        (tmp_path / "page" / name).write_text(name)
    monkeypatch.setattr(app_module, "PAGE", tmp_path / "page")
    page = Page(folder)
    kinds = {
        name: page.get(f"/page/{name}").headers["content-type"] for name in ("app.js", "app.css", "icon.svg")
    }
    assert kinds == {
        "app.js": "text/javascript; charset=utf-8", "app.css": "text/css; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }  # fmt: skip
    assert page.get("/").text == "index.html"
    assert page.get("/page/notes.txt").status_code == page.get("/page/secret.py").status_code == 404
    assert page.get("/api/project/").status_code == 404  # no redirect: behind a proxy it would lead to http


def test_thousands_of_photos(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", "p0.jpg")
    for number in range(1, 3000):
        os.link(folder / "p0.jpg", folder / f"p{number}.jpg")
    page = Page(folder)
    rows = page.photos()
    assert (len(rows), list(rows)[2999]) == (3000, "p2999.jpg")
    assert all(row["width"] is None for row in rows.values())  # none has been opened
