"""The page in a notebook: its Python side, without a browser; and that its modules become one module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewbox
from fewbox.apps.annotate import notebook_page
from fewbox.apps.annotate.background import Learning
from fewbox.apps.annotate.notebook_page import NotebookLearner, NotebookPage, bundled
from fewbox.core import files
from fewbox.data.annotations import Box
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.errors import AnnotationError, PhotoError, SettingError
from waiting import has_ended, wait_until

IMAGES = [np.full((30 + 10 * number, 40, 3), 60 * number, np.uint8) for number in range(3)]


def annotate(images: Any, labels: Sequence[str] = (), *, learn: bool = False, **options: Any) -> NotebookPage:
    return fewbox.annotate(images, labels, learn=learn, **options)


class Frontend:
    """What the browser's side of a widget does: it asks, and keeps the answers."""

    def __init__(self, page: NotebookPage) -> None:
        self.page = page
        self.answers: list[tuple[dict[str, Any], list[bytes]]] = []
        page.send = lambda answer, buffers=None: self.answers.append((answer, buffers))  # type: ignore[method-assign]

    def ask(self, method: str, *values: object) -> Any:
        """The result of a question, or the error as a dict with ``message``."""
        question = {"id": "7-1", "method": method, "values": list(values)}
        message = {"content": {"data": {"method": "custom", "content": question}}, "buffers": []}
        self.page._handle_msg(message)
        answer, buffers = self.answers.pop()
        assert answer.pop("id") == "7-1"
        return buffers[0] if buffers else answer.get("error") or answer["result"]

    def draw(self, photo: int, *boxes: tuple[float, ...], label: str = "mug", **also: object) -> Any:
        key = self.ask("project")["photos"][photo]["id"]
        self.ask("labels", {"labels": [label]})
        put = [
            {"id": f"b{number}", "box": list(box), "label": label, "ignore": False}
            for number, box in enumerate(boxes)
        ]
        return self.ask("patch", key, {"put": put, "delete": [], **also})


def test_boxes_of_images_in_memory(tmp_path: Path) -> None:
    page = annotate(IMAGES, folder=tmp_path / "annotated")
    assert [box.shape for box in page.boxes] == [(0, 4)] * 3
    frontend = Frontend(page)
    frontend.draw(0, (1, 2, 20, 25), (5, 5, 15, 15))
    frontend.draw(2, (0, 0, 40, 50), label="lid")
    frontend.draw(1, reviewed=True)
    assert [box.tolist() for box in page.boxes] == [[[1, 2, 20, 25], [5, 5, 15, 15]], [], [[0, 0, 40, 50]]]
    assert all(box.dtype == np.float32 for box in page.boxes)
    assert page.labels == [["mug", "mug"], [], ["lid"]]
    assert page.annotations.labels == ("mug", "lid")
    assert [image.path for image in page.annotations] == page.paths
    assert (tmp_path / "annotated" / "annotations.json").exists()


def test_running_the_cell_again_brings_everything_back(tmp_path: Path) -> None:
    Frontend(annotate(IMAGES, folder=tmp_path)).draw(1, (1, 1, 9, 9))
    again = annotate(IMAGES, folder=tmp_path)
    assert [len(boxes) for boxes in again.boxes] == [0, 1, 0]
    assert len(again.annotations) == 1  # the others have not been looked at


def test_boxes_do_not_become_those_of_other_images(tmp_path: Path) -> None:
    annotate(IMAGES, folder=tmp_path)
    with pytest.raises(AnnotationError, match=r"image2\.png: holds another image") as caught:
        annotate([IMAGES[0], IMAGES[2], IMAGES[1]], folder=tmp_path)
    assert "folder=..." in str(caught.value)


MANY = [np.full((20, 30, 3), 20 * number, np.uint8) for number in range(12)]


def test_boxes_of_the_first_images_are_there_once_there_are_more(tmp_path: Path) -> None:
    Frontend(annotate(MANY[:5], folder=tmp_path)).draw(1, (1, 1, 9, 9))
    more = annotate(MANY, folder=tmp_path)
    assert [len(boxes) for boxes in more.boxes] == [0, 1, *[0] * 10]
    Frontend(more).draw(11, (2, 2, 8, 8))
    assert annotate(MANY[:5], folder=tmp_path).boxes[1].tolist() == [[1, 1, 9, 9]]
    assert len(list(tmp_path.glob("*.png"))) == 12


class TestFormerNames:
    """Former versions put zeros before the number, as many as there were images."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """As a former version left it, with a box in the second of twelve images."""
        for number, image in enumerate(MANY, start=1):
            Image.fromarray(image).save(tmp_path / f"image{number:02d}.png")
        box = Box(1, 1, 9, 9, "mug")
        Project(tmp_path).change_photo("image02.png", put=[DrawnBox("b", box)])
        return tmp_path

    @pytest.mark.parametrize("count", [5, 12])
    def test_what_was_drawn_is_there(self, folder: Path, count: int) -> None:
        page = annotate(MANY[:count], folder=folder)
        assert page.boxes[1].tolist() == [[1, 1, 9, 9]]
        assert len(list(folder.glob("*.png"))) == 12

    @pytest.mark.parametrize("drawn_in", ["image1.png", "image01.png"])
    def test_of_two_files_of_one_image_the_one_with_boxes_counts(self, folder: Path, drawn_in: str) -> None:
        shutil.copy(folder / "image01.png", folder / "image1.png")
        box = Box(3, 3, 7, 7, "mug")
        Project(folder).change_photo(drawn_in, put=[DrawnBox("b", box)])
        for images in (MANY, MANY[:5]):
            assert annotate(images, folder=folder).boxes[0].tolist() == [[3, 3, 7, 7]]

    def test_a_file_of_another_image_gives_it_no_boxes(self, folder: Path) -> None:
        with pytest.raises(AnnotationError, match=r"image01\.png: holds another image"):
            annotate(MANY[1:4], folder=folder)
        Image.fromarray(MANY[1]).save(folder / "image1.png")  # of a cell with fewer images
        assert annotate([MANY[1], MANY[1]], folder=folder).paths[0] == folder / "image1.png"


def test_deleted_boxes_and_boxes_to_ignore_are_not_returned(tmp_path: Path) -> None:
    page = annotate(IMAGES, folder=tmp_path)
    frontend = Frontend(page)
    key = frontend.draw(0, (1, 2, 20, 25), (5, 5, 15, 15), (2, 2, 8, 8))["id"]
    ignored = {"id": "b1", "box": [5, 5, 15, 15], "label": "mug", "ignore": True}
    frontend.ask("patch", key, {"put": [ignored], "delete": ["b0"]})
    assert page.boxes[0].tolist() == [[2, 2, 8, 8]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.png", "more/c.png"):
        Image.new("RGB", (60, 40)).save(folder / name)
    return folder


def test_photos_by_folder_pattern_and_names(photos: Path) -> None:
    assert [path.name for path in annotate(photos).paths] == ["a.png", "b.png"]
    assert [path.name for path in annotate(photos / "**" / "*.png").paths] == ["a.png", "b.png", "c.png"]
    some = annotate([photos / "more" / "c.png", photos / "b.png"], ["mug"])
    assert [path.name for path in some.paths] == ["c.png", "b.png"]
    project = Frontend(some).ask("project")
    assert [photo["name"] for photo in project["photos"]] == ["more/c.png", "b.png"]
    assert project["labels"] == ["mug"]
    with pytest.raises(PhotoError, match="no such photo"):
        annotate([photos / "none.png"])


@pytest.mark.parametrize("images", ["s3://bucket/photos", ["https://example.com/a.jpg"]])
def test_photos_at_addresses_have_to_be_copied_first(images: Any) -> None:
    with pytest.raises(PhotoError, match="not at addresses") as caught:
        annotate(images)
    assert "copy them first" in str(caught.value)


def test_names_and_images_do_not_mix(photos: Path) -> None:
    with pytest.raises(PhotoError, match="not both"):
        annotate([photos / "a.png", IMAGES[0]])  # type: ignore[list-item]


def test_pictures_travel_small_and_boxes_stay_in_full_pixels(tmp_path: Path) -> None:
    page = annotate([np.zeros((1000, 4000, 3), np.uint8)], folder=tmp_path)
    frontend = Frontend(page)
    (photo,) = frontend.ask("project")["photos"]
    picture = frontend.ask("image", photo["id"], 1600)
    (tmp_path / "shown.jpg").write_bytes(picture)
    assert Image.open(tmp_path / "shown.jpg").size == (1600, 400)
    assert frontend.ask("photo", photo["id"])["width"] == 4000
    frontend.draw(0, (3000, 100, 4000, 900))
    assert page.boxes[0].tolist() == [[3000, 100, 4000, 900]]


def test_errors_are_answers(tmp_path: Path) -> None:
    page = annotate(IMAGES, folder=tmp_path)
    frontend = Frontend(page)
    assert frontend.ask("photo", "unknown")["message"] == "no such photo"
    wrong = frontend.draw(0, (30, 2, 20, 25))
    assert "x2 must be greater than x1" in wrong["message"]
    assert wrong["refused"] is True
    page.paths[0].unlink()
    gone = frontend.ask("photo", frontend.ask("project")["photos"][0]["id"])
    assert "no longer there" in gone["message"]


def test_the_end_is_a_line_of_python(tmp_path: Path) -> None:
    frontend = Frontend(annotate(IMAGES, folder=tmp_path, base="yolox_s", learn=False))
    assert frontend.ask("learning")["state"] == "off"
    key = frontend.ask("project")["photos"][0]["id"]
    assert frontend.ask("proposals", key)["boxes"] == []
    command = frontend.ask("finish")["command"]
    assert command == "detector = fewbox.finetune(page.annotations, 'yolox_s', held_out='held_out.jpg')"


class TestLearning:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[NotebookLearner]:
        """The learners whose process would have been started."""
        learners: list[NotebookLearner] = []
        monkeypatch.setattr(NotebookLearner, "_start", lambda learner: learners.append(learner))
        monkeypatch.setattr(notebook_page, "_learners", {})
        return learners

    def test_it_begins_when_the_page_is_shown_and_once_for_the_same_photos(
        self, photos: Path, started: list[NotebookLearner]
    ) -> None:
        page = fewbox.annotate(photos)
        assert not started
        assert Frontend(page).ask("learning")["state"] == "waiting"
        assert (
            Frontend(fewbox.annotate(photos)).ask("learning")["state"] == "waiting"
        )  # the cell is run again
        assert len(started) == 1
        started[0]._learning = Learning("failed", "it has ended")
        assert Frontend(fewbox.annotate(photos)).ask("learning")["state"] == "waiting"
        assert len(started) == 2

    def test_what_it_proposes_and_is_least_sure_of(
        self, photos: Path, started: list[NotebookLearner]
    ) -> None:
        frontend = Frontend(fewbox.annotate([photos / "a.png", photos / "more" / "c.png"]))
        shown = {photo["name"]: photo["id"] for photo in frontend.ask("project")["photos"]}
        ready = {"state": "ready", "message": "", "round": 1}
        started[0]._take({"learning": ready | {"suggested_next": "more/c.png"}})
        assert frontend.ask("learning")["suggested_next"] == shown["more/c.png"]
        started[0]._take({"learning": ready | {"suggested_next": "b.png"}})
        assert frontend.ask("learning")["suggested_next"] is None  # this page does not show it
        box = {"box": [1, 2, 20, 30], "label": "mug", "score": 0.9}
        file = files.version_of(photos / "a.png")
        started[0]._take({"name": "a.png", "round": 1, "file": file, "boxes": [box]})
        assert frontend.ask("proposals", shown["a.png"])["boxes"] == [box | {"box": (1, 2, 20, 30)}]
        frontend.draw(0, (5, 5, 15, 15))  # which leaves what is proposed beside it to be decided
        assert len(frontend.ask("proposals", shown["a.png"])["boxes"]) == 1

    @pytest.mark.slow
    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    def test_it_ends_with_the_kernel(self, photos: Path) -> None:
        psutil = pytest.importorskip("psutil")
        code = (
            "import sys, time, fewbox\n"
            "page = fewbox.annotate(sys.argv[1], base='gone')\n"
            "while page._answers.learning()['state'] == 'waiting': time.sleep(0.05)\n"
            "print(page._answers._learner._process.pid, page._answers.learning()['message'], flush=True)\n"
            "time.sleep(100)"
        )
        command = [sys.executable, "-c", code, str(photos)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kernel:
            assert kernel.stdout is not None
            number, said = kernel.stdout.readline().split(maxsplit=1)
            assert "gone: no base model of this name" in said
            process = psutil.Process(int(number))
            kernel.kill()
        wait_until(lambda: has_ended(process))


def test_without_anywidget_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "fewbox.apps.annotate.notebook_page")
    with pytest.raises(SettingError, match="needs anywidget") as caught:
        annotate(IMAGES, folder=tmp_path / "annotated")
    assert "pip install '.[notebook]'" in str(caught.value)
    assert not (tmp_path / "annotated").exists()


def test_the_modules_are_one_module(tmp_path: Path) -> None:
    source = bundled("widget")
    assert (
        source.index("const geometry = ") < source.index("const canvas = ") < source.index("const widget = ")
    )
    assert not [line for line in source.splitlines() if line.startswith("import ")]
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to run the module")
    (tmp_path / "page.mjs").write_text(source, encoding="utf-8")
    show = "import('./page.mjs').then((page) => console.log(typeof page.default.render))"
    done = subprocess.run([node, "--eval", show], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "function", done.stderr
