"""``fewbox convert`` as a person meets it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from fewbox.cli import main
from fewbox.data.annotations import Box
from fewbox.data.formats import read_annotations, write_coco
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.errors import AnnotationError
from tiny import make_photos


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three photos and their boxes as COCO JSON in ``photos``."""
    (tmp_path / "photos").mkdir()
    write_coco(make_photos(tmp_path / "photos"), tmp_path / "photos" / "boxes.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    """Lines that a person types."""

    def isatty(self) -> bool:
        return True


def run(*arguments: str) -> int:
    return main(["convert", *arguments])


def test_it_says_what_it_read_wrote_and_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("photos/boxes.json", "-o", "yolo", "--to", "yolo") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "read photos/boxes.json as coco: 3 photos, 3 boxes, 1 class",
        "wrote yolo as yolo",
    ]
    assert "the photos belong into yolo/images" in printed.err
    assert run("yolo", "photos", "-o", "again.xml") == 0
    assert "wrote again.xml as cvat" in capsys.readouterr().out
    before, after = read_annotations("photos/boxes.json"), read_annotations("again.xml", "photos")
    assert [image.path.name for image in after] == [image.path.name for image in before]


def test_states_and_losses_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["image,x1,y1,x2,y2,label,ignore", "photo0.png,1,2,30,40,cup,1", "photo1.png,,,,,,"]
    Path("boxes.csv").write_text("\n".join(rows))
    assert run("boxes.csv", "photos", "-o", "out", "--to", "yolo", "--copy-photos") == 0
    printed = capsys.readouterr()
    says = "3 photos, 1 looked at and empty, 1 not looked at, 1 box (1 to ignore), 1 class"
    assert f"read boxes.csv as csv: {says}" in printed.out
    assert printed.err.splitlines() == [
        "yolo does not list photos that nobody has looked at: 1; they are not copied",
        "yolo has no boxes to ignore; they are written as ordinary ones: 1",
    ]
    # To a trainer of YOLO a third photo would be background.
    assert sorted(path.name for path in Path("out/images").iterdir()) == ["photo0.png", "photo1.png"]
    assert read_annotations("out").labels == ("cup",)


def test_photos_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.csv").write_text(
        "image,x1,y1,x2,y2\nphoto0.png,1,2,30,40\na.png,1,2,30,40\nb.png,1,2,30,40\n"
    )
    assert run("boxes.csv", "photos", "-o", "boxes.json") == 2
    assert "leave them out: --skip-missing" in capsys.readouterr().err
    assert run("boxes.csv", "photos", "-o", "boxes.json", "--skip-missing") == 0
    assert "boxes.csv: 2 of 3 photos are not there: a.png, b.png; left out" in capsys.readouterr().err
    # Photos may go from a project.
    Path("photos/boxes.json").rename("photos/annotations.json")
    Path("photos/photo1.png").unlink()
    assert run("photos", "-o", "project.json") == 0
    assert "left out, no longer there: photo1.png" in capsys.readouterr().err
    assert len(read_annotations("project.json", "photos")) == len(read_annotations("photos")) == 2


def test_what_was_drawn_in_a_photo_is_of_no_other_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    project = Project("photos")
    Path("photos/boxes.json").rename("boxes.json")
    for name in ("photo0.png", "photo1.png"):
        project.change_photo(name, put=[DrawnBox("k", Box(1, 2, 30, 40, "cup"))])
    Path("photos/old").mkdir()
    Path("photos/photo1.png").unlink()
    shutil.copy("photos/photo2.png", "photos/old/photo1.png")  # as large, and another picture
    assert run("photos", "-o", "boxes.csv") == 0
    assert [row.split(",")[0] for row in Path("boxes.csv").read_text().splitlines()[1:]] == ["photo0.png"]
    assert "left out, no longer there: photo1.png" in capsys.readouterr().err
    # Another file of boxes beside it is not in its way, as it is in no other command's.
    Path("boxes.json").rename("photos/boxes.json")
    assert run("photos", "-o", "again.csv") == 0
    assert Path("again.csv").read_text() == Path("boxes.csv").read_text()
    # Unless photos are named, or in Python the format: docs/formats.md.
    assert run("photos", "photos", "-o", "third.csv") == 2
    with pytest.raises(AnnotationError, match="2 files in the format coco"):
        read_annotations("photos", format="coco")


def test_a_class_that_the_output_has_no_signs_for_is_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe on Windows has some 200 signs; what is done is done, and is not to look like a failure."""
    Path("鸭.csv").write_text("image,x1,y1,x2,y2,label\nphoto0.png,1,2,30,40,鸭\n", encoding="utf-8")
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", pipe)
    assert run("鸭.csv", "photos", "-o", "boxes.json") == 0
    for command in (["check"], ["check", "--json"]):
        assert main([*command, "photos", "--boxes", "boxes.json"]) == 0
        pipe.flush()
    said = pipe.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert said.startswith("read \\u9e2d.csv as csv: 3 photos")
    assert "1 box (\\u9e2d 1)" in said
    assert json.loads(said[said.index("{") :])["labels"] == {"鸭": 1}


def test_labels_for_files_without_names() -> None:
    Path("boxes.csv").write_text("image,x1,y1,x2,y2\nphoto0.png,1,2,30,40\n")
    assert run("boxes.csv", "photos", "-o", "boxes.json", "--label", "cup") == 0
    assert read_annotations("boxes.json").labels == ("cup",)


def test_a_person_is_asked_what_is_not_plain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("photos/boxes.csv").write_text("image,x1,y1,x2,y2\nphoto0.png,1,2,30,40\n")
    monkeypatch.setattr("sys.stdin", Terminal("9\ncsv\n2\n"))
    assert run("photos", "-o", "out") == 0
    printed = capsys.readouterr()
    assert "photos: which format (--from)?" in printed.err
    assert "1  coco: COCO JSON, one file" in printed.err
    assert "read photos as csv" in printed.out
    assert "wrote out as voc" in printed.out
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert run("photos", "-o", "other") == 2
    assert "no format chosen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["photos/boxes.json", "-o", "out"], "the format may be: labelme, voc, yolo\nhint: say which"),
        (["photos/boxes.json", "-o", "x.json", "--to", "yolov5"], "'yolov5'\nhint: did you mean yolo?"),
        (["photos/boxes.json", "-o", "x.json", "--from", "cocoa"], "'cocoa'\nhint: did you mean coco?"),
        (["photos/boxes.json", "-o", "photos/boxes.json"], "boxes.json: this file is there already"),
        (["photos/boxes.json", "-o", "photos", "--to", "voc"], "photos: the folder is not empty"),
        (["photos/boxes.json", "-o", "photos", "--to", "csv"], "photos: cannot be written"),
        (["photos/boxes.json", "-o", "x.csv", "--copy-photos"], "photos are not copied for csv"),
        (["photos/boxes.json", "-o", "x.csv", "--from", "voc"], "boxes.json: not valid XML"),
        (["photos/boxes.json", "-o", "x.json", "--to", "csv"], "csv is called .csv\nhint: name it x.csv"),
        (["photos/boxes.json", "-o", "x.xml", "--to", "labelstudio"], "format labelstudio is called .json"),
        (["gone", "-o", "x.csv"], "gone: no such file"),
    ],
)  # fmt: skip
def test_refusals(desk: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    before = sorted(desk.rglob("*"))
    assert run(*arguments) == 2
    assert says in capsys.readouterr().err
    assert sorted(desk.rglob("*")) == before


def test_two_formats_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/boxes.csv").write_text("image,x1,y1,x2,y2\nphoto0.png,1,2,30,40\n")
    assert run("photos", "-o", "x.csv") == 2
    assert (
        "photos: the format may be: coco, csv\nhint: say which one: --from FORMAT" in capsys.readouterr().err
    )


class TestAFileWithoutItsPhotos:
    """A project's photos may go one by one; where none is there it is their folder that is wrong."""

    @pytest.fixture
    def apart(self) -> Path:
        """Another tool's file in a folder of its own, as many data sets have it."""
        Path("set", "annotations").mkdir(parents=True)
        shutil.copytree("photos", "set/images")
        file = Path("set/annotations/annotations.json")
        Path("set/images/boxes.json").rename(file)
        return file

    def test_is_refused_until_they_are_named(self, apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("set/annotations", "-o", "o.csv") == 2
        told = capsys.readouterr().err
        assert "photo not found: 'photo0.png'" in told
        assert "say where the photos are" in told
        assert not Path("o.csv").exists()
        assert run("set/annotations", "set/images", "-o", "o.csv") == 0
        assert read_annotations("o.csv", "set/images").num_boxes == 3

    def test_an_address_is_told_as_it_stands(self, apart: Path, capsys: pytest.CaptureFixture[str]) -> None:
        coco = json.loads(apart.read_text())
        coco["images"][0]["file_name"] = "https://example.com/x.jpg"
        apart.write_text(json.dumps(coco))
        shutil.copy("set/images/photo1.png", apart.parent)
        assert run("set/annotations", "-o", "o.csv") == 0
        assert "no longer there: https://example.com/x.jpg, photo2.png" in capsys.readouterr().err

    def test_boxes_drawn_here_go_to_no_other_photo(self, capsys: pytest.CaptureFixture[str]) -> None:
        Project("photos").change_photo("photo0.png", put=[DrawnBox("k", Box(1, 2, 30, 40, "cup"))])
        Path("photos/images").mkdir()
        for photo in Path("photos").glob("*.png"):
            photo.rename(Path("photos/images", photo.name))
        assert run("photos", "-o", "o.csv", "--from", "coco") == 2
        assert "none of its photos is there: photo0.png" in capsys.readouterr().err
        assert not Path("o.csv").exists()
