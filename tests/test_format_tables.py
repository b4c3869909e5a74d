"""Tables of other tools: their columns are read as they are meant, named in a remark, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fewbox.data.annotations import Box
from fewbox.data.formats import read_annotations
from fewbox.errors import AnnotationError

DUCK = Box(60, 6, 80, 30, "duck")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos of 100 x 60 pixels."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (100, 60)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    assert caught.value.hint
    return str(caught.value)


class TestClasses:
    @pytest.mark.parametrize(
        "name",
        ["label", "class", "class_name", "Class Name", "name", "category", "CategoryName", "cls", "object"],
    )
    def test_the_class_by_any_usual_name(self, folder: Path, name: str) -> None:
        got = read_annotations(
            write(folder, f"image,x1,y1,x2,y2,{name}\na.png,1,2,30,40,cat\nb.png,1,2,30,40,dog\n")
        )
        assert got.labels == ("cat", "dog")

    def test_a_number_beside_the_name(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,{},{}\na.png,1,2,30,40,7,cat\nb.png,1,2,30,40,{},dog\n"
        for names in (("class_id", "label"), ("class", "name")):
            assert read_annotations(write(folder, text.format(*names, 8))).labels == ("cat", "dog")
        said = refusal(write(folder, text.format("class_id", "label", 7)))
        assert "row 3: two columns name the class and disagree: label 'dog', class_id '7'" in said

    def test_two_names_that_disagree(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,label,category\na.png,1,2,30,40,cat,cat\nb.png,1,2,30,40,cat,dog\n"
        assert "row 3: two columns name the class and disagree: label 'cat', category 'dog'" in refusal(
            write(folder, text)
        )
        assert read_annotations(write(folder, text.replace("dog", "cat"))).labels == ("cat",)

    def test_numbers_alone_and_a_column_that_may_be_the_class(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,{}\na.png,1,2,30,40,3\n"
        assert read_annotations(write(folder, text.format("class_id"))).labels == ("3",)
        assert "row 1: may be the class, or not: 'type'" in refusal(write(folder, text.format("type")))


class TestOtherColumns:
    def test_what_is_not_read_is_named(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = "image,x1,y1,x2,y2,label,split,note\na.png,1,2,30,40,cat,train,\nb.png,,,,,,val,dark\n"
        assert read_annotations(write(folder, text)).num_boxes == 1
        assert capsys.readouterr().err == "boxes.csv: not read: split (2), note (1)\n"

    def test_boxes_that_were_computed(self, folder: Path) -> None:
        text = "image,x1,y1,x2,y2,label,{}\na.png,1,2,30,40,cat,1.0\na.png,1,2,30,40,cat,{}\n"
        for name in ("score", "Confidence", "conf", "prob"):
            assert "row 3: the score of a detection: '0.98'" in refusal(
                write(folder, text.format(name, 0.98))
            )
            assert read_annotations(write(folder, text.format(name, 1))).num_boxes == 2

    @pytest.mark.parametrize(
        ("header", "turn"), [("angle", "37.5"), ("theta", "0.3"), ("rotation", "-12"), ("angle", "0.1")]
    )
    def test_boxes_that_are_turned(self, folder: Path, header: str, turn: str) -> None:
        text = f"image,x1,y1,x2,y2,label,{header}\na.png,60,6,80,30,duck,{turn}\n"
        assert "row 2: the box is rotated" in refusal(write(folder, text))
        assert read_annotations(write(folder, text.replace(turn, "0"))).images[0].boxes == (DUCK,)

    def test_a_tenth_of_a_degree(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write(folder, "image,x1,y1,x2,y2,label,rotation\na.png,20,0,80,60,duck,0.1\n")
        assert read_annotations(path).images[0].boxes == (Box(20, 0, 80, 60, "duck"),)
        assert "1 box turned by a pixel or less: read as upright" in capsys.readouterr().err
        with pytest.raises(AnnotationError, match="row 2: the box is rotated"):
            read_annotations(path, strict=True)

    @pytest.mark.parametrize("name", ["ignore", "iscrowd", "IsGroupOf", "difficult"])
    def test_boxes_to_ignore(self, folder: Path, name: str) -> None:
        text = f"image,x1,y1,x2,y2,{name}\na.png,1,2,30,40,1\na.png,1,2,30,40,0\n"
        assert [box.ignore for box in read_annotations(write(folder, text)).images[0].boxes] == [True, False]
        assert f"row 2: {name.lower()} must be 0 or 1: 'often'" in refusal(
            write(folder, text.replace("0,1", "0,often"))
        )


class TestLayouts:
    @pytest.mark.parametrize(
        "text",
        [
            "a.png,60,6,80,30,duck\nb.png,,,,,\n",
            "filename,xmin,ymin,xmax,ymax,class\na.png,60,6,80,30,duck\nb.png,,,,,\n",
            '"image","xmin","ymin","xmax","ymax","label"\n"a.png",60,6,80,30,"duck"\nb.png,,,,,\n',
            "ImageID,LabelName,Confidence,XMin,XMax,YMin,YMax\na,duck,1,0.6,0.8,0.1,0.5\nb,,,,,,\n",
            "\ufefffilename;left;top;width;height;label\na.png;60;6;20;24;duck\nb.png;;;;;\n",
            "sep=;\nfilename;left;top;width;height;label\na.png;60;6;20;24;duck\nb.png;;;;;\n",
            "SEP=,\r\nimage,x1,y1,x2,y2,label\r\na.png,60,6,80,30,duck\r\nb.png,,,,,\r\n",
            "image;x1;y1;x2;y2;label\na.png;60,0;6,00;80;30,000;duck\nb.png;;;;;\n",
            "file_name,image_width,image_height,x,y,width,height,class\na.png,100,60,60,6,20,24,duck\nb.png,,,,,,,\n",
            "image,x_center,y_center,width,height,label\na.png,70,18,20,24,duck\nb.png,,,,,\n",
            "image,x1,y1,x2,y2,width,height,label\na.png,60,6,80,30,20.0,24.0,duck\nb.png,,,,,,,\n",
            "image,x_min,y_min,x_max,y_max,width,height,label\na.png,60,6,80,30,100.0,60.0,duck\nb.png,,,,,,,\n",
        ],
    )
    def test_what_tools_write(self, folder: Path, text: str) -> None:
        got = read_annotations(write(folder, text))
        assert [(image.boxes, image.reviewed) for image in got] == [((DUCK,), True), ((), True)]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("a.png,60,6,80,30,0.9\n", "row 1: columns not understood"),
            ("a.png,60,6,80,30,duck\nb.png,1,2,3,x,duck\n", "row 2: not path,x1,y1,x2,y2,class"),
            ("a.png,.6,.6,.8,.8,duck\n", "every box lies within the first two pixels"),
            (
                "image,xmin,ymin,xmax,ymax\na.png,.1,.1,.2,.2\nb.png,6,7,8,9\n",
                "row 3: every edge must be from 0 to 1",
            ),
            ("image,x,y,w,h\na.png,.1,.1,.2,.2\n", "may be a corner or the centre"),
            ("image,x1,y1,x2,y2,xmin,ymin,xmax,ymax\n", "row 1: columns not understood"),
            ("image,xmin,ymin,xmax,ymax,width,height\na.png,60,6,80,30,200,120\n", "width x height differ"),
        ],
    )
    def test_what_is_not_certain(self, folder: Path, text: str, says: str) -> None:
        assert says in refusal(write(folder, text))

    def test_a_comma_in_a_number_is_a_decimal_one_where_it_can_be_nothing_else(self, folder: Path) -> None:
        rows = "image;x1;y1;x2;y2;label\na.png;{};6;80;30,125;1,5 mm\n"
        (image,) = read_annotations(write(folder, rows.format("60,25"))).images[:1]
        assert image.boxes == (Box(60.25, 6, 80, 30.125, "1,5 mm"),)
        assert "row 2: y2: not a number: '30,125'" in refusal(write(folder, rows.format("60")))
        (image,) = read_annotations(write(folder, rows.format("0,125"))).images[:1]
        assert image.boxes[0].x1 == 0.125
        assert "row 2: x1: not a number: '1.060,25'" in refusal(write(folder, rows.format("1.060,25")))

    def test_a_table_made_of_the_files_beside_it_is_no_second_format(self, folder: Path) -> None:
        box = "<bndbox><xmin>60</xmin><ymin>6</ymin><xmax>80</xmax><ymax>30</ymax></bndbox>"
        xml = f"<annotation><filename>a.png</filename><object><name>duck</name>{box}</object></annotation>"
        (folder / "a.xml").write_text(xml)
        write(folder, "filename,xmin,ymin,xmax,ymax,class\na.png,60,6,80,30,duck\n")
        assert read_annotations(folder).images[0].boxes == (DUCK,)
        (folder / "a.xml").unlink()
        assert read_annotations(folder).images[0].boxes == (DUCK,)
