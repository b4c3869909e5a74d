"""Boxes of other programs that lie beside the photos of a project."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from annotate_client import Page, a_box, make_photos
from fewbox.cli import main
from fewbox.data import FOLDER_FORMATS, FORMATS
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.beside import find_beside, take_over
from fewbox.data.formats import write_annotations
from fewbox.data.project import Project
from fewbox.errors import AnnotationError

SIZE_HW = (60, 100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "out1.jpg", "out2.jpg", "out3.jpg")


def write_beside(folder: Path, form: str, tmp_path: Path) -> None:
    """A mug in out1, a mug and a lid in out2, and out3 not looked at."""
    mug, lid = Box(10, 20, 40, 50, "mug"), Box(50, 20, 80, 50, "lid")
    boxes = {"out1.jpg": (mug,), "out2.jpg": (mug, lid)}
    images = tuple(AnnotatedImage(folder / name, SIZE_HW, of, True) for name, of in boxes.items())
    suffix = {"cvat": ".xml", "csv": ".csv"}.get(form, ".json")
    target = tmp_path / "made" if form in FOLDER_FORMATS else folder / f"boxes{suffix}"
    write_annotations(AnnotationSet(images, ("mug", "lid")), target, form)
    if form in FOLDER_FORMATS:  # with all files directly beside the photos
        for path in target.rglob("*"):
            if path.is_file():
                path.rename(folder / path.name)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_found_and_taken_over(folder: Path, tmp_path: Path, form: str) -> None:
    write_beside(folder, form, tmp_path)
    page = Page(folder)
    answer = page.get("/api/beside").json()
    (offer,) = answer["offers"]
    assert (offer["format"], offer["boxes"], offer["classes"], offer["photos"]) == (form, 3, 2, 2)
    assert answer["problems"] == []
    taken = page.post("/api/beside", json={"format": form}).json()
    assert taken["boxes"] == 3
    rows = page.photos()
    assert [rows[f"out{n}.jpg"]["num_boxes"] for n in (1, 2, 3)] == [1, 2, 0]
    assert not rows["out3.jpg"]["reviewed"]
    assert page.get("/api/beside").json()["offers"] == []  # nothing is left to take over


@pytest.mark.parametrize("form", FORMATS)
def test_commands_say_how_to_name_boxes_that_lie_there(
    folder: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_beside(folder, form, tmp_path)
    file = {"cvat": "boxes.xml", "csv": "boxes.csv"}.get(form, "boxes.json")
    boxes = folder if form in FOLDER_FORMATS else folder / file
    assert main(["finetune", str(folder), "-o", str(tmp_path / "d.safetensors")]) == 2
    assert f"or name those that lie there: {folder} --boxes {boxes}\n" in capsys.readouterr().err


def test_commands_to_copy_are_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_photos(tmp_path / "ph [a] 50%", "out1.jpg", "out2.jpg", "out3.jpg")
    learning = ["finetune", str(folder), "-o", str(tmp_path / "d.safetensors")]
    assert main(learning) == 2
    command = capsys.readouterr().err.rpartition("draw boxes with: ")[2].partition(";")[0]
    assert shlex.split(command) == ["fewbox", "annotate", str(folder)]
    write_beside(folder, "coco", tmp_path)
    (folder / "boxes.json").rename(folder / "D boxes.json")
    assert main(learning) == 2
    said = capsys.readouterr().err
    command = said.rpartition("draw boxes with: ")[2].partition(";")[0]
    assert shlex.split(command) == ["fewbox", "annotate", str(folder)]
    named = shlex.split(said.rpartition("those that lie there: ")[2])
    assert named == [str(folder), "--boxes", str(folder / "D boxes.json")]
    assert main(["check", *named]) == 0


def test_commands_say_so_of_a_data_yaml_and_of_its_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = AnnotationSet.from_arrays([folder / "out1.jpg"], [[(10, 20, 40, 50)]], "mug")
    root = tmp_path / "chess"
    write_annotations(photos, root, "yolo", copy_photos=True)
    for given in (root, root / "data.yaml"):
        assert main(["finetune", str(given), "-o", str(tmp_path / "d.safetensors")]) == 2
        assert f"{root} --boxes {root}\n" in capsys.readouterr().err
    assert main(["finetune", str(root / "images"), "-o", str(tmp_path / "d.safetensors")]) == 2
    assert f"{root / 'images'} --boxes {root / 'labels'}\n" in capsys.readouterr().err
    assert main(["finetune", str(tmp_path / "gone"), "-o", str(tmp_path / "d.safetensors")]) == 2
    assert f"{tmp_path / 'gone'}: no such photo or folder" in capsys.readouterr().err
    assert main(["annotate", str(tmp_path / "gone"), "--no-browser"]) == 2
    assert f"{tmp_path / 'gone'}: no such photo or folder" in capsys.readouterr().err


def test_what_was_drawn_reviewed_or_left_out_here_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    write_beside(folder, "voc", tmp_path)
    page = Page(folder)
    page.patch(page.address("out1.jpg"), json={"put": [a_box("mine", (1, 2, 30, 40))]})
    (offer,) = page.get("/api/beside").json()["offers"]
    assert (offer["boxes"], offer["photos"]) == (2, 1)
    page.post("/api/beside", json={"format": "voc"})
    assert [box["id"] for box in page.get(page.address("out1.jpg")).json()["boxes"]] == ["mine"]
    page.patch(page.address("out2.jpg"), json={"delete": ["voc-1", "voc-2"], "left_out": True})
    assert page.get("/api/beside").json()["offers"] == []


def test_what_cannot_be_read_is_told_with_its_place_and_hides_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    write_beside(folder, "voc", tmp_path)
    text = (folder / "out1.xml").read_text()
    (folder / "out1.xml").write_text(text.replace("<xmax>40", "<xmax>four"))
    (folder / "gone.xml").write_text(text.replace("out1.jpg", "gone.jpg"))
    (folder / "half.json").write_text('{"images": [')
    project = Project(folder)
    found = {one.format: one for one in find_beside(project)}
    assert list(found["voc"].images) == ["out2.jpg"]
    problems = [problem for one in found.values() for problem in one.problems]
    assert any("out1.xml" in problem and "xmax" in problem for problem in problems)
    assert any("gone.xml" in problem and "gone.jpg" in problem for problem in problems)
    assert any("half.json" in problem for problem in problems)


def test_boxes_in_parts_of_the_photo_are_not_taken_for_pixels(folder: Path) -> None:
    images = [{"id": n, "file_name": f"out{n}.jpg"} for n in (1, 2)]
    boxes = [[0.1, 0.1, 0.4, 0.4], [0.1, 0.2, 0.9000000000000001, 0.7]]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, start=1)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "mug"}]}
    (folder / "boxes.json").write_text(json.dumps(content))
    (found,) = find_beside(Project(folder))
    assert found.images == {}
    assert found.problems == (
        "boxes.json: every box lies within the first two pixels of its photo; "
        "these seem to be parts of the photo: multiply by its width and height",
    )


def test_what_is_cut_or_left_out_is_told(folder: Path) -> None:
    boxes = [(-20, 10, 40, 50), (60, 10, 60, 50)]
    objects = "".join(
        f"<object><name>mug</name><truncated>1</truncated><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    size = "<size><width>100</width><height>60</height></size>"
    text = f"<annotation><filename>out1.jpg</filename>{size}{objects}</annotation>"
    (folder / "out1.xml").write_text(text)
    (found,) = find_beside(Project(folder))
    assert [(box.x1, box.x2) for box in found.images["out1.jpg"].boxes] == [(0, 40)]
    assert found.problems == (
        "1 box reaches over the edge of the photo: cut there (by up to 20 pixels); "
        "1 box without width or height: left out",
        "out1.xml: not read: truncated (2)",
    )


def test_a_photo_that_is_found_without_the_signs_of_its_name_is_told(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", "out#1.jpg")
    (folder / "boxes.csv").write_text("image,x1,y1,x2,y2,label\nout1.jpg,10,20,40,50,mug\n")
    (found,) = find_beside(Project(folder))
    assert list(found.images) == ["out#1.jpg"]
    assert found.problems == ("found by a name without its signs: 'out1.jpg' is 'out#1.jpg'",)


def test_labels_beside_the_folder_of_images_are_found(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "images", "out1.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "out1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [mug]\n")
    (found,) = find_beside(Project(folder))
    assert (found.format, found.num_boxes, found.labels) == ("yolo", 1, ["mug"])


def test_a_folder_of_photos_alone_has_nothing_beside(folder: Path) -> None:
    page = Page(folder)
    page.patch(page.address("out1.jpg"), json={"put": [a_box()]})  # the project file itself is no offer
    assert page.get("/api/beside").json() == {"offers": [], "problems": []}
    with pytest.raises(AnnotationError, match="no boxes to take over as voc"):
        take_over(Project(folder), "voc")


def offered(folder: Path, *names: str) -> tuple[dict[str, list[float]], tuple[str, ...]]:
    """Where boxes begin that a COCO file offers each photo, one for each of these names, and what is told."""
    content = {
        "images": [{"id": n, "file_name": name, "width": 100, "height": 60} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [n, 0, 9, 9]} for n in range(len(names))
        ],
        "categories": [{"id": 1, "name": "mug"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    (found,) = find_beside(Project(folder))
    boxes = {name: [box.x1 for box in image.boxes] for name, image in found.images.items()}
    return boxes, found.problems


def test_a_photo_that_may_be_one_of_several_in_a_file_is_offered_no_boxes(folder: Path) -> None:
    """The photos of two folders have names in common, and those of one of them were copied here."""
    boxes, problems = offered(folder, "a/out1.jpg", "b/out1.jpg", "a/out2.jpg")
    assert boxes == {"out2.jpg": [2]}
    assert problems == (
        "boxes.json: images[0]: out1.jpg may be this photo, a/out1.jpg, or another in the file"
        ": draw its boxes, or leave the other one out of the file",
        "boxes.json: images[1]: out1.jpg may be this photo, b/out1.jpg, or another in the file"
        ": draw its boxes, or leave the other one out of the file",
    )


def test_a_photo_that_lies_where_the_file_says_is_no_other(folder: Path) -> None:
    """A folder below has a photo of the same name, which is in the file too."""
    boxes, problems = offered(folder, "sub/out1.jpg", "out1.jpg", "out2.jpg")
    assert boxes == {"out1.jpg": [1], "out2.jpg": [2]}
    assert problems == ("boxes.json: images[0]: sub/out1.jpg is not among the photos of this folder",)
