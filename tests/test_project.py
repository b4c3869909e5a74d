"""What was drawn is never lost: not by a kill, a full disk, another program, or a file edited by hand."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fewbox.commands import annotations_of
from fewbox.data import project as project_module
from fewbox.data.annotations import Box
from fewbox.data.formats import read_annotations, read_raw, to_annotation_set
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.data.project_set import stated_image
from fewbox.errors import AnnotationError, OutputError, PhotoError
from waiting import LONG

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def drawn(box_id: str, label: str = "mug", edge: float = 10) -> DrawnBox:
    return DrawnBox(box_id, Box(edge, edge, edge + 20, edge + 15, label))


def make_photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 60)).save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "out2.jpg", "out10.jpg", "out1.jpg")


def box_ids(folder: Path) -> set[str]:
    """The ids of all boxes in the file as it is on the disk."""
    document = json.loads((folder / "annotations.json").read_bytes())
    return {box["box_id"] for box in document["annotations"]}


class TestPhotos:
    def test_in_natural_order_without_a_file(self, folder: Path) -> None:
        project = Project(folder)
        assert project.photo_names() == ["out1.jpg", "out2.jpg", "out10.jpg"]
        assert [state.reviewed for state in project.states(project.photo_names())] == [False] * 3
        assert not (folder / "annotations.json").exists()

    def test_a_new_photo_is_not_looked_at(self, folder: Path) -> None:
        project = Project(folder)
        project.change_photo("out1.jpg", put=[drawn("k")])
        make_photos(folder, "out3.jpg")
        assert project.photo_names() == ["out1.jpg", "out2.jpg", "out3.jpg", "out10.jpg"]
        assert not project.states(["out3.jpg"])[0].reviewed

    def test_a_photo_that_is_removed_keeps_its_boxes(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project = Project(folder)
        for name in ("out1.jpg", "out2.jpg"):
            project.change_photo(name, put=[drawn("k")])
        (folder / "out1.jpg").rename(folder.parent / "out1.jpg")
        project.change_photo("out2.jpg", put=[drawn("k2")])
        assert project.photo_names() == ["out2.jpg", "out10.jpg", "out1.jpg"]
        with pytest.raises(PhotoError, match=r"out1\.jpg: no such photo"):
            project.change_photo("out1.jpg", put=[drawn("k2")])
        assert [image.path.name for image in project.annotation_set()] == ["out2.jpg", "out10.jpg"]
        assert "left out, no longer there: out1.jpg" in capsys.readouterr().err
        (folder.parent / "out1.jpg").rename(folder / "out1.jpg")
        assert project.annotation_set().num_boxes == 3

    def test_one_name_in_several_folders(self, tmp_path: Path) -> None:
        make_photos(tmp_path / "photos", "desk/1.jpg", "sill/1.jpg", "sill/2.jpg")
        project = Project(tmp_path / "photos" / "**" / "*.jpg")
        assert project.file == tmp_path / "photos" / "annotations.json"
        assert project.photo_names() == ["desk/1.jpg", "sill/1.jpg", "sill/2.jpg"]
        project.change_photo("sill/1.jpg", put=[drawn("k")])
        assert [len(state.boxes) for state in project.states(project.photo_names())] == [0, 1, 0]
        assert project.annotation_set().names == ("desk/1.jpg", "sill/1.jpg", "2.jpg")
        # The folder alone: what the file speaks of is there too.
        assert Project(tmp_path / "photos").photo_names() == ["sill/1.jpg"]

    def test_what_is_learnt_from_a_pattern_or_a_photo_is_that_alone(self, tmp_path: Path) -> None:
        folder = make_photos(tmp_path, "test_1.jpg", "train_1.jpg", "train_2.jpg", "sub/train_3.jpg")
        for name in ("test_1.jpg", "train_1.jpg", "train_2.jpg", "sub/train_3.jpg"):
            Project(folder).change_photo(name, put=[drawn("k")])
        for place, photos in (
            ("train_*.jpg", ["train_1.jpg", "train_2.jpg"]),
            ("**/train_*.jpg", ["sub/train_3.jpg", "train_1.jpg", "train_2.jpg"]),
            ("test_1.jpg", ["test_1.jpg"]),
            ("", ["test_1.jpg", "train_1.jpg", "train_2.jpg", "sub/train_3.jpg"]),
        ):
            learnt = annotations_of(None, [str(folder / place)], "object")
            assert [image.path.relative_to(folder).as_posix() for image in learnt] == photos, place
            assert all(len(image.boxes) == 1 for image in learnt)
        # The page shows, and hands out, all that was drawn.
        page = Project(folder / "train_*.jpg")
        assert set(page.photo_names()) == set(photos)
        assert len(page.annotation_set()) == 4

    def test_links_and_accents(self, tmp_path: Path) -> None:
        folder = make_photos(tmp_path / "photos", unicodedata.normalize("NFD", "Küche.jpg"))
        make_photos(tmp_path / "store", "1234.jpg")
        (folder / "linked.jpg").symlink_to(tmp_path / "store" / "1234.jpg")
        (tmp_path / "elsewhere.json").write_text(
            json.dumps({
                "images": [{"id": 1, "file_name": "Küche.jpg", "reviewed": True}],
                "annotations": [], "categories": [],
            })
        )  # fmt: skip
        (folder / "annotations.json").symlink_to(tmp_path / "elsewhere.json")
        project = Project(folder)
        names = project.photo_names()
        assert len(names) == 2
        assert [state.reviewed for state in project.states(names)] == [True, False]
        project.change_photo("linked.jpg", put=[drawn("k")])
        assert (folder / "annotations.json").is_symlink()
        assert len(json.loads((tmp_path / "elsewhere.json").read_bytes())["annotations"]) == 1

    @pytest.mark.parametrize(
        "name", ["./desk/1.jpg", ".\\desk\\1.jpg", "desk//1.jpg", "desk/./1.jpg", "././desk/1.jpg"]
    )
    def test_a_photo_is_one_however_another_tool_spells_its_name(self, tmp_path: Path, name: str) -> None:
        folder = make_photos(tmp_path / "photos", "desk/1.jpg", "desk/2.jpg")
        image = {"id": 1, "file_name": name, "width": 100, "height": 60}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}
        top = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "mug"}]}
        (folder / "annotations.json").write_text(json.dumps(top))
        project = Project(folder / "**" / "*.jpg")
        assert project.photo_names() == ["desk/1.jpg", "desk/2.jpg"]
        assert [len(image.boxes) for image in project.annotation_set()] == [1, 0]
        project.change_photo("desk/1.jpg", put=[drawn("k")])
        assert json.loads(project.file.read_bytes())["images"] == [image | {"reviewed": True}]
        # The folder alone, where only the file speaks of it; and once it is left out.
        assert Project(folder).photo_names() == ["desk/1.jpg"]
        Project(folder).change_photo("desk/1.jpg", left_out=True)
        assert Project(folder).photo_names() == ["desk/1.jpg"]

    @posix_only
    def test_a_backslash_in_the_name_of_a_photo(self, folder: Path) -> None:
        make_photos(folder, "a\\b.jpg")
        project = Project(folder)
        project.change_photo("a\\b.jpg", put=[drawn("k")])
        assert project.photo_names() == ["a\\b.jpg", "out1.jpg", "out2.jpg", "out10.jpg"]
        assert project.annotation_set().num_boxes == 1

    @pytest.mark.parametrize(
        "name", ["../secret.jpg", "/etc/secret.jpg", "C:\\secret.jpg", "\\\\host\\x.jpg"]
    )
    def test_photos_outside_are_kept_but_not_opened(self, folder: Path, name: str) -> None:
        make_photos(folder.parent, "secret.jpg")
        image = {"id": 1, "file_name": name, "reviewed": True, "width": 100, "height": 60}
        text = json.dumps({"images": [image], "annotations": [], "categories": []})
        (folder / "annotations.json").write_text(text)
        project = Project(folder)
        assert project.photo_names() == ["out1.jpg", "out2.jpg", "out10.jpg"]
        project.change_photo("out1.jpg", reviewed=True)
        assert json.loads((folder / "annotations.json").read_bytes())["images"][0] == image

    def test_no_such_folder(self, tmp_path: Path) -> None:
        for photos in (tmp_path / "gone", tmp_path / "*.jpg"):
            with pytest.raises(PhotoError, match=r"cannot be listed|no photo matches"):
                Project(photos).photo_names()

    def test_photos_at_addresses(self) -> None:
        with pytest.raises(PhotoError, match=r"s3://bucket/photos: boxes are kept beside photos"):
            Project("s3://bucket/photos")


class TestLearning:
    def test_a_folder_stands_for_its_project_file(self, folder: Path) -> None:
        with pytest.raises(AnnotationError, match=r"annotations\.json: no such file") as caught:
            Project(folder).annotation_set()
        assert "fewbox annotate" in caught.value.hint
        Project(folder).change_photo("out2.jpg", put=[drawn("k"), drawn("k2", "lid")])
        got = read_annotations(folder)
        assert [len(image.boxes) for image in got] == [0, 2, 0]
        assert [image.reviewed for image in got] == [False, True, False]
        assert got.labels == ("mug", "lid")

    def test_it_is_coco_for_other_readers(self, folder: Path) -> None:
        Project(folder).change_photo("out2.jpg", put=[drawn("k")])
        got = read_annotations(folder / "annotations.json", folder)
        assert [(image.path.name, len(image.boxes)) for image in got] == [
            ("out2.jpg", 1), ("out1.jpg", 0), ("out10.jpg", 0)
        ]  # fmt: skip

    def test_a_photo_that_was_turned_since(self, folder: Path) -> None:
        Project(folder).change_photo("out2.jpg", put=[drawn("k")])
        Image.new("RGB", (60, 100)).save(folder / "out2.jpg")
        with pytest.raises(AnnotationError, match=r"annotations\.json: out2\.jpg: width x height differ"):
            read_annotations(folder)


def foreign(box: dict[str, object], **image: object) -> dict[str, object]:
    """As another program writes it, with a first box like this; out2.jpg has another one."""
    size = {"width": 100, "height": 60}
    names = ("out1.jpg", "out2.jpg")
    images = [{"id": n, "file_name": name} | size | image for n, name in enumerate(names, start=1)]
    ordinary = {"category_id": 1, "bbox": [10, 10, 30, 30]}
    boxes = [{"id": n, "image_id": n} | ordinary for n in (1, 2)]
    boxes[0] |= box
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "mug"}]}


class TestForeign:
    """Boxes of another program in the project file are read as those of any file."""

    def both(self, folder: Path, content: dict[str, object], **options: Any) -> list[str]:
        """What is read of the folder and of the file by its name: photos and boxes, or what is wrong."""
        (folder / "annotations.json").write_text(json.dumps(content))
        answers = []
        for place in (folder, folder / "annotations.json"):
            try:
                images = sorted(read_annotations(place, **options), key=lambda image: image.path.name)
                answers.append(str([(image.reviewed, image.boxes) for image in images]))
            except AnnotationError as error:
                answers.append(error.message.removeprefix(f"{folder}: "))
        return answers

    @pytest.mark.parametrize(
        ("box", "says"),
        [
            ({"attributes": {"occluded": False, "rotation": 30.0}}, "annotations[0]: the box is rotated"),
            ({"bbox": [90, 50, 30, 30]}, "lies outside the photo"),
            ({"bbox": [-5, 10, 30, 30]}, "Box(x1=0.0, y1=10.0, x2=25.0"),
            ({"bbox": [10, 10, 30, 30], "attributes": {"rotation": 0.5}}, "Box(x1=10.0"),
            ({"bbox": [10, 10, 0, 5]}, "(False, ())"),
            ({"bbox": None, "segmentation": [[10, 20, 30, 20, 30, 50]]}, "Box(x1=10.0, y1=20.0, x2=30.0"),
            ({"bbox": [10, 10, -5, 5]}, "x2 must be greater than x1"),
        ],
    )
    def test_one_answer_by_the_folder_and_by_the_file(
        self, folder: Path, box: dict[str, object], says: str
    ) -> None:
        by_folder, by_file = self.both(folder, foreign(box))
        assert says in by_folder
        assert says in by_file

    def test_boxes_without_a_category_get_the_label(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        by_folder, by_file = self.both(folder, foreign({}) | {"categories": []}, label="cup")
        assert by_folder == by_file
        for got in (read_annotations(folder, label="cup"), annotations_of(None, [str(folder)], "cup")):
            assert got.labels == ("cup",)
            assert {box.label for image in got for box in image.boxes} == {"cup"}
        assert "not used" not in capsys.readouterr().err
        self.both(folder, foreign({}), label="cup")
        told = "annotations.json: its boxes have classes already, mug; the label cup is not used"
        assert capsys.readouterr().err.count(told) == 2

    def test_photos_are_found_as_those_of_any_file(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_photos(folder, "sub/far.jpg")
        content = foreign({})
        for entry, name in zip(content["images"], ("images/train/out1.jpg", "far.jpg"), strict=True):
            entry["file_name"] = name
        (folder / "annotations.json").write_text(json.dumps(content))
        got = read_annotations(folder)
        boxes = {image.path.relative_to(folder).as_posix(): len(image.boxes) for image in got}
        assert boxes == {"out1.jpg": 1, "out2.jpg": 0, "out10.jpg": 0, "sub/far.jpg": 1}
        by_file = to_annotation_set(read_raw(folder))
        assert {image.path: image.boxes for image in by_file} == {image.path: image.boxes for image in got}
        assert "no longer there" not in capsys.readouterr().err
        # What was drawn here is of the photo at its path.
        content["annotations"][0]["box_id"] = "k"
        (folder / "annotations.json").write_text(json.dumps(content))
        assert read_annotations(folder).num_boxes == 0
        assert "left out, no longer there: images/train/out1.jpg, far.jpg" in capsys.readouterr().err

    def test_a_name_that_may_be_two_photos_is_an_error(self, folder: Path) -> None:
        make_photos(folder, "a/far.jpg", "b/far.jpg")
        content = foreign({})
        content["images"][0]["file_name"] = "far.jpg"
        content["images"][1]["file_name"] = "gone.jpg"
        (folder / "annotations.json").write_text(json.dumps(content))
        with pytest.raises(AnnotationError, match=r"'far\.jpg' may be .*a.far\.jpg or .*b.far\.jpg"):
            read_annotations(folder)

    def test_two_categories_of_one_name(self, folder: Path) -> None:
        content = foreign({}) | {"categories": [{"id": n, "name": "mug"} for n in (1, 2)]}
        by_folder, by_file = self.both(folder, content)
        assert by_folder == by_file
        assert "'mug'" in by_folder

    def test_parts_of_the_photo_are_no_pixels(self, folder: Path) -> None:
        content = foreign({}, width=0, height=0)
        for entry in content["annotations"]:
            entry["bbox"] = [0.25, 0.2, 0.3, 0.3]
        message = "annotations.json: every box lies within the first two pixels of its photo"
        assert self.both(folder, content) == [message] * 2
        with pytest.raises(AnnotationError, match="within the first two pixels") as caught:
            Project(folder).states(["out1.jpg"])  # the page shows no specks for boxes
        assert "multiply by its width and height; or mend the file" in caught.value.hint

    def test_strict_refuses_what_is_made_to_fit(self, folder: Path) -> None:
        for message in self.both(folder, foreign({"bbox": [-5, 10, 30, 30]}), strict=True):
            assert "lies outside the photo" in message

    def test_what_was_done_is_told(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.both(folder, foreign({"bbox": [-5, 10, 30, 30]}))
        told = "annotations.json: 1 box reaches over the edge of the photo: cut there (by up to 5 pixels)\n"
        assert capsys.readouterr().err.count(told) == 2

    def test_a_box_to_redraw_on_the_page_is_upright_then(self, folder: Path) -> None:
        content = foreign({"bbox": [10, 10, 30, 30], "attributes": {"occluded": True, "rotation": 0.5}})
        (folder / "annotations.json").write_text(json.dumps(content))
        project = Project(folder)
        project.change_photo("out1.jpg", put=[DrawnBox("coco-1", Box(0, 0, 100, 60, "mug"))])
        assert json.loads(project.file.read_bytes())["annotations"][0]["attributes"] == {"occluded": True}
        assert project.annotation_set().num_boxes == 2

    def test_the_page_learns_from_the_same(self, folder: Path) -> None:
        (folder / "annotations.json").write_text(json.dumps(foreign({"bbox": [-5, 10, 30, 30]})))
        (state,) = Project(folder).states(["out1.jpg"])
        image = stated_image("out1.jpg", folder / "out1.jpg", state)
        assert [(box.x1, box.x2) for box in image.boxes] == [(0, 25)]
        Image.new("RGB", (60, 100)).save(folder / "out1.jpg")
        with pytest.raises(AnnotationError, match=r"annotations\.json: out1\.jpg: width x height differ"):
            stated_image("out1.jpg", folder / "out1.jpg", state)


class TestDamage:
    def test_a_malformed_file_is_never_written_over(self, folder: Path) -> None:
        project = Project(folder)
        project.change_photo("out1.jpg", put=[drawn("k1")])
        project.change_photo("out1.jpg", put=[drawn("k2")])
        path = folder / "annotations.json"
        damaged = path.read_bytes()[:-40]
        path.write_bytes(damaged)
        for use in (project.photo_names, lambda: project.change_photo("out1.jpg", put=[drawn("k3")])):
            with pytest.raises(AnnotationError, match=r"annotations\.json: line \d+, column \d+") as caught:
                use()
            assert f"copy {folder / 'annotations.json.bak'} over it" in caught.value.hint
        assert path.read_bytes() == damaged
        path.write_bytes((folder / "annotations.json.bak").read_bytes())
        assert [len(state.boxes) for state in project.states(["out1.jpg"])] == [1]

    @pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b"{", b"null"])
    def test_other_damage_without_a_version_before(self, folder: Path, data: bytes) -> None:
        (folder / "annotations.json").write_bytes(data)
        with pytest.raises(AnnotationError, match=r"annotations\.json") as caught:
            Project(folder).change_photo("out1.jpg", put=[drawn("k")])
        assert "begin anew" in caught.value.hint
        assert (folder / "annotations.json").read_bytes() == data

    def test_the_version_before_is_kept(self, folder: Path) -> None:
        project = Project(folder)
        versions = []
        for number in range(3):
            project.change_photo("out1.jpg", put=[drawn(f"k{number}")])
            versions.append((folder / "annotations.json").read_bytes())
            if number:
                assert (folder / "annotations.json.bak").read_bytes() == versions[-2]
        project.change_photo("out1.jpg", put=[drawn("k2")])  # nothing new: nothing is written
        assert (folder / "annotations.json.bak").read_bytes() == versions[-2]

    def test_without_hard_links(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
        self.test_the_version_before_is_kept(folder)

    @pytest.mark.parametrize("where", ["fsync", "link", "open"])
    def test_a_full_disk(self, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        project = Project(folder)
        project.change_photo("out1.jpg", put=[drawn("k1")])
        before = (folder / "annotations.json").read_bytes()

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(project_module.shutil, "copyfile", full)
            patch.setattr(*((Path, "write_bytes") if where == "open" else (os, where)), full)
            with pytest.raises(OutputError, match="no space left on the disk") as caught:
                project.change_photo("out1.jpg", put=[drawn("k2")])
            assert "free some space" in caught.value.hint
        assert (folder / "annotations.json").read_bytes() == before
        assert [len(state.boxes) for state in project.states(["out1.jpg"])] == [1]
        project.change_photo("out1.jpg", put=[drawn("k2")])
        assert box_ids(folder) == {"k1", "k2"}
        assert {p.name for p in folder.glob(".*")} == {".annotations.json.lock"}

    def test_a_program_that_does_not_let_go(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(project_module, "LOCK_SECONDS", 0.05)
        mine, other = Project(folder), Project(folder)
        with mine.editing(), pytest.raises(OutputError, match="another program does not let go"):
            other.change_photo("out1.jpg", put=[drawn("k")])


class TestWindows:
    """Several windows and programs on one project."""

    operation = st.tuples(
        st.integers(0, 2),  # window
        st.integers(0, 1),  # photo
        st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 30)), max_size=2),  # put
        st.lists(st.sampled_from("abcde"), max_size=2),  # delete
        st.none() | st.booleans(),
    )

    @given(operations=st.lists(operation, max_size=8))
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_interleaving_gives_what_one_window_would(
        self, folder: Path, operations: list[tuple]
    ) -> None:
        (folder / "annotations.json").unlink(missing_ok=True)
        windows = [Project(folder) for _ in range(3)]
        names = ("out1.jpg", "out2.jpg")
        expected: list[dict[str, int]] = [{}, {}]
        reviewed = [False, False]
        for window, photo, put, delete, looked_at in operations:
            boxes = [drawn(box_id, edge=edge) for box_id, edge in put]
            windows[window].change_photo(names[photo], put=boxes, delete=delete, reviewed=looked_at)
            was_reviewed = reviewed[photo] or bool(expected[photo])
            for box_id in delete:
                expected[photo].pop(box_id, None)
            expected[photo].update(put)
            reviewed[photo] = was_reviewed if looked_at is None else looked_at
        for window in (*windows, Project(folder)):
            for state, boxes, looked_at in zip(window.states(names), expected, reviewed, strict=True):
                assert {each.id: each.box.x1 for each in state.boxes} == boxes
                assert state.reviewed == (looked_at or bool(boxes))

    def test_threads_of_one_program(self, folder: Path) -> None:
        project = Project(folder)

        def draw(prefix: str) -> None:
            for number in range(20):
                project.change_photo("out1.jpg", put=[drawn(f"{prefix}{number}")])

        threads = [threading.Thread(target=draw, args=(prefix,)) for prefix in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(box_ids(folder)) == 60


def test_a_change_of_others_is_not_taken_for_a_part_of_ones_own(folder: Path) -> None:
    project, other = Project(folder), Project(folder)
    seen = project.version
    with project.noting() as versions:
        other.change_photo("out1.jpg", put=[drawn("theirs")])
        between = other.version
        project.change_photo("out1.jpg", put=[drawn("mine")])
    assert versions == [between, project.version]
    assert len({seen, between, project.version}) == 3


class Writers:
    """A process of ``project_writer.py``; it forks one writer after the other."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("project_writer.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def start(self, folder: Path, prefix: str, count: int) -> int:
        """Start a writer; its process id."""
        self.stdin.write(f"{folder} {prefix} {count}\n")
        word, number = self.stdout.readline().split()
        assert word == "process"
        return int(number)

    def acknowledgements(self) -> Iterator[str]:
        """What the writer acknowledges, as it comes, until the writer has ended."""
        return (line.strip() for line in iter(self.stdout.readline, "ended\n"))

    def close(self) -> None:
        self.stdin.close()
        self.process.wait(LONG)
        self.stdout.close()


@pytest.fixture(scope="module")
def writers() -> Iterator[list[Writers]]:
    started = [Writers(), Writers()]
    yield started
    for each in started:
        each.close()


@posix_only
class TestProcesses:
    @pytest.mark.slow
    def test_killed_60_times_while_saving(self, folder: Path, writers: list[Writers]) -> None:
        rng = random.Random(0)
        acknowledged: set[str] = set()
        saving_takes = 0.01
        for run in range(60):
            process = writers[0].start(folder, f"r{run}", 10_000)
            answers = writers[0].acknowledgements()
            began = time.perf_counter()
            if run % 2:  # kill the second saving, else the first
                acknowledged.add(next(answers))
                saving_takes = time.perf_counter() - began
            time.sleep(rng.uniform(0, saving_takes))
            os.kill(process, signal.SIGKILL)
            acknowledged.update(answers)
            if not (folder / "annotations.json").exists():
                continue
            there = box_ids(folder)
            assert acknowledged <= there
            assert len(there) <= len(acknowledged) + run + 1  # each may have been killed before it said so
            if (folder / "annotations.json.bak").exists():
                json.loads((folder / "annotations.json.bak").read_bytes())
        assert len(acknowledged) >= 30
        Project(folder).change_photo("out1.jpg", put=[drawn("last")])
        assert [path.name for path in folder.glob(".*")] == [".annotations.json.lock"]  # no leftovers

    @pytest.mark.slow
    def test_two_processes_and_a_window_at_once(self, folder: Path, writers: list[Writers]) -> None:
        project = Project(folder)
        for number, each in enumerate(writers):
            each.start(folder, f"p{number}", 15)
        mine = {f"w-{number}" for number in range(15)}
        for box_id in mine:
            project.change_photo("out1.jpg", put=[drawn(box_id)])
        theirs = {box_id for each in writers for box_id in each.acknowledgements()}
        assert len(theirs) == 30
        assert box_ids(folder) == mine | theirs
