"""``fewbox check`` finds every fault that was put into a data set, and none in a sound one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from fewbox.cli import main
from fewbox.core.boxes import paired_iou
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.checks import CheckReport, check_annotations
from fewbox.data.checks.findings import KINDS, check_boxes
from fewbox.data.formats import read_annotations, to_annotation_set, write_coco
from fewbox.data.formats.raw import RawAnnotations, RawBox, RawPhoto
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.data.similar import NEARLY_SAME, SAME, perceptual_hash, similar_pairs
from fewbox.errors import AnnotationError, PhotoError
from orientations import orientation
from reference_fields import fields_of

COCO_BOX = (10, 20, 100, 60)


def scene(seed: int, size_wh: tuple[int, int] = (320, 240)) -> Image.Image:
    """A photo that looks like no other: blobs of colour."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(colours).resize(size_wh, Image.Resampling.BICUBIC)


class DataSet:
    """A folder of photos and the COCO file about them, both easily spoilt."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.boxes = folder, folder / "boxes.json"
        self.coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}

    def photo(self, name: str, image: Image.Image, *boxes: tuple[float, ...], **more: object) -> None:
        """Add a photo with boxes ``(x, y, width, height)`` or ``(x, y, width, height, category)``."""
        image.save(self.folder / name, quality=95, exif=more.pop("exif", b""))
        self.entry(name, *boxes, **({"width": image.width, "height": image.height} | more))

    def entry(self, name: str, *boxes: tuple[float, ...], **more: object) -> None:
        number = len(self.coco["images"]) + 1
        self.coco["images"].append({"id": number, "file_name": name, **more})
        for box in boxes:
            row = {"image_id": number, "bbox": list(box[:4]), "category_id": [*box, 1][4]}
            self.coco["annotations"].append(row | {"id": len(self.coco["annotations"]) + 1})

    def write(self, *labels: str) -> Path:
        self.coco["categories"] = [{"id": i, "name": n} for i, n in enumerate(labels or ("mug",), 1)]
        self.boxes.write_text(json.dumps(self.coco))
        return self.boxes

    def check(self, *labels: str, **more: object) -> CheckReport:
        return check_annotations(self.write(*labels), self.folder, show_progress=False, **more)


@pytest.fixture
def mugs(tmp_path: Path) -> DataSet:
    """Four photos with nothing wrong."""
    mugs = DataSet(tmp_path / "mugs")
    for seed in range(4):
        mugs.photo(f"mug{seed}.jpg", scene(seed), COCO_BOX)
    return mugs


def kinds(report: CheckReport) -> list[str]:
    return [row.kind for row in report.findings]


def test_nothing_is_wrong(mugs: DataSet) -> None:
    report = mugs.check()
    assert report == CheckReport(
        (), num_photos=4, labels={"mug": 4}, test_labels={}, num_train_photos=4, num_test_photos=0
    )


class TestBoxes:
    @pytest.mark.parametrize(
        ("box", "kind", "says"),
        [
            ((300, 20, 40, 40), "box-outside", "(300, 20, 340, 60) in a photo of 320 x 240"),
            ((-9, 20, 40, 40), "box-cut", "(-9, 20, 31, 60)"),
            ((10, 20, 0, 40), "box-flat", "(10, 20, 10, 60)"),
            ((10, 20, 40, -5), "box-degenerate", "y2 is not greater than y1: y1=20, y2=15"),
            ((320.5, 20, 0.4, 40), "box-degenerate", "less than 0.001 pixels"),
            ((10, 20, 3, 3), "box-tiny", "3 x 3 pixels, of which the network sees 6.0 x 6.0"),
        ],
    )
    def test_one_is_wrong(self, mugs: DataSet, box: tuple[float, ...], kind: str, says: str) -> None:
        mugs.photo("bad.jpg", scene(9), COCO_BOX, box)
        (row,) = mugs.check().findings
        assert (row.kind, row.file, row.place) == (kind, "bad.jpg", "boxes.json: annotations[5]")
        assert says in row.what
        assert row.cure

    def test_a_photo_is_found_without_the_signs_of_its_name(self, mugs: DataSet) -> None:
        mugs.photo("cup#2.jpg", scene(9), COCO_BOX)
        mugs.coco["images"][-1]["file_name"] = "cup2.jpg"
        (row,) = mugs.check().findings
        assert (row.kind, row.severity, row.what) == ("photo-cleaned", "note", "'cup2.jpg' is 'cup#2.jpg'")

    def test_one_pixel_outside_is_what_other_tools_do(self, mugs: DataSet) -> None:
        mugs.photo("edge.jpg", scene(9), (-1, -1, 322, 242))
        assert not mugs.check().findings

    def test_drawn_twice(self, mugs: DataSet) -> None:
        mugs.photo("twice.jpg", scene(9), COCO_BOX, COCO_BOX, (11, 20, 100, 60), (150, 20, 100, 60))
        rows = mugs.check().findings
        assert [row.kind for row in rows] == ["box-twice"] * 3
        assert "the very same as another box of mug" in rows[0].what
        assert "IoU 0.98" in rows[1].what

    def test_thousands_of_boxes_are_not_held_against_each_other_at_once(
        self, mugs: DataSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mugs.photo("many.jpg", scene(9), *[(x, 8 * y, 6, 6) for x in range(0, 300, 8) for y in range(25)])
        asked = []

        def counted(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            asked.append(len(first))
            return paired_iou(first, second)

        monkeypatch.setattr("fewbox.data.checks.findings.paired_iou", counted)
        assert "box-twice" not in [row.kind for row in mugs.check().findings]
        assert max(asked) <= 950  # boxes: not all pairs, nor all of one column

    def test_one_object_two_classes(self, mugs: DataSet) -> None:
        mugs.photo("both.jpg", scene(9), COCO_BOX, (*COCO_BOX, 2))
        (row,) = mugs.check("mug", "cup").findings
        assert (row.kind, row.what) == ("box-two-labels", "the very same: mug and cup")

    def test_a_box_to_ignore_may_lie_on_another(self, mugs: DataSet) -> None:
        mugs.photo("crowd.jpg", scene(9), COCO_BOX, COCO_BOX)
        mugs.coco["annotations"][-1]["iscrowd"] = 1
        assert not mugs.check().findings

    def test_small_in_a_large_photo(self, mugs: DataSet) -> None:
        """Of 4000 pixels an input of 640 keeps 640: a box of 60 has 10 there, and 39 in a tile."""
        mugs.photo("far.jpg", scene(9, (4000, 300)), (10, 20, 60, 60))
        assert not mugs.check(input_side=640).findings  # 1 box of 5
        mugs.photo("farther.jpg", scene(8, (4000, 300)), (10, 20, 60, 60), (90, 20, 90, 90))
        (row,) = mugs.check(input_side=640).findings
        assert (row.kind, row.file, row.severity) == ("boxes-small", "boxes.json", "warning")
        assert row.what.startswith("2 of 7 boxes are below 12 x 12 pixels in an input of 640")
        assert "fewbox detect DETECTOR PHOTOS -o found/ --tiles" in row.cure
        assert not mugs.check(input_side=1280).findings

    def test_tiny_depends_on_the_network(self, mugs: DataSet) -> None:
        mugs.photo("far.jpg", scene(9), (10, 20, 7, 7))
        assert kinds(mugs.check(input_side=320)) == ["box-tiny"]
        assert not mugs.check(input_side=640).findings
        mugs.photo("needle.jpg", scene(8), (10, 20, 7, 60))  # seen as thin, not as tiny; finetune agrees
        assert kinds(mugs.check(input_side=320)) == ["box-tiny"]

    @pytest.mark.slow
    @given(
        box=st.tuples(*[st.floats(-50, 400)] * 4),
        size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    )
    @settings(max_examples=300, deadline=None)
    def test_what_a_set_refuses_is_an_error_and_nothing_else_is(
        self, box: tuple[float, float, float, float], size_hw: tuple[int, int]
    ) -> None:
        stated = RawPhoto("f", "a.jpg", (RawBox("f: box 1", box, "mug"),), True, size_hw)
        found = check_boxes(stated, "a.jpg", size_hw, 640, strict=True)
        rows = [row for row in found if row.severity == "error"]
        try:
            AnnotationSet((AnnotatedImage(Path("a.jpg"), size_hw, (Box(*box, "mug"),), True),), ("mug",))
        except AnnotationError:
            assert len(rows) == 1
        else:
            assert not rows

    @pytest.mark.slow
    @given(
        box=st.tuples(*[st.floats(-50, 400)] * 4),
        size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        is_stated=st.booleans(),
    )
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_what_reading_refuses_is_an_error_and_what_it_changes_a_warning(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        box: tuple[float, float, float, float],
        size_hw: tuple[int, int],
        is_stated: bool,
    ) -> None:
        photo = tmp_path_factory.mktemp("a") / "a.png"
        Image.new("1", size_hw[::-1]).save(photo)
        stated = RawPhoto(
            "f", "a.png", (RawBox("f: box 1", box, "mug"),), True, size_hw if is_stated else None
        )
        kinds = {row.kind for row in check_boxes(stated, "a.png", size_hw, 640)}
        try:
            got = to_annotation_set(RawAnnotations("csv", "f", (stated,), ("mug",), (photo.parent,)))
        except AnnotationError:
            assert kinds & {"box-outside", "box-degenerate", "photo-turned"}
            return
        assert not kinds & {"box-outside", "box-degenerate", "photo-turned"}
        assert ("box-flat" in kinds) == (not got.images[0].boxes) == (not got.images[0].reviewed)
        if "box-cut" in kinds:
            (read,) = got.images[0].boxes
            assert (read.x1, read.y1, read.x2, read.y2) != box

    def test_strictly_no_box_is_changed(self, mugs: DataSet) -> None:
        mugs.photo("bad.jpg", scene(9), (-9, 20, 40, 40), (10, 20, 0, 40))
        mugs.coco["annotations"][-1]["bbox"] = [10, 20, 0, 40]
        assert kinds(mugs.check()) == ["box-cut", "box-flat"]
        assert kinds(mugs.check(strict=True)) == ["box-outside", "box-degenerate"]

    def test_turned_a_little_and_turned_far(self, mugs: DataSet) -> None:
        mugs.photo("turned.jpg", scene(9), COCO_BOX, (150, 20, 100, 60))
        for row, degrees in zip(mugs.coco["annotations"][-2:], (0.3, 30), strict=True):
            row["attributes"] = {"rotation": degrees}
        assert kinds(mugs.check()) == ["box-rotated", "box-tilted", "not-read"]
        assert kinds(mugs.check(strict=True)) == ["box-rotated", "box-rotated", "not-read"]


class TestPhotos:
    def test_missing_and_unreadable(self, mugs: DataSet) -> None:
        mugs.entry("mug9.jpg", COCO_BOX)
        mugs.photo("cut.jpg", scene(8), COCO_BOX)
        cut = mugs.folder / "cut.jpg"
        cut.write_bytes(cut.read_bytes()[:2000])
        mugs.photo("bomb.jpg", scene(7), COCO_BOX)
        (mugs.folder / "bomb.jpg").write_bytes(
            b"BM" + bytes(12) + b"\x28\0\0\0" + b"\x60\xea\0\0" * 2 + b"\1\0\x18\0" + bytes(24)
        )
        rows = mugs.check().findings
        assert [(row.kind, row.file) for row in rows] == [
            ("photo-missing", "mug9.jpg"),
            ("photo-unreadable", "cut.jpg"),
            ("photo-unreadable", "bomb.jpg"),
        ]
        assert rows[0].what == "no such photo", "the file lists all that are called alike itself"
        assert "damaged or incomplete" in rows[1].what
        assert "larger than 200 megapixels" in rows[2].what

    @pytest.mark.parametrize("value", [5, 6, 7, 8])
    def test_boxes_drawn_on_a_phones_photo_before_it_was_orientation(self, mugs: DataSet, value: int) -> None:
        mugs.photo("phone.jpg", scene(9), COCO_BOX, exif=orientation(value))  # states 320 x 240 as stored
        (row,) = mugs.check().findings
        assert (row.kind, row.severity, row.file) == ("photo-turned", "error", "phone.jpg")
        assert row.what == "240 x 320 upright, 320 x 240 in the file of boxes"
        assert "EXIF" in row.cure

    def test_boxes_give_a_turned_photo_away_where_no_size_is_stated(self, mugs: DataSet) -> None:
        mugs.photo("phone.jpg", scene(9), (200, 10, 110, 200), exif=orientation(6), width=None, height=None)
        (row,) = mugs.check().findings
        assert (row.kind, row.what) == ("photo-turned", "240 x 320 upright, and its boxes fit only 320 x 240")

    def test_upside_down_can_only_be_pointed_at(self, mugs: DataSet) -> None:
        mugs.photo("down.jpg", scene(9), COCO_BOX, exif=orientation(3))
        (row,) = mugs.check().findings
        assert (row.kind, row.severity) == ("photo-flipped", "note")

    def test_on_its_side_too_where_no_size_is_stated_and_the_boxes_fit_both_ways(self, mugs: DataSet) -> None:
        for number, box in enumerate(
            (COCO_BOX, (10, 250, 60, 60))
        ):  # the second fits the upright photo alone
            name = f"phone{number}.jpg"
            mugs.photo(name, scene(9 + number), box, exif=orientation(6), width=None, height=None)
        (row,) = mugs.check().findings
        assert (row.kind, row.severity, row.file) == ("photo-flipped", "note", "phone0.jpg")
        assert row.what == "stored with EXIF orientation 6"

    def test_parts_of_a_photo_on_its_side_fit_both_ways(self, tmp_path: Path) -> None:
        scene(9).save(tmp_path / "phone.jpg", exif=orientation(8))
        (tmp_path / "phone.txt").write_text("0 .5 .5 .2 .3\n")
        (tmp_path / "classes.txt").write_text("mug\n")
        assert kinds(check_annotations(tmp_path, show_progress=False)) == ["photo-flipped"]

    def test_12_bits_in_a_file_of_16_are_almost_black(self, mugs: DataSet) -> None:
        grey = np.asarray(scene(9).convert("L")).astype(np.uint16)
        mugs.photo("dark.png", Image.fromarray(grey * 16), COCO_BOX)
        (row,) = mugs.check().findings
        assert (row.kind, row.file, row.severity) == ("photo-dark", "dark.png", "warning")
        assert row.what == "its brightest pixel is 14 of 255"
        Image.fromarray(grey * 257).save(mugs.folder / "dark.png")
        assert not mugs.check().findings

    def test_a_jpeg_that_lacks_its_end_is_worth_a_note(self, mugs: DataSet) -> None:
        path = mugs.folder / "mug0.jpg"
        path.write_bytes(path.read_bytes()[:-2])
        (row,) = mugs.check().findings
        assert (row.kind, row.file, row.severity) == ("photo-without-end", "mug0.jpg", "note")
        assert row.what == "lacks its end marker, but all its pixels are there"
        path.write_bytes(path.read_bytes()[:-1500])
        assert kinds(mugs.check()) == ["photo-unreadable"]

    def test_another_size(self, mugs: DataSet) -> None:
        mugs.photo("small.jpg", scene(9), (600, 400, 30, 30), width=640, height=480)
        (row,) = mugs.check().findings
        assert (row.kind, row.what) == ("photo-resized", "320 x 240 upright, 640 x 480 in the file of boxes")

    def test_listed_twice_and_names_twice(self, mugs: DataSet) -> None:
        mugs.entry("mug0.jpg", COCO_BOX)
        (mugs.folder / "more").mkdir()
        mugs.photo("more/mug1.jpg", scene(9), COCO_BOX)
        rows = mugs.check().findings
        assert [(row.kind, row.severity, row.file) for row in rows] == [
            ("photo-listed-twice", "error", "mug0.jpg"),
            ("photo-name-twice", "note", "mug1.jpg"),
        ]

    def test_a_name_that_two_photos_have(self, mugs: DataSet) -> None:
        for place in ("desk", "sill"):
            (mugs.folder / place).mkdir()
            scene(9).save(mugs.folder / place / "cup.jpg")
        mugs.entry("cup.jpg", COCO_BOX)
        places = [mugs.folder, mugs.folder / "desk", mugs.folder / "sill"]
        rows = check_annotations(mugs.write(), places, show_progress=False).findings
        assert (rows[0].kind, rows[0].file) == ("photo-ambiguous", "cup.jpg")
        assert rows[0].what == f"'cup.jpg' may be {places[1] / 'cup.jpg'} or {places[2] / 'cup.jpg'}"
        assert "rename one of them" in rows[0].cure
        alike = next(row for row in rows if row.kind == "photo-twice")
        assert (alike.file, alike.what[:29]) == ("sill/cup.jpg", "shows the same as desk/cup.jp")

    def test_no_photos_at_all_are_not_in_order(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        scene(9).save(tmp_path / "images" / "cup.jpg")
        with pytest.raises(PhotoError, match="no photos in this folder"):
            check_annotations(None, tmp_path, show_progress=False)

    def test_nothing_named_is_not_in_order(self) -> None:
        """Where a variable for the boxes is None, a gate before learning passed."""
        for nothing in ((None,), (None, None)):
            with pytest.raises(
                AnnotationError, match="neither boxes nor photos are named\nhint: say where they"
            ):
                check_annotations(*nothing, show_progress=False)
        with pytest.raises(AnnotationError, match="by its path, not as AnnotationSet"):
            check_annotations(AnnotationSet((), ()), show_progress=False)  # type: ignore[arg-type]

    def test_not_reviewed(self, mugs: DataSet) -> None:
        mugs.photo("empty.jpg", scene(7), reviewed=True)
        mugs.photo("skipped.jpg", scene(8))
        scene(9).save(mugs.folder / "new.jpg")
        rows = mugs.check().findings
        assert [(row.kind, row.file) for row in rows] == [
            ("photo-not-reviewed", "skipped.jpg"),
            ("photo-not-reviewed", "new.jpg"),
        ]

    def test_no_boxes_at_all(self, tmp_path: Path) -> None:
        empty = DataSet(tmp_path / "empty")
        empty.photo("a.jpg", scene(0), reviewed=True)
        assert kinds(empty.check()) == ["boxes-none"]

    def test_what_is_not_read_is_told(self, mugs: DataSet) -> None:
        mugs.coco["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
        (row,) = mugs.check().findings
        assert (row.kind, row.severity, row.what) == ("not-read", "note", "not read: segmentation (1)")


class TestLabels:
    def test_spelling_rare_and_unused(self, mugs: DataSet) -> None:
        mugs.photo("many.jpg", scene(9), *[(10 + 24 * i, 20, 20, 20) for i in range(12)], (10, 99, 50, 50, 2))
        rows = mugs.check("coffee mug", "Coffee_Mug", "lid").findings
        assert [row.kind for row in rows] == ["label-alike", "label-rare", "label-unused"]
        assert rows[0].what == "'coffee mug' (16 boxes), 'Coffee_Mug' (1 box)"
        assert rows[1].what == "Coffee_Mug: 1 of up to 16 boxes per class"
        assert rows[2].what == "lid"

    def test_classes_without_a_box_are_counted_one_by_one(
        self, mugs: DataSet, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Four were "classes without a box: 1", and one warning in the sum."""
        assert main(["check", str(mugs.folder), "--boxes", str(mugs.write("mug", "lid", "cup", "pot"))]) == 0
        text = capsys.readouterr().out
        assert "warning: classes without a box: 3\n    boxes.json: lid\n    boxes.json: cup\n" in text
        assert text.splitlines()[-1].startswith("3 warnings;")

    @pytest.mark.parametrize(
        ("labels", "is_told"),
        [
            (("A+", "A-"), False),
            (("\u0915\u093e", "\u0915\u0940"), False),  # in Devanagari vowels are marks, no letters
            (("\U0001f986", "\U0001f9a2"), False),
            (("caf\u00e9", "CAFE\u0301"), True),
            (("traffic light", "Traffic-Light"), True),
        ],
    )
    def test_spelling_is_more_than_letters(
        self, mugs: DataSet, labels: tuple[str, str], is_told: bool
    ) -> None:
        mugs.photo("other.jpg", scene(9), (*COCO_BOX, 2))
        assert ("label-alike" in [row.kind for row in mugs.check(*labels).findings]) is is_told

    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (("caf\u00e9", "cafe\u0301"), "'caf\\xe9' and 'cafe\\u0301', which spell an accent in two ways"),
            (("mug", "cu\x07p"), "signs that do not print: 'cu\\x07p'"),
        ],
    )
    def test_what_learning_refuses_is_an_error(
        self, mugs: DataSet, labels: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mugs.photo("other.jpg", scene(9), (*COCO_BOX, 2))
        (row,) = mugs.check(*labels).findings
        assert (row.kind, row.severity, told in row.what) == ("label-refused", "error", True)
        mugs.boxes.rename(mugs.folder / "annotations.json")  # as a project
        assert main(["check", str(mugs.folder)]) == 1
        assert "error: labels that are refused: 1" in capsys.readouterr().out
        with pytest.raises(AnnotationError, match=r"which spell|do not print"):
            read_annotations(mugs.folder)

    def test_empty(self, mugs: DataSet) -> None:
        mugs.photo("nameless.jpg", scene(9), (*COCO_BOX, 2))
        rows = mugs.check("mug", " ").findings
        assert [(row.kind, row.file) for row in rows] == [("label-empty", "nameless.jpg")]

    def test_a_class_that_is_tested_and_not_learnt(self, mugs: DataSet, tmp_path: Path) -> None:
        test = DataSet(tmp_path / "test")
        test.photo("t.jpg", scene(9), COCO_BOX)
        report = mugs.check(test_boxes=test.write("jug"), test_photos=test.folder)
        assert [(row.kind, row.what) for row in report.findings] == [("label-not-learnt", "jug: 1 box")]
        assert report.test_labels == {"jug": 1}


class TestPerceptualHash:
    def changes(self, photo: Image.Image) -> dict[str, Image.Image]:
        half = photo.resize((photo.width // 2, photo.height // 2))
        return {
            "half": half,
            "brighter": ImageEnhance.Brightness(photo).enhance(1.15),
            "mirrored": photo.transpose(0),
        }

    def test_photos_for_learning_and_testing(self, mugs: DataSet, tmp_path: Path) -> None:
        test = DataSet(tmp_path / "test")
        for name, image in self.changes(scene(1)).items():
            test.photo(f"{name}.jpg", image, (5, 10, 50, 30) if name == "half" else COCO_BOX)
        lying, upright = scene(2).transpose(Image.Transpose.ROTATE_90), {"width": 320, "height": 240}
        test.photo("lying.jpg", lying, COCO_BOX, exif=orientation(6), **upright)
        test.photo("very_same.jpg", scene(3))  # of which nobody has drawn the boxes
        report = mugs.check(test_boxes=test.write(), test_photos=test.folder)
        both = {row.file: row for row in report.findings if row.kind == "photo-in-both"}
        assert both.keys() == {"half.jpg", "brighter.jpg", "lying.jpg", "very_same.jpg"}
        assert "the same as mug1.jpg" in both["half.jpg"].what
        assert "the same as mug2.jpg" in both["lying.jpg"].what

    def test_the_next_frame_of_a_film(self, mugs: DataSet, tmp_path: Path) -> None:
        test = DataSet(tmp_path / "test")
        test.photo("frame.jpg", scene(1).rotate(1.0, Image.Resampling.BICUBIC))
        (row,) = mugs.check(test_photos=test.folder).findings
        assert (row.kind, row.severity, row.file) == ("photo-nearly-in-both", "warning", "frame.jpg")
        assert row.what.startswith("looks like mug1.jpg")

    @pytest.mark.parametrize("boxes", [[(200, 90, 40, 40)], [(*COCO_BOX, 2)], [COCO_BOX, COCO_BOX], []])
    def test_a_fixed_camera_takes_photos_of_other_objects(
        self, mugs: DataSet, tmp_path: Path, boxes: list[tuple[float, ...]]
    ) -> None:
        """As near as copies, but of a mug elsewhere, another object, more of them, or of boxes unknown."""
        nearly = ImageEnhance.Brightness(scene(1)).enhance(1.05)
        test = DataSet(tmp_path / "test")
        test.photo("later.jpg", nearly, *boxes, reviewed=True)
        labels = ("mug", "jug")
        report = mugs.check(*labels, test_boxes=test.write(*labels), test_photos=test.folder)
        (row,) = (row for row in report.findings if row.file == "later.jpg" and row.kind[:6] == "photo-")
        assert (row.kind, row.severity) == ("photo-nearly-in-both", "warning")
        mugs.photo("later.jpg", nearly, *boxes, reviewed=True)
        (row,) = (row for row in mugs.check(*labels).findings if row.kind == "photo-twice")
        assert row.what.startswith("looks like mug1.jpg (distance 0.0")
        assert row.cure.startswith("nothing, if a fixed camera took them")

    def test_copies_are_told_before_photos_of_a_fixed_camera(self, mugs: DataSet) -> None:
        """And of a picture with other boxes nothing is thrown away, as its objects are background in it."""
        for number, factor in enumerate((1.02, 1.04, 1.06)):
            later = ImageEnhance.Brightness(scene(1)).enhance(factor)
            mugs.photo(f"later{number}.jpg", later, (200, 90 + 30 * number, 40, 40))
        mugs.photo("empty.jpg", scene(1), reviewed=True)
        mugs.photo("smaller.jpg", scene(2, (160, 120)), (5, 10, 50, 30))
        copies = [row for row in mugs.check().findings if row.kind == "photo-twice"]
        assert [row.file for row in copies[:2]] == ["empty.jpg", "smaller.jpg"]
        assert "shows the same as mug1.jpg, with other boxes" in copies[0].what
        assert "keep one, with the boxes of both" in copies[0].cure
        assert "shows the same as mug2.jpg (distance" in copies[1].what
        assert copies[1].cure.startswith("keep one: the other teaches nothing")
        assert ["fixed camera" in row.cure for row in copies[2:]] == [True] * 3

    def test_photos_that_show_nothing_are_not_alike(self) -> None:
        assert perceptual_hash(np.full((80, 80, 3), 200, np.uint8)) is None

    def test_pairs_are_those_of_a_plain_count(self) -> None:
        bits = np.random.default_rng(0).random((30, 512)) < 0.5
        copy = bits.copy()
        copy[:, :40] ^= True
        pairs = {(i, j): distance for i, j, distance in similar_pairs(bits, copy, 0.1)}
        assert pairs.keys() == {(i, i) for i in range(30)}
        assert all(distance == pytest.approx(40 / 512) for distance in pairs.values())


class TestCommand:
    def test_errors_are_exit_code_1(self, mugs: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(7):
            mugs.photo(f"bad{number}.jpg", scene(20 + number), (300, 20, 40, 40))
        command = ["check", str(mugs.folder), "--boxes", str(mugs.write())]
        assert main(command) == 1
        text = capsys.readouterr().out
        assert "error: boxes outside their photo: 7" in text
        assert "and 2 more; --all shows them" in text
        assert text.count("cure: ") == 1
        assert text.splitlines()[-1].startswith("7 errors")
        assert main([*command, "--all"]) == 1
        assert "bad6.jpg" in capsys.readouterr().out

    def test_warnings_are_exit_code_0(self, mugs: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
        mugs.photo("twice.jpg", scene(9), COCO_BOX, COCO_BOX)
        assert main(["check", str(mugs.folder), "--boxes", str(mugs.write())]) == 0
        assert "1 warning; nothing that stops fine-tuning" in capsys.readouterr().out

    def test_json_has_every_row(self, mugs: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(7):
            mugs.photo(f"bad{number}.jpg", scene(20 + number), (300, 20, 40, 40))
        assert main(["check", str(mugs.folder), "--boxes", str(mugs.write()), "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert (document["errors"], document["photos"], len(document["findings"])) == (7, 11, 7)
        assert document["findings"][0].keys() == {"kind", "file", "place", "what", "severity", "cure"}

    def test_each_part_has_its_own_photos_and_boxes(
        self, mugs: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The photos of both were counted with the boxes to learn from."""
        test = DataSet(tmp_path / "test")
        test.photo("t.jpg", scene(9), COCO_BOX, (200, 20, 40, 40))
        command = ["check", str(mugs.folder), "--boxes", str(mugs.write())]
        tested = [*command, "--test", str(test.folder), "--test-boxes", str(test.write())]
        for arguments, told in (
            (command, "4 photos, 4 boxes (mug 4)"),
            (tested, "4 photos, 4 boxes (mug 4); to test on: 1 photo, 2 boxes (mug 2)"),
        ):
            assert main(arguments) == 0
            assert capsys.readouterr().out.splitlines()[0] == told
        assert main([*tested, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document.keys() == fields_of("fewbox check PHOTOS")
        assert [document[name] for name in ("photos", "train_photos", "test_photos")] == [5, 4, 1]

    def test_a_malformed_file_is_a_finding_and_a_missing_one_an_error(
        self, mugs: DataSet, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mugs.boxes.write_text('{"images": [}')
        assert kinds(check_annotations(mugs.boxes, mugs.folder, show_progress=False)) == ["boxes-malformed"]
        assert main(["check", str(mugs.folder), "--boxes", str(mugs.boxes)]) == 1
        assert "boxes.json: line 1, column 13: not valid JSON" in capsys.readouterr().out
        assert main(["check", str(mugs.folder), "--boxes", str(mugs.folder / "no.json")]) == 2
        assert "no.json: no such file" in capsys.readouterr().err

    def test_what_was_drawn_in_the_page_is_checked_without_a_word(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for seed in range(2):
            scene(seed).save(tmp_path / f"mug{seed}.jpg")
        project = Project(tmp_path)
        project.change_photo("mug0.jpg", put=[DrawnBox("a", Box(10, 20, 90, 60, "mug"))])
        assert main(["check", str(tmp_path), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["labels"] == {"mug": 1}
        assert [(row["kind"], row["file"]) for row in document["findings"]] == [
            ("photo-not-reviewed", "mug1.jpg")
        ]

    def test_a_photo_of_the_project_that_is_gone_is_left_out_as_everywhere(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for seed in range(2):
            scene(seed).save(tmp_path / f"mug{seed}.jpg")
            box = DrawnBox("a", Box(10, 20, 90, 60, "mug"))
            Project(tmp_path).change_photo(f"mug{seed}.jpg", put=[box])
        (tmp_path / "mug1.jpg").unlink()
        for arguments in ([str(tmp_path)], [str(tmp_path / "*.jpg")]):
            assert main(["check", *arguments, "--json"]) == 0
            (row,) = json.loads(capsys.readouterr().out)["findings"]
            assert (row["kind"], row["severity"], row["file"]) == ("photo-gone", "warning", "mug1.jpg")
        for report in (
            check_annotations(tmp_path, show_progress=False),
            check_annotations(None, tmp_path, show_progress=False),
        ):
            assert (kinds(report), report.labels) == (["photo-gone"], {"mug": 1})
        # A file that is named is one of these photos and no others, as for finetune --boxes.
        named = check_annotations(tmp_path / "annotations.json", tmp_path, show_progress=False)
        assert kinds(named) == ["photo-missing"]

    def test_the_others_of_a_project_are_neither_gone_nor_looked_at(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for seed, name in enumerate(["train0.jpg", "train1.jpg", "test0.jpg"]):
            scene(seed).save(tmp_path / name)
            Project(tmp_path).change_photo(name, put=[DrawnBox("a", Box(10, 20, 90, 60, "mug"))])
        train, test = str(tmp_path / "train*.jpg"), str(tmp_path / "test0.jpg")
        assert main(["check", train, "--test", test, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["findings"], document["photos"]) == ([], 3)
        assert (document["labels"], document["test_labels"]) == ({"mug": 2}, {"mug": 1})
        assert main(["check", str(tmp_path / "t*.jpg"), "--test", test, "--json"]) == 1
        kind, file = "photo-in-both", "test0.jpg"
        (row,) = json.loads(capsys.readouterr().out)["findings"]
        assert (row["kind"], row["file"]) == (kind, file)

    def test_photos_of_another_tools_file_are_found_as_learning_finds_them(
        self, mugs: DataSet, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The file names images/mug0.jpg and lies in images itself; or mug0.jpg, which is in images."""
        for entry in mugs.coco["images"]:
            entry["file_name"] = f"images/{entry['file_name']}"
        mugs.write().rename(mugs.folder / "annotations.json")
        pattern, test = str(mugs.folder / "mug[012].jpg"), str(mugs.folder / "mug3.jpg")
        assert main(["check", pattern, "--test", test, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["findings"], document["photos"]) == ([], 4)
        assert (document["labels"], document["test_labels"]) == ({"mug": 3}, {"mug": 1})
        learnt = Project(pattern).annotation_set(only_asked=True)
        assert [image.path.name for image in learnt] == ["mug0.jpg", "mug1.jpg", "mug2.jpg"]

        inner = mugs.folder / "images"
        inner.mkdir()
        for photo in mugs.folder.glob("*.jpg"):
            photo.rename(inner / photo.name)
        for entry in mugs.coco["images"]:
            entry["file_name"] = str(entry["file_name"]).removeprefix("images/")
        mugs.write().rename(mugs.folder / "annotations.json")
        report = check_annotations(None, mugs.folder, show_progress=False)
        assert (kinds(report), report.labels, report.num_photos) == ([], {"mug": 4}, 4)
        assert len(read_annotations(mugs.folder)) == 4

        (mugs.folder / "a").mkdir()
        (mugs.folder / "b").mkdir()
        (inner / "mug0.jpg").rename(mugs.folder / "a" / "mug0.jpg")
        scene(9).save(mugs.folder / "b" / "mug0.jpg")
        report = check_annotations(None, mugs.folder, show_progress=False)
        assert kinds(report)[0] == "photo-ambiguous"

    def test_what_was_drawn_in_a_photo_that_is_gone_is_of_no_other_of_its_name(self, tmp_path: Path) -> None:
        scene(0).save(tmp_path / "mug.jpg")
        Project(tmp_path).change_photo("mug.jpg", put=[DrawnBox("a", Box(10, 20, 90, 60, "mug"))])
        (tmp_path / "old").mkdir()
        (tmp_path / "mug.jpg").unlink()
        scene(1).save(tmp_path / "old" / "mug.jpg")
        report = check_annotations(None, tmp_path / "**" / "*.jpg", show_progress=False)
        assert kinds(report) == ["boxes-none", "photo-gone", "photo-not-reviewed"]

    def test_photos_alone(self, mugs: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check", str(mugs.folder)]) == 1
        said = capsys.readouterr().out
        assert "4 photos" in said
        assert "error: no boxes at all: 1\n    photos: no file of boxes was named" in said
        assert "cure: say where they are: --boxes; or draw them: fewbox annotate PHOTOS" in said
        assert "nothing wrong" not in said
        assert main(["check", str(mugs.folder), "--base", "yolox_nan"]) == 2
        assert "did you mean 'yolox_nano'?" in capsys.readouterr().err

    def test_boxes_beside_the_photos_are_named(
        self, mugs: DataSet, capsys: pytest.CaptureFixture[str]
    ) -> None:
        boxes = mugs.write()
        assert main(["check", str(mugs.folder)]) == 1
        cure = (
            f"cure: name those that lie there: {mugs.folder} --boxes {boxes}; or draw boxes: fewbox annotate"
        )
        assert cure in capsys.readouterr().out
        assert main(["check", str(mugs.folder), "--boxes", str(boxes)]) == 0

    def test_a_part_of_a_data_set(self, mugs: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(10, 40):
            mugs.entry(f"cup{number}.jpg", COCO_BOX)
        mugs.photo("new.jpg", scene(8))
        given = ["check", str(mugs.folder), "--boxes", str(mugs.write())]
        assert main(given) == 1
        assert "or leave out all that are not there: --skip-missing" in capsys.readouterr().out
        assert main([*given, "--skip-missing", "--reviewed-only"]) == 0
        said = capsys.readouterr().out
        assert "30 of 35 photos are not there, left out: cup10.jpg" in said
        assert "1 photo that nobody has looked at, left out" in said
        assert "photos that nobody has looked at:" not in said

    def test_no_photo_that_is_there_is_the_folder_that_is_wrong(self, mugs: DataSet, tmp_path: Path) -> None:
        (tmp_path / "others").mkdir()
        scene(9).save(tmp_path / "others" / "cup.jpg")
        report = check_annotations(mugs.write(), tmp_path / "others", skip_missing=True, show_progress=False)
        assert kinds(report).count("photo-missing") == 4

    def test_a_photo_called_alike_is_offered_unless_the_file_lists_it(self, mugs: DataSet) -> None:
        mugs.entry("mug9.jpg", COCO_BOX)
        scene(8).save(mugs.folder / "mug9b.jpg")
        assert mugs.check().findings[0].what == "no such photo; did you mean mug9b.jpg?"

    @pytest.mark.slow
    def test_the_input_of_a_base_from_a_file(self, mugs: DataSet, tmp_path: Path) -> None:
        from fewbox.models.yolox import YOLOX_SIZES
        from tiny_yolox import random_yolox

        torch = pytest.importorskip("torch")
        torch.save({"model": random_yolox(YOLOX_SIZES["nano"]).state_dict()}, tmp_path / "mine.pth")
        given = ["check", str(mugs.folder), "--boxes", str(mugs.write()), "--base"]
        assert main([*given, str(tmp_path / "mine.pth")]) == 0

    def test_places_without_photos(self, tmp_path: Path) -> None:
        with pytest.raises(PhotoError, match="no such photo or folder"):
            check_annotations(None, tmp_path / "gone")


@pytest.mark.shared
class TestRealData:
    @pytest.mark.slow
    def test_chessmen_before_a_fixed_camera_are_not_photos_in_both_parts(
        self, shared: Path, tmp_path: Path
    ) -> None:
        folder = shared / "data" / "chess_pieces"
        photos = read_annotations(folder / "boxes_coco.json", folder / "images")
        parts = [(tmp_path / f"{start}.json", photos[start::2]) for start in (0, 1)]
        for path, part in parts:
            write_coco(part, path)
        (learnt, train), (tested, test) = parts
        report = check_annotations(
            learnt,
            [image.path for image in train],
            test_boxes=tested,
            test_photos=[image.path for image in test],
            show_progress=False,
        )
        assert report.count("error") == 0
        twice = [row for row in report.findings if row.kind == "photo-twice"]
        assert sum("teaches nothing" in row.cure for row in twice) <= 2 < 50 < len(twice)

    @pytest.mark.slow
    def test_raccoons(self, shared: Path) -> None:
        folder = shared / "data" / "raccoon"
        report = check_annotations(folder / "annotations", folder / "images", show_progress=False)
        assert report.count("error") == 0
        twins = {row.file for row in report.findings if row.kind == "photo-twice"}
        # PhotoResult at: each shows the very photo that another file shows.
        assert {
            "raccoon-116.jpg",
            "raccoon-45.jpg",
            "raccoon-74.jpg",
            "raccoon-83.jpg",
            "raccoon-98.jpg",
        } <= twins
        assert report.labels == {"raccoon": 217}

    @pytest.mark.slow
    def test_microcontrollers_and_ducks_have_no_errors(self, shared: Path) -> None:
        parts = [shared / "data" / "microcontrollers" / "images" / part for part in ("train", "test")]
        boards = check_annotations(
            parts[0], parts[0], test_boxes=parts[1], test_photos=parts[1], show_progress=False
        )
        assert not [row for row in boards.findings if row.severity != "note"]
        ducks = shared / "data" / "ducky"
        report = check_annotations(
            ducks / "train_boxes.csv",
            ducks / "train",
            test_boxes=ducks / "test_boxes_coco.json",
            test_photos=ducks / "test",
            label="rubber_ducky",
            show_progress=False,
        )
        assert set(kinds(report)) == {"photo-twice"}  # frames of one film
        assert len(read_annotations(ducks / "train_boxes.csv", ducks / "train")) == 5


def test_every_kind_has_a_cure_and_is_found_by_a_test() -> None:
    tests = Path(__file__).read_text()
    missing = [kind for kind in KINDS if f'"{kind}"' not in tests]
    assert not missing
    assert Counter(kind.severity for kind in KINDS.values()).keys() == {"error", "warning", "note"}
    assert 0 < SAME < NEARLY_SAME < 0.15
