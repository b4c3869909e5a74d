"""What is written in any format is read back, here and by the tools of others."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fewbox.data import FOLDER_FORMATS, FORMATS
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import read_annotations, write_annotations
from fewbox.errors import AnnotationError, OutputError, PhotoError, SettingError

NAMES = ("a.png", "my photo é.png", "c.1.png")
SIZE_HW = (60, 100)
FILE_NAMES = {"coco": "boxes.json", "csv": "boxes.csv", "cvat": "boxes.xml", "labelstudio": "tasks.json"}
MAX_ERROR = 1e-6  # pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of 100 x 60 pixels in ``photos``."""
    (tmp_path / "photos").mkdir()
    for name in NAMES:
        Image.new("RGB", SIZE_HW[::-1]).save(tmp_path / "photos" / name)
    return tmp_path


edges = st.integers(1, 50).map(float) | st.floats(1, 50)
sides = st.floats(0.01, 10)
labels = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]), min_size=1).filter(
    lambda text: text == text.strip()
)


@st.composite
def annotation_sets(draw: st.DrawFn, folder: Path) -> AnnotationSet:
    """Sets of the three photos with boxes of any label, and photos in any state."""
    known = draw(st.lists(labels, min_size=1, max_size=4, unique=True))
    images = []
    for name in NAMES:
        places = draw(st.lists(st.tuples(edges, edges, sides, sides), max_size=3))
        boxes = tuple(
            Box(x, y, x + w, y + h, draw(st.sampled_from(known)), draw(st.booleans()))
            for x, y, w, h in places
        )
        images.append(AnnotatedImage(folder / "photos" / name, SIZE_HW, boxes, draw(st.booleans())))
    return AnnotationSet(tuple(images), tuple(known))


def target_in(folder: Path, form: str) -> Path:
    """A place to write to where nothing is yet."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    return out / FILE_NAMES.get(form, form)


def assert_same(got: AnnotationSet, want: AnnotationSet, losses: tuple[str, ...]) -> None:
    """Everything is the same but for what the writer says it lost."""
    text = "\n".join(losses)
    if "has no list of classes" not in text:
        assert got.labels == want.labels
    by_name = {image.path.name: image for image in got}
    assert by_name.keys() == {image.path.name for image in want}
    for image in want:
        other = by_name[image.path.name]
        assert (other.size_hw, other.reviewed, len(other.boxes)) == (
            SIZE_HW,
            image.reviewed,
            len(image.boxes),
        )
        for g, w in zip(other.boxes, image.boxes, strict=True):
            assert g.label == w.label
            assert g.ignore == (w.ignore and "no boxes to ignore" not in text)
            error = max(abs(g.x1 - w.x1), abs(g.y1 - w.y1), abs(g.x2 - w.x2), abs(g.y2 - w.y2))
            assert error <= MAX_ERROR


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(folder: Path, form: str, data: st.DataObject) -> None:
    before = data.draw(annotation_sets(folder))
    target = target_in(folder, form)
    losses = write_annotations(before, target, form)
    if form in FILE_NAMES or before.reviewed_only().images:
        assert_same(read_annotations(target, folder / "photos", format=form), before, losses)
    else:
        with pytest.raises(AnnotationError, match="no file in the format"):
            read_annotations(target, folder / "photos", format=form)


def three_states(folder: Path) -> AnnotationSet:
    boxes = (Box(20, 6, 40, 30.25, "duck"), Box(0.5, 0.5, 9.5, 9.75, "cup", ignore=True))
    first, second, third = (folder / "photos" / name for name in NAMES)
    images = (
        AnnotatedImage(first, SIZE_HW, boxes, True),
        AnnotatedImage(second, SIZE_HW, (), True),
        AnnotatedImage(third, SIZE_HW, (), False),
    )
    return AnnotationSet(images, ("cup", "duck", "unused"), "desk")


LOSSES = {
    "coco": [],
    "csv": ["nobody has looked at: 1", "no list of classes"],
    "cvat": [],
    "labelme": ["nobody has looked at: 1"],
    "labelstudio": ["no list of classes"],
    "voc": ["nobody has looked at: 1"],
    "yolo": ["nobody has looked at: 1", "no boxes to ignore; they are written as ordinary ones: 1"],
}


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_is_recognized_and_what_it_lost_was_said(folder: Path, form: str) -> None:
    before = three_states(folder)
    target = target_in(folder, form)
    losses = write_annotations(before, target, form)
    assert len(losses) == len(LOSSES[form])
    assert all(want in loss for want, loss in zip(LOSSES[form], losses, strict=True))
    assert_same(read_annotations(target, folder / "photos"), before, losses)
    assert_same(read_annotations(target.parent, folder / "photos"), before, losses)


@pytest.mark.parametrize("form", FOLDER_FORMATS)
def test_a_folder_with_its_photos_stands_alone(folder: Path, form: str) -> None:
    before = three_states(folder)
    target = target_in(folder, form)
    losses = write_annotations(before, target, form, copy_photos=True)
    shutil.rmtree(folder / "photos")
    # Not those that nobody has looked at, where they would count as background.
    assert_same(read_annotations(target), before.reviewed_only() if form == "yolo" else before, losses)
    with pytest.raises(OutputError, match="the folder is not empty"):
        write_annotations(before, target, form)


@pytest.mark.parametrize("first", FORMATS)
def test_from_each_format_to_each_other(folder: Path, first: str) -> None:
    before = three_states(folder)
    target = target_in(folder, first)
    lost_first = write_annotations(before, target, first)
    between = read_annotations(target, folder / "photos")
    for second in FORMATS:
        again = folder / f"{first} to {second}" / FILE_NAMES.get(second, second)
        losses = (*lost_first, *write_annotations(between, again, second))
        assert_same(read_annotations(again, folder / "photos"), before, losses)


class TestRefusals:
    @pytest.mark.parametrize("label", [" duck", "du\nck", "du\x00ck", "\ud800", "du\u2028ck"])
    @pytest.mark.parametrize("form", FORMATS)
    def test_labels_that_would_change(self, folder: Path, form: str, label: str) -> None:
        """No set takes them: of each some format would lose something."""
        refused = r"label: has blanks around it or signs that do not print"
        images = three_states(folder).images[1:]
        with pytest.raises(AnnotationError, match=refused):
            write_annotations(AnnotationSet(images, (label,)), target_in(folder, form), form)
        assert not target_in(folder, form).exists()

    @pytest.mark.parametrize("form", FOLDER_FORMATS)
    @pytest.mark.parametrize("names", [("x.png", "X.jpg"), ("a/x.png", "b/x.png")])
    def test_two_photos_of_one_stem(self, folder: Path, form: str, names: tuple[str, str]) -> None:
        images = [AnnotatedImage(folder / name, SIZE_HW, (), True) for name in names]
        with pytest.raises(AnnotationError, match=f"{names[0]} and {names[1]} would have one file of boxes"):
            write_annotations(AnnotationSet(tuple(images), ()), target_in(folder, form), form)

    @pytest.mark.parametrize("form", FOLDER_FORMATS)
    def test_a_photo_whose_name_is_that_of_anothers_file(self, folder: Path, form: str) -> None:
        """YOLO does not say whether cup.jpg.txt is of cup.jpg or of cup.jpg.png; VOC and labelme do."""
        for name in ("cup.jpg", "cup.jpg.png"):
            Image.new("RGB", SIZE_HW[::-1]).save(folder / name)
        boxed = AnnotatedImage(folder / "cup.jpg.png", SIZE_HW, (Box(1, 2, 30, 20, "cup"),), True)
        plain = AnnotatedImage(folder / "cup.jpg", SIZE_HW, (), False)
        target = target_in(folder, form)
        if form == "yolo":
            with pytest.raises(
                AnnotationError, match=r"cup\.jpg and cup\.jpg\.png would have one file of boxes"
            ):
                write_annotations(AnnotationSet((boxed, plain), ("cup",)), target, form)
        write_annotations(AnnotationSet((boxed,), ("cup",)), target, form)
        if form == "yolo":
            with pytest.raises(AnnotationError, match=r"cup\.jpg' may be"):
                read_annotations(target, folder)
        else:
            got = read_annotations(target, folder)
            assert {image.path.name for image in got if image.boxes} == {"cup.jpg.png"}

    @pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
    @pytest.mark.parametrize("name", [b"f\xff", b"g\x01h"])
    @pytest.mark.parametrize("form", FORMATS)
    def test_a_folder_whose_name_is_no_text_is_no_hindrance(
        self, folder: Path, form: str, name: bytes
    ) -> None:
        place = folder / os.fsdecode(name)
        place.mkdir()
        Image.new("RGB", SIZE_HW[::-1]).save(place / "cup.jpg")
        boxed = AnnotatedImage(place / "cup.jpg", SIZE_HW, (Box(1, 2, 30, 20, "cup"),), True)
        target = place / target_in(folder, form).name
        write_annotations(AnnotationSet((boxed,), ("cup",)), target, form)
        assert read_annotations(target, place).num_boxes == 1

    @pytest.mark.parametrize("name", ["classes.png", "labels.png"])
    def test_a_photo_called_as_a_list_of_classes(self, folder: Path, name: str) -> None:
        """Its boxes would be read as names of classes, and refuse those of all others."""
        images = (AnnotatedImage(folder / name, SIZE_HW, (), True),)
        with pytest.raises(AnnotationError, match=f"the boxes of {name} would lie where YOLO has a list"):
            write_annotations(AnnotationSet(images, ()), folder / "out", "yolo")
        assert not (folder / "out").exists()

    def test_targets_and_formats_that_do_not_go_together(self, folder: Path) -> None:
        annotations = three_states(folder)
        with pytest.raises(SettingError, match=r"boxes\.dat: the name does not tell the format"):
            write_annotations(annotations, folder / "boxes.dat")
        with pytest.raises(SettingError, match="unknown format: 'yolov8'") as caught:
            write_annotations(annotations, folder / "out", "yolov8")
        assert "did you mean yolo?" in caught.value.hint
        with pytest.raises(OutputError, match="voc is a folder"):
            write_annotations(annotations, folder / "boxes.xml", "voc")
        with pytest.raises(SettingError, match="photos are not copied for coco"):
            write_annotations(annotations, folder / "boxes.json", copy_photos=True)
        with pytest.raises(OutputError):
            write_annotations(annotations, folder / "photos" / NAMES[0] / "boxes", "yolo")
        assert sorted(path.name for path in folder.iterdir()) == ["photos"]

    def test_a_photo_that_cannot_be_copied_leaves_no_half_folder(self, folder: Path) -> None:
        annotations = three_states(folder)
        (folder / "photos" / NAMES[2]).unlink()
        with pytest.raises(PhotoError, match=r"c\.1\.png: cannot be copied"):
            write_annotations(annotations, folder / "out", "voc", copy_photos=True)
        assert sorted(path.name for path in folder.iterdir()) == ["photos"]


class TestOtherReaders:
    """What is written here is what other tools read, and the other way round."""

    def counts(self, coco: object) -> Counter[str]:
        dataset = coco.dataset  # type: ignore[attr-defined]
        names = {category["id"]: category["name"] for category in dataset["categories"]}
        return Counter(names[box["category_id"]] for box in dataset["annotations"])

    def corners(self, coco: object) -> list[float]:
        boxes = [box["bbox"] for box in coco.dataset["annotations"]]  # type: ignore[attr-defined]
        return sorted(edge for x, y, w, h in boxes for edge in (x, y, x + w, y + h))

    def test_hotcoco_reads_what_is_written(self, folder: Path) -> None:
        hotcoco = pytest.importorskip("hotcoco")
        annotations = three_states(folder)
        for form in ("voc", "yolo", "cvat", "coco"):
            write_annotations(
                annotations, folder / FILE_NAMES.get(form, form), form, copy_photos=form == "voc"
            )
        (folder / "yolo" / "data.yaml").rename(folder / "yolo" / "labels" / "data.yaml")
        read = {
            "voc": hotcoco.COCO.from_voc(str(folder / "voc")),
            "yolo": hotcoco.COCO.from_yolo(str(folder / "yolo" / "labels"), str(folder / "photos")),
            "cvat": hotcoco.COCO.from_cvat(str(folder / "boxes.xml")),
            "coco": hotcoco.COCO(str(folder / "boxes.json")),
        }
        want = sorted([20, 6, 40, 30.25, 0.5, 0.5, 9.5, 9.75])
        for form, coco in read.items():
            assert self.counts(coco) == {"duck": 1, "cup": 1}, form
            # It takes VOC's corners as counted from 1: docs/decisions/0013.
            shifted = sorted([19, 5, 40, 30.25, -0.5, -0.5, 9.5, 9.75]) if form == "voc" else want
            assert self.corners(coco) == pytest.approx(shifted, abs=1e-4), form

    def test_what_hotcoco_writes_is_read(self, folder: Path) -> None:
        hotcoco = pytest.importorskip("hotcoco")
        write_annotations(three_states(folder), folder / "boxes.json")
        theirs = hotcoco.COCO(str(folder / "boxes.json"))
        theirs.to_voc(str(folder / "voc"))
        theirs.to_yolo(str(folder / "yolo"))
        theirs.to_cvat(str(folder / "cvat.xml"))
        for target in ("voc", "yolo", "cvat.xml"):
            got = read_annotations(folder / target, folder / "photos")
            boxes = [box for image in got for box in image.boxes]
            duck = next(box for box in boxes if box.label == "duck")
            assert (duck.x1, duck.y1, duck.x2, duck.y2) == pytest.approx((20, 6, 40, 30.25), abs=1)
            assert got.labels[:2] == ("cup", "duck")
