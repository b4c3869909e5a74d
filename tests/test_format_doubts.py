"""What two things may be meant by, and what stands where it would be passed over: told, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewbox.data.formats import read_annotations, write_annotations
from fewbox.errors import AnnotationError

BOX = "<bndbox><xmin>11</xmin><ymin>20</ymin><xmax>75</xmax><ymax>120</ymax>{}</bndbox>"


def photo(path: Path, colour: str = "navy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (640, 480), colour).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def found(boxes: Path, photos: Any = None) -> dict[str, list[tuple[str, float, bool]]]:
    """Of every photo that somebody has looked at, class, left edge and ``ignore`` of its boxes."""
    images = read_annotations(boxes, photos).reviewed_only()
    place = boxes if boxes.is_dir() else boxes.parent
    return {
        image.path.relative_to(place).as_posix(): [(box.label, box.x1, box.ignore) for box in image.boxes]
        for image in images
    }


def coco(names: list[str], **fields: Any) -> dict[str, Any]:
    box = {"category_id": 1, "bbox": [11, 20, 64, 100], **fields}
    return {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, **box} for n in range(len(names))],
        "categories": [{"id": 1, "name": "duck"}],
    }


def labelme(name: str, **fields: Any) -> dict[str, Any]:
    shape = {"label": "duck", "shape_type": "rectangle", "points": [[11, 20], [75, 120]], **fields}
    return {"version": "5.5.0", "shapes": [shape], "imagePath": name, "imageHeight": 480, "imageWidth": 640}


class TestPhotos:
    @pytest.mark.parametrize("form", ["coco", "csv"])
    def test_the_photo_beside_the_file_is_not_replaced_by_that_of_another_split(
        self, tmp_path: Path, form: str
    ) -> None:
        photo(tmp_path / "train" / "1.jpg")
        photo(tmp_path / "test" / "1.jpg", "green")
        if form == "coco":
            boxes = write(tmp_path / "train" / "boxes.json", coco(["1.jpg"]))
        else:
            boxes = write(
                tmp_path / "train" / "boxes.csv", "image,x1,y1,x2,y2,label\n1.jpg,11,20,75,120,duck\n"
            )
        with pytest.raises(AnnotationError, match=r"1\.jpg") as caught:
            read_annotations(boxes, tmp_path / "test")
        assert "train/1.jpg" in str(caught.value)
        assert found(boxes, [tmp_path / "test", tmp_path / "train"]) == {"1.jpg": [("duck", 11, False)]}

    def test_a_copy_of_the_photo_is_as_good(self, tmp_path: Path) -> None:
        photo(tmp_path / "1.jpg")
        photo(tmp_path / "copy" / "1.jpg")
        boxes = write(tmp_path / "boxes.json", coco(["1.jpg"]))
        assert found(boxes, tmp_path / "copy") == {"copy/1.jpg": [("duck", 11, False)]}

    def test_an_absolute_path_to_another_photo_is_told(self, tmp_path: Path) -> None:
        other = photo(tmp_path / "other" / "1.jpg", "green")
        photo(tmp_path / "set" / "1.jpg")
        write(tmp_path / "set" / "1.json", labelme(str(other)))
        with pytest.raises(AnnotationError, match=r"may be .*other/1\.jpg or .*set/1\.jpg"):
            read_annotations(tmp_path / "set")

    def test_an_uploaded_name_is_first_taken_as_it_is(self, tmp_path: Path) -> None:
        for name in ("0a1b2c3d-1.jpg", "1.jpg"):
            photo(tmp_path / name)
        boxes = write(tmp_path / "p.json", [task({"image": "/data/upload/3/0a1b2c3d-1.jpg"})])
        assert list(found(boxes)) == ["0a1b2c3d-1.jpg"]

    @pytest.mark.parametrize(
        "address",
        [
            "s3://bucket/20240103-1.jpg",
            "/data/local-files/?d=x/20240103-1.jpg",
            "20240103-1.jpg",
            "b/0a1b2c3d-1.jpg",
        ],
    )
    def test_eight_digits_of_a_name_are_no_upload(self, tmp_path: Path, address: str) -> None:
        photo(tmp_path / "1.jpg")
        with pytest.raises(AnnotationError, match=r"-1\.jpg"):
            read_annotations(write(tmp_path / "p.json", [task({"image": address})]))

    def test_regions_of_a_second_photo_are_not_drawn_on_the_first(self, tmp_path: Path) -> None:
        for name in ("1.jpg", "2.jpg"):
            photo(tmp_path / name)
        data = {"image": "1.jpg", "second": "2.jpg"}
        boxes = write(tmp_path / "p.json", [task(data, to_name="second")])
        with pytest.raises(AnnotationError, match="regions of several photos"):
            read_annotations(boxes)
        write(boxes, [task(data, to_name="image")])
        assert list(found(boxes)) == ["1.jpg"]

    @pytest.mark.parametrize("name", ["b.json", "b.csv", "b.xml", "labelstudio.json"])
    def test_photos_of_one_name_are_written_with_their_folders(self, tmp_path: Path, name: str) -> None:
        for folder in "pq":
            photo(tmp_path / folder / "1.jpg")
        places = [tmp_path / "p", tmp_path / "q"]
        content = coco(["p/1.jpg", "q/1.jpg"])
        content["annotations"][1]["bbox"][0] = 12
        before = read_annotations(write(tmp_path / "a.json", content), places)
        form = "labelstudio" if name == "labelstudio.json" else None
        write_annotations(before, tmp_path / "out" / name, form)
        after = read_annotations(tmp_path / "out" / name, places[::-1])
        assert {i.path: round(i.boxes[0].x1) for i in after} == {i.path: i.boxes[0].x1 for i in before}
        with pytest.raises(AnnotationError):
            read_annotations(tmp_path / "out" / name, places[0])


def task(data: dict[str, str], **fields: str) -> dict[str, Any]:
    value = {"x": 10, "y": 10, "width": 10, "height": 10, "rectanglelabels": ["duck"]}
    return {
        "data": data,
        "annotations": [{"result": [{"type": "rectanglelabels", "value": value, **fields}]}],
    }


class TestTables:
    @pytest.mark.parametrize("column", ["folder", "split", "path"])
    def test_photos_of_one_name_are_not_made_one(self, tmp_path: Path, column: str) -> None:
        photo(tmp_path / "q" / "1.jpg")
        cells = {"folder": ("q", "p"), "split": ("train", "val"), "path": ("q/1.jpg", "p/1.jpg")}[column]
        rows = [f"{cell},1.jpg,{x},20,75,120,duck\n" for cell, x in zip(cells, (11, 12), strict=True)]
        boxes = write(tmp_path / "b.csv", f"{column},filename,x1,y1,x2,y2,label\n" + "".join(rows))
        with pytest.raises(AnnotationError, match=r"row 3: '1\.jpg' is another photo than in b\.csv: row 2"):
            read_annotations(boxes, tmp_path / "q")

    @pytest.mark.parametrize(("column", "cell"), [("folder", "q"), ("path", "/data/q/1.jpg")])
    def test_a_folder_or_a_path_tells_which_photo_is_meant(
        self, tmp_path: Path, column: str, cell: str
    ) -> None:
        for folder in "pq":
            photo(tmp_path / folder / "1.jpg")
        boxes = write(tmp_path / "b.csv", f"{column},filename,x1,y1,x2,y2\n{cell},1.jpg,11,20,75,120\n")
        for places in ("pq", "qp"):
            assert list(found(boxes, [tmp_path / place for place in places])) == ["q/1.jpg"]

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (
                "image,filename,x1,y1,x2,y2\n1.jpg,2.jpg,11,20,75,120\n",
                "two columns name the photo and disagree",
            ),
            ("image,x1,y1,x2,y2,x3,y3,x4,y4\n1.jpg,11,20,75,30,70,120,5,110\n", "columns not understood"),
            ("image,x1,y1,x2,y2,label\n1.jpg,,,,,duck\n", "row 2: a class without a box: 'duck'"),
            ("image,x1,y1,x2,y2,detection_score\n1.jpg,11,20,75,120,0.3\n", "the score of a detection"),
        ],
    )
    def test_what_is_in_doubt_is_refused(self, tmp_path: Path, table: str, message: str) -> None:
        photo(tmp_path / "1.jpg")
        with pytest.raises(AnnotationError, match=message):
            read_annotations(write(tmp_path / "b.csv", table))

    def test_a_class_that_says_nothing_is_there(self, tmp_path: Path) -> None:
        photo(tmp_path / "1.jpg")
        boxes = write(tmp_path / "b.csv", "image,x1,y1,x2,y2,label\n1.jpg,,,,,background\n")
        assert found(boxes) == {"1.jpg": []}


class TestFields:
    @pytest.mark.parametrize(
        "unread",
        [
            "<objects>duck 11 20 75 120</objects>",
            '<thing name="duck" xmin="11" ymin="20" xmax="75" ymax="120"/>',
            "<region><name>duck</name><left>11</left><top>20</top></region>",
        ],
    )
    def test_voc_objects_in_other_places_are_no_empty_photo(self, tmp_path: Path, unread: str) -> None:
        photo(tmp_path / "1.jpg")
        write(tmp_path / "1.xml", f"<annotation><filename>1.jpg</filename>{unread}</annotation>")
        with pytest.raises(AnnotationError, match="would not be read"):
            read_annotations(tmp_path)

    def test_voc_an_angle_in_the_box(self, tmp_path: Path) -> None:
        photo(tmp_path / "1.jpg")
        thing = f"<object><name>duck</name>{BOX.format('<angle>{}</angle>')}</object>"
        other = "<rotten>1</rotten><viewpoint><theta>7.5</theta></viewpoint>"
        for angle in ("0", "0.0"):
            write(tmp_path / "1.xml", f"<annotation>{thing.format(angle)}</annotation>")
            assert found(tmp_path) == {"1.jpg": [("duck", 11, False)]}
        told = thing.format("0").replace("</object>", f"{other}</object>")
        write(tmp_path / "1.xml", f"<annotation>{told}</annotation>")
        assert found(tmp_path) == {"1.jpg": [("duck", 11, False)]}
        turned = BOX.format("") + "<rotated_bndbox><x1>1</x1><rot>0.5</rot></rotated_bndbox>"
        write(tmp_path / "1.xml", f"<annotation><object><name>duck</name>{turned}</object></annotation>")
        with pytest.raises(AnnotationError, match="object 1: rot: the box is rotated"):
            read_annotations(tmp_path)
        write(tmp_path / "1.xml", f"<annotation>{thing.format('0.7')}</annotation>")
        with pytest.raises(AnnotationError, match="the box is rotated"):
            read_annotations(tmp_path)

    def test_labelme_difficult_is_a_box_to_ignore_and_scores_are_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photo(tmp_path / "1.jpg")
        write(tmp_path / "1.json", labelme("1.jpg", difficult=True, score=0.4, attributes={}))
        assert found(tmp_path) == {"1.jpg": [("duck", 11, True)]}
        assert "not read: score (1)" in capsys.readouterr().err

    def test_coco_labels_of_whole_photos_are_counted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("1.jpg", "2.jpg"):
            photo(tmp_path / name)
        content = coco(["1.jpg", "2.jpg"])
        del content["annotations"][1]["bbox"]
        boxes = write(tmp_path / "cct.json", content)
        assert found(boxes) == {"1.jpg": [("duck", 11, False)]}
        assert "labels of whole photos (1)" in capsys.readouterr().err
        content["annotations"][1]["image_id"] = 0  # beside a box it may be one that is lost
        write(boxes, content)
        with pytest.raises(AnnotationError, match=r"annotations\[1\]: bbox is missing"):
            read_annotations(boxes)

    def test_parts_of_the_photo_are_no_pixels(self, tmp_path: Path) -> None:
        photo(tmp_path / "1.jpg")
        with pytest.raises(AnnotationError, match="every box lies within the first two pixels"):
            read_annotations(write(tmp_path / "b.json", coco(["1.jpg"], bbox=[0.1, 0.1, 0.2, 0.2])))

    @pytest.mark.parametrize("box", [(-0.002, 0.1, 0.5, 0.9), (0.3, 0.2, 1.0000001, 0.9), (9, 9, 9, 12)])
    @pytest.mark.parametrize("form", ["coco", "csv", "voc"])
    def test_one_box_over_the_edge_or_flat_does_not_make_them_pixels(
        self, tmp_path: Path, box: tuple[float, float, float, float], form: str
    ) -> None:
        boxes = [(0.1, 0.1, 0.5, 0.5), box]
        for name in ("1.jpg", "2.jpg"):
            photo(tmp_path / name)
        if form == "coco":
            content = coco(["1.jpg", "2.jpg"])
            for entry, (x1, y1, x2, y2) in zip(content["annotations"], boxes, strict=True):
                entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            write(tmp_path / "b.json", content)
        elif form == "csv":
            rows = [f"{n}.jpg,{','.join(map(str, edges))}\n" for n, edges in enumerate(boxes, start=1)]
            write(tmp_path / "b.csv", "image,x1,y1,x2,y2\n" + "".join(rows))
        else:
            for n, edges in enumerate(boxes, start=1):
                tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
                bounds = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in tags)
                text = f"<object><name>duck</name><bndbox>{bounds}</bndbox></object>"
                write(tmp_path / f"{n}.xml", f"<annotation><filename>{n}.jpg</filename>{text}</annotation>")
        with pytest.raises(AnnotationError, match="every box lies within the first two pixels"):
            read_annotations(tmp_path)


class TestClassesOfYolo:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        photo(tmp_path / "images" / "1.jpg")
        write(tmp_path / "labels" / "1.txt", "1 0.5 0.5 0.1 0.1\n")
        return tmp_path

    @pytest.mark.parametrize("lists", [("data.yaml", "labels/classes.txt"), ("obj.names", "classes.txt")])
    def test_two_files_that_disagree_are_refused(self, folder: Path, lists: tuple[str, str]) -> None:
        for name, classes in zip(lists, (["cat", "dog"], ["dog", "cat"]), strict=True):
            text = f"names: {classes}\n" if name.endswith("yaml") else "\n".join(classes)
            write(folder / name, text)
        with pytest.raises(AnnotationError, match=r"class 0 is '(cat|dog)' in .*, but '(cat|dog)' in "):
            read_annotations(folder)

    def test_names_at_the_top_of_a_deep_data_set(self, tmp_path: Path) -> None:
        photo(tmp_path / "a/b/c/d/images/1.jpg")
        write(tmp_path / "a/b/c/d/labels/1.txt", "1 0.5 0.5 0.1 0.1\n")
        write(tmp_path / "data.yaml", "names: [cat, dog]\n")
        assert [box[0] for box in found(tmp_path)["a/b/c/d/images/1.jpg"]] == ["dog"]

    def test_the_list_of_label_studio_beside_its_labels_is_no_coco(self, folder: Path) -> None:
        write(folder / "classes.txt", "cat\ndog\n")
        write(folder / "notes.json", {"categories": [{"id": 0, "name": "cat"}], "info": {}})
        assert [box[0] for box in found(folder)["images/1.jpg"]] == ["dog"]

    def test_a_class_as_numpy_writes_it(self, folder: Path) -> None:
        write(folder / "classes.txt", "cat\ndog\n")
        write(folder / "labels" / "1.txt", "1.000000 0.5 0.5 0.1 0.1\n")
        assert [box[0] for box in found(folder)["images/1.jpg"]] == ["dog"]


class TestFilesThatHoldNoBoxes:
    def test_sidecars_of_photos_do_not_hide_a_file_of_boxes(self, tmp_path: Path) -> None:
        """As Google Takeout writes them, one beside each photo."""
        names = [f"A{n}.jpg" for n in range(5)]
        for name in names:
            photo(tmp_path / name)
            write(tmp_path / f"{name}.json", {"title": name, "photoTakenTime": {"timestamp": "1"}})
        write(tmp_path / "boxes.json", coco(names))
        assert len(found(tmp_path)) == 5

    def test_other_tables_do_not_hide_one_of_boxes(self, tmp_path: Path) -> None:
        photo(tmp_path / "1.jpg")
        for n in range(5):
            write(tmp_path / f"a{n}.csv", "name,price\ncup,3\n")
        write(tmp_path / "boxes.csv", "image,x1,y1,x2,y2,label\n1.jpg,11,20,75,120,duck\n")
        assert found(tmp_path) == {"1.jpg": [("duck", 11, False)]}

    @pytest.mark.parametrize("others", [0, 3])
    def test_a_log_beside_labels_of_yolo_is_told_and_does_no_harm(
        self, tmp_path: Path, others: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        photo(tmp_path / "1.jpg")
        write(tmp_path / "1.txt", "0 0.5 0.5 0.1 0.1\n")
        for n in range(others):
            write(tmp_path / f"A{n}.json", {"title": "1.jpg"})
        write(tmp_path / "log.json", '{"epoch": 1}\n{"epoch": 2}\n')
        assert len(found(tmp_path)["1.jpg"]) == 1
        assert capsys.readouterr().err.startswith("not read: log.json: not valid JSON, but JSON in lines")

    @pytest.mark.parametrize("labels", ["", "boxes.json"])
    def test_a_malformed_file_that_may_be_the_one_is_an_error(self, tmp_path: Path, labels: str) -> None:
        photo(tmp_path / "1.jpg")
        if labels:
            write(tmp_path / labels, coco(["1.jpg"]))
        write(tmp_path / "log.json", '{"images": [')
        with pytest.raises(AnnotationError, match=r"log\.json: .*not valid JSON"):
            read_annotations(tmp_path)
