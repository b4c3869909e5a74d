"""Class-agnostic NMS: one class for each object, in every command alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from exports import detector_of, noise
from fewbox.cli import main
from fewbox.core.boxes import FoundArrays, pairwise_iou
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.photo_detector import AgnosticDetector, PhotoDetector, TiledDetector, TtaDetector
from fewbox.models.yolox import YoloxConfig
from service_client import ask, random_detector, serving

BLANK = np.zeros((100, 100, 3), np.uint8)


class Inspector(PhotoDetector):
    """Finds a part that it takes for scratched and for whole, and another that is whole."""

    config = YoloxConfig(depth=0.33, width=0.25, depthwise=True, size_hw=(32, 32), num_classes=2)
    labels = ("whole", "scratched")
    precision = "float32"
    threshold = 0.1

    def __init__(self) -> None:
        self.base, self.provenance = {}, {}

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        boxes = np.array([[10, 10, 50, 50], [60, 60, 90, 90], [11, 10, 52, 50]], np.float32)
        scores = np.array([0.9, 0.8, 0.7], np.float32)
        kept = scores > threshold
        return boxes[kept], scores[kept], np.array([1, 0, 0])[kept]


def test_the_surest_class_stays_of_boxes_that_overlap() -> None:
    assert Inspector().detect(BLANK).labels == ["scratched", "whole", "whole"]
    found = Inspector().detect(BLANK, agnostic_nms=True)
    assert found.labels == ["scratched", "whole"]
    assert found.boxes.tolist() == [[10, 10, 50, 50], [60, 60, 90, 90]]
    several = Inspector().detect([BLANK, BLANK], agnostic_nms=True, threshold=0.85)
    assert [one.labels for one in several] == [["scratched"], ["scratched"]]


def test_tiles_are_joined_before_classes_are() -> None:
    large = np.zeros((400, 400, 3), np.uint8)
    found = Inspector().detect(large, tiles=2, agnostic_nms=True)
    assert len(Inspector().detect(large, tiles=2)) > len(found) > 2
    assert not overlapping(found, 0.65)


@pytest.mark.parametrize(
    ("wrapped", "threshold"),
    [(lambda one: TiledDetector(one, 3), 0.85), (AgnosticDetector, 0.85), (TtaDetector, 0.425)],
)
def test_what_was_set_on_a_detector_holds_for_other_tiles_too(
    wrapped: Callable[[PhotoDetector], PhotoDetector], threshold: float
) -> None:
    large = np.zeros((400, 400, 3), np.uint8)
    detector = wrapped(Inspector())
    detector.threshold, detector.labels = threshold, ("good", "bad")
    for found in (detector.with_tiles(2).detect(large), detector.detect(large, tiles=2, agnostic_nms=True)):
        assert set(found.labels) == {"bad"}
    assert detector.with_tiles(2).with_agnostic_nms(True).with_tiles(3).threshold == threshold


def test_that_there_may_be_more_is_known_whatever_is_joined_afterwards() -> None:
    detector, photo = detector_of("ssd"), noise((640, 480))
    plain = detector.detect(photo, threshold=0.3)
    assert len(plain) == 100  # which is all that it gives
    joined = detector.detect(photo, threshold=0.3, agnostic_nms=True)
    assert len(joined) < 100
    assert joined.full_at == plain.full_at == plain.scores[-1]
    assert TtaDetector(detector).detect(photo, threshold=0.3).full_at >= plain.full_at
    assert detector.detect(photo, threshold=plain.full_at).full_at == 0


class Wavering(Inspector):
    """Takes a part for whole if it is on the left of what it looks at, for scratched on the right."""

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        rows, columns = np.nonzero(image[..., 0])
        if not len(rows):
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        is_right = int(columns.mean() > image.shape[1] / 2)
        scores = np.array([0.9, 0.6], np.float32)
        kept = scores > threshold
        return np.array([box, box], np.float32)[kept], scores[kept], np.array([is_right, 1 - is_right])[kept]


def in_tiles(detector: PhotoDetector) -> PhotoDetector:
    return TiledDetector(detector, 2)


@pytest.mark.parametrize("wrap", [TtaDetector, in_tiles, lambda detector: in_tiles(TtaDetector(detector))])
def test_one_class_for_each_object_in_whatever_order_detectors_are_wrapped(
    wrap: Callable[[PhotoDetector], PhotoDetector],
) -> None:
    photo = np.zeros((200, 200, 3), np.uint8)
    photo[80:110, 90:130] = 200
    assert len(wrap(Wavering()).detect(photo)) == 2
    first = wrap(Wavering().with_agnostic_nms(True))
    last = wrap(Wavering()).with_agnostic_nms(True)
    (one,), (other,) = first.detect(photo), last.detect(photo)
    assert one.label == other.label
    assert one.score == other.score
    assert first.options == last.options


def overlapping(found: Detections, most: float) -> bool:
    return bool((np.triu(pairwise_iou(found.boxes, found.boxes), 1) > most).any())


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a detector with random weights, which finds two classes in one place."""
    path = tmp_path_factory.mktemp("painter") / "d.safetensors"
    detector = random_detector(seed=2)
    detector.threshold = 0.3
    detector.save(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos/p.png")
    return str(tmp_path / "photos/p.png")


@pytest.fixture
def expected(painter: Path, photo: str) -> Detections:
    detector = Detector.load(painter)
    most = detector.config.iou_threshold
    assert overlapping(detector.detect(photo), most)
    found = detector.detect(photo, agnostic_nms=True)
    assert len(found) > 1
    assert not overlapping(found, most)
    return found


def test_detect_and_evaluate_say_so(
    painter: Path, photo: str, expected: Detections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", str(painter), photo, "-o", str(tmp_path / "found")]
    assert main([*command, "--agnostic-nms"]) == 0
    document = json.loads((tmp_path / "found/detections.json").read_text())
    assert document["agnostic_nms"] is True
    assert document["photos"][0]["detections"] == expected.to_dict()["detections"]
    assert main(command) == 0  # which does not take what was found with the option for its own
    document = json.loads((tmp_path / "found/detections.json").read_text())
    assert "agnostic_nms" not in document
    assert len(document["photos"][0]["detections"]) > len(expected)

    rows = [f"p.png,{x1},{y1},{x2},{y2},{label}" for (x1, y1, x2, y2), _, label in expected]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    evaluate = ["evaluate", str(painter), str(tmp_path / "photos"), "--boxes", str(tmp_path / "boxes.csv")]
    answers: list[dict[str, Any]] = []
    for more in ([], ["--agnostic-nms"]):
        capsys.readouterr()
        assert main([*evaluate, "--json", *more]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [answer.get("agnostic_nms") for answer in answers] == [None, True]
    assert answers[0]["coco"] != answers[1]["coco"]


def test_in_a_film(painter: Path, photo: str, expected: Detections, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra fewbox[video]")
    assert main(["detect", str(painter), photo, "-o", str(tmp_path / "film.csv"), "--agnostic-nms"]) == 0
    rows = (tmp_path / "film.csv").read_text().splitlines()
    assert len(rows) - 1 == len(expected)


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_in_a_run_with_workers_which_goes_on_only_the_same_way(
    painter: Path, photo: str, expected: Detections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra fewbox[ray]")
    command = ["detect", str(painter), photo, "-o", str(tmp_path / "run"), "--engine-cluster", "processes"]
    assert main([*command, "--workers", "1", "--agnostic-nms"]) == 0
    rows = parquet.read_table(tmp_path / "run/detections/000000.parquet").to_pylist()
    np.testing.assert_allclose([row["score"] for row in rows], expected.scores, atol=1e-5)
    capsys.readouterr()
    assert main([*command, "--workers", "1"]) == 2
    assert "run.json: begun with --agnostic-nms, not without" in capsys.readouterr().err


def test_the_service(painter: Path, photo: str) -> None:
    content, place = Path(photo).read_bytes(), "/v1/detectors/d/detect"
    with serving([painter]) as running:
        answer = ask(running, f"{place}?agnostic_nms=true", content).json()
        plain = ask(running, place, content).json()
    assert answer["agnostic_nms"] is True
    assert "agnostic_nms" not in plain
    assert 0 < len(answer["photos"][0]["detections"]) < len(plain["photos"][0]["detections"])
