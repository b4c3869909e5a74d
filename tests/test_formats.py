"""Files of boxes are read whole or refused, and what is written is read back."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fewbox.data.annotations import Box
from fewbox.data.checks import check_annotations
from fewbox.data.formats import read_annotations, write_coco
from fewbox.data.images import read_size_hw
from fewbox.errors import AnnotationError, OutputError, PhotoError

UNIT_CSV = "image,ymin,xmin,ymax,xmax\na.png,0.1,0.2,0.5,0.4\nb.png,,,,\n"
PIXEL_CSV = "image,x1,y1,x2,y2\na.png,20,6,40,30\nb.png,,,,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of 100 x 60 pixels."""
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (100, 60)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, content: object, name: str | None = None) -> Path:
    """Write text as it is and anything else as JSON."""
    is_text = isinstance(content, str)
    path = folder / (name or ("boxes.csv" if is_text else "boxes.json"))
    path.write_bytes((content if is_text else json.dumps(content)).encode())
    return path


def coco() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 60, "date": "unknown field"},
            {"id": 3, "file_name": "b.png", "width": 100, "height": 60, "reviewed": True},
            {"id": 9, "file_name": "c.png"},
        ],
        "annotations": [
            {"id": 50, "image_id": 7, "category_id": 4, "bbox": [20, 6, 20, 24], "iscrowd": 0},
            {"id": 51, "image_id": 7, "category_id": 2, "bbox": [0.5, 0.5, 9, 9.25], "iscrowd": 1},
        ],
        "categories": [{"id": 4, "name": "duck"}, {"id": 2, "name": "cup"}],
    }


class TestCSV:
    @pytest.mark.parametrize("text", [UNIT_CSV, PIXEL_CSV])
    def test_both_headers_and_the_three_states(self, folder: Path, text: str) -> None:
        got = read_annotations(write(folder, text), label="duck")
        assert [image.path.name for image in got] == ["a.png", "b.png", "c.png"]
        assert [(len(image.boxes), image.reviewed) for image in got] == [(1, True), (0, True), (0, False)]
        assert got.labels == ("duck",)
        assert got.source == "boxes.csv"
        box = got.images[0].boxes[0]
        assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((20, 6, 40, 30))

    @pytest.mark.parametrize(
        "text",
        [
            "\ufeff" + PIXEL_CSV,
            PIXEL_CSV.replace("\n", "\r\n"),
            PIXEL_CSV.replace("\n", "\r"),
            PIXEL_CSV.replace(",", ";"),
            PIXEL_CSV.replace(",", "\t"),
            PIXEL_CSV.replace(",", " , "),
            PIXEL_CSV.replace("a.png", '"a.png"'),
            PIXEL_CSV.replace("a.png", "./a.png"),
            PIXEL_CSV.replace("image,", "Image,"),
            PIXEL_CSV.replace("\n", ",,\n"),
            "\n" + PIXEL_CSV + "\n,,,,\n\n",
            PIXEL_CSV.rstrip("\n"),
            "x2,note,image,y2,x1,y1\n40,hello,a.png,30,20,6\n,,b.png,,,\n",
        ],
    )
    def test_what_spreadsheets_make_of_it(self, folder: Path, text: str) -> None:
        got = read_annotations(write(folder, text))
        assert got.images[0].boxes == (Box(20, 6, 40, 30, "object"),)
        assert got.images[1].reviewed

    def test_the_table_of_tensorflow_is_in_pixels(self, folder: Path) -> None:
        text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,100,60,cup,20,6,40,30\n"
        assert read_annotations(write(folder, text)).images[0].boxes == (Box(20, 6, 40, 30, "cup"),)
        with pytest.raises(
            AnnotationError, match=r"row 2: a\.png: width x height differ: 100 x 61 in the file"
        ):
            read_annotations(write(folder, text.replace("60", "61")))

    def test_a_column_for_boxes_to_ignore(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,ignore\na.png,20,6,40,30,1\na.png,1,2,3,4,\n"
        assert [box.ignore for box in read_annotations(write(folder, text)).images[0].boxes] == [True, False]
        with pytest.raises(AnnotationError, match="row 3: ignore must be 0 or 1: 'no!'"):
            read_annotations(write(folder, text.replace("4,\n", "4,no!\n")))

    @pytest.mark.parametrize("label", [3, None, ["duck"]])
    def test_a_label_is_a_text(self, folder: Path, label: object) -> None:
        path = write(folder, "image,x1,y1,x2,y2\na.png,1,2,3,4\n")
        for read in (read_annotations, check_annotations):
            with pytest.raises(AnnotationError, match="label must be of the type str, not "):
                read(path, label=label)  # type: ignore[operator]

    def test_a_label_that_is_not_used_is_told(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(folder, "image,x1,y1,x2,y2,label\na.png,1,2,3,4,duck\na.png,5,6,7,8,cup\n")
        for label in ("object", "cup"):
            read_annotations(folder / "boxes.csv", label=label)
            assert "not used" not in capsys.readouterr().err
        assert read_annotations(folder / "boxes.csv", label="mug").labels == ("duck", "cup")
        assert (
            "boxes.csv: its boxes have classes already, duck, cup; the label mug is"
            in capsys.readouterr().err
        )

    def test_labels_are_in_the_order_of_first_use(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,label\na.png,1,2,3,4,duck\na.png,5,6,7,8,cup\nc.png,1,1,9,9,duck\n"
        got = read_annotations(write(folder, text), label="unused")
        assert got.labels == ("duck", "cup")
        assert [box.label for image in got for box in image.boxes] == ["duck", "cup", "duck"]

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            ("", "boxes.csv: the file is empty", "the first row"),
            ("a.png,1,2,3,4\n", "row 1: columns not understood: 'a.png,1,2,3,4'", "the first row"),
            (
                "filename,class,xmin,ymin,xmax\n",
                "row 1: columns not understood",
                "clear for the box; the first",
            ),
            (
                " ,Label,Area,BX,BY,Width,Height\n1,a.png,9,1,2,3,4\n",
                "understood",
                "for the photo and the box;",
            ),
            (PIXEL_CSV + "a.png,1,2,3\n", "row 4: 4 columns, but the first row has 5", "comma"),
            (PIXEL_CSV + "a.png,1,2,three,4\n", "row 4: x2: not a number: 'three'", "decimal point"),
            ("image;x1;y1;x2;y2\na.png;1,500;2;3;4", "row 2: x1: not a number: '1,500'", "decimal point"),
            (PIXEL_CSV + "a.png,1,2,,4\n", "row 4: x2: not a number: ''", "leave all four"),
            (PIXEL_CSV + "a.png,1,2,1e999,4\n", "row 4: x2: not a number", "decimal point"),
            (PIXEL_CSV + "\nd.png,1,2,3,4\n", "row 5: photo not found: 'd.png'", "did you mean"),
            (PIXEL_CSV + "q.jpeg,1,2,3,4\n", "row 4: photo not found: 'q.jpeg'", "looked in"),
            (PIXEL_CSV + '"a.png,1,2,3,4\n', "not valid CSV", "the first row"),
            (PIXEL_CSV + "a.png,,,,\n", "row 4: another row says otherwise about a.png", "empty box columns"),
            (PIXEL_CSV + "b.png,1,2,3,4\n", "row 4: another row says otherwise about b.png", "keep either"),
            (PIXEL_CSV + "a.png,50,6,40,30\n", "a.png: box 2: x2 must be greater than x1", "draw"),
            (UNIT_CSV + "c.png,20,6,4,3\n", "row 4: every edge must be from 0 to 1: xmin=6", "x1, y1, x2"),
            (
                "image,x1,y1,x2,y2\na.png,.1,.2,.3,.4\n",
                "within the first two pixels",
                "xmin, ymin, xmax, ymax",
            ),
            ("image,x1,y1,x2,y2,label\na.png,1,2,3,4,\n", "row 2: label is empty", "name the class"),
        ],
    )
    def test_errors_name_the_row(self, folder: Path, text: str, message: str, hint: str) -> None:
        with pytest.raises(AnnotationError) as caught:
            read_annotations(write(folder, text))
        assert caught.value.message.startswith("boxes.csv: ")
        assert message in caught.value.message
        assert hint in caught.value.hint


class TestCOCO:
    def test_ids_states_crowds_and_order_of_labels(self, folder: Path) -> None:
        got = read_annotations(write(folder, coco()))
        assert got.labels == ("cup", "duck")
        crowd = Box(0.5, 0.5, 9.5, 9.75, "cup", ignore=True)
        assert got.images[0].boxes == (Box(20, 6, 40, 30, "duck"), crowd)
        assert [image.reviewed for image in got] == [True, True, False]
        by_content = read_annotations(write(folder, "\ufeff" + json.dumps(coco()), "boxes.txt"))
        assert by_content == got

    @pytest.mark.parametrize("nothing", [True, False])
    def test_one_class_without_categories_takes_the_label(self, folder: Path, nothing: bool) -> None:
        content = coco()
        content["annotations"].pop()
        content["categories"] = []
        if nothing:
            del content["categories"]
        got = read_annotations(write(folder, content), label="duck")
        assert got.labels == ("duck",)
        assert got.images[0].boxes[0].label == "duck"

    @pytest.mark.parametrize(
        ("section", "change", "message"),
        [
            ("images", {"id": 3.5}, "images[1]: id must be a whole number or a text: 3.5"),
            ("images", {"id": 7}, "images[1]: id must be different"),
            ("images", {"file_name": "q.jpg"}, "images[1]: photo not found: 'q.jpg'"),
            ("images", {"file_name": "a.png"}, "listed twice"),
            ("images", {"reviewed": "yes"}, "images[1]: reviewed must be true or false"),
            ("annotations", {"image_id": 1}, "annotations[1]: image_id must be the id of an image"),
            ("annotations", {"category_id": 1}, "annotations[1]: category_id must be the id of a category"),
            ("annotations", {"bbox": [1, 2, 3]}, "annotations[1]: bbox must be four numbers"),
            ("annotations", {"bbox": [1, 2, "x", 4]}, "annotations[1]: bbox must be four numbers"),
            ("annotations", {"bbox": [1, 2, -3, 4]}, "a.png: box 2: x2 must be greater"),
            ("annotations", {"bbox": [1, 2, 10**400, 4]}, "a.png: box 2: lies outside"),
            ("annotations", {"bbox": [1, 2, float("nan"), 4]}, "NaN is not a number"),
            ("categories", {"id": 4}, "categories[1]: id must be different from the ids before it"),
        ],
    )
    def test_errors_name_the_place(self, folder: Path, section: str, change: Any, message: str) -> None:
        content = coco()
        content[section][1].update(change)
        with pytest.raises(AnnotationError) as caught:
            read_annotations(write(folder, content))
        assert caught.value.message.startswith("boxes.json: ")
        assert message in caught.value.message
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "line 1, column 1: not valid JSON"),
            ('{\n"images": [\n', "line 3, column 1: not valid JSON"),
            ("[]", "no boxes in a format that can be read here"),
            ("{}", "no boxes in a format that can be read here"),
            ('{"images": []}', "annotations is missing"),
            ('{"images": [], "images": []}', "'images' stands twice in the object {'images': \\[\\]}"),
            (json.dumps({**coco(), "categories": []}), "2 category ids and no categories"),
            ("[" * 100_000, "not valid JSON"),
            ('{"images": ' + "9" * 5000 + "}", "not valid JSON"),
        ],
    )
    def test_what_is_no_coco(self, folder: Path, text: str, message: str) -> None:
        with pytest.raises(AnnotationError, match=f"boxes.json: .*{message}"):
            read_annotations(write(folder, text, "boxes.json"))

    def test_boxes_on_the_photo_before_it_was_turned(self, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (100, 60)).save(folder / "a.png", exif=exif)
        message = r"a\.png: .*100 x 60 in the file, 60 x 100 upright"
        with pytest.raises(AnnotationError, match=message) as caught:
            read_annotations(write(folder, coco()))
        assert "EXIF" in caught.value.hint

    def test_boxes_on_another_size_of_the_photo(self, folder: Path) -> None:
        Image.new("RGB", (50, 30)).save(folder / "b.png")
        with pytest.raises(AnnotationError, match=r"images\[1\]: b\.png: width x height differ") as caught:
            read_annotations(write(folder, coco()))
        assert "another size" in caught.value.hint


class TestWherePhotosAre:
    @pytest.mark.parametrize("spelling", ["sub/a.png", "sub\\a.png", "./sub/a.png"])
    def test_names_with_folders(self, tmp_path: Path, spelling: str) -> None:
        (tmp_path / "sub").mkdir()
        Image.new("RGB", (100, 60)).save(tmp_path / "sub" / "a.png")
        path = write(tmp_path, f"image,x1,y1,x2,y2\n{spelling},20,6,40,30\n")
        sub = tmp_path / "sub"
        for photos in (None, tmp_path, sub, sub / "*.png", [sub / "a.png"]):
            assert read_annotations(path, photos).num_boxes == 1

    def test_a_name_in_two_folders(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for place in (tmp_path, tmp_path / "sub"):
            Image.new("RGB", (100, 60)).save(place / "a.png")
        path = write(tmp_path, "image,x1,y1,x2,y2\nsub/a.png,20,6,80,30\n")
        got = read_annotations(path)
        assert [(i.path, len(i.boxes)) for i in got] == [
            (tmp_path / "sub" / "a.png", 1), (tmp_path / "a.png", 0)
        ]  # fmt: skip
        elsewhere = write(tmp_path, "image,x1,y1,x2,y2\nb/a.png,20,6,80,30\n", "elsewhere.csv")
        with pytest.raises(AnnotationError, match=r"row 2: 'b/a\.png' may be .*a\.png or .*a\.png"):
            read_annotations(elsewhere, [tmp_path, tmp_path / "sub"])

    def test_photos_elsewhere_not_in_the_file_are_not_looked_at(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "boxes").mkdir()
        got = read_annotations(write(tmp_path / "boxes", PIXEL_CSV), folder)
        assert [image.path.name for image in got if not image.reviewed] == ["c.png"]
        with pytest.raises(AnnotationError, match="1 of 3 photos has no boxes"):
            got.require_reviewed()

    def test_accents_may_be_spelled_in_two_ways(self, tmp_path: Path) -> None:
        Image.new("RGB", (100, 60)).save(tmp_path / unicodedata.normalize("NFD", "Küche.png"))
        text = unicodedata.normalize("NFC", "image,x1,y1,x2,y2\nKüche.png,20,6,40,30\n")
        assert len(read_annotations(write(tmp_path, text))) == 1

    def test_what_is_missing(self, folder: Path) -> None:
        with pytest.raises(AnnotationError, match="no such file"):
            read_annotations(folder / "gone.csv")
        with pytest.raises(AnnotationError, match="no boxes in a format that can be read here"):
            read_annotations(folder)
        with pytest.raises(PhotoError, match="no such photo or folder"):
            read_annotations(write(folder, PIXEL_CSV), folder / "gone")
        with pytest.raises(PhotoError, match="cannot be read"):
            read_annotations(write(folder, PIXEL_CSV), "x" * 5000)

    def test_another_spelling_of_the_name(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("IMG_1.JPG", "my photo (2).jpg", "c.png"):
            Image.new("RGB", (100, 60)).save(tmp_path / name)
        names = ("img_1.jpg", "my_photo_2.jpg", "c")
        rows = "".join(f"{name},20,6,40,30\n" for name in names)
        got = read_annotations(write(tmp_path, "image,x1,y1,x2,y2\n" + rows))
        assert [image.path.name for image in got] == ["IMG_1.JPG", "my photo (2).jpg", "c.png"]
        told = " ".join(capsys.readouterr().err.split())
        assert "1 photo found by a name without its signs: 'my_photo_2.jpg' is 'my photo (2).jpg'" in told

    @pytest.mark.parametrize(("name", "twins"), [("A.png", ("a.PNG", "a.png")), ("a", ("a.png", "a.jpg"))])
    def test_a_name_that_may_mean_two_photos(self, tmp_path: Path, name: str, twins: tuple[str, str]) -> None:
        for twin in twins:
            Image.new("RGB", (100, 60)).save(tmp_path / twin)
        if len(list(tmp_path.iterdir())) < 2:
            pytest.skip("this file system does not tell capital letters apart")
        path = write(tmp_path, f"image,x1,y1,x2,y2\n{name},20,6,40,30\n")
        with pytest.raises(AnnotationError, match=rf"row 2: '{name}' may be .*a\.\w+ or .*a\.\w+") as caught:
            read_annotations(path)
        assert "rename" in caught.value.hint

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
    def test_a_byte_order_mark_says_the_encoding(self, folder: Path, encoding: str) -> None:
        for text in (PIXEL_CSV, json.dumps(coco())):
            (folder / "boxes.txt").write_bytes(text.encode(encoding))
            assert read_annotations(folder / "boxes.txt").num_boxes == 1

    def test_a_table_of_windows_is_read_and_said_to_be_one(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = (
            PIXEL_CSV.replace("y2\n", "y2,label\n").replace("30\n", "30,Tässchen\n").replace(",,\n", ",,,\n")
        )
        (folder / "boxes.csv").write_bytes(text.encode("cp1252"))
        assert read_annotations(folder / "boxes.csv").labels == ("Tässchen",)
        assert "Windows-1252" in capsys.readouterr().err
        (folder / "boxes.json").write_bytes(json.dumps(coco(), ensure_ascii=False).encode("cp1252") + b"\xe4")
        with pytest.raises(AnnotationError, match=r"boxes\.json: not UTF-8 text: byte \d+"):
            read_annotations(folder / "boxes.json")

    def test_a_file_that_never_ends(self, folder: Path) -> None:
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes in folders")
        os.mkfifo(folder / "boxes.csv")
        with pytest.raises(AnnotationError, match="not a file"):
            read_annotations(folder / "boxes.csv")


class TestWriteCOCO:
    def test_the_file_is_coco(self, folder: Path) -> None:
        target = folder / "out" / "boxes.json"
        write_coco(read_annotations(write(folder, coco(), "in.json")), target)
        written = json.loads(target.read_text(encoding="utf-8"))
        assert [image["file_name"] for image in written["images"]] == ["../a.png", "../b.png", "../c.png"]
        assert [image["reviewed"] for image in written["images"]] == [True, True, False]
        assert (written["images"][0]["width"], written["images"][0]["height"]) == (100, 60)
        assert written["categories"] == [{"id": 1, "name": "cup"}, {"id": 2, "name": "duck"}]
        assert written["annotations"][0] == {
            "id": 1, "image_id": 1, "category_id": 2, "bbox": [20, 6, 20, 24], "area": 480, "iscrowd": 0
        }  # fmt: skip
        assert written["annotations"][1]["iscrowd"] == 1
        write_coco(read_annotations(target), target, root=folder)
        assert json.loads(target.read_text(encoding="utf-8"))["images"][0]["file_name"] == "a.png"

    def test_another_reader_understands_it(self, folder: Path) -> None:
        pycocotools = pytest.importorskip("pycocotools.coco")
        write_coco(read_annotations(write(folder, coco(), "in.json")), folder / "boxes.json")
        other = pycocotools.COCO(folder / "boxes.json")
        assert Counter(len(other.getAnnIds([image_id])) for image_id in other.getImgIds()) == {2: 1, 0: 2}

    def test_it_is_read_back_from_where_it_lies(self, folder: Path) -> None:
        before = read_annotations(write(folder, coco(), "in.json"))
        target = folder / "out" / "deep" / "boxes.json"
        write_coco(before, target)
        after = read_annotations(target)
        assert [image.path.resolve() for image in after] == [image.path.resolve() for image in before]
        assert [image.boxes for image in after] == [image.boxes for image in before]

    def test_a_linked_photo_keeps_its_name_in_a_linked_folder(self, folder: Path) -> None:
        (folder / "store").mkdir()
        (folder / "a.png").rename(folder / "store" / "1234.png")
        (folder / "a.png").symlink_to(folder / "store" / "1234.png")
        (folder / "far" / "away").mkdir(parents=True)
        (folder / "out").symlink_to(folder / "far" / "away")
        write_coco(read_annotations(write(folder, PIXEL_CSV)), folder / "out" / "boxes.json")
        assert read_annotations(folder / "out" / "boxes.json").images[0].path.name == "a.png"

    def test_a_target_that_cannot_be_written(self, folder: Path) -> None:
        with pytest.raises(OutputError):
            write_coco(read_annotations(write(folder, PIXEL_CSV)), folder / "a.png" / "boxes.json")


@pytest.mark.shared
class TestRealFiles:
    def test_ducky_csv(self, shared: Path) -> None:
        ducky = shared / "data" / "ducky"
        got = read_annotations(ducky / "train_boxes.csv", ducky / "train", label="rubber_ducky")
        got.require_reviewed()
        assert (len(got), got.num_boxes, got.labels) == (5, 5, ("rubber_ducky",))
        height, width = read_size_hw(ducky / "train" / "robertducky1.jpg")
        box = got.images[0].boxes[0]
        unit = (box.y1 / height, box.x1 / width, box.y2 / height, box.x2 / width)
        assert unit == pytest.approx((0.436, 0.591, 0.629, 0.712))
        with pytest.raises(AnnotationError, match=r"train_boxes\.csv: row 2: photo not found") as caught:
            read_annotations(shared / "data" / "ducky" / "train_boxes.csv")
        assert "say where the photos are" in caught.value.hint

    def test_ducky_coco(self, shared: Path) -> None:
        path = shared / "data" / "ducky" / "test_boxes_coco.json"
        raw = json.loads(path.read_text(encoding="utf-8"))
        got = read_annotations(path, path.parent / "test")
        crowds = sum(entry["iscrowd"] for entry in raw["annotations"])
        assert (len(got), got.labels) == (49, ("rubber_ducky",))
        assert got.num_boxes == len(raw["annotations"]) - crowds
        assert sum(box.ignore for image in got for box in image.boxes) == crowds > 0
