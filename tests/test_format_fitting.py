"""Boxes that nearly fit are made to, others are refused, and no box is lost in silence: in every format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewbox.cli import main
from fewbox.data.annotations import AnnotationSet, Box
from fewbox.data.formats import read_annotations
from fewbox.errors import AnnotationError

WIDTH, HEIGHT = 200, 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo of 200 x 100 pixels."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    return tmp_path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(*boxes: dict[str, Any], categories: object = None, **image: Any) -> dict[str, Any]:
    """A file with one photo; a box takes what it does not say from an ordinary one."""
    ordinary = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 40, 50]}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT} | image],
        "annotations": [ordinary | box for box in boxes],
        "categories": categories or [{"id": 1, "name": "duck"}],
    }


def coco_file(folder: Path, x1: float, y1: float, x2: float, y2: float) -> Path:
    return write(folder / "b.json", coco({"bbox": [x1, y1, x2 - x1, y2 - y1]}))


def csv_file(folder: Path, *edges: float) -> Path:
    return write(folder / "b.csv", "image,x1,y1,x2,y2,label\na.png," + ",".join(map(str, edges)) + ",duck\n")


def voc_file(folder: Path, *edges: float) -> Path:
    sides = "".join(
        f"<{tag}>{edge}</{tag}>" for tag, edge in zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    )
    size = f"<size><width>{WIDTH}.0</width><height>{HEIGHT}</height></size>"
    inner = f"<object><name>duck</name><bndbox>{sides}</bndbox></object>"
    return write(folder / "a.xml", f"<annotation><filename>a.png</filename>{size}{inner}</annotation>")


def yolo_file(folder: Path, x1: float, y1: float, x2: float, y2: float) -> Path:
    parts = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
    return write(folder / "a.txt", " ".join(map(str, (0, *parts))))


def cvat_file(folder: Path, *edges: float) -> Path:
    sides = " ".join(
        f'{name}="{edge}"' for name, edge in zip(("xtl", "ytl", "xbr", "ybr"), edges, strict=True)
    )
    image = f'<image name="a.png" width="{WIDTH}.0" height="{HEIGHT}"><box label="duck" {sides}/></image>'
    return write(folder / "b.xml", f"<annotations>{image}</annotations>")


def labelme_file(folder: Path, x1: float, y1: float, x2: float, y2: float) -> Path:
    shapes = [{"label": "duck", "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}]
    size = {"imageHeight": float(HEIGHT), "imageWidth": str(WIDTH)}
    return write(folder / "a.json", {"shapes": shapes, "imagePath": "a.png"} | size)


def label_studio_file(folder: Path, x1: float, y1: float, x2: float, y2: float, **value: Any) -> Path:
    sides = {"x": x1 / WIDTH * 100, "y": y1, "width": (x2 - x1) / WIDTH * 100, "height": y2 - y1}
    size = {"original_width": float(WIDTH), "original_height": HEIGHT}
    region = {
        "id": "r",
        "type": "rectanglelabels",
        "value": sides | {"rectanglelabels": ["duck"]} | value,
    } | size
    return write(folder / "b.json", [{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}])


FILES = [coco_file, csv_file, voc_file, yolo_file, cvat_file, labelme_file, label_studio_file]


def edges(annotations: AnnotationSet) -> list[tuple[float, ...]]:
    return [(box.x1, box.y1, box.x2, box.y2) for image in annotations for box in image.boxes]


@pytest.mark.parametrize("file", FILES)
class TestEveryFormat:
    def test_a_box_over_the_edge_is_cut(
        self, folder: Path, capsys: pytest.CaptureFixture[str], file: Callable[..., Path]
    ) -> None:
        path = file(folder, -2.5, 10, 60, 104)
        assert edges(read_annotations(path, folder, label="duck"))[0] == pytest.approx((0, 10, 60, 100))
        said = capsys.readouterr().err
        assert (
            said == f"{path.name}: 1 box reaches over the edge of the photo: cut there (by up to 4 pixels)\n"
        )
        with pytest.raises(AnnotationError, match="lies outside the photo"):
            read_annotations(path, folder, label="duck", strict=True)

    @pytest.mark.parametrize("outside", [(-50, 10, 40, 60), (210, 10, 250, 60), (20, 110, 60, 150)])
    def test_a_box_mostly_outside_is_refused(
        self, folder: Path, file: Callable[..., Path], outside: tuple[float, ...]
    ) -> None:
        with pytest.raises(AnnotationError, match="lies outside the photo"):
            read_annotations(file(folder, *outside), folder)

    def test_a_flat_box_is_left_out_and_leaves_no_empty_photo(
        self, folder: Path, capsys: pytest.CaptureFixture[str], file: Callable[..., Path]
    ) -> None:
        path = file(folder, 20, 10, 20, 60)
        (image,) = read_annotations(path, folder)
        assert (image.boxes, image.reviewed) == ((), False)
        said = capsys.readouterr().err
        assert "1 box without width or height: left out; 1 photo has no other box: not looked at" in said
        with pytest.raises(AnnotationError, match="x2 must be greater than x1"):
            read_annotations(path, folder, strict=True)


class TestPhotosOfAnotherSize:
    def test_where_no_size_is_stated_less_is_cut(self, folder: Path) -> None:
        assert edges(read_annotations(csv_file(folder, 150, 10, 210, 60))) == [(150, 10, 200, 60)]
        with pytest.raises(AnnotationError, match="lies outside the photo"):
            read_annotations(csv_file(folder, 150, 10, 211, 60))
        assert edges(read_annotations(voc_file(folder, 150, 10, 211, 60))) == [(150, 10, 200, 60)]

    def test_boxes_that_fit_the_photo_as_it_lay(self, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (HEIGHT, WIDTH)).save(folder / "a.png", exif=exif)  # upright 200 x 100
        with pytest.raises(AnnotationError, match="lies outside the photo") as caught:
            read_annotations(csv_file(folder, 20, 30, 90, 104))
        assert "turned upright" in caught.value.hint
        assert edges(read_annotations(yolo_file(folder, 20, 30, 90, 104)))[0] == pytest.approx(
            (20, 30, 90, 100)
        )


class TestTurnedBoxes:
    @pytest.mark.parametrize("degrees", [0.1, -0.1, 359.9])
    def test_a_tenth_of_a_degree(
        self, folder: Path, capsys: pytest.CaptureFixture[str], degrees: float
    ) -> None:
        box = f'<box label="duck" xtl="20" ytl="10" xbr="160" ybr="90" rotation="{degrees}"/>'
        files = [
            write(folder / "b.xml", f'<annotations><image name="a.png">{box}</image></annotations>'),
            write(folder / "b.json", coco({"bbox": [20, 10, 140, 80], "attributes": {"rotation": degrees}})),
            label_studio_file(folder / "c", 20, 10, 160, 90, rotation=degrees),
        ]
        for path in files:
            assert edges(read_annotations(path, folder))[0] == pytest.approx((20, 10, 160, 90))
            assert "1 box turned by a pixel or less: read as upright" in capsys.readouterr().err
            with pytest.raises(AnnotationError, match="the box is rotated"):
                read_annotations(path, folder, strict=True)

    def test_two_degrees_move_a_corner_too_far(self, folder: Path) -> None:
        for path in (
            write(folder / "b.json", coco({"bbox": [20, 10, 140, 80], "attributes": {"rotation": 2}})),
            label_studio_file(folder / "c", 20, 10, 160, 90, rotation=2),
        ):
            with pytest.raises(AnnotationError, match="the box is rotated"):
                read_annotations(path, folder)

    @pytest.mark.parametrize("kind", ["rectangle", "oriented_rectangle", "rotation"])
    def test_four_corners_in_labelme(self, folder: Path, kind: str) -> None:
        shape = {"label": "duck", "shape_type": kind}
        for lift, is_read in ((0.4, True), (4, False)):
            points = [[20, 10], [160, 10 + lift], [160 - lift, 90 + lift], [20 - lift, 90]]
            path = write(folder / "a.json", {"shapes": [shape | {"points": points}], "imagePath": "a.png"})
            if is_read:
                assert edges(read_annotations(path))[0] == pytest.approx((19.8, 10.2, 159.8, 90.2))
            else:
                with pytest.raises(AnnotationError, match="the box is rotated"):
                    read_annotations(path)


class TestStrictCommands:
    def test_convert_and_check(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = csv_file(folder, -2.5, 10, 60, 60)
        out = folder / "out"
        assert main(["convert", str(path), str(folder), "-o", str(out), "--to", "yolo"]) == 0
        assert "1 box reaches over the edge" in capsys.readouterr().err
        shutil.rmtree(out)
        assert main(["convert", str(path), str(folder), "-o", str(out), "--to", "yolo", "--strict"]) == 2
        check = ["check", str(folder), "--boxes", str(path)]
        assert main(check) == 0
        assert (
            "boxes that reach over the edge of their photo, and are cut there: 1" in capsys.readouterr().out
        )
        assert main([*check, "--strict"]) == 1
        assert "boxes outside their photo: 1" in capsys.readouterr().out

    @pytest.mark.parametrize("command", ["finetune", "finetune-deep", "evaluate", "export"])
    def test_the_others_know_it(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "--strict" in capsys.readouterr().out


class TestCOCOOfOtherTools:
    @pytest.mark.parametrize(
        "content",
        [
            coco({"id": "a-1", "image_id": "img-1", "category_id": "1"}, id="img-1"),
            coco({"id": 0, "image_id": "0"}, id=0, categories=[{"id": 1, "name": "duck"}] * 3),
            coco({"image_id": 1.0}, width=200.0, height="100"),
            coco({"iscrowd": None}, width=None, height=None, reviewed=None),
            coco({"bbox": ["20", "10.0", "40", "50"]}, width=0, height=0),
            coco({"bbox": None, "segmentation": [[20, 10, 60, 30, 40, 60], [30, 20, 35, 30, 30, 30]]}),
            coco({}) | {"images": coco()["images"] * 2},
        ],
    )
    def test_it_is_read(self, folder: Path, content: object) -> None:
        got = read_annotations(write(folder / "b.json", content))
        assert [image.boxes for image in got] == [(Box(20, 10, 60, 60, "duck"),)]

    def test_ids_of_boxes_may_be_repeated_or_missing(self, folder: Path) -> None:
        content = coco({}, {"bbox": [80, 10, 40, 50]}, {"id": None, "bbox": [140, 10, 40, 50]})
        assert read_annotations(write(folder / "b.json", content)).num_boxes == 3

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (
                coco({}) | {"images": [*coco()["images"], {"id": "1", "file_name": "b.png"}]},
                "of other photos",
            ),
            (coco({}, categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "of other categories"),
            (coco({"bbox": None, "segmentation": {"counts": "xyz"}}), "must be a list of outlines"),
            (
                coco({"bbox": None, "segmentation": [[20, 10, 60, 30, 40, 60, 5]]}),
                "segmentation: 0 must be pairs of numbers, x and y",
            ),
            (coco({"bbox": None}), "bbox must be four numbers"),
            (coco({}, width=200.5), "width must be a whole number: 200.5"),
            (coco({"image_id": ""}), "image_id must be a whole number or a text"),
        ],
    )
    def test_what_is_not_certain(self, folder: Path, content: object, says: str) -> None:
        with pytest.raises(AnnotationError) as caught:
            read_annotations(write(folder / "b.json", content))
        assert says in caught.value.message

    @pytest.mark.parametrize(
        ("categories", "used", "labels", "says"),
        [
            (
                [("ducks", "none"), ("duck", "ducks")],
                [1],
                ("duck",),
                "'ducks' has no box and is only the parent",
            ),
            ([("duck", "none"), ("duck", "duck")], [1], ("duck",), "2 categories are called 'duck'"),
            ([("duck", "none"), ("cup", "duck"), ("duck", "duck")], [1, 2], ("duck", "cup"), "called 'duck'"),
            ([("duck", "x"), ("duck", "x")], [0, 1], ("duck",), "2 categories are called 'duck'"),
            ([("ducks", "none"), ("duck", "ducks")], [0, 1], ("ducks", "duck"), ""),
            ([("person", "person"), ("cup", "kitchen")], [1], ("person", "cup"), ""),
        ],
    )
    def test_parents_and_namesakes(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        categories: list[tuple[str, str]],
        used: list[int],
        labels: tuple[str, ...],
        says: str,
    ) -> None:
        listed = [
            {"id": n, "name": name, "supercategory": parent} for n, (name, parent) in enumerate(categories)
        ]
        path = write(folder / "b.json", coco(*[{"category_id": n} for n in used], categories=listed))
        got = read_annotations(path)
        assert (got.labels, got.num_boxes) == (labels, len(used))
        said = capsys.readouterr().err
        assert says in said if says else not said

    def test_namesakes_that_are_different_things(self, folder: Path) -> None:
        bats = [
            {"id": n, "name": "bat", "supercategory": parent} for n, parent in enumerate(("animal", "sports"))
        ]
        content = coco({"category_id": 0}, {"category_id": 1}, categories=bats)
        with pytest.raises(AnnotationError, match="two classes have one label: bat"):
            read_annotations(write(folder / "b.json", content))


BNDBOX = "<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>60</ymax></bndbox>"
OBJECT = f"<object><name>duck</name>{BNDBOX}</object>"
SHAPE = {"label": "duck", "points": [[1, 2], [3, 4]]}
REGION = {
    "id": "r",
    "type": "rectanglelabels",
    "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["duck"]},
}


def task(regions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"data": {"image": "a.png"}, "annotations": [{"result": regions}]}


class TestNoBoxIsLostInSilence:
    """A photo whose boxes are not read must not count as looked at and empty."""

    @pytest.mark.parametrize(
        "inner",
        [
            f"<objects>{OBJECT}</objects>",
            OBJECT.replace("object", "Object"),
            BNDBOX,
            "<item><XMin>1</XMin></item>",
            '<v:object xmlns:v="x"><name>duck</name></v:object>',
        ],
    )
    def test_pascal_voc(self, folder: Path, inner: str) -> None:
        write(folder / "a.xml", f"<annotation><filename>a.png</filename>{inner}</annotation>")
        with pytest.raises(AnnotationError, match=r"a\.xml: <.*> in <.*> would not be read") as caught:
            read_annotations(folder)
        assert "an <object> stands directly in <annotation>" in caught.value.hint

    @pytest.mark.parametrize(
        "inner",
        [
            '<images><image name="a.png"/></images>',
            '<Image name="a.png"/>',
            '<image name="a.png" reviewed="1"><Box label="duck"/></image>',
            '<image name="a.png" reviewed="1"><boxes><box label="duck"/></boxes></image>',
        ],
    )
    def test_cvat(self, folder: Path, inner: str) -> None:
        with pytest.raises(AnnotationError, match=r"b\.xml: .*<.*> would not be read"):
            read_annotations(write(folder / "b.xml", f"<annotations>{inner}</annotations>"))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ({"imagePath": "a.png", "shapes": [], "Shapes": [SHAPE]}, "'Shapes' holds boxes"),
            ({"imagePath": "a.png", "shapes": [], "objects": {"1": SHAPE}}, "'objects' holds boxes"),
            (coco() | {"Annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}, "'Annotations' holds boxes"),
            (coco(reviewed=True, boxes=[{"bbox": [1, 2, 3, 4]}]), r"images\[0\]: 'boxes' holds boxes"),
            ([task([REGION]) | {"completions": [{"result": [REGION]}]}], "both annotations and completions"),
            ([task([REGION | {"type": "videorectangle"}])], "'videorectangle' is no box"),
        ],
    )
    def test_json(self, folder: Path, content: object, says: str) -> None:
        with pytest.raises(AnnotationError, match=says):
            read_annotations(write(folder / "a.json", content))

    def test_what_stands_beside_objects_in_pascal_voc_does_no_harm(self, folder: Path) -> None:
        source = "<source><annotation>PASCAL</annotation><image>flickr</image></source>"
        more = f"{source}<owner><name>x</name></owner>"
        write(
            folder / "a.xml", f"<annotation><filename>a.png</filename>{more}<objects/>{OBJECT}</annotation>"
        )
        assert read_annotations(folder).num_boxes == 1

    def test_annotations_of_old_label_studio_are_read(self, folder: Path) -> None:
        path = write(folder / "b.json", [{"data": {"image": "a.png"}, "completions": [{"result": [REGION]}]}])
        assert edges(read_annotations(path))[0] == pytest.approx((2, 1, 20, 10))

    def test_points_alone_leave_no_empty_photo(self, folder: Path) -> None:
        point = {"label": "duck", "shape_type": "point", "points": [[1, 2]]}
        region = {"id": "k", "type": "keypointlabels", "value": {"x": 1, "y": 2, "keypointlabels": ["duck"]}}
        for content in (
            {"imagePath": "a.png", "shapes": [point]},
            [task([region])],
        ):
            (image,) = read_annotations(write(folder / "a.json", content))
            assert not image.reviewed
