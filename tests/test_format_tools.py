"""What each tool writes is understood as it is meant, or refused with its place and a cure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewbox.data.annotations import AnnotationSet, Box
from fewbox.data.checks import check_annotations
from fewbox.data.formats import read_annotations, read_raw, to_annotation_set
from fewbox.errors import AnnotationError, FewboxError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set: photos of 100 x 60 pixels in ``images``."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (100, 60)).save(tmp_path / "images" / name)
    return tmp_path


def write(path: Path, content: object) -> Path:
    """Write text as it is and anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def states(annotations: AnnotationSet) -> dict[str, tuple[int, bool]]:
    return {image.path.name: (len(image.boxes), image.reviewed) for image in annotations}


def edges(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def refusal(path: Path, photos: Path | None = None) -> str:
    """Message and hint of the refusal, in one text."""
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path, photos)
    assert caught.value.hint
    return str(caught.value)


def voc(inner: str, name: str = "a.png") -> str:
    return (
        f"<annotation><filename>{name}</filename><size><width>100</width><height>60</height>"
        f"<depth>3</depth></size>{inner}</annotation>"
    )


BNDBOX = "<bndbox><ymax>30</ymax><xmin>20</xmin><ymin>6.5</ymin><xmax>40</xmax></bndbox>"
DUCK = f"<object><name>duck</name>{BNDBOX}</object>"


class TestVOC:
    def test_the_three_states_and_what_is_left_out(self, folder: Path) -> None:
        part = f"<part><name>head</name>{BNDBOX}</part>"
        flags = "<truncated>1</truncated><difficult>1</difficult>"
        cup = f"<object><name> cup\n</name>{flags}{BNDBOX}{part}</object>"
        write(folder / "xml" / "a.xml", voc(cup + DUCK))
        write(folder / "xml" / "b.xml", voc("", "C:\\photos\\b.png"))
        raw = read_raw(folder / "xml")
        got = to_annotation_set(raw, folder / "images")
        assert states(got) == {"a.png": (2, True), "b.png": (0, True), "c.png": (0, False)}
        assert got.images[0].boxes == (Box(20, 6.5, 40, 30, "cup", True), Box(20, 6.5, 40, 30, "duck"))
        assert got.labels == ("cup", "duck")
        assert raw.remarks == ("not read: truncated (1), part (1)",)

    def test_photos_below_the_folder_and_one_file_alone(self, folder: Path) -> None:
        write(folder / "Annotations" / "a.xml", voc(DUCK))
        assert read_annotations(folder).num_boxes == 1
        assert read_annotations(folder / "Annotations" / "a.xml", folder / "images").num_boxes == 1
        assert read_annotations(folder / "Annotations").num_boxes == 1
        (folder / "images").rename(folder / "photos")
        assert "photo not found: 'a.png'" in refusal(folder / "Annotations")

    @pytest.mark.parametrize("name", ["", "a", "gone.png", "A.PNG"])
    def test_names_that_are_wrong_or_bare(self, folder: Path, name: str) -> None:
        write(folder / "images" / "a.xml", voc(DUCK, name))
        assert read_annotations(folder / "images").images[0].path.name == "a.png"

    def test_a_size_of_zero_was_not_known(self, folder: Path) -> None:
        write(folder / "images" / "a.xml", voc(DUCK).replace("100", "0").replace("60", "0"))
        assert read_annotations(folder / "images").num_boxes == 1

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (voc(DUCK).replace("100", "99"), "a.xml: a.png: width x height differ: 99 x 60 in the file"),
            (voc("<object><name>x</name></object>"), "a.xml: object 1: bndbox is missing"),
            (voc(DUCK + DUCK.replace("40", "forty")), "object 2: bndbox: xmax must be a number: 'forty'"),
            (voc(DUCK.replace("40", "")), "xmax must be a number: ''"),
            (voc(DUCK.replace("duck", "")), "object 1: name is empty"),
            (voc(DUCK.replace("bndbox", "robndbox")), "object 1: robndbox: the box is rotated"),
            (voc(DUCK.replace("</name>", "</name><difficult>x</difficult>")), "must be 0 or 1: 'x'"),
            (voc(DUCK.replace("40", "19")), "a.png: box 1: x2 must be greater than x1"),
            ("<annotation>", "a.xml: not valid XML: no element found: line 1, column 12"),
            ('<!DOCTYPE a [<!ENTITY b "c">]>' + voc(DUCK), "declares a document type"),
            ("<a>" * 60 + "</a>" * 60, "more than 50 elements in each other"),
            ("<plist/>", "not Pascal VOC: it begins with <plist>"),
        ],
    )  # fmt: skip
    def test_refusals(self, folder: Path, text: str, says: str) -> None:
        write(folder / "images" / "a.xml", text)
        with pytest.raises(AnnotationError) as caught:
            read_annotations(folder / "images", format="voc")
        assert says in caught.value.message


class TestYOLO:
    NAMES = "names: [duck, no]\n"

    def test_the_three_states_in_the_usual_folders(self, folder: Path) -> None:
        write(folder / "data.yaml", self.NAMES)
        write(folder / "labels" / "a.txt", "1 0.3 0.3 0.2 0.4\r\n\r\n0 0.5 0.5 1 1\r\n")
        write(folder / "labels" / "b.txt", "")
        for place in (folder, folder / "data.yaml", folder / "labels"):
            got = read_annotations(place)
            assert states(got) == {"a.png": (2, True), "b.png": (0, True), "c.png": (0, False)}
            assert edges(got.images[0].boxes[0]) == pytest.approx((20, 6, 40, 30))
            assert [box.label for box in got.images[0].boxes] == ["no", "duck"]
            assert got.labels == ("duck", "no")

    @pytest.mark.parametrize("spelling", ["names:\n  1: no\n  0: duck\n", "nc: 2\nnames:\n- duck\n- 'no'\n"])
    def test_other_spellings_of_the_names(self, folder: Path, spelling: str) -> None:
        write(folder / "labels" / "a.txt", "1 0.3 0.3 0.2 0.4\n")
        write(folder / "config.yml", spelling)
        assert read_annotations(folder).labels == ("duck", "no")

    @pytest.mark.parametrize("name", ["classes.txt", "obj.names", "_darknet.labels"])
    def test_labels_beside_the_photos(self, folder: Path, name: str) -> None:
        write(folder / "images" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        write(folder / "images" / "b.txt", "")
        write(folder / "images" / "README.txt", "hello")
        write(folder / "images" / name, "duck\nno\n")
        got = read_annotations(folder / "images")
        assert states(got) == {"a.png": (1, True), "b.png": (0, True), "c.png": (0, False)}
        assert got.labels == ("duck", "no")

    @pytest.mark.parametrize("content", [b"a.png 0\n", b"\xff\xfe\x00\x81", b"cat\ndog\n"])
    def test_a_file_of_labels_is_no_list_of_classes(self, folder: Path, content: bytes) -> None:
        """But for Roboflow's: other tools have one class for each photo there, or what no text is."""
        write(folder / "images" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        write(folder / "images" / "classes.txt", "duck\nno\n")
        (folder / "images" / "train.labels").write_bytes(content)
        assert read_annotations(folder / "images").labels == ("duck", "no")

    def test_one_class_needs_no_name(self, folder: Path) -> None:
        write(folder / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        assert read_annotations(folder, label="duck").labels == ("duck",)
        write(folder / "labels" / "b.txt", "3 0.3 0.3 0.2 0.4\n")
        assert "no names for the classes 0, 3\nhint: put data.yaml" in refusal(folder)

    def test_that_the_only_class_should_have_a_name_is_told(self, folder: Path) -> None:
        write(folder / "labels" / "a.txt", "7 0.3 0.3 0.2 0.4\n")
        raw = read_raw(folder)
        (remark,) = raw.remarks
        assert remark.startswith("class 7 has no name, and counts as the only class; put data.yaml")
        assert read_annotations(folder, label="duck").labels == ("duck",)
        write(folder / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        assert read_raw(folder).remarks == ()

    def test_the_names_of_roboflows_export_for_darknet(self, folder: Path) -> None:
        write(folder / "train" / "a.txt", "1 0.3 0.3 0.2 0.4\n")
        (folder / "images" / "a.png").rename(folder / "train" / "a.png")
        write(folder / "train" / "_darknet.labels", "cat\ndog\n")
        got = read_annotations(folder / "train")
        assert [box.label for box in got.images[0].boxes] == ["dog"]
        assert got.labels == ("cat", "dog")

    def test_an_empty_file_where_the_photos_are_elsewhere(self, folder: Path) -> None:
        write(folder / "obj_train_data" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        write(folder / "obj_train_data" / "b.txt", "")
        got = read_annotations(folder / "obj_train_data", folder / "images")
        assert {name: state for name, state in states(got).items() if name != "c.png"} == {
            "a.png": (1, True),
            "b.png": (0, True),
        }

    @pytest.mark.parametrize("nothing", ["[]", "", "null"])
    def test_a_kpt_shape_that_says_nothing(self, folder: Path, nothing: str) -> None:
        write(folder / "data.yaml", self.NAMES + f"task: segment\nkpt_shape: {nothing}\n")
        write(folder / "labels" / "a.txt", "0 0.2 0.1 0.4 0.5 0.3 0.2\n")
        (box,) = read_annotations(folder).images[0].boxes
        assert edges(box) == pytest.approx((20, 6, 40, 30))

    @pytest.mark.parametrize("blank", ["", "\n", "\r\n \n"])
    def test_a_blank_file_where_the_photos_are_elsewhere(self, folder: Path, blank: str) -> None:
        labels = folder / "obj_train_data"
        write(labels / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        write(labels / "b.txt", blank)
        write(labels / "notes.txt", blank)  # is of no photo, and none is missing
        assert states(read_annotations(labels, folder / "images"))["b.png"] == (0, True)
        found = check_annotations(labels, folder / "images").findings
        assert "photo-missing" not in {one.kind for one in found}
        write(labels / "b.txt", "0 0.3 0.3 0.2 0.4\n")
        (folder / "images" / "b.png").unlink()
        assert "photo not found: 'b'" in refusal(labels, folder / "images")

    def test_outlines_and_poses(self, folder: Path) -> None:
        write(folder / "data.yaml", self.NAMES)
        write(folder / "labels" / "a.txt", "0 0.2 0.1 0.4 0.5 0.3 0.2\n0 .2 .1 .4 .1 .4 .5 .2 .5\n")
        raw = read_raw(folder)
        assert raw.remarks == ("not read: outlines and masks, but for the box around each (1)",)
        boxes = to_annotation_set(raw).images[0].boxes
        assert edges(boxes[0]) == pytest.approx((20, 6, 40, 30))
        assert edges(boxes[1]) == pytest.approx((20, 6, 40, 30))
        write(folder / "data.yaml", self.NAMES + "kpt_shape: [1, 3]\n")
        write(folder / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4 0.3 0.3 2\n")
        raw = read_raw(folder)
        assert raw.remarks == ("not read: poses (1)",)
        assert edges(to_annotation_set(raw).images[0].boxes[0]) == pytest.approx((20, 6, 40, 30))

    @pytest.mark.parametrize(
        "line",
        [
            "0.5 0.5 0.2 0.3 0.45 0.45 0.55 0.45 0.5 0.5 0.46 0.55 0.54 0.55",  # YOLOv5-face
            "0.5 0.5 0.2 0.3 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1",
            "0.5 0.5 0.2 0.3 0.45 0.45 2 0.55 0.45 0 0.5 0.5 1 0.46 0.55 2 0 0 0",  # YOLOv7-face
            "0.5 0.5 0.2 0.3 0.45 0.45 2 0.55 0.45 2",
            "0.5 0.5 0.2 0.3 0.41 0.36 0.59 0.36 0.59 0.64 0.41 0.64",  # a licence plate
        ],
    )
    def test_landmarks_after_a_box_without_kpt_shape(self, folder: Path, line: str) -> None:
        write(folder / "labels" / "a.txt", f"0 {line}\n")
        write(folder / "labels" / "b.txt", "0 0.5 0.5 0.2 0.3\n")
        raw = read_raw(folder)
        assert raw.remarks == ("not read: landmarks (1)",)
        for image in to_annotation_set(raw).images[:2]:
            assert edges(image.boxes[0]) == pytest.approx((40, 21, 60, 39))

    @pytest.mark.parametrize("middle", [(0.2, 0.2), (0.5, 0.4), (0.6, 0.6)])
    @pytest.mark.parametrize("radius", [0.02, 0.1, 0.2])
    def test_outlines_all_of_so_many_corners(
        self, folder: Path, middle: tuple[float, float], radius: float
    ) -> None:
        turns = [2 * math.pi * number / 10 for number in range(10)]
        points = [
            (middle[0] + radius * math.cos(turn), middle[1] + radius * math.sin(turn)) for turn in turns
        ]
        write(folder / "labels" / "a.txt", "0 " + " ".join(f"{x} {y}" for x, y in points))
        (box,) = read_annotations(folder).images[0].boxes
        assert box.x2 - box.x1 == pytest.approx(200 * radius)

    def test_data_yaml_settles_what_the_numbers_cannot(self, folder: Path) -> None:
        line = "0 0.5 0.5 0.6 0.6 0.45 0.45 0.55 0.45 0.5 0.6"
        write(folder / "labels" / "a.txt", line)
        write(folder / "data.yaml", self.NAMES)
        said = refusal(folder)
        assert "a.txt: line 1: lines of 11 numbers may be outlines, or landmarks after a box" in said
        assert "kpt_shape: [5, 2]" in said
        for more, expected in (("task: segment", (45, 27, 60, 36)), ("kpt_shape: [3, 2]", (20, 12, 80, 48))):
            write(folder / "data.yaml", f"{self.NAMES}{more}\n")
            assert edges(read_annotations(folder).images[0].boxes[0]) == pytest.approx(expected)

    def test_one_of_many_landmarks_lies_outside_its_box(self, folder: Path) -> None:
        good, bad = (f"0 .5 .5 .2 .3 .45 .45 1 .55 .45 1 .45 .55 1 {x} .55 1\n" for x in (0.55, 0.7))
        write(folder / "labels" / "a.txt", good * 10 + bad)
        assert all(
            edges(box) == pytest.approx((40, 21, 60, 39)) for box in read_annotations(folder).images[0].boxes
        )
        write(folder / "labels" / "b.txt", bad)
        assert "labels/a.txt: line 1: lines of 17 numbers may be outlines, or landmarks" in refusal(folder)

    def test_an_outline_that_ends_as_a_tracker_does(self, folder: Path) -> None:
        write(folder / "labels" / "a.txt", "0 .2 .1 .4 .3 .4 .5 .1 .5 .57 1\n")
        write(folder / "data.yaml", self.NAMES)
        assert "a score and the number of a track" in refusal(folder)
        write(folder / "labels" / "b.txt", "0 .2 .1 .4 .3 .4 .5 .1 .5 .2 .4\n")
        assert read_annotations(folder).num_boxes == 2
        write(folder / "labels" / "b.txt", "")
        write(folder / "data.yaml", self.NAMES + "task: segment\n")
        assert read_annotations(folder).num_boxes == 1

    def test_corners_of_a_box_that_is_turned_by_less_than_a_pixel(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(folder / "labels" / "a.txt", "0 .2 .1 .4 .104 .399 .5 .199 .496\n")
        assert edges(read_annotations(folder).images[0].boxes[0]) == pytest.approx(
            (19.95, 6.12, 39.95, 29.88)
        )
        assert "1 box turned by a pixel or less: read as upright" in capsys.readouterr().err
        with pytest.raises(AnnotationError, match=r"a\.txt: line 1: the box is rotated"):
            read_annotations(folder, strict=True)

    def test_splits_are_read_one_by_one_or_together(self, folder: Path) -> None:
        write(folder / "data.yaml", self.NAMES)
        for split, name in (("train", "a"), ("val", "b")):
            (folder / "images" / split).mkdir()
            (folder / "images" / f"{name}.png").rename(folder / "images" / split / f"{name}.png")
            write(folder / "labels" / split / f"{name}.txt", "0 0.3 0.3 0.2 0.4\n")
        assert read_annotations(folder).num_boxes == 2
        assert states(read_annotations(folder / "labels" / "val")) == {"b.png": (1, True)}

    @pytest.mark.parametrize(
        ("lines", "yaml", "says"),
        [
            ("0 0.3 0.3 0.2\n", NAMES, "labels/a.txt: line 1: not understood: '0 0.3 0.3 0.2'"),
            ("\nduck 0.3 0.3 0.2 0.4\n", NAMES, "line 2: not understood: 'duck 0.3 0.3 0.2 0.4'"),
            ("0 0.3 0.3 0.2 nan\n", NAMES, "line 1: not understood"),
            ("0 0.3 0.3 0.2 0.4 0.9\n", NAMES, "line 1: six numbers"),
            (
                "0 0.5 0.5 0.2 0.4 0.57 1\n",
                NAMES,
                "a score and the number of a track: 0.57 1\nhint: a detector",
            ),
            ("0 0.5 0.5 0.2 0.4 0.57 31\n", NAMES, "a score and the number of a track: 0.57 31"),
            (
                "0 .2 .1 .4 .3 .4 .5 .1 .5 .57 1\n0 .2 .1 .4 .3 .4 .5 .1 .5 .1 .4 .6 2\n",
                NAMES,
                "line 1: the last two numbers may be a score and the number of a track: 0.57 1",
            ),
            (
                "0 .5 .5 .2 .2 .45 .45 .9 .55 .45 .8 .45 .55 .95 .55 .55 .7\n",
                NAMES,
                "line 1: each point after the box seems to have a score\nhint: a detector",
            ),
            (
                "0 .5 .5 .2 .2\n0 .1 .1 .5 .1 .6 .4\n",
                NAMES + "kpt_shape: [17, 3]\n",
                "line 2: 6 numbers after the class\nhint: kpt_shape: [17, 3] in data.yaml means 55, or 4",
            ),
            ("0 .5 .5 .2 .2\n", NAMES + "kpt_shape: 17\n", "data.yaml: kpt_shape is not understood: 17"),
            ("0 30 20 20 24\n", NAMES, "line 1: must be parts of the photo, 0 to 1: 30"),
            ("0 -30 .2 .2 .2\n", NAMES, "line 1: must be parts of the photo, 0 to 1: -30"),
            ("0 1.1 0.3 0.4 0.4\n", NAMES, "a.png: box 1: lies outside the photo"),
            ("2 0.3 0.3 0.2 0.4\n", NAMES, "line 1: class 2 has no name in data.yaml"),
            ("0 .2 .1 .4 .3 .4 .5 .1 .5\n", NAMES, "the box is rotated"),
            ("0 .2 .1 .4 .3 .4 .5 .1\n", NAMES, "an outline of 7 numbers"),
            (
                "0 0.3 0.3 0.2 0.4\n",
                "names: {duck: 0}\n",
                "data.yaml: names: a class id must be a whole number",
            ),
            ("0 0.3 0.3 0.2 0.4\n", "names: [[duck]]\n", "data.yaml: names must be a list of texts"),
            ("0 0.3 0.3 0.2 0.4\n", "nc: 3\nnames: [a, b]\n", "nc is 3, but 2 classes have names"),
            ("0 0.3 0.3 0.2 0.4\n", "names: [a, a]\n", "data.yaml: 2 classes have one label: 'a'"),
            ("0 0.3 0.3 0.2 0.4\n", "a: &x [1]\nnames: *x\n", "data.yaml: line 2: an alias"),
            ("0 0.3 0.3 0.2 0.4\n", "names: [a\n", "data.yaml: not valid YAML"),
            ("0 0.3 0.3 0.2 0.4\n", "names:\n" + "- " * 30 + "a\n", "nested too deeply"),
            (
                "0 0.3 0.3 0.2 0.4\n",
                "names: [a]\nnames: [b]\n",
                "data.yaml: line 2: a key that is no text, or stands twice: 'names'\nhint: data.yaml",
            ),
            (
                "0 0.3 0.3 0.2 0.4\n",
                "names:\n  0: a\n  ? [b, c]\n  : d\n",
                "data.yaml: line 3: a key that is no text, or stands twice: \"['b', 'c']\"",
            ),
            (
                "0 0.3 0.3 0.2 0.4\n",
                "nc: 1\nnames:\n  0: a\n  1: [b\n",
                'not valid YAML: while parsing a flow sequence in "<unicode string>", line 4, column 6',
            ),
            ("0 0.3 0.3 0.2 0.4\n", "names: [a]\n---\n{}\n", "data.yaml: 2 YAML documents instead of one"),
            ("0 0.3 0.3 0.2 0.4\n", "names: " + "[" * 40_000, " nest"),
            ("0 0.3 0.3 0.2 0.4\n", "names: [a]\n" + "#" * 100_000, "larger than 100,000 bytes"),
        ],
    )
    def test_refusals(self, folder: Path, lines: str, yaml: str, says: str) -> None:
        write(folder / "labels" / "a.txt", lines)
        write(folder / "data.yaml", yaml)
        assert says in refusal(folder)

    def test_plain_values_stay_the_texts_they_are(self, folder: Path) -> None:
        written = ("no", "~", "1", "1e3", "2024-01-01", "0x10", "!!int 7", "!!python/name:os.system x", "=")
        write(folder / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        write(
            folder / "data.yaml", "names:\n" + "".join(f"  {n}: {text}\n" for n, text in enumerate(written))
        )
        labels = tuple(text.split()[-1] for text in written)
        assert read_annotations(folder).labels == labels

    def test_two_lists_of_names(self, folder: Path) -> None:
        write(folder / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        for name in ("data.yaml", "other.yaml"):
            write(folder / name, self.NAMES)
        assert "two files name the classes: data.yaml, other.yaml\nhint: keep one" in refusal(folder)


def shape(**fields: Any) -> dict[str, Any]:
    return {"label": "duck", "shape_type": "rectangle", "points": [[40, 30], [20, 6]]} | fields


def labelme(*shapes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    content = {
        "version": "5.5.0",
        "imagePath": "..\\images\\a.png",
        "imageData": "aGVsbG8=",
        "shapes": list(shapes),
    }
    return content | {"imageHeight": 60, "imageWidth": 100} | fields


class TestLabelme:
    def test_flags_are_counted_and_speak_against_an_empty_photo(self, folder: Path) -> None:
        write(
            folder / "json" / "a.json", labelme(shape(flags={"occluded": True, "cut": False}), checked=False)
        )
        empty = labelme(imagePath="b.png", flags={"bad": True}, imageHeight=None, imageWidth=None)
        write(folder / "json" / "b.json", empty)
        raw = read_raw(folder / "json")
        assert raw.remarks == ("not read: flag occluded (1), checked: false (1), flag bad (1)",)
        assert states(to_annotation_set(raw, folder / "images"))["b.png"] == (0, False)

    @pytest.mark.parametrize("others", [(), ("duck",)])
    def test_labelmes_own_label_of_what_is_to_ignore(self, folder: Path, others: tuple[str, ...]) -> None:
        shapes = [shape(label=label) for label in ("__ignore__", *others)]
        write(folder / "json" / "a.json", labelme(*shapes))
        got = read_annotations(folder / "json", folder / "images", label="duck")
        assert got.labels == ("duck",)
        first = got.images[0].boxes[0]
        assert (first.label, first.ignore) == ("duck", True)
        assert got.num_boxes == len(others)

    def test_labelmes_own_label_is_to_ignore_for_every_class(self, folder: Path) -> None:
        shapes = [shape(label=label) for label in ("cat", "__ignore__", "dog")]
        write(folder / "json" / "a.json", labelme(*shapes))
        got = read_annotations(folder / "json", folder / "images")
        assert got.labels == ("cat", "dog")
        assert [box.label for box in got.images[0].boxes if box.ignore] == ["cat", "dog"]
        assert got.num_boxes == 2

    def test_shapes_that_have_a_box(self, folder: Path) -> None:
        shapes = [
            shape(flags={"ignore": True}),
            shape(points=[[20, 6], [40, 6], [40, 30], [20, 30]]),
            shape(shape_type="polygon", points=[[20, 10], [40, 6], [30, 30]], label="cup", group_id=1),
            shape(shape_type="circle", points=[[30, 18], [30, 24]]),
            shape(shape_type="mask", points=[[20, 6], [39, 29]]),
            shape(shape_type="point", points=[[20, 6]]),
        ]
        del shapes[2]["shape_type"]  # as labelme 2 did
        write(folder / "json" / "a.json", labelme(*shapes))
        write(folder / "json" / "b.json", labelme(imagePath="b.png", imageHeight=None, imageWidth=None))
        raw = read_raw(folder / "json")
        got = to_annotation_set(raw, folder / "images")
        assert states(got) == {"a.png": (5, True), "b.png": (0, True), "c.png": (0, False)}
        boxes = got.images[0].boxes
        assert [edges(box) for box in boxes] == [(20, 6, 40, 30)] * 3 + [(24, 12, 36, 24), (20, 6, 40, 30)]
        assert [box.ignore for box in boxes] == [True, False, False, False, False]
        assert raw.remarks == (
            "not read: outlines and masks, but for the box around each (3), points and lines (1)",
        )

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (
                labelme(shape(shape_type="oriented_rectangle")),
                "a.json: shapes[0]: points must be four points",
            ),
            (labelme(shape(points=[[20, 10], [30, 6], [40, 20], [30, 24]])), "shapes[0]: the box is rotated"),
            (labelme(shape(), shape(points=[[1, 2]])), "shapes[1]: points must be two points: [[1, 2]]"),
            (labelme(shape(points=[[1, "x"], [3, 4]])), "points must be a list of points [x, y]"),
            (labelme(shape(points=7)), "points must be a list of points: 7"),
            (labelme(shape(shape_type="star")), "shape_type must be rectangle, polygon, circle"),
            (labelme(shape(label=None)), "label must be a text: None"),
            (labelme(shape(flags={"ignore": "no"})), "flags: ignore must be true or false: 'no'"),
            (labelme(shape(shape_type="polygon", points=[])), "an outline of 0 points"),
            (labelme(*[shape(shape_type="polygon", group_id=3)] * 2), "2 outlines are in one group, '3'"),
            (labelme(imageWidth=60, imageHeight=100), "a.json: a.png: width x height differ: 60 x 100"),
            (labelme() | {"shapes": None}, "shapes must be a list: None"),
        ],
    )
    def test_refusals(self, folder: Path, content: object, says: str) -> None:
        write(folder / "images" / "a.json", content)
        assert says in refusal(folder / "images" / "a.json")


SIDES = {"x": 20, "y": 10, "width": 20, "height": 40, "rotation": 0}


def region(
    kind: str = "rectanglelabels", region_id: str = "r", original_width: int = 100, **value: Any
) -> dict[str, Any]:
    """A region with the fields ``value`` and a label, or a box."""
    value = {kind: ["duck"]} | (value or SIDES)
    sizes = {"original_width": original_width, "original_height": 60}
    return {"id": region_id, "type": kind, "value": value, **sizes}


def task(
    *regions: dict[str, Any], image: str = "/data/upload/2/0a1b2c3d-a.png", **fields: Any
) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions)}]} | fields


class TestLabelStudio:
    def test_the_three_states_and_what_is_left_out(self, folder: Path) -> None:
        regions = [
            region() | {"meta": {"text": ["ignore"]}},
            region("polygonlabels", points=[[20, 50], [40, 10], [30, 20]]),
            region("ellipselabels", x=30, y=30, radiusX=10, radiusY=20),
            region("choices", choices=["good"]),
            region("rectangle", "s"),
            region("labels", "s"),
        ]  # fmt: skip
        tasks = [
            task(*regions, predictions=[{"result": [region()]}]),
            task(image="/data/local-files/?d=images%2Fb.png"),
            task(image="s3://bucket/c.png", annotations=[{"result": [region()], "was_cancelled": True}]),
        ]
        raw = read_raw(write(folder / "export.json", tasks))
        assert raw.format == "labelstudio"
        got = to_annotation_set(raw, folder / "images")
        assert states(got) == {"a.png": (4, True), "b.png": (0, True), "c.png": (0, False)}
        assert [edges(box) for box in got.images[0].boxes] == [pytest.approx((20, 6, 40, 30))] * 4
        assert [box.ignore for box in got.images[0].boxes] == [True, False, False, False]
        assert raw.remarks == (
            "not read: predictions (1), outlines and masks, but for the box around each (2), choices (1)",
        )

    @pytest.mark.parametrize(
        ("address", "name"),
        [
            ("/data/upload/1/0a1b2c3d-my_photo_1.jpg", "my photo (1).jpg"),
            ("https://host/x/K%C3%BCche.jpg?sig=1%2F2#top", "Küche.jpg"),
            ("gs://bucket/deep/Küche.jpg", "Küche.jpg"),
            ("/data/local-files/?d=C%3A%5Cphotos%5CK%C3%BCche.jpg", "Küche.jpg"),
            ("0a1b2c3d-cup.jpg", "0a1b2c3d-cup.jpg"),
            ("100%25.jpg", "100%.jpg"),
            ("http://[broken/cup#2.jpg", "cup#2.jpg"),
        ],
    )
    def test_addresses_of_photos(self, tmp_path: Path, address: str, name: str) -> None:
        for other in (name, "cup.jpg"):
            Image.new("RGB", (100, 60)).save(tmp_path / other)
        got = read_annotations(write(tmp_path / "export.json", [task(region(), image=address)]))
        assert got.images[0].path.name == name

    def test_a_photo_under_another_key_and_the_true_one_of_two_annotations(self, folder: Path) -> None:
        both = [{"result": []}, {"result": [region()], "ground_truth": True}]
        tasks = [task(annotations=both) | {"data": {"photo": "a.png", "title": "a photo", "n": 3}}]
        got = read_annotations(write(folder / "export.json", tasks), folder / "images")
        assert states(got)["a.png"] == (1, True)

    @pytest.mark.parametrize(
        ("data", "marked"),
        [
            ({"img": "a.png", "similar": ["b.png", "c.png"]}, "img"),
            ({"img": "a.png", "similar": ["a.png", "b.png"]}, "img"),
            ({"img": "a.png", "similar": ["b.png", "c.png"]}, "picture"),
            ({"pages": ["a.png"], "example": "b.png"}, "pages"),
            ({"pages": ["a.png"]}, "pages"),
            ({"image": ["a.png"]}, "image"),
        ],
    )
    def test_photos_in_lists(self, folder: Path, data: dict[str, object], marked: str) -> None:
        tasks = [task(region() | {"to_name": marked}) | {"data": data}]
        got = read_annotations(write(folder / "export.json", tasks), folder / "images")
        assert states(got)["a.png"] == (1, True)

    def test_a_region_of_any_kind_that_marks_no_place_does_no_harm(self, folder: Path) -> None:
        beside = [
            {"id": "k", "to_name": "text", "type": kind, "value": {kind: value}}
            for kind, value in (
                ("chatmessage", {"createdAt": 1750000000, "content": "hi"}),
                ("mood", ["good"]),
            )
        ]
        raw = read_raw(write(folder / "export.json", [task(region(), *beside)]))
        assert len(raw.photos[0].boxes) == 1
        assert raw.remarks == ("not read: chatmessage (1), mood (1)",)

    @pytest.mark.parametrize(
        ("tasks", "says"),
        [
            ([task(region() | {"image_rotation": 90})], "annotations[0]: result[0]: the box is rotated"),
            ([task(region(**SIDES | {"rotation": 30}))], "result[0]: the box is rotated"),
            ([task(region("brushlabels", rle=[1]))], "'brushlabels' is no box"),
            ([task(region("bitmasklabels", imageDataURL="data:"))], "'bitmasklabels' is no box"),
            ([task(region("bitmask", imageDataURL="data:"))], "'bitmask' is no box"),
            ([task(region("reactcode", reactcode={"x": 1}))], "'reactcode' is no box"),
            ([task(region() | {"item_index": 1})], "task[0]: regions of several photos"),
            ([task() | {"data": {"pages": ["a.png", "b.png"], "title": "a.png"}}], "2 photos are named"),
            ([task() | {"data": {"image": ["a.png", "b.png"]}}], "2 photos are named"),
            ([task(region() | {"type": "plan", "value": {"plan": {"at": [3]}}})], "'plan' is no box"),
            ([task(region(**SIDES, rectanglelabels=["a", "b"]))], "must be a list with one label"),
            ([task(region(x=1))], "value: y is missing"),
            ([task(region("rectangle"))], "value: labels is missing"),
            ([task(region(original_width=99))], "task[0]: a.png: width x height differ: 99 x 60 in the file"),
            ([task(region(), region(original_width=99))], "regions state different sizes of the photo"),
            ([task(annotations=[{"result": []}] * 2)], "2 annotations of one photo\nhint: mark one"),
            ([task() | {"data": {"text": "hello"}}], "task[0]: data: 0 photos are named"),
            ([task(), 7], "task[1] must be an object: 7"),
            ([task(image="x.png")], "task[0]: photo not found: 'x.png'"),
            ([task(region(**SIDES | {"x": 90}))], "a.png: box 1: lies outside the photo"),
        ],
    )  # fmt: skip
    def test_refusals(self, folder: Path, tasks: object, says: str) -> None:
        assert says in refusal(write(folder / "export.json", tasks), folder / "images")

    def test_another_kind_of_export(self, folder: Path) -> None:
        path = write(folder / "export.json", [{"image": "a.png", "label": [], "id": 1}])
        with pytest.raises(AnnotationError, match="not Label Studio's export 'JSON'"):
            read_annotations(path, folder / "images", format="labelstudio")

    def test_read_as_another_format_it_is_not_shown_whole(self, folder: Path) -> None:
        path = write(folder / "export.json", [task(region(), region(), region())] * 6)
        with pytest.raises(AnnotationError, match=r"must be an object: \[\{") as caught:
            read_annotations(path, folder / "images", format="coco")
        assert len(caught.value.message) < 200


def cvat(*shapes: str, labels: str = "<label><name>duck</name></label>") -> str:
    return (
        f"<annotations><version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
        f'<image id="0" name="sub/a.png" width="100" height="60">{"".join(shapes)}</image>'
        '<image id="1" name="b.png" reviewed="1"/><image id="2" name="c.png"/></annotations>'
    )


CVAT_BOX = (
    '<box label="duck" xtl="20.00" ytl="6.00" xbr="40.00" ybr="30.00" rotation="0.0" z_order="0"></box>'
)


class TestCVAT:
    def test_shapes_states_and_the_order_of_labels(self, folder: Path) -> None:
        shapes = [
            '<polygon label="cup" points="20.0,10;40,6;30,30" occluded="1"/>',
            CVAT_BOX.replace("></box>", '><attribute name="ignore">true</attribute></box>'),
            '<ellipse label="cup" cx="30" cy="18" rx="10" ry="12"/>',
            '<mask label="cup" rle="1,2" left="20" top="6" width="20" height="24"/>',
            '<polyline label="cup" points="1,2;3,4"/><points label="cup" points="1,2"/><tag label="good"/>',
        ]
        raw = read_raw(write(folder / "annotations.xml", cvat(*shapes)))
        got = to_annotation_set(raw, folder / "images")
        assert states(got) == {"a.png": (4, True), "b.png": (0, True), "c.png": (0, False)}
        assert [edges(box) for box in got.images[0].boxes] == [(20, 6, 40, 30)] * 4
        assert [box.ignore for box in got.images[0].boxes] == [True, False, False, False]
        assert got.labels == ("duck", "cup")
        assert raw.remarks == (
            "not read: outlines and masks, but for the box around each (3), occluded (1), "
            "points and lines (2), tags of photos (1)",
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (cvat(CVAT_BOX.replace('rotation="0.0"', 'rotation="12.5"')), "box 1: the box is rotated"),
            (cvat(CVAT_BOX, CVAT_BOX.replace('ytl="6.00"', "")), "'sub/a.png': box 2: ytl is missing"),
            (cvat(CVAT_BOX.replace("40.00", "4O")), "box 1: xbr must be a number: '4O'"),
            (cvat('<polygon label="cup" points="1,2;3"/>'), "polygon 1: points must be x,y;x,y;...: '3'"),
            (cvat('<polygon label="cup" points="1,2"/>'), "an outline of 1 point"),
            (cvat(*['<polygon label="cup" group_id="4" points="1,2;3,4;5,6"/>'] * 2), "in one group, '4'"),
            (cvat('<cuboid label="cup"/>'), "a cuboid or a skeleton is no box"),
            ('<annotations><track id="0"/></annotations>', "made of tracks"),
        ],
    )
    def test_refusals(self, folder: Path, text: str, says: str) -> None:
        assert says in refusal(write(folder / "annotations.xml", text), folder / "images")


class TestCOCOOfTools:
    def test_that_the_only_class_should_have_a_name_is_told(self, folder: Path) -> None:
        images = [{"id": 1, "file_name": "a.png"}]
        box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [20, 6, 20, 24]}
        path = write(folder / "boxes.json", {"images": images, "annotations": [box], "categories": []})
        assert read_raw(path).remarks == ("category 7 has no name, and counts as the only class",)
        assert to_annotation_set(read_raw(path), folder / "images").labels == ("object",)
        write(path, {"images": images, "annotations": [box | {"category_id": 1}], "categories": []})
        assert read_raw(path).remarks == ()

    def test_outlines_are_left_out_and_rotated_boxes_refused(self, folder: Path) -> None:
        box = {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [20, 6, 20, 24],
            "segmentation": [[1, 2, 3, 4, 5, 6]],
        }
        content = {
            "images": [{"id": 1, "file_name": "a.png", "license": 4, "date_captured": ""}],
            "annotations": [box | {"attributes": {"rotation": 0.0, "occluded": False}}],
            "categories": [{"id": 1, "name": "duck"}],
        }
        raw = read_raw(write(folder / "coco.json", content))
        assert raw.remarks == ("not read: license (1), segmentation (1), attributes (1)",)
        assert edges(to_annotation_set(raw, folder / "images").images[0].boxes[0]) == (20, 6, 40, 30)
        for turned in (
            {"attributes": {"rotation": 45.0}},
            {"attributes": {"rotation": 0.0}, "rotation": 30.0},
            {"rotation": "30"},
            {"rotation": 30.0},
            {"angle": 0.5},
            {"theta": -0.5},
        ):
            content["annotations"] = [box | turned]
            path = write(folder / "coco.json", content)
            assert "coco.json: annotations[0]: the box is rotated" in refusal(path, folder / "images")


class TestRecognition:
    @pytest.mark.parametrize(
        ("name", "text", "says"),
        [
            (
                "darwin.json",
                '{"version": "2.0", "item": {"name": "a.png"}, "annotations": [{"name": "duck", "id": 1}]}',
                "darwin.json: no boxes in a format that can be read here",
            ),
            (
                "boxes.jsonl",
                '{"image": "a.png"}\n{"image": "b.png"}\n',
                "not valid JSON, but JSON in lines\nhint: write",
            ),
        ],
    )
    def test_formats_of_other_tools(self, folder: Path, name: str, text: str, says: str) -> None:
        write(folder / name, text)
        assert says in refusal(folder / name)

    def test_a_folder_in_two_formats(self, folder: Path) -> None:
        write(folder / "images" / "a.xml", voc(DUCK))
        write(folder / "images" / "boxes.csv", "image,x1,y1,x2,y2\na.png,1,2,3,4\n")
        text = refusal(folder / "images")
        assert "boxes in several formats: csv, voc" in text
        assert "--from FORMAT" in text
        assert read_annotations(folder, format="voc").images[0].boxes[0].label == "duck"
        assert read_annotations(folder / "images", format="csv").num_boxes == 1
        write(folder / "images" / "more.csv", "image,x1,y1,x2,y2\nb.png,1,2,3,4\n")
        with pytest.raises(AnnotationError, match=r"2 files in the format csv: boxes\.csv, more\.csv"):
            read_annotations(folder / "images", format="csv")

    def test_other_files_in_the_folder_do_not_matter(self, folder: Path) -> None:
        write(folder / "images" / "a.xml", voc(DUCK))
        write(folder / "images" / "notes.txt", "hello")
        write(folder / "results.csv", "epoch,loss\n1,2\n")
        write(folder / "package.json", {"name": "x"})
        write(folder / ".hidden" / "annotations.json", {"images": [], "annotations": []})
        assert read_annotations(folder).num_boxes == 1

    def test_linked_folders_are_followed_and_not_for_ever(self, folder: Path, tmp_path: Path) -> None:
        data = tmp_path / "data"
        write(data / "labels" / "a.txt", "0 0.3 0.3 0.2 0.4\n")
        (data / "images").symlink_to(folder / "images")
        (data / "round").symlink_to(data)
        assert states(read_annotations(data)) == {
            "a.png": (1, True),
            "b.png": (0, False),
            "c.png": (0, False),
        }

    def test_a_damaged_file_is_not_passed_over_for_another(self, folder: Path) -> None:
        write(folder / "images" / "annotations.json", '{"images": [')
        assert "annotations.json: line 1, column 13: not valid JSON" in refusal(folder / "images")
        write(folder / "images" / "boxes.csv", "image,x1,y1,x2,y2\na.png,1,2,3,4\n")
        assert "annotations.json: line 1, column 13: not valid JSON" in refusal(folder / "images")
        assert read_annotations(folder / "images", format="csv").num_boxes == 1

    @pytest.mark.parametrize("form", ["voc", "labelme", "yolo", "csv", "cvat", "coco", "labelstudio"])
    def test_a_folder_without_the_format_that_was_named(self, folder: Path, form: str) -> None:
        with pytest.raises(AnnotationError, match=f"no file in the format {form}"):
            read_annotations(folder, format=form)


@pytest.mark.shared
class TestRealFiles:
    """The same boxes from two formats of one data set, and a YOLO data set as it is published."""

    @pytest.fixture
    def data(self, shared: Path) -> Path:
        return shared / "data"

    def test_microcontrollers_in_voc_and_in_the_table_made_of_it(self, data: Path) -> None:
        photos = data / "microcontrollers" / "images"
        for split in ("test", "train"):
            xml = read_annotations(photos / split)
            table = read_annotations(photos / f"{split}_labels.csv", photos / split)
            assert {i.path.name: i.boxes for i in xml} == {i.path.name: i.boxes for i in table}
            assert set(xml.labels) == set(table.labels)
        with pytest.raises(FewboxError, match="several formats: csv, voc"):
            read_annotations(photos)

    def test_raccoons(self, data: Path) -> None:
        got = read_annotations(data / "raccoon")
        got.require_reviewed()
        assert (len(got), got.num_boxes, got.labels) == (200, 217, ("raccoon",))

    def test_coco128(self, data: Path) -> None:
        got = read_annotations(data / "coco128_val")
        labels = data / "coco128_val" / "labels_yolo"
        lines = sum(len(path.read_text().splitlines()) for path in labels.iterdir())
        assert (len(got), got.num_boxes, len(got.labels)) == (128, lines, 80)
        assert got.labels[:2] == ("person", "bicycle")
