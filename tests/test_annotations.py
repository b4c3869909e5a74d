"""A set of annotations is checked once, when it is made, and says where it is wrong."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import read_annotations, write_annotations
from fewbox.data.remote import cached_path, short_names
from fewbox.data.similar import divided
from fewbox.errors import AnnotationError, PhotoError, SettingError


def photo(name: str, *boxes: Box, reviewed: bool = False) -> AnnotatedImage:
    return AnnotatedImage(Path("photos", name), (60, 100), boxes, reviewed)


def one_box(*edges: float, label: str = "duck") -> AnnotationSet:
    return AnnotationSet((photo("a.jpg", Box(*edges, label=label)),), ("duck",), "boxes.csv")


DUCK = Box(10, 20, 30, 40, "duck")


class TestStates:
    def test_a_photo_with_boxes_has_been_looked_at(self) -> None:
        assert photo("a.jpg", DUCK, reviewed=False).reviewed

    def test_reviewed_only_keeps_empty_photos_and_labels(self) -> None:
        images = (photo("a.jpg", DUCK), photo("b.jpg"), photo("c.jpg", reviewed=True))
        reviewed = AnnotationSet(images, ("duck", "cup"), "boxes.csv").reviewed_only()
        assert [image.path.name for image in reviewed] == ["a.jpg", "c.jpg"]
        assert len(reviewed) == 2
        assert reviewed.labels == ("duck", "cup")
        assert reviewed.source == "boxes.csv"
        reviewed.require_reviewed()

    def test_boxes_to_ignore_are_not_counted(self) -> None:
        crowd = dataclasses.replace(DUCK, ignore=True)
        assert AnnotationSet((photo("a.jpg", DUCK, crowd),), ("duck",)).num_boxes == 1

    def test_an_empty_set_can_be_made(self) -> None:
        empty = AnnotationSet((), ())
        assert (len(empty), list(empty), empty.num_boxes) == (0, [], 0)


class TestRequireReviewed:
    def test_photos_nobody_has_looked_at_are_named(self) -> None:
        images = (photo("a.jpg"), photo("b.jpg"), photo("c.jpg", DUCK))
        with pytest.raises(AnnotationError) as caught:
            AnnotationSet(images, ("duck",)).require_reviewed()
        assert caught.value.message == (
            "photos: 2 of 3 photos have no boxes and are not marked as reviewed: a.jpg, b.jpg"
        )
        for cure in ('"reviewed": true', "empty box columns", "--reviewed-only"):
            assert cure in caught.value.hint

    def test_at_most_five_names(self) -> None:
        images = tuple(photo(f"{number}.jpg") for number in range(8))
        with pytest.raises(AnnotationError, match=r"0\.jpg, 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg and 3 more\n"):
            AnnotationSet(images, ()).require_reviewed()

    def test_one_name(self) -> None:
        with pytest.raises(AnnotationError, match=r"1 of 1 photo has no boxes and is not .*: a\.jpg\n"):
            AnnotationSet((photo("a.jpg"),), ()).require_reviewed()

    @pytest.mark.parametrize("boxes", [(), (dataclasses.replace(DUCK, ignore=True),)])
    def test_without_any_box_there_is_nothing_to_learn(self, boxes: tuple[Box, ...]) -> None:
        with pytest.raises(AnnotationError, match="no box in any of 1 photo"):
            AnnotationSet((photo("a.jpg", *boxes, reviewed=True),), ("duck",)).require_reviewed()


class TestChecks:
    def test_the_message_says_file_photo_and_box(self) -> None:
        images = (photo("robertducky2.jpg", Box(40, 0, 12, 5, "duck")),)
        with pytest.raises(AnnotationError) as caught:
            AnnotationSet(images, ("duck",), "train_boxes.csv")
        assert str(caught.value) == (
            "train_boxes.csv: robertducky2.jpg: box 1: x2 must be greater than x1: x1=40, x2=12\n"
            "hint: draw the box again, or remove it; x1,y1 and x2,y2 are corners, not sides"
        )

    def test_boxes_count_from_one(self) -> None:
        with pytest.raises(AnnotationError, match="box 2: y2 must be greater than y1"):
            AnnotationSet((photo("a.jpg", DUCK, Box(0, 5, 9, 5, "duck")),), ("duck",))

    @pytest.mark.parametrize(
        ("edges", "message"),
        [
            ((5, 5, 5, 9), "x2 must be greater than x1"),
            ((5, 5, 5.0005, 9), "less than 0.001 pixels"),
            ((-0.9, 5, -0.1, 9), "less than 0.001 pixels"),
            ((math.nan, 5, 8, 9), "every edge must be a number"),
            ((5, 5, math.inf, 9), "every edge must be a number"),
            ((-1.1, 5, 8, 9), "outside the photo"),
            ((5, 5, 101.1, 9), "outside the photo: x1=5, x2=101.1, width of the photo 100"),
            ((5, 5, 9, 61.1), "outside the photo: y1=5, y2=61.1, height of the photo 60"),
        ],
    )
    def test_impossible_boxes(self, edges: tuple[float, ...], message: str) -> None:
        with pytest.raises(AnnotationError, match=f"^boxes.csv: a.jpg: box 1: .*{message}") as caught:
            one_box(*edges)
        assert caught.value.hint

    def test_up_to_one_pixel_outside_is_moved_onto_the_border(self) -> None:
        (image,) = one_box(-1, -0.5, 101, 60.9)
        assert image.boxes == (Box(0, 0, 100, 60, "duck"),)

    def test_coordinates_become_plain_floats(self) -> None:
        (image,) = one_box(*np.array([1, 2, 3, 4], np.float32))
        assert {type(edge) for edge in dataclasses.astuple(image.boxes[0])[:4]} == {float}

    def test_an_unknown_label(self) -> None:
        with pytest.raises(AnnotationError, match="box 1: unknown label: 'dcuk'") as caught:
            one_box(1, 2, 3, 4, label="dcuk")
        assert "duck" in caught.value.hint

    @pytest.mark.parametrize(
        ("labels", "message"), [(("duck", "duck"), "two classes"), (("duck", " "), "empty")]
    )
    def test_labels_are_names(self, labels: tuple[str, ...], message: str) -> None:
        with pytest.raises(AnnotationError, match=message):
            AnnotationSet((), labels)

    def test_photos_of_one_name_are_told_apart_by_their_folders(self) -> None:
        paths = [
            Path("photos", *name.split("/")) for name in ("one/a.jpg", "two/a.jpg", "two/b.jpg", "a.jpg")
        ]
        images = tuple(AnnotatedImage(path, (6, 9), (), reviewed=False) for path in paths)
        assert AnnotationSet(images, ()).names == ("one/a.jpg", "two/a.jpg", "b.jpg", "photos/a.jpg")
        addresses = ["s3://b/one/a.jpg", "s3://b/two/a.jpg", "s3://b/b.jpg"]
        remote = [cached_path(address) for address in addresses]
        assert short_names(remote) == ["one/a.jpg", "two/a.jpg", "b.jpg"]
        signed = [cached_path(f"https://b/a.jpg?sign={number}") for number in range(2)]
        assert len(set(short_names(signed))) == 2
        with pytest.raises(AnnotationError, match=r"reviewed: one/a\.jpg, two/a\.jpg, b\.jpg"):
            AnnotationSet(images, ()).require_reviewed()

    def test_one_photo_twice(self) -> None:
        with pytest.raises(AnnotationError, match="listed twice"):
            AnnotationSet((photo("a.jpg"),) * 2, ())


class TestWhatIsGivenOnce:
    """Generators, and texts that are taken for lists: nothing may be lost or made of them in silence."""

    def test_photos_labels_and_boxes_may_come_from_generators(self) -> None:
        unseen = AnnotatedImage("u.jpg", (60, 100), (box for box in ()), reviewed=False)  # type: ignore[arg-type]
        assert not unseen.reviewed
        seen = AnnotatedImage("a.jpg", (60, 100), (box for box in (DUCK,)), reviewed=False)  # type: ignore[arg-type]
        given = AnnotationSet((one for one in (seen, unseen)), (name for name in ("duck",)))  # type: ignore[arg-type]
        assert (len(given), given.labels, given.num_boxes) == (2, ("duck",), 1)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ("duck", r"labels are a list of texts: 'duck'"),
            ([3], "a label is a text: 3"),
            (["rubber\nduck"], r"label: has blanks around it or signs that do not print: 'rubber\\nduck'"),
            (["duck\r"], "has blanks around it"),
            (["duck", "duck "], r"has blanks around it .*'duck '"),
            (["caf\u00e9", "cafe\u0301"], r"one label: 'caf\\xe9' and 'cafe\\u0301'.*accent in two ways"),
        ],
    )
    def test_what_are_no_labels_is_refused(self, labels: object, message: str) -> None:
        with pytest.raises(AnnotationError, match=message):
            AnnotationSet((photo("a.jpg"),), labels)  # type: ignore[arg-type]

    def test_a_photo_under_another_spelling_is_listed_twice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With boxes in one and none in the other, the object would be learnt as background."""
        (tmp_path / "train").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "train")
        Image.new("RGB", (100, 60)).save(tmp_path / "train/a.jpg")
        monkeypatch.chdir(tmp_path)
        given = AnnotationSet((AnnotatedImage(Path("train/a.jpg"), (60, 100), (DUCK,), True),), ("duck",))
        for folder in (tmp_path / "train", "link", "link/../train"):
            with pytest.raises(AnnotationError, match="a photo is listed twice"):
                given.with_negatives(folder)

    def test_numbers_of_numpy_are_written_as_any(self, tmp_path: Path) -> None:
        Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg")
        box = Box(*np.float32([10, 20, 30, 40]), "duck", np.bool_(True), np.float32(5))
        size_hw = np.int64(60), np.int64(100)
        one = AnnotatedImage(tmp_path / "a.jpg", size_hw, (box,), np.bool_(True))  # type: ignore[arg-type]
        for target in ("a.json", "labelme", "labelstudio.json"):
            name = {"a.json": "coco", "labelme": "labelme", "labelstudio.json": "labelstudio"}[target]
            write_annotations(AnnotationSet((one,), ("duck",)), tmp_path / "out" / target, name)
        assert (tmp_path / "out/a.json").is_file()


class TestWhatIsTakenForSomethingElse:
    """Each was taken in silence, or ended in an error that says neither which photo nor what to do."""

    @pytest.mark.parametrize("truth", [1.0, np.float32(1)])
    def test_of_a_number_of_a_table_it_is_said_how_it_is_a_truth(self, truth: object) -> None:
        """To leave it out, as of a score, would make an object of a crowd."""
        with pytest.raises(AnnotationError, match=r"True or False: .*\nhint: .* bool\(1\.0\)"):
            AnnotationSet((photo("a.jpg", Box(1, 2, 30, 40, "duck", truth)),), ("duck",))  # type: ignore[arg-type]

    @pytest.mark.parametrize("truth", [np.array(True), np.bool_(True), np.int64(1), 1])
    def test_truths_of_arrays_are_truths(self, truth: Any) -> None:
        boxes = AnnotationSet((photo("a.jpg", Box(1, 2, 30, 40, "duck", truth)),), ("duck",))[0].boxes
        assert boxes[0].ignore is True

    def test_keys_and_values_of_a_dict_are_lists(self, tmp_path: Path) -> None:
        truth = {}
        for name, edges in (("a.png", (1, 2, 30, 40)), ("b.png", (3, 4, 40, 50))):
            Image.new("RGB", (64, 64)).save(tmp_path / name)
            truth[tmp_path / name] = [edges]
        made = AnnotationSet.from_arrays(truth.keys(), truth.values(), "duck")  # type: ignore[arg-type]
        assert [(image.path.name, image.boxes[0].x1) for image in made] == [("a.png", 1), ("b.png", 3)]

    @pytest.mark.parametrize("truth", [0.93, math.nan, "0", None, []])
    def test_a_score_or_an_empty_cell_is_no_truth(self, truth: object) -> None:
        """With its score as sixth value every box was one to ignore; NaN meant that a photo was looked at."""
        scored = Box(1, 2, 30, 40, "duck", truth)  # type: ignore[arg-type]
        with pytest.raises(
            AnnotationError, match=r"photos: a\.jpg: box 2: ignore is True or .*\nhint: a Box has no score"
        ):
            AnnotationSet((photo("a.jpg", DUCK, scored),), ("duck",))
        with pytest.raises(
            AnnotationError, match=r"a\.jpg: reviewed is True or False: .*\nhint: False: nobody"
        ):
            photo("a.jpg", reviewed=truth)  # type: ignore[arg-type]

    @pytest.mark.parametrize("truth", [True, np.bool_(True), 1, np.int64(1)])
    def test_truths_of_numpy_and_of_files(self, truth: bool) -> None:
        crowd = dataclasses.replace(DUCK, ignore=truth)
        given = AnnotationSet((photo("a.jpg", crowd), photo("b.jpg", reviewed=truth)), ("duck",))
        assert given[0].boxes[0].ignore is given[1].reviewed is True

    @pytest.mark.parametrize(
        "size_hw", [(60, 100, 3), (-4, 0), (0, 9), (math.nan, 9), (6.5, 9), None, "60,100"]
    )
    def test_a_size_is_two_whole_numbers(self, size_hw: object) -> None:
        with pytest.raises(
            AnnotationError, match=r"a\.jpg: size_hw must be .*\nhint: size_hw=image\.shape\[:2\]"
        ):
            AnnotatedImage(Path("a.jpg"), size_hw, (DUCK,), reviewed=True)  # type: ignore[arg-type]

    @pytest.mark.parametrize("target", ["yolo", "coco"])
    @pytest.mark.parametrize("boxes", [(DUCK,), ()])
    def test_a_size_that_is_not_the_photos_is_not_written(self, tmp_path, target: str, boxes) -> None:
        """YOLO divides by it: its boxes lay elsewhere, and nothing said so."""
        Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg")
        swapped = AnnotationSet((AnnotatedImage(tmp_path / "a.jpg", (100, 60), boxes, True),), ("duck",))
        with pytest.raises(
            AnnotationError, match=r"a\.jpg: size_hw is \(100, 60\).* photo \(60, 100\)\nhint"
        ):
            write_annotations(swapped, tmp_path / "out", target)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("box", "message"),
        [
            (Box("10", 20, 30, 40, "duck"), "box 1: every edge must be a number: x1='10', x2=30"),  # type: ignore[arg-type]
            (Box(10, 20, None, 40, "duck"), "box 1: every edge must be a number: x1=10, x2=None"),  # type: ignore[arg-type]
            (Box(10, 20, 30, 40, "duck", area="big"), "box 1: area must be a number from 0: 'big'"),  # type: ignore[arg-type]
            ((10, 20, 30, 40, "duck"), "box 1 must be of the type Box, not tuple"),
            (np.ones(4), "box 1 must be of the type Box, not ndarray"),
        ],
    )
    def test_what_is_no_box_is_named(self, box: Box, message: str) -> None:
        with pytest.raises(AnnotationError, match=rf"a\.jpg: {message}"):
            AnnotationSet((photo("a.jpg", box),), ("duck",))

    @pytest.mark.parametrize("images", [None, photo("a.jpg"), [Path("a.jpg")], "a.jpg"])
    def test_what_are_no_photos_is_refused(self, images: object) -> None:
        with pytest.raises(AnnotationError, match=r"photo.*\nhint: .*from_arrays"):
            AnnotationSet(images, ("duck",))  # type: ignore[arg-type]
        with pytest.raises(AnnotationError, match=r"a\.jpg: box: a list of them is needed, not Box"):
            AnnotatedImage(Path("a.jpg"), (60, 100), DUCK, reviewed=True)  # type: ignore[arg-type]

    def test_labels_of_numpy_are_plain_texts_and_so_written(self, tmp_path: Path) -> None:
        Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg")
        labels = np.array(["duck", "cup"])
        made = AnnotationSet.from_arrays([tmp_path / "a.jpg"], [[[10, 20, 30, 40], [1, 2, 3, 4]]], [labels])
        assert {type(label) for label in (*made.labels, *(box.label for box in made[0].boxes))} == {str}
        write_annotations(made, tmp_path / "out", "yolo", copy_photos=True)
        assert read_annotations(tmp_path / "out").labels == ("duck", "cup")


class TestPartsOfThePhoto:
    """Boxes of YOLO or Albumentations, 0 to 1, were taken for boxes of less than a pixel, and learnt."""

    PARTS = Box(0.1, 0.2, 0.5, 0.6, "duck")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        Image.new("RGB", (100, 60)).save(tmp_path / "a.png")
        return tmp_path / "a.png"

    def test_they_are_refused_where_a_set_is_made_learnt_from_or_written(self, path: Path) -> None:
        refused = (
            r"photos: every box .*: a\.png: box 1: \(0\.1, 0\.2, 0\.5, 0\.6\)\nhint: .*multiply by its width"
        )
        with pytest.raises(AnnotationError, match=refused):
            AnnotationSet.from_arrays([path], [[(0.1, 0.2, 0.5, 0.6)]], "duck")
        made = AnnotationSet((AnnotatedImage(path, (60, 100), (self.PARTS,), True),), ("duck",))
        for form in ("coco", "yolo"):
            with pytest.raises(AnnotationError, match=refused):
                write_annotations(made, path.parent / "out", form)
        with pytest.raises(AnnotationError, match=refused):
            made.require_reviewed()

    def test_a_tiny_box_beside_others_stays(self, path: Path) -> None:
        made = AnnotationSet.from_arrays([path], [[(0, 0, 1, 1), (10, 20, 30, 40)]], "duck")
        made.require_reviewed()
        assert made.num_boxes == 2


class Table:
    """As of pandas: an array whose columns have names."""

    columns = ("ymin", "xmin", "ymax", "xmax")

    def __array__(self, *_: object, **__: object) -> npt.NDArray[np.float64]:
        return np.array([[1.0, 2, 30, 40]])


class TestFromArrays:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[Path]:
        paths = [tmp_path / "a.png", tmp_path / "b.png"]
        for path in paths:
            Image.new("RGB", (100, 60)).save(path)
        return paths

    def test_one_label_for_all(self, paths: list[Path]) -> None:
        corners = [np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32), np.zeros((0, 4))]
        made = AnnotationSet.from_arrays(paths, corners, "duck")
        assert made.labels == ("duck",)
        assert made.images[0].boxes == (Box(1, 2, 3, 4, "duck"), Box(5, 6, 7, 8, "duck"))
        assert made.images[0].size_hw == (60, 100)
        assert made.images[1] == AnnotatedImage(paths[1], (60, 100), (), reviewed=True)
        made.require_reviewed()

    def test_a_label_for_each_box(self, paths: list[Path]) -> None:
        made = AnnotationSet.from_arrays(
            [str(path) for path in paths],
            [[[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4]]],
            [["duck", "cup"], "duck"],
        )
        assert made.labels == ("duck", "cup")
        assert [box.label for image in made for box in image.boxes] == ["duck", "cup", "duck"]

    def test_a_photo_without_boxes_may_be_an_empty_list(self, paths: list[Path]) -> None:
        assert AnnotationSet.from_arrays(paths, [[], [[1, 2, 3, 4]]], "duck").num_boxes == 1

    @pytest.mark.parametrize(
        ("boxes", "labels", "message"),
        [
            ([np.ones((1, 4))], "duck", "2 paths, 1 arrays"),
            ([np.ones((1, 5)), []], "duck", r"a\.png: boxes must be \[M, 4\]: \[1, 5\]"),
            ([[1, 2, 3, 4], []], "duck", r"a\.png: boxes must be \[M, 4\]: \[4\]; one box is \[\(x1"),
            ([None, []], "duck", r"a\.png: boxes must be .*: None; .* none is \[\]"),
            ([np.ones((2, 4)), []], [["duck"], []], r"a\.png: 2 boxes, 1 label"),
            (
                [[(1, 2, 3, 4), (1, 2)], []],
                "duck",
                r"a\.png: boxes must be .*: list of other things than rows",
            ),
            ([[DUCK], []], "duck", r"a\.png: boxes must be \[M, 4\]: list of other things"),
        ],
    )
    def test_arrays_that_do_not_fit_together(
        self, paths: list[Path], boxes: list[object], labels: object, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            AnnotationSet.from_arrays(paths, boxes, labels)

    @pytest.mark.parametrize("labels", [[[0], []], [np.zeros(1, int), []], [0, 0]])
    def test_ids_of_classes_are_refused_with_the_cure(self, paths: list[Path], labels: object) -> None:
        with pytest.raises(
            AnnotationError, match=r"a label is a text: 0\nhint: .*\[names\[i\] for i in ids\]"
        ):
            AnnotationSet.from_arrays(paths, [[[1, 2, 3, 4]], []], labels)

    @pytest.mark.parametrize(
        ("boxes", "labels", "message"),
        [
            ({"a.png": [], "b.png": []}, "duck", "boxes must be a list, one for each photo: dict"),
            ([[], []], {"a", "b"}, "labels must be a list, one for each photo: set"),
            ([np.eye(2, 4), []], [{"a", "b"}, []], r"a\.png: labels are a list, not set"),
            ([Table(), []], "duck", r'a\.png: boxes are an array, not Table\nhint: .*df\[\["x1", "y1"'),
        ],
    )
    def test_what_has_another_order_than_it_seems_to_have(
        self, paths: list[Path], boxes: list[object], labels: object, message: str
    ) -> None:
        """A table with columns ymin, xmin, ymax, xmax gave boxes turned over, in silence."""
        with pytest.raises(AnnotationError, match=message):
            AnnotationSet.from_arrays(paths, boxes, labels)

    def test_boxes_may_be_tensors_that_are_learnt_through(self, paths: list[Path]) -> None:
        torch = pytest.importorskip("torch")
        learnt = torch.tensor([[1.0, 2, 30, 40]], requires_grad=True)
        assert AnnotationSet.from_arrays(paths[:1], [learnt], "duck")[0].boxes == (Box(1, 2, 30, 40, "duck"),)

    def test_labels_of_a_photo_may_come_one_by_one(self, paths: list[Path]) -> None:
        made = AnnotationSet.from_arrays(paths, [[[1, 2, 30, 40]], []], [iter(["duck"]), iter([])])  # type: ignore[list-item]
        assert [[box.label for box in image.boxes] for image in made] == [["duck"], []]

    def test_a_photo_made_by_hand_takes_its_path_as_text_and_a_list_of_boxes(self, paths: list[Path]) -> None:
        image = AnnotatedImage(str(paths[0]), (60, 100), [DUCK], reviewed=False)  # type: ignore[arg-type]
        assert image == AnnotatedImage(paths[0], (60, 100), (DUCK,), reviewed=True)
        assert repr(AnnotationSet((image,), ("duck",))) == "AnnotationSet(1 photo, 1 box; duck)"

    def test_negatives_may_be_a_folder_as_everywhere(self, paths: list[Path], tmp_path: Path) -> None:
        made = AnnotationSet.from_arrays(paths[:1], [[[1, 2, 3, 4]]], "duck")
        (tmp_path / "none").mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / "none" / "empty.png")
        one = tmp_path / "none" / "empty.png"
        for given in (tmp_path / "none", str(tmp_path / "none"), [one], np.array([str(one)])):
            both = made.with_negatives(given)
            assert [(image.path.name, image.reviewed) for image in both[1:]] == [("empty.png", True)]
        assert len(made.with_negatives([])) == len(made.with_negatives(np.array([]))) == 1  # type: ignore[arg-type]
        with pytest.raises(PhotoError, match="not as None"):
            made.with_negatives(None)  # type: ignore[arg-type]

    def test_images_in_memory_and_sides_for_corners_are_refused_with_the_cure(
        self, paths: list[Path]
    ) -> None:
        with pytest.raises(AnnotationError, match=r"by its path, not as ndarray\nhint: .* saved first"):
            AnnotationSet.from_arrays([np.zeros((9, 9, 3), np.uint8)], [[]], "duck")
        with pytest.raises(
            AnnotationError, match=r"x2 must be greater than x1.*\nhint: .*are corners, not sides"
        ):
            AnnotationSet.from_arrays(paths, [[], [[20, 10, 9, 8]]], "duck")

    def test_boxes_are_checked(self, paths: list[Path]) -> None:
        with pytest.raises(AnnotationError, match=r"^photos: b\.png: box 1: .*outside"):
            AnnotationSet.from_arrays(paths, [[], [[1, 2, 300, 4]]], "duck")


class TestChoosing:
    IMAGES = (photo("a.jpg", DUCK), photo("b.jpg", dataclasses.replace(DUCK, label="cup")), photo("c.jpg"))
    PHOTOS = AnnotationSet(IMAGES, ("duck", "cup"), "boxes.csv")

    @pytest.mark.parametrize(
        ("chosen", "names"),
        [
            (slice(1, None), ["b.jpg", "c.jpg"]),
            ([2, 0], ["c.jpg", "a.jpg"]),
            (np.array([True, False, True]), ["a.jpg", "c.jpg"]),
            ([], []),
        ],
    )
    def test_some_photos_make_a_set_with_the_same_classes(self, chosen, names) -> None:
        some = self.PHOTOS[chosen]
        assert [image.path.name for image in some] == names
        assert (some.labels, some.source) == (("duck", "cup"), "boxes.csv")

    def test_one_photo_is_chosen_by_its_number(self) -> None:
        assert self.PHOTOS[-1] is self.PHOTOS.images[2]
        with pytest.raises(IndexError):
            self.PHOTOS[3]

    @pytest.mark.parametrize("chosen", ["a.jpg", ["a.jpg"], 1.0, None, [1.0], {1}, np.zeros((2, 2), int)])
    def test_photos_are_not_chosen_otherwise(self, chosen: Any) -> None:
        with pytest.raises(
            SettingError, match=r"photos are not chosen by .*\nhint: by number, slice or mask"
        ):
            self.PHOTOS[chosen]

    def test_two_sets_make_one(self) -> None:
        mug = dataclasses.replace(DUCK, label="mug")
        both = self.PHOTOS + AnnotationSet((photo("d.jpg", mug),), ("mug", "cup"), "d.csv")
        assert len(both) == 4
        assert both.labels == ("duck", "cup", "mug")
        assert both.source == "boxes.csv and d.csv"
        with pytest.raises(AnnotationError, match="a photo is listed twice"):
            self.PHOTOS + self.PHOTOS[:1]
        with pytest.raises(TypeError):
            self.PHOTOS + "d.jpg"

    def test_reprs_are_short(self) -> None:
        assert repr(self.PHOTOS) == "AnnotationSet(3 photos, 2 boxes; duck, cup)"
        assert repr(self.PHOTOS[0]) == "AnnotatedImage('a.jpg', 100 x 60, 1 box)"
        assert repr(self.PHOTOS[2]) == "AnnotatedImage('c.jpg', 100 x 60, not reviewed)"
        assert repr(AnnotationSet((), ())) == "AnnotationSet(0 photos, 0 boxes; no classes)"


class TestSplit:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> AnnotationSet:
        """Twelve photos of four scenes, three alike of each; ducks are in all, cups in two scenes."""
        images = []
        for scene in range(4):
            coarse = np.random.default_rng(scene).integers(0, 240, (5, 6, 3), np.uint8)
            pixels = np.asarray(Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC))
            for moment in range(3):
                path = tmp_path / f"s{scene}_{moment}.png"
                Image.fromarray(pixels // 2 + np.uint8(10 * moment)).save(path)
                boxes = [Box(10, 10, 40, 40, "duck")] + [Box(50, 50, 80, 80, "cup")] * (scene in (1, 2))
                images.append(AnnotatedImage(path, (90, 120), tuple(boxes), reviewed=True))
        return AnnotationSet(tuple(images), ("duck", "cup"))

    @pytest.mark.parametrize("seed", range(5))
    def test_scenes_stay_together_and_classes_come_into_both(self, photos, seed) -> None:
        train, test = photos.split(0.5, seed)
        scenes = [{image.path.name[:2] for image in part} for part in (train, test)]
        assert (len(train), len(test)) == (6, 6)
        assert not scenes[0] & scenes[1]
        for part in (train, test):
            assert {box.label for image in part for box in image.boxes} == {"duck", "cup"}
        assert {image.path for image in train + test} == {image.path for image in photos}

    def test_the_same_seed_divides_in_the_same_way_and_others_in_others(self, photos) -> None:
        ways = {tuple(image.path.name for image in photos.split(0.75, seed)[0]) for seed in range(8)}
        assert len(ways) > 1
        assert photos.split(0.75, 3) == photos.split(0.75, 3)

    @pytest.mark.parametrize("seed", range(5))
    def test_what_is_in_one_photo_alone_is_learnt_and_not_held_out(self, tmp_path: Path, seed) -> None:
        """A class; a place to ignore is not of it."""
        images = []
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 255, (60, 60, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
            box = Box(1, 2, 30, 40, f"c{number}") if number < 12 else Box(1, 2, 30, 40, "c0", ignore=True)
            images.append(AnnotatedImage(tmp_path / f"{number}.png", (60, 60), (box,), reviewed=True))
        photos = AnnotationSet(tuple(images), tuple(f"c{number}" for number in range(12)))
        train, test = photos.split(0.6, seed)
        assert (len(train), train.num_boxes, test.num_boxes) == (12, 12, 0)
        assert photos[8:].split(0.5, seed)[0].num_boxes == 4

    def test_shares_and_seeds_may_be_numpys_and_others_are_refused(self, photos) -> None:
        assert photos.split(np.float32(0.5), np.int64(3)) == photos.split(0.5, 3)
        for seed in (-1, "a", 1.5, None):
            with pytest.raises(SettingError, match="a seed must be a whole number from 0"):
                photos.split(0.5, seed)

    def test_both_parts_have_a_photo_whatever_the_share(self, photos) -> None:
        assert [len(part) for part in photos.split(0.99)] == [9, 3]
        assert [len(part) for part in photos.split(0.01)] == [3, 9]

    @pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.8])
    def test_many_photos_that_are_alike_do_not_take_the_share_from_the_others(self, share: float) -> None:
        groups = [list(range(40)), *([number] for number in range(40, 60))]  # a film, and 20 photos
        labels = [{"dog"}] * 40 + [{"cat"}] * 20
        first = divided(groups, labels, share, 0)
        assert len(first) == round(share * 60)
        assert (0 in first) == (share == 0.8), "the film fits into a large part only"

    def test_a_class_in_one_photo_is_learnt_from_also_beside_a_film_that_does_not_fit(self) -> None:
        groups = [list(range(80)), *([number] for number in range(80, 100))]
        labels: list[set[str]] = [{"dog"}] * 80 + [{"cat"}] * 12 + [{f"rare {n}"} for n in range(8)]
        first = divided(groups, labels, 0.2, 0)
        assert {*range(92, 100)} < {*first}
        assert len(first) == 19, "a cat is in the rest"

    @pytest.mark.parametrize(
        ("burst", "cups", "share"), [(3, 2, 0.6), (4, 2, 0.7), (5, 3, 0.6), (6, 2, 0.75)]
    )
    @pytest.mark.parametrize("seed", range(5))
    def test_a_class_beside_a_burst_is_learnt_from(
        self, burst: int, cups: int, share: float, seed: int
    ) -> None:
        groups = [list(range(burst)), *([burst + number] for number in range(cups))]
        first = divided(groups, [{"duck"}] * burst + [{"cup"}] * cups, share, seed)
        assert first[:burst] == groups[0]
        assert len(first) == burst + 1, "one cup is learnt from, the others are held out"

    def test_what_cannot_be_divided_is_refused(self, photos) -> None:
        for count, says in ((3, "all 3 photos look alike"), (1, "1 photo"), (0, "0 photos")):
            with pytest.raises(AnnotationError, match=f"cannot be divided: {says}"):
                photos[:count].split(0.8)
        with pytest.raises(SettingError, match="not chosen by a name"):
            photos["a.jpg"]  # type: ignore[call-overload]
        with pytest.raises(SettingError, match="above 0 and below 1: 80"):
            photos.split(80)
