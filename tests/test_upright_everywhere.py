"""The eight ways in which a camera stores one photo: the same to learn from, and the same found in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_image, read_reduced
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.folder import PICTURE_SIDE, detect_folder
from fewbox.finetuning import finetune
from fewbox.models.base import BaseModel, load_base
from orientations import STORED, orientation
from tiny import make_base, make_photos
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = pytest.mark.usefixtures("in_float32")

LOW = 0.0005


def stored_as(annotations: AnnotationSet, value: int, folder: Path) -> AnnotationSet:
    """The same photos as a camera stores them for an orientation; the boxes stay as they are."""
    folder.mkdir()
    images = []
    for image in annotations:
        path = folder / image.path.name
        lying = np.ascontiguousarray(STORED[value](read_image(image.path)))
        Image.fromarray(lying).save(path, exif=orientation(value))
        images.append(replace(image, path=path))
    return replace(annotations, images=tuple(images))


def yolox_base() -> BaseModel:
    return make_base(tiny_yolox_config(), random_yolox(tiny_yolox_config()).state_dict())


@pytest.mark.slow
def test_learning_and_finding_are_the_same_for_every_orientation(tmp_path: Path) -> None:
    base, annotations = yolox_base(), make_photos(tmp_path, 2)
    detectors: dict[int, Detector] = {}
    found: dict[int, list[Detections]] = {}
    for value in STORED:
        photos = stored_as(annotations, value, tmp_path / str(value))
        detectors[value] = finetune(photos, base, recipe="probe", effort="quick", show_progress=False)
        paths = [image.path for image in photos]
        found[value] = detectors[value].detect(paths, threshold=LOW)
    assert sum(map(len, found[1])) > 0
    for value in STORED:
        assert_same_weights(detectors[1], detectors[value])
        for upright, lying in zip(found[1], found[value], strict=True):
            np.testing.assert_array_equal(upright.boxes, lying.boxes)
            np.testing.assert_array_equal(upright.scores, lying.scores)
            assert upright.size_hw == lying.size_hw


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting")
def test_adapting_is_the_same_for_a_photo_on_its_side(tmp_path: Path) -> None:
    base, annotations = yolox_base(), make_photos(tmp_path, 2)
    upright, lying = (
        finetune(photos, base, recipe="adapt", effort="quick", show_progress=False)
        for photos in (annotations, stored_as(annotations, 6, tmp_path / "6"))
    )
    assert upright.provenance["adapted"]
    assert_same_weights(upright, lying)


def assert_same_weights(one: Detector, other: Detector) -> None:
    for name, weight in one.weights.items():
        assert np.array_equal(weight, other.weights[name]), name


def intersections_over_unions(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The IoU ``[M]`` of each box with the one of the same number."""
    shared = np.minimum(first, second)[:, 2:] - np.maximum(first, second)[:, :2]
    both = shared.clip(0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return both / (areas[0] + areas[1] - both)


@pytest.fixture(scope="module")
def detector(shared: Path) -> Detector:
    """YOLOX-nano with all classes of COCO."""
    base = load_base(shared / "weights" / "yolox_nano_coco.onnx")
    labels = [str(number) for number in range(base.config.num_classes)]
    return Detector(
        config=base.config, weights=base.weights, labels=labels, base=base.origin(), provenance={}
    )


@pytest.fixture(scope="module")
def large(shared: Path) -> np.ndarray:
    """A desk with a screen, keyboard and mouse, with the noise of a camera."""
    with Image.open(shared / "data" / "coco128_val" / "images" / "000000001503.jpg") as photo:
        enlarged = np.asarray(photo.convert("RGB").resize((2560, 1920), Image.Resampling.LANCZOS))
    noise = np.random.default_rng(0).normal(0, 4, enlarged.shape)
    return np.clip(enlarged + noise, 0, 255).astype(np.uint8)


@pytest.mark.shared
class TestLargePhotos:
    """On a real photo, four times as large as the network's input and more."""

    @pytest.mark.slow
    def test_every_orientation_gives_the_same_boxes(
        self, detector: Detector, large: np.ndarray, tmp_path: Path
    ) -> None:
        first = None
        for value in STORED:
            path = tmp_path / f"{value}.jpg"
            lying = Image.fromarray(np.ascontiguousarray(STORED[value](large)))
            lying.save(path, exif=orientation(value), quality=92)
            found = detector.detect(path)
            first = first or found
            assert read_reduced(path, detector.enough_hw((1920, 2560))).image.shape == (960, 1280, 3)
            assert found.size_hw == (1920, 2560)
            assert found.class_ids.tolist() == first.class_ids.tolist() != []
            # JPEG loses other things of a photo that lies on its side. 2560 / 416 is an input pixel.
            np.testing.assert_allclose(found.boxes, first.boxes, atol=0.5 * 2560 / 416)
            np.testing.assert_allclose(found.scores, first.scores, atol=0.02)

    @pytest.mark.slow
    def test_boxes_are_about_those_of_the_whole_photo(
        self, detector: Detector, large: np.ndarray, tmp_path: Path
    ) -> None:
        Image.fromarray(large).save(tmp_path / "large.jpg", quality=92)
        whole, reduced = detector.detect(large), detector.detect(tmp_path / "large.jpg")
        assert whole.class_ids.tolist() == reduced.class_ids.tolist() != []
        assert intersections_over_unions(whole.boxes, reduced.boxes).min() > 0.95
        np.testing.assert_allclose(whole.scores, reduced.scores, atol=0.05)

    @pytest.mark.slow
    def test_pictures_are_smaller_and_boxes_are_those_of_the_photo(
        self, detector: Detector, large: np.ndarray, tmp_path: Path
    ) -> None:
        Image.fromarray(large).resize((4000, 3000)).save(tmp_path / "large.jpg", quality=80)
        detector.save(tmp_path / "d.safetensors")
        detect_folder(
            tmp_path / "d.safetensors", tmp_path / "large.jpg", tmp_path / "out", show_progress=False
        )
        (row,) = json.loads((tmp_path / "out" / "detections.json").read_text())["photos"]
        assert (row["width"], row["height"]) == (4000, 3000)
        with Image.open(tmp_path / "out" / "large.jpg") as picture:
            assert picture.size == (2000, 1500)
            assert PICTURE_SIDE <= 2000
        exact = detector.detect(large)
        found = np.array([detection["box"] for detection in row["detections"]])
        np.testing.assert_allclose(found[0] / 4000, exact.boxes[0] / 2560, atol=0.02)

    @pytest.mark.slow
    def test_pictures_do_not_change_what_is_found(
        self, detector: Detector, large: np.ndarray, tmp_path: Path
    ) -> None:
        photo = Image.fromarray(large).resize((3840, 2880))
        noise = np.random.default_rng(0).normal(0, 25, (2880, 3840, 3))
        noisy = Image.fromarray(np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8))
        noisy.save(tmp_path / "large.jpg", quality=85)
        detector.save(tmp_path / "d.safetensors")
        exact = detector.detect(tmp_path / "large.jpg")
        for pictures in (False, True):
            output = tmp_path / f"out_{pictures}"
            detect_folder(
                tmp_path / "d.safetensors",
                tmp_path / "large.jpg",
                output,
                pictures=pictures,
                show_progress=False,
            )
            (row,) = json.loads((output / "detections.json").read_text())["photos"]
            scores = [detection["score"] for detection in row["detections"]]
            boxes = np.array([detection["box"] for detection in row["detections"]])
            np.testing.assert_allclose(scores, exact.scores, atol=0.005)
            np.testing.assert_allclose(boxes, exact.boxes, atol=2.5)
