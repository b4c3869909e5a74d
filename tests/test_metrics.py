"""COCO's numbers are those of pycocotools, on made-up sets full of corner cases and on real detections."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coco_reference import reference_metrics, reference_metrics_of_file
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.data.formats import read_annotations, write_annotations
from fewbox.data.images import read_size_hw
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.detection.detector import Detector
from fewbox.errors import AnnotationError
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.metrics import average_precision, coco_metrics
from fewbox.models.base import load_base

NUM_CLASSES = 3

# Few places, sides and scores, all of them whole or exact in binary: boxes often coincide, overlap by
# exactly a threshold, have the area of a limit, or score the same.
corners = st.tuples(*[st.integers(0, 3).map(lambda place: 10 * place)] * 2)
sides = st.tuples(*[st.sampled_from([1, 10, 15, 20, 32, 96, 120])] * 2)
boxes = st.tuples(corners, sides).map(lambda box: (*box[0], box[0][0] + box[1][0], box[0][1] + box[1][1]))
places = st.tuples(st.integers(0, 3), st.integers(0, NUM_CLASSES - 1), boxes)
annotations = st.lists(st.tuples(places, st.sampled_from([False, False, False, True])), max_size=15)
detections = st.lists(st.tuples(places, st.sampled_from([0.125, 0.25, 0.5, 1.0])), max_size=30)


def annotation_table(rows) -> GroundTruthTable:
    photos, classes, corners = zip(*(place for place, _ in rows), strict=True) if rows else ((), (), ())
    return GroundTruthTable(
        np.array(photos, np.int64),
        np.array(classes, np.int64),
        np.array(corners, np.float64).reshape(-1, 4),
        np.array([ignore for _, ignore in rows], bool),
    )


def detection_table(rows) -> PredictionTable:
    plain = annotation_table([(place, False) for place, _ in rows])
    scores = np.array([score for _, score in rows], np.float64)
    return PredictionTable(plain.photo_ids, plain.class_ids, plain.boxes, scores)


def numbers(found: PredictionTable, truth: GroundTruthTable, num_classes: int) -> np.ndarray:
    values = coco_metrics(found, truth, num_classes).to_dict().values()
    return np.array([math.nan if value is None else value for value in values])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(detections, annotations)
def test_numbers_are_those_of_pycocotools(found_rows, truth_rows):
    found, truth = detection_table(found_rows), annotation_table(truth_rows)
    expected = reference_metrics(found, truth, 4, NUM_CLASSES)
    np.testing.assert_allclose(numbers(found, truth, NUM_CLASSES), expected, atol=1e-6)


def test_of_many_detections_in_one_photo_a_hundred_count():
    generator = np.random.default_rng(0)
    truth_rows = [((0, 0, (10.0 * n, 0.0, 10.0 * n + 9, 9.0)), False) for n in range(150)]
    found_rows = [(place, float(generator.random())) for place, _ in truth_rows]
    found, truth = detection_table(found_rows), annotation_table(truth_rows)
    metrics = coco_metrics(found, truth, 1)
    assert metrics.ar_100 == pytest.approx(100 / 150)
    assert metrics.ar_10 == pytest.approx(10 / 150)
    np.testing.assert_allclose(numbers(found, truth, 1), reference_metrics(found, truth, 1, 1), atol=1e-6)


def test_many_boxes_are_compared_in_parts(monkeypatch):
    generator = np.random.default_rng(1)
    corners = generator.integers(0, 40, (300, 2))
    rows = [
        ((int(n % 3), int(n % 2), (*xy, *(xy + 20))), float(generator.random()))
        for n, xy in enumerate(corners)
    ]
    found, truth = detection_table(rows[:200]), annotation_table([(place, False) for place, _ in rows[200:]])
    whole = coco_metrics(found, truth, 2)
    monkeypatch.setattr("fewbox.evaluation.matching._CHUNK", 50)
    assert coco_metrics(found, truth, 2) == whole


def test_a_class_without_annotations_has_no_number_and_no_share_in_the_mean():
    box = (0.0, 0.0, 50.0, 50.0)
    found = detection_table([((0, 0, box), 0.9), ((0, 1, box), 0.9)])
    metrics = coco_metrics(found, annotation_table([((0, 0, box), False)]), 2)
    assert metrics.ap == 1
    assert metrics.class_ap[0] == 1
    assert math.isnan(metrics.class_ap[1])
    assert metrics.to_dict()["ap_large"] is None  # 50 x 50 is a medium box


def test_average_precision_of_a_ranking():
    right = np.array([True, False, True, False])
    # Precision 1 up to recall 1/4, 2/3 up to 1/2, nothing beyond.
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert average_precision(right, ~right, 4) == pytest.approx(expected)
    assert average_precision(right[:0], right[:0], 4) == 0


def test_a_label_of_no_class_is_refused():
    image = AnnotatedImage(Path("a.jpg"), (10, 10), (Box(0, 0, 5, 5, "goose"),), reviewed=True)
    with pytest.raises(ValueError, match="labels that no class has: \\['goose'\\]"):
        GroundTruthTable.of([image], ["duck"])


def coco128(folder: Path) -> tuple[list[AnnotatedImage], list[str]]:
    """The photos of COCO128 and their boxes, from YOLO files: class, centre, size as parts of 1."""
    config = (folder / "config.yaml").read_text().split("names:\n")[1]
    labels = [line.split(": ")[1] for line in config.splitlines() if line.startswith("  ")]
    images = []
    for path in sorted((folder / "images").glob("*.jpg")):
        height, width = size_hw = read_size_hw(path)
        rows = (folder / "labels_yolo" / f"{path.stem}.txt").read_text().splitlines()
        boxes = []
        for class_id, *numbers in (map(float, row.split()) for row in rows):
            x, y, w, h = (value * side for value, side in zip(numbers, (width, height) * 2, strict=True))
            boxes.append(Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, labels[int(class_id)]))
        images.append(AnnotatedImage(path, size_hw, tuple(boxes), reviewed=True))
    return images, labels


@pytest.mark.slow
@pytest.mark.shared
def test_real_detections_give_the_numbers_of_pycocotools(shared: Path):
    base = load_base(shared / "weights/yolox_nano_coco.onnx")
    images, labels = coco128(shared / "data/coco128_val")
    images = images[::8]  # all of them take eight times as long and agree too
    detector = Detector(
        config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
    )
    found = PredictionTable.of([detector.detect(image.path, threshold=0.001) for image in images])
    truth = GroundTruthTable.of(images, labels)
    expected = reference_metrics(found, truth, len(images), len(labels))
    np.testing.assert_allclose(numbers(found, truth, len(labels)), expected, atol=1e-6)
    assert 0.2 < expected[0] < 0.5  # a network that finds things: 0.258 is published for all of COCO's photos


def moved_boxes(annotations: AnnotationSet, seed: int) -> PredictionTable:
    """What a middling detector would find: most boxes, a little off, some of another class."""
    generator = np.random.default_rng(seed)
    truth = GroundTruthTable.of(annotations.images, annotations.labels)
    kept = np.flatnonzero(generator.random(len(truth)) < 0.8)
    sides = (truth.boxes[kept, 2:] - truth.boxes[kept, :2])[:, [0, 1, 0, 1]]
    boxes = truth.boxes[kept] + sides * generator.normal(0, 0.06, (len(kept), 4))
    classes = truth.class_ids[kept].copy()
    wrong = generator.random(len(kept)) < 0.1
    classes[wrong] = generator.integers(0, len(annotations.labels), wrong.sum())
    return PredictionTable(truth.photo_ids[kept], classes, boxes, generator.random(len(kept)))


def assert_numbers_of_the_file(path: Path, annotations: AnnotationSet) -> None:
    found = moved_boxes(annotations, seed=0)
    truth = GroundTruthTable.of(annotations.images, annotations.labels)
    expected = reference_metrics_of_file(path, found)
    np.testing.assert_allclose(numbers(found, truth, len(annotations.labels)), expected, atol=1e-6)


def file_with_areas(folder: Path) -> Path:
    """COCO JSON of outlines that are less than their boxes, of limits, and of what no tool should write."""
    generator = np.random.default_rng(3)
    annotations = []
    for number in range(1, 201):
        x, y, width, height = generator.uniform((0, 0, 20, 20), (250, 250, 140, 140)).round(2).tolist()
        area = round(width * height * generator.uniform(0.2, 1), 3)
        if number % 10 == 0:  # where a tool rounds the area or the box, the limit falls to one side only
            x, width, height, area = 0.1, 32.0, 32.0, [1024, 1023.99, 1024.01][number // 10 % 3]
        if number % 37 == 0:
            area = [0, 1e6][number % 2]
        ids = {"id": number, "image_id": 1 + number % 4, "category_id": 1 + number % 2}
        box = {"bbox": [x, y, width, height], "area": area, "iscrowd": int(number % 23 == 0)}
        annotations.append(ids | box)
    names = [f"photo{number}.png" for number in range(1, 5)]
    for name in names:
        Image.new("RGB", (400, 400)).save(folder / name)
    images = [{"id": n, "file_name": name, "width": 400, "height": 400} for n, name in enumerate(names, 1)]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "duck"}]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_the_area_is_the_one_the_file_states(tmp_path, capfd):
    path = file_with_areas(tmp_path)
    annotations = read_annotations(path)
    assert "areas of 0 or larger than the box: 5; they count as they stand" in capfd.readouterr().err
    assert_numbers_of_the_file(path, annotations)

    # Written again it is the same file; a format without areas says so.
    again = tmp_path / "again.json"
    assert write_annotations(annotations, again) == ()
    assert_numbers_of_the_file(again, read_annotations(again))
    assert "csv has no areas; these objects will count as large as their boxes: 180" in write_annotations(
        annotations, tmp_path / "boxes.csv"
    )
    without = read_annotations(tmp_path / "boxes.csv")
    assert {box.area for image in without for box in image.boxes} == {None}


@pytest.mark.parametrize("area", [-1, -0.5, "large", True, [4], {}])
def test_an_area_that_is_none_is_left_out_and_said(tmp_path, capfd, area):
    path = file_with_areas(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:1]
    box = content["annotations"][0]
    for stated in ({"area": area}, {"area": None}, {}):
        del box["area"]
        box |= stated
        path.write_text(json.dumps(content))
        annotations = read_annotations(path)
        said = "not read: area that is no number from 0 (1)" in capfd.readouterr().err
        assert said == (stated == {"area": area})
        table = GroundTruthTable.of(annotations.images, annotations.labels)
        assert table.areas == pytest.approx([box["bbox"][2] * box["bbox"][3]])
        box.setdefault("area", None)


def test_an_area_may_be_a_number_written_as_text(tmp_path):
    path = file_with_areas(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] = [content["annotations"][0] | {"area": "12.5"}]
    path.write_text(json.dumps(content))
    assert [box.area for image in read_annotations(path) for box in image.boxes] == [12.5]


def test_a_project_keeps_areas_until_a_box_moves(tmp_path):
    path = file_with_areas(tmp_path)
    path.rename(tmp_path / "annotations.json")
    project = Project(tmp_path)
    before = {(drawn.id): drawn.box for drawn in project.states(["photo2.png"])[0].boxes}
    assert before["coco-1"].area != pytest.approx(box_area(before["coco-1"]), rel=0.01)
    moved = replace(before["coco-1"], x1=0, y1=0, x2=50, y2=40)
    renamed = replace(before["coco-5"], label="cup")
    with project.editing() as content:
        put = [DrawnBox("coco-1", moved), DrawnBox("coco-5", renamed)]
        content.change_photo("photo2.png", (400, 400), put=put)
    after = {drawn.id: drawn.box for drawn in Project(tmp_path).states(["photo2.png"])[0].boxes}
    assert after["coco-1"].area == 2000
    assert after["coco-5"].area == before["coco-5"].area
    assert_numbers_of_the_file(project.file, read_annotations(tmp_path))


def box_area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def test_an_area_below_0_is_refused():
    box = Box(1, 2, 3, 4, "cup", area=-4.0)
    with pytest.raises(AnnotationError, match=r"box 1: area must be a number from 0: -4\.0"):
        AnnotationSet((AnnotatedImage(Path("a.png"), (10, 10), (box,), True),), ("cup",))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    "data", ["aerial_cars", "dental_xray", "dice", "nematode_dish", "plants", "underwater_robosub"]
)
def test_published_files_give_the_numbers_of_pycocotools(shared: Path, data: str):
    path = shared / "data" / data / "boxes_coco.json"
    assert_numbers_of_the_file(path, read_annotations(path, path.parent / "images"))
