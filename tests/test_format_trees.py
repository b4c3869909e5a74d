"""Data sets of several parts, each with a file of boxes of its own, given as one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import fewbox
from fewbox.errors import AnnotationError

SIZE = (640, 480)
X = {"train": 11, "valid": 22}
NAMES = {
    "coco": "_annotations.coco.json",
    "csv": "_annotations.csv",
    "cvat": "annotations.xml",
    "labelstudio": "p.json",
}


def text_of(form: str, names: list[str], x: int) -> str:
    """A file of one box at ``x`` in each photo."""
    width, height = SIZE
    if form == "csv":
        rows = [f"{name},{width},{height},duck,{x},20,{x + 64},120\n" for name in names]
        return "filename,width,height,class,xmin,ymin,xmax,ymax\n" + "".join(rows)
    if form == "cvat":
        box = f'<box label="duck" xtl="{x}" ytl="20" xbr="{x + 64}" ybr="120"/>'
        images = [f'<image name="{name}" width="{width}" height="{height}">{box}</image>' for name in names]
        return f"<annotations>{''.join(images)}</annotations>"
    if form == "labelstudio":
        value = {
            "x": x / width * 100, "y": 20 / height * 100, "width": 10, "height": 100 / height * 100,
            "rotation": 0, "rectanglelabels": ["duck"],
        }  # fmt: skip
        region = {
            "type": "rectanglelabels",
            "value": value,
            "original_width": width,
            "original_height": height,
        }
        tasks = [{"data": {"image": name}, "annotations": [{"result": [region]}]} for name in names]
        return json.dumps(tasks)
    images = [{"id": n, "file_name": name, "width": width, "height": height} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [x, 20, 64, 100]} for n in range(len(names))]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "duck"}]})


def make_tree(root: Path, form: str) -> Path:
    for part, x in X.items():
        (root / part).mkdir(parents=True)
        for name in ("1.jpg", "2.jpg"):
            Image.new("RGB", SIZE).save(root / part / name)
        (root / part / NAMES[form]).write_text(text_of(form, ["1.jpg", "2.jpg"], x))
    return root


@pytest.mark.parametrize("form", NAMES)
def test_each_part_keeps_its_boxes(tmp_path: Path, form: str) -> None:
    root = make_tree(tmp_path / "set", form)
    got = fewbox.read_annotations(root)
    assert {
        image.path.relative_to(root).as_posix(): [round(box.x1) for box in image.boxes] for image in got
    } == {f"{part}/{name}": [x] for part, x in X.items() for name in ("1.jpg", "2.jpg")}
    assert got.labels == ("duck",)


@pytest.mark.parametrize("form", [*NAMES, "yolo"])
def test_that_several_parts_are_read_is_told(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    if form == "yolo":
        for part in make_tree(tmp_path / "from", "csv").iterdir():
            fewbox.write_annotations(fewbox.read_annotations(part), root / part.name, form, copy_photos=True)
    else:
        make_tree(root, form)
    assert "parts" not in capsys.readouterr().err
    fewbox.read_annotations(root)
    assert "set: photos of several parts: train 2, val 2; to read one alone" in capsys.readouterr().err
    fewbox.read_annotations(root / "train")
    assert "parts" not in capsys.readouterr().err


@pytest.mark.parametrize("form", NAMES)
def test_a_missing_photo_is_not_taken_from_another_part(tmp_path: Path, form: str) -> None:
    root = make_tree(tmp_path / "set", form)
    (root / "train" / "2.jpg").unlink()
    with pytest.raises(AnnotationError, match=rf"train/{NAMES[form]}: .*photo not found: '2\.jpg'"):
        fewbox.read_annotations(root)
    kinds = [row.kind for row in fewbox.check_annotations(root, show_progress=False).findings]
    assert "photo-missing" in kinds


def test_two_files_in_one_folder_are_still_a_question(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "set", "coco")
    (root / "train" / "other.json").write_text((root / "train" / NAMES["coco"]).read_text())
    with pytest.raises(AnnotationError, match="3 files in the format coco"):
        fewbox.read_annotations(root)


def test_a_file_that_repeats_the_photos_of_a_part_is_refused(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "set", "coco")
    (root / "all.json").write_text(text_of("coco", ["train/1.jpg"], 99))
    with pytest.raises(AnnotationError, match="a photo is listed twice") as caught:
        fewbox.read_annotations(root)
    assert "all.json" in str(caught.value)
    assert "train/_annotations.coco.json" in str(caught.value)


FACE = "0 0.5 0.5 0.2 0.3 0.45 0.45 0.55 0.45 0.5 0.5 0.46 0.55 0.54 0.55\n"
PLATE = "0 0.5 0.5 0.2 0.3 0.41 0.36 0.59 0.36 0.59 0.64 0.41 0.64\n"
TRIANGLE = "0 0.2 0.1 0.4 0.5 0.3 0.2\n"
TURNED = "0 .2 .1 .4 .3 .4 .5 .1 .5\n"


def make_yolo_sets(root: Path, **lines: str) -> Path:
    """Data sets of one photo each, with a ``data.yaml`` of their own."""
    for name, line in lines.items():
        (root / name / "images").mkdir(parents=True)
        (root / name / "labels").mkdir()
        Image.new("RGB", SIZE).save(root / name / "images" / f"{name}.jpg")
        (root / name / "labels" / f"{name}.txt").write_text(line)
        (root / name / "data.yaml").write_text(f"names: [{name}]\n")
    return root


def test_each_set_of_yolo_tells_by_itself_what_its_lines_are(tmp_path: Path) -> None:
    annotations = fewbox.read_annotations(make_yolo_sets(tmp_path, face=FACE, leaf=TRIANGLE, plate=PLATE))
    boxes = {image.path.stem: image.boxes[0] for image in annotations}
    around = {name: [round(edge) for edge in (b.x1, b.y1, b.x2, b.y2)] for name, b in boxes.items()}
    box = [256, 168, 384, 312]
    assert around == {"face": box, "leaf": [128, 48, 256, 240], "plate": box}


def test_outlines_of_another_set_make_no_outline_of_a_turned_box(tmp_path: Path) -> None:
    folder = make_yolo_sets(tmp_path, leaf=TRIANGLE, ship=TURNED)
    with pytest.raises(AnnotationError, match="the box is rotated"):
        fewbox.read_annotations(folder)
