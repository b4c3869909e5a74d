"""COCO's numbers are those of pycocotools, on made-up sets full of corner cases and on real detections."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_reference import reference_metrics
from goldeneye.data.annotations import AnnotatedImage, Box
from goldeneye.data.images import read_size_hw
from goldeneye.detect.detector import Detector
from goldeneye.evaluation.metrics import average_precision, coco_metrics
from goldeneye.evaluation.tables import AnnotationTable, DetectionTable
from goldeneye.models.base import load_base

NUM_CLASSES = 3

# Few places, sides and scores, all of them whole or exact in binary: boxes often coincide, overlap by
# exactly a threshold, have the area of a limit, or score the same.
corners = st.tuples(*[st.integers(0, 3).map(lambda place: 10 * place)] * 2)
sides = st.tuples(*[st.sampled_from([1, 10, 15, 20, 32, 96, 120])] * 2)
boxes = st.tuples(corners, sides).map(lambda box: (*box[0], box[0][0] + box[1][0], box[0][1] + box[1][1]))
places = st.tuples(st.integers(0, 3), st.integers(0, NUM_CLASSES - 1), boxes)
annotations = st.lists(st.tuples(places, st.sampled_from([False, False, False, True])), max_size=15)
detections = st.lists(st.tuples(places, st.sampled_from([0.125, 0.25, 0.5, 1.0])), max_size=30)


def annotation_table(rows) -> AnnotationTable:
    photos, classes, corners = zip(*(place for place, _ in rows), strict=True) if rows else ((), (), ())
    return AnnotationTable(
        np.array(photos, np.int64),
        np.array(classes, np.int64),
        np.array(corners, np.float64).reshape(-1, 4),
        np.array([ignore for _, ignore in rows], bool),
    )


def detection_table(rows) -> DetectionTable:
    plain = annotation_table([(place, False) for place, _ in rows])
    scores = np.array([score for _, score in rows], np.float64)
    return DetectionTable(plain.photo_ids, plain.class_ids, plain.boxes, scores)


def numbers(found: DetectionTable, truth: AnnotationTable, num_classes: int) -> np.ndarray:
    values = coco_metrics(found, truth, num_classes).to_dict().values()
    return np.array([math.nan if value is None else value for value in values])


@settings(max_examples=300, deadline=None)
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
    monkeypatch.setattr("goldeneye.evaluation.matches._CHUNK", 50)
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
        AnnotationTable.of([image], ["duck"])


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


@pytest.mark.shared
def test_real_detections_give_the_numbers_of_pycocotools(shared: Path):
    base = load_base(shared / "weights/yolox_nano_coco.onnx")
    images, labels = coco128(shared / "data/coco128_val")
    images = images[::3]  # all of them take three times as long and agree too
    detector = Detector(
        config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
    )
    found = DetectionTable.of([detector.detect(image.path, score_threshold=0.001) for image in images])
    truth = AnnotationTable.of(images, labels)
    expected = reference_metrics(found, truth, len(images), len(labels))
    np.testing.assert_allclose(numbers(found, truth, len(labels)), expected, atol=1e-6)
    assert 0.2 < expected[0] < 0.5  # a network that finds things: 0.258 is published for all of COCO's photos
