"""Detections hold together, say what they are in every form, and find their photo again."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fewbox.detection import Detection, Detections
from fewbox.errors import OutputError, PhotoError, SettingError

LABELS = ("rubber_ducky", "mug")
SIZE_HW = (60, 80)


def make(count: int = 3, **changes: object) -> Detections:
    fields = {
        "boxes": np.array([[1, 2, 31, 42], [5.5, 6, 40, 50], [0, 0, 80, 60]], np.float32)[:count],
        "scores": np.array([0.97, 0.5, 0.123], np.float32)[:count],
        "class_ids": np.array([0, 1, 0], np.int64)[:count],
        "class_names": LABELS,
        "size_hw": SIZE_HW,
    }
    return Detections(**{**fields, **changes})


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", SIZE_HW[::-1], "gray").save(tmp_path / "out1.png")
    return tmp_path / "out1.png"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_none_one_and_many_are_alike(count):
    detections = make(count, source=np.zeros((*SIZE_HW, 3), np.uint8))
    assert len(detections) == len(list(detections)) == count
    assert len(detections.to_dict()["detections"]) == len(detections.to_coco(1)) == count
    assert [row["image_id"] for row in detections.to_coco("0042")] == ["0042"] * count
    assert json.dumps(detections.to_coco(np.int64(1))) == json.dumps(detections.to_coco(1))  # type: ignore[arg-type]
    assert detections.draw().size == SIZE_HW[::-1]
    assert len(detections.above(0.0)) == count
    assert len(detections.above(1.0)) == 0
    assert repr(detections)


def test_iterating_gives_box_score_and_label():
    box, score, label = next(iter(make()))
    assert box == (1, 2, 31, 42)
    assert score == pytest.approx(0.97)
    assert label == "rubber_ducky"
    assert [found.label for found in make()] == ["rubber_ducky", "mug", "rubber_ducky"]
    assert isinstance(next(iter(make())), Detection)


def test_each_box_has_its_label():
    assert make().labels == ["rubber_ducky", "mug", "rubber_ducky"]
    assert make().class_names == LABELS
    assert make(0).labels == []


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ("rubber_ducky", [0, 2]),
        ("mug", [1]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [0, 1, 2]),
        ([2, 0], [0, 2]),
        ([], []),
        (np.array([True, False, True]), [0, 2]),
        (np.array([-1]), [2]),
        ([False, False, False], []),
    ],
)
def test_some_are_chosen_and_stay_in_order(chosen, kept):
    found, every = make()[chosen], list(make())
    assert list(found) == [every[number] for number in kept]
    assert (found.size_hw, found.class_names) == (SIZE_HW, LABELS)


def test_one_is_chosen_by_its_number():
    assert make()[1] == list(make())[1]
    assert make()[-1] == list(make())[2]
    assert make()[np.int64(0)].label == "rubber_ducky"
    with pytest.raises(IndexError):
        make()[3]
    with pytest.raises(IndexError):
        make()[np.array([True, False])]
    with pytest.raises(SettingError, match="no class is called 'cup'"):
        make()["cup"]


def test_saved_as_the_ending_says(photo, tmp_path):
    make(2, source=photo).save(tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as picture:
        assert (picture.format, picture.size) == ("PNG", SIZE_HW[::-1])
    with pytest.raises(OutputError, match="cannot be written as"):
        make(2, source=photo).save(tmp_path / "found.txt")


def test_a_photo_is_never_replaced_by_its_own_drawing(photo, tmp_path, monkeypatch):
    before = photo.read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in (photo, str(photo), photo.name):
        with pytest.raises(
            OutputError, match=r"out1\.png: the picture would replace the photo\nhint: choose"
        ):
            make(2, source=photo).save(name)
        with pytest.raises(OutputError, match="would replace the photo"):
            make(2, source=name).save(photo)
    assert photo.read_bytes() == before
    assert make(source=str(photo)).photo_name == photo.name


def test_shown_in_the_viewer_of_pictures(photo, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: shown.append(picture))
    make(2, source=photo).show()
    assert [picture.size for picture in shown] == [SIZE_HW[::-1]]


def test_crops_are_whole_pixels_of_the_photo():
    image = np.arange(60 * 80 * 3, dtype=np.int64).reshape(60, 80, 3).astype(np.uint8)
    edge = np.array([[79.9, 59.95, 80, 60]], np.float32)
    detections = make(source=image)
    first, second, whole = detections.crops()
    assert np.array_equal(first, image[2:42, 1:31])
    assert np.array_equal(second, image[6:50, 5:40])  # from 5.5: the whole pixel
    assert np.array_equal(whole, image)
    with_margin = detections.crops(margin=0.5)
    assert [crop.shape for crop in with_margin] == [(60, 46, 3), (60, 58, 3), (60, 80, 3)]
    assert make(1, boxes=edge, source=image).crops()[0].shape == (1, 1, 3)
    first[:] = 0
    assert image[2:42, 1:31].any()  # a copy


def test_a_table_has_a_row_for_each(photo):
    table = make(2, source=photo).to_pandas()
    assert table.to_dict("records")[1] == {
        "photo": "out1.png",
        "label": "mug",
        "class_id": 1,
        "score": 0.5,
        "x1": 5.5,
        "y1": 6.0,
        "x2": 40.0,
        "y2": 50.0,
    }
    assert list(make(0).to_pandas().columns) == list(table.columns)
    assert len(make(0).to_pandas()) == 0
    assert make(0).to_pandas().label.dtype == table.label.dtype  # texts, as where something was found


@pytest.mark.parametrize("count", [0, 3])
def test_supervision_gets_the_same(count):
    supervision = pytest.importorskip("supervision", reason="needs supervision: pip install supervision")
    found = make(count).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert np.array_equal(found.xyxy, make(count).boxes)
    assert np.array_equal(found.confidence, make(count).scores)
    assert found.data["class_name"].tolist() == make(count).labels
    assert len(found[found.class_id == 1]) == make(count).labels.count("mug")


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SettingError, match="needs pandas, which is not installed") as error:
        make().to_pandas()
    assert error.value.hint == "pip install pandas"


def test_above_keeps_higher_scores_only():
    kept = make().above(0.5)
    assert kept.scores.tolist() == [np.float32(0.97)]
    assert kept.boxes.shape == (1, 4)
    assert (kept.class_names, kept.size_hw) == (LABELS, SIZE_HW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((3, 4))}, r"boxes must be float32 \[3, 4\]: float64 \[3, 4\]"),
        ({"boxes": np.zeros((3, 5), np.float32)}, r"boxes must be float32 \[3, 4\]: float32 \[3, 5\]"),
        ({"boxes": np.zeros((2, 4), np.float32)}, r"boxes must be .*\[2, 4\]"),
        ({"boxes": np.full((3, 4), np.nan, np.float32)}, "boxes must be finite"),
        ({"scores": np.array([[0.9]] * 3, np.float32)}, "scores must be"),
        ({"scores": np.array([0.1, 0.2, 0.3], np.float32)}, "scores must be descending"),
        ({"scores": np.array([97, 50, 12], np.float32)}, "scores must be from 0 to 1"),
        ({"scores": np.array([0.9, np.nan, 0.1], np.float32)}, "scores must be from 0 to 1"),
        ({"class_ids": np.zeros(3, np.int32)}, r"class_ids must be int64 \[3\]: int32 \[3\]"),
        ({"class_ids": np.array([0, 2, 0])}, r"class_ids must be from 0 to 1: \[0, 2, 0\]"),
        ({"class_ids": np.array([0, -1, 0])}, "class_ids must be from 0 to 1"),
        ({"size_hw": (0, 80)}, "size_hw must be positive"),
        ({"source": np.zeros((80, 60, 3), np.uint8)}, r"the image is of \(80, 60\), .* of \(60, 80\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_drawing_reads_the_photo_when_asked(photo):
    detections = make(1, source=photo)
    plain = np.asarray(Image.open(photo))
    assert (np.asarray(detections.draw()) != plain).any()
    Image.new("RGB", SIZE_HW[::-1], "red").save(photo)
    assert detections.draw().getpixel((75, 5)) == (255, 0, 0)


def test_a_photo_that_has_gone_or_changed_is_told(photo):
    detections = make(1, source=photo)
    Image.new("RGB", (90, 70)).save(photo)
    with pytest.raises(PhotoError, match=r"out1\.png: the photo has changed.*80 x 60, now it is 90 x 70"):
        detections.draw()
    photo.unlink()
    with pytest.raises(PhotoError, match="no such photo"):
        detections.draw()
    assert "<img" not in detections._repr_html_()


def test_drawing_on_a_given_image():
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    assert (np.asarray(make(1).draw(image)) != image).any()
    assert not image.any()
    with pytest.raises(ValueError, match="do not know their photo"):
        make(1).draw()
    with pytest.raises(ValueError, match=r"the image is of \(10, 10\)"):
        make(1).draw(np.zeros((10, 10, 3), np.uint8))


def test_an_array_is_held_and_not_copied_or_changed():
    image = np.full((*SIZE_HW, 3), 7, np.uint8)
    detections = make(source=image)
    detections.draw()
    assert detections.source is image
    assert (image == 7).all()


def test_the_dictionary_goes_through_json(photo):
    assert json.loads(json.dumps(make(2, source=photo).to_dict())) == {
        "photo": "out1.png",
        "width": 80,
        "height": 60,
        "detections": [
            {"label": "rubber_ducky", "class_id": 0, "score": 0.97, "box": [1.0, 2.0, 31.0, 42.0]},
            {"label": "mug", "class_id": 1, "score": 0.5, "box": [5.5, 6.0, 40.0, 50.0]},
        ],
    }
    assert make().to_dict()["photo"] is None


def test_the_numbers_of_the_dictionary_are_exact():
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 60, (3, 4)).astype(np.float32)
    written = json.loads(json.dumps(make(boxes=boxes).to_dict()))
    assert np.array_equal(np.array([row["box"] for row in written["detections"]], np.float32), boxes)


def test_pycocotools_finds_perfect_detections_perfect():
    truth = COCO()
    results, annotations = [], []
    for image_id in (1, 2):
        detections = make()
        results += detections.to_coco(image_id)
        for (x1, y1, x2, y2), class_id in zip(detections.boxes.tolist(), detections.class_ids, strict=True):
            area = (x2 - x1) * (y2 - y1)
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(class_id) + 1}
            annotations.append({**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": 0})
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 80, "height": 60}, {"id": 2, "width": 80, "height": 60}],
        "categories": [{"id": index, "name": label} for index, label in enumerate(LABELS, start=1)],
        "annotations": annotations,
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_category_ids_are_those_of_the_file_that_is_compared_with():
    ids = {"mug": np.int64(1), "other": 2, "rubber_ducky": 90}
    rows = json.loads(json.dumps(make().to_coco(7, ids)))
    assert [row["category_id"] for row in rows] == [90, 1, 90]
    for wrong in ({"other": 1}, [1, 2]):
        with pytest.raises(SettingError, match=r"category_ids .*\nhint: .*for one in coco\['categories'\]"):
            make().to_coco(7, wrong)
    assert make(0).to_coco(7, {"other": 1}) == []


@pytest.mark.parametrize("margin", [math.nan, math.inf, -0.6, "0.1", None])
def test_a_margin_must_be_one(margin):
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    with pytest.raises(SettingError, match=r"margin must be a number above -0\.5"):
        make(source=image).crops(margin)


def test_names_of_classes_are_no_letters():
    with pytest.raises(ValueError, match=r"write \['duck'\]"):
        make(0, class_names="duck")


def test_a_notebook_shows_the_picture_at_a_size_for_the_screen():
    image = np.zeros((1500, 2000, 3), np.uint8)
    shown = make(size_hw=(1500, 2000), source=image)._repr_html_()
    encoded = re.search(r"data:image/jpeg;base64,([^\"]+)", shown)
    assert encoded is not None
    with Image.open(io.BytesIO(base64.b64decode(encoded[1]))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (960, 720))
    assert "rubber_ducky 97%, mug 50%" in shown
    assert "<img" not in make()._repr_html_()
    assert "&lt;b&gt;" in make(class_names=("<b>", "mug"))._repr_html_()


def test_its_text_names_the_photo_and_what_was_found(photo):
    expected = "Detections('out1.png', size_hw=(60, 80): rubber_ducky 97%, mug 50%)"
    assert repr(make(2, source=photo)) == expected
    assert repr(make(0)) == "Detections(size_hw=(60, 80): nothing found)"
    many = make(
        boxes=np.zeros((9, 4), np.float32), scores=np.ones(9, np.float32), class_ids=np.zeros(9, np.int64)
    )
    assert repr(many).endswith("rubber_ducky 100% and 4 more)")
