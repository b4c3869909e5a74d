"""The project file: COCO JSON that is changed box by box and keeps everything else."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbox.data import checked_label
from fewbox.data.annotations import Box
from fewbox.data.project_file import DrawnBox, PhotoState, ProjectFile
from fewbox.errors import AnnotationError

SIZE_HW = (60, 100)


def drawn(box_id: str, *edges: float, label: str = "mug", ignore: bool = False) -> DrawnBox:
    return DrawnBox(box_id, Box(*edges, label=label, ignore=ignore))


def foreign() -> dict[str, Any]:
    """As another tool writes it: more fields, ids in no order, digits of its own."""
    return {
        "version": "1.0",
        "licenses": [{"id": 1, "name": "CC"}, {"id": 2, "name": "none"}],
        "categories": [{"id": 7, "name": "mug", "supercategory": "kitchen"}, {"id": 3, "name": "lid"}],
        "annotations": [
            {"id": 90, "image_id": 5, "category_id": 7, "bbox": [1.23456, 2, 30.5, 20], "segmentation": []},
            {"id": 12, "image_id": 5, "category_id": 3, "bbox": [40, 10, 5, 5], "iscrowd": 1, "area": 25},
        ],
        "images": [
            {"id": 5, "file_name": "b.jpg", "width": 100, "height": 60, "license": 2},
            {"id": 2, "file_name": "sub\\a.jpg", "date_captured": "today", "reviewed": True},
        ],
        "info": {"year": 2020, "contributor": "é"},
    }  # fmt: skip


def reopened(content: ProjectFile) -> ProjectFile:
    return ProjectFile(content.to_bytes().decode(), "annotations.json")


class TestFormat:
    def test_one_entry_a_line(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("Tässchen.jpg", SIZE_HW, put=[drawn("k1", 10, 20.125, 30, 40.5)])
        content.change_photo("empty.jpg", SIZE_HW, reviewed=True)
        assert content.to_bytes().decode() == (
            '{\n "info": {},\n "images": [\n'
            '  {"id": 1, "file_name": "Tässchen.jpg", "width": 100, "height": 60, "reviewed": true},\n'
            '  {"id": 2, "file_name": "empty.jpg", "width": 100, "height": 60, "reviewed": true}\n'
            ' ],\n "annotations": [\n'
            '  {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20.12, 20, 20.38], "area": 407.6,'
            ' "iscrowd": 0, "box_id": "k1"}\n'
            ' ],\n "categories": [\n  {"id": 1, "name": "mug"}\n ]\n}\n'
        )

    def test_another_reader_understands_it(self, tmp_path: Path) -> None:
        pycocotools = pytest.importorskip("pycocotools.coco")
        content = ProjectFile(None, "annotations.json")
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k1", 1, 2, 3, 4), drawn("k2", 5, 6, 7, 8)])
        content.change_photo("b.jpg", SIZE_HW, reviewed=True)
        (tmp_path / "annotations.json").write_bytes(content.to_bytes())
        other = pycocotools.COCO(tmp_path / "annotations.json")
        assert Counter(len(other.getAnnIds([image_id])) for image_id in other.getImgIds()) == {2: 1, 0: 1}
        assert [box["bbox"] for box in other.loadAnns(other.getAnnIds())] == [[1, 2, 2, 2], [5, 6, 2, 2]]

    def test_a_change_changes_the_lines_it_is_about(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        before = content.to_bytes().splitlines()
        content.change_photo("b.jpg", SIZE_HW, put=[drawn("coco-90", 1.23456, 2, 31.73456, 22, label="lid")])
        after = content.to_bytes().splitlines()
        changed = [new.decode() for old, new in zip(before, after, strict=True) if old != new]
        assert changed == [
            '  {"id": 90, "image_id": 5, "category_id": 3, "bbox": [1.23456, 2, 30.5, 20],'
            ' "segmentation": []},',
            '  {"id": 5, "file_name": "b.jpg", "width": 100, "height": 60, "license": 2, "reviewed": true},',
        ]

    def test_file_names_that_are_no_text(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("a\udc80.jpg", SIZE_HW, reviewed=True)
        assert reopened(content).names == ["a\udc80.jpg"]


class TestStates:
    def test_three_states(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        assert content.photo("b.jpg").reviewed  # as it has boxes
        assert content.photo("sub/a.jpg") == PhotoState((), True, None)
        assert content.photo("new.jpg") == PhotoState((), False, None)

    def test_undoing_the_first_box_makes_the_photo_unseen_again(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4)], reviewed=False)
        assert content.photo("a.jpg").reviewed
        content.change_photo("a.jpg", SIZE_HW, delete=["k"], reviewed=False)
        assert content.photo("a.jpg") == PhotoState((), False, SIZE_HW)

    @pytest.mark.slow
    def test_a_class_with_thousands_of_boxes_is_deleted_at_once(self) -> None:
        boxes = [
            {"id": n, "image_id": 1, "category_id": 1 + n % 2, "bbox": [n % 50, 5, 9, 9], "box_id": f"b{n}"}
            for n in range(10_000)
        ]
        classes = [{"id": 1, "name": "mug"}, {"id": 2, "name": "lid"}]
        images = [{"id": 1, "file_name": "a.jpg"}]
        content = ProjectFile(
            json.dumps({"images": images, "annotations": boxes, "categories": classes}), "annotations.json"
        )
        start = time.process_time()
        content.delete_label("mug")
        assert time.process_time() - start < 1
        assert [box.box.label for box in content.photo("a.jpg").boxes] == ["lid"] * 5000

    def test_a_photo_whose_boxes_are_deleted_has_been_looked_at(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4)])
        content.change_photo("a.jpg", SIZE_HW, delete=["k"])
        assert reopened(content).photo("a.jpg") == PhotoState((), True, SIZE_HW)


class TestWhatOthersWrote:
    def test_all_fields_and_the_order_survive(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        assert json.loads(content.to_bytes()) == foreign()
        assert list(json.loads(content.to_bytes())) == list(foreign())

    def test_changing_a_box_keeps_its_other_fields(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        (first, second) = content.photo("b.jpg").boxes
        assert (first.id, second.id, second.box.ignore) == ("coco-90", "coco-12", True)
        content.change_photo("b.jpg", SIZE_HW, put=[drawn("coco-90", 5, 6, 30, 20)], delete=["coco-12"])
        written = json.loads(content.to_bytes())
        first = foreign()["annotations"][0]
        assert written["annotations"] == [first | {"bbox": [5, 6, 25, 14], "area": 350}]
        assert written["images"][0]["license"] == 2

    def test_a_box_put_back_where_it_is_keeps_its_digits(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        content.change_photo("b.jpg", SIZE_HW, put=content.photo("b.jpg").boxes)
        assert json.loads(content.to_bytes())["annotations"] == foreign()["annotations"]

    def test_new_ids_follow_the_highest(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        content.change_photo("c.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4, label="cup")])
        written = json.loads(content.to_bytes())
        assert (written["images"][2]["id"], written["annotations"][2]["id"]) == (6, 91)
        assert written["categories"][2] == {"id": 8, "name": "cup"}

    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )  # fmt: skip
    extra = st.dictionaries(st.text().map("x".__add__), junk, max_size=3)

    @given(extras=st.tuples(extra, extra, extra, extra))
    @settings(max_examples=20, deadline=None)
    def test_any_unknown_field_survives_a_change(self, extras: tuple[dict[str, Any], ...]) -> None:
        document = foreign()
        places = (document, document["images"][0], document["annotations"][0], document["categories"][0])
        for place, extra in zip(places, extras, strict=True):
            place.update(extra)
        content = ProjectFile(json.dumps(document), "annotations.json")
        content.change_photo("b.jpg", SIZE_HW, put=[drawn("coco-90", 3, 4, 5, 6), drawn("k", 7, 8, 9, 10)])
        after = json.loads(content.to_bytes())
        places = (after, after["images"][0], after["annotations"][0], after["categories"][0])
        for place, extra in zip(places, extras, strict=True):
            assert {key: place[key] for key in extra} == extra


class TestChanges:
    def test_the_same_change_twice_is_one(self) -> None:
        content = ProjectFile(None, "annotations.json")
        for _ in range(2):
            content.change_photo("a.jpg", SIZE_HW, put=[drawn("k1", 1, 2, 3, 4)], delete=["gone"])
        once = content.to_bytes()
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k1", 1, 2, 3, 4)], delete=["gone"])
        assert content.to_bytes() == once
        assert len(content.photo("a.jpg").boxes) == 1

    def test_boxes_of_one_id_in_two_photos(self) -> None:
        content = ProjectFile(None, "annotations.json")
        for name in ("a.jpg", "b.jpg"):
            content.change_photo(name, SIZE_HW, put=[drawn("k", 1, 2, 3, 4)])
        content.change_photo("a.jpg", SIZE_HW, delete=["k"])
        assert [len(reopened(content).photo(name).boxes) for name in ("a.jpg", "b.jpg")] == [0, 1]

    @pytest.mark.parametrize(
        ("box", "message"),
        [
            (("k", 5, 2, 3, 4), r"annotations.json: a.jpg: box k: x2 must be greater"),
            (("k", 5, 2, 300, 4), "outside the photo"),
            (("k", 5, 2, 5.002, 4), "too small"),
            (("k", 5, float("nan"), 6, 4), "must be a number"),
        ],
    )
    def test_boxes_that_do_not_fit(self, box: Any, message: str) -> None:
        with pytest.raises(AnnotationError, match=message):
            ProjectFile(None, "annotations.json").change_photo("a.jpg", SIZE_HW, put=[drawn(*box)])

    @pytest.mark.parametrize("box_id", ["", "a b", "../x", "x" * 65, "ä", "k\n"])
    def test_ids_of_boxes(self, box_id: str) -> None:
        with pytest.raises(AnnotationError, match="not an id of a box"):
            drawn(box_id, 1, 2, 3, 4)

    def test_a_photo_that_was_turned_since_its_boxes_were_drawn(self) -> None:
        content = ProjectFile(json.dumps(foreign()), "annotations.json")
        with pytest.raises(AnnotationError, match=r"b\.jpg: .*100 x 60 in the file, 60 x 100 upright"):
            content.change_photo("b.jpg", (100, 60), put=[drawn("k", 1, 2, 3, 4)])

    def test_accents_and_slashes_are_spelled_in_two_ways(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("sub/Küche.jpg", SIZE_HW, reviewed=True)  # one sign
        assert content.photo("sub/Küche.jpg").reviewed  # two signs
        assert content.photo("sub\\Küche.jpg").reviewed


class TestLabels:
    def test_adding_renaming_removing(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.add_labels(["mug", " lid ", "mug"])
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4, label="mug")])
        content.rename_label("mug", "cup")
        assert content.photo("a.jpg").boxes[0].box.label == "cup"
        content.remove_label("lid")
        assert reopened(content).labels == ["cup"]

    def test_one_that_is_brought_back_has_its_place_again_unless_that_is_taken(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.add_labels(["mug", "lid", "cup"])
        mug, cup = content.category_id("mug"), content.category_id("cup")
        content.remove_label("mug")
        content.restore_label("mug", mug)
        assert reopened(content).labels == ["mug", "lid", "cup"]
        content.remove_label("cup")
        content.add_labels(["jar"])
        content.restore_label("cup", cup)
        assert reopened(content).labels == ["mug", "lid", "jar", "cup"]

    def test_refused(self) -> None:
        content = ProjectFile(None, "annotations.json")
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4, label="mug")])
        content.add_labels(["lid"])
        with pytest.raises(AnnotationError, match="1 box has the label mug"):
            content.remove_label("mug")
        with pytest.raises(AnnotationError, match="two classes would have one label: lid"):
            content.rename_label("mug", "lid")
        with pytest.raises(AnnotationError, match="no class has the label 'cup'"):
            content.remove_label("cup")

    @pytest.mark.parametrize("label", ["", "  ", "\u200d", "a\nb", "x" * 101, "a\0", "a\u202eb"])
    def test_names_for_classes(self, label: str) -> None:
        with pytest.raises(AnnotationError, match="not a name for a class"):
            checked_label(label)

    @pytest.mark.parametrize("label", ["کتاب\u200cخانه", "क्\u200dष", "👩\u200d🔬"])
    def test_signs_that_join_letters_or_part_them_belong_to_names(self, label: str) -> None:
        assert checked_label(label) == label

    @pytest.mark.parametrize("spelled", ["mug ", "me\u0301tal"])
    def test_a_class_that_another_program_spelled_otherwise_stays_one(self, spelled: str) -> None:
        image = {"id": 1, "file_name": "a.jpg", "width": 400, "height": 300}
        top = {"images": [image], "annotations": [], "categories": [{"id": 7, "name": spelled}]}
        content = ProjectFile(json.dumps(top), "annotations.json")
        content.change_photo("a.jpg", SIZE_HW, put=[drawn("k", 1, 2, 3, 4, label=spelled)])
        assert reopened(content).labels == [spelled]


class TestMalformed:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["annotations"][0].pop("bbox"), r"annotations\[0\]: bbox is missing"),
            (lambda d: d["annotations"][0].update(attributes={"rotation": 30}), r"\[0\]: the box is rotated"),
            (lambda d: d["annotations"][1].update(image_id=4), r"\[1\]: image_id must be the id of an image"),
            (lambda d: d["annotations"][1].update(id=90), r"annotations\[1\]: id must be different"),
            (lambda d: d["annotations"][1].update(box_id="a b"), r"\[1\]: box_id must be letters"),
            (lambda d: d["annotations"][1].update(box_id="coco-90"), r"\[1\]: another box .* coco-90"),
            (lambda d: d["images"][1].update(file_name="./b.jpg"), r"\[1\]: file_name must be different"),
            (lambda d: d["images"][1].update(width="x", height=3), r"\[1\]: width must be a number"),
            (lambda d: d["categories"][1].update(name="mug"), r"categories\[1\]: name must be different"),
            (lambda d: d.update(images={}), "images must be a list"),
        ],
    )  # fmt: skip
    def test_the_place_is_named(self, change: Any, message: str) -> None:
        document = foreign()
        change(document)
        with pytest.raises(AnnotationError, match=f"^annotations.json: .*{message}"):
            ProjectFile(json.dumps(document), "annotations.json")

    def test_any_part_of_a_file_is_an_error(self) -> None:
        whole = ProjectFile(json.dumps(foreign()), "annotations.json").to_bytes().decode().rstrip()
        for length in range(0, len(whole), 7):
            with pytest.raises(AnnotationError, match=r"annotations\.json: line \d+, column \d+: not valid"):
                ProjectFile(whole[:length], "annotations.json")
