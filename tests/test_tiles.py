"""Tiles: they cover a photo, small objects are found in them, each once, by every engine alike."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from exported_duck import ExportedDuck
from fewbox.cli import build_parser, main
from fewbox.core.boxes import MAX_REDUCTION, OVERLAP, FoundArrays, checked_tiles, pairwise_iou, tile_grid
from fewbox.data import demo_photos
from fewbox.data.images import read_image
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.loading import EXPORT_ENGINES, open_detector
from fewbox.detection.photo_detector import PhotoDetector, TiledDetector, TtaDetector
from fewbox.errors import SettingError
from fewbox.export import MAX_SCORE_DIFFERENCE, MIN_IOU, compare_found
from fewbox.models.families import Config
from fewbox.models.retinanet import RETINANET_V2
from fewbox.models.ssd import SsdConfig
from fewbox.models.yolox import YoloxConfig
from films import write_film
from service_client import random_detector

INPUT = 64
sides = st.integers(1, 3000)


@given(sides, sides, st.sampled_from(["auto", 2, 3, 5, 8]))
@example(3000, 4000, "auto")
@example(1, 3000, 8)
def test_tiles_cover_every_pixel_and_overlap(height: int, width: int, tiles: int | str) -> None:
    grid = tile_grid((height, width), (INPUT, INPUT), tiles)
    if not len(grid):
        most = MAX_REDUCTION if tiles == "auto" else 1 + (1 - OVERLAP) + 0.01
        assert max(height, width) <= most * INPUT
        return
    assert (grid[:, :2] >= 0).all()
    assert (grid[:, 2:] <= (width, height)).all()
    assert len({tuple(size) for size in (grid[:, 2:] - grid[:, :2]).tolist()}) == 1
    for low, length in ((0, width), (1, height)):  # of a grid it is enough to look along both sides
        starts, side = np.unique(grid[:, low]), grid[0, low + 2] - grid[0, low]
        assert starts[0] == 0
        assert starts[-1] + side == length
        assert (np.diff(starts) <= (1 - OVERLAP) * side + 1).all()
    assert len(grid) == len(np.unique(grid[:, 0])) * len(np.unique(grid[:, 1]))
    along = len(np.unique(grid[:, int(height > width)]))
    assert along <= (8 if tiles == "auto" else tiles)
    longest = (grid[0, 2:] - grid[0, :2]).max()
    assert longest >= INPUT
    if tiles == "auto" and along < 8:
        assert longest <= MAX_REDUCTION * INPUT + 1


@pytest.mark.parametrize("tiles", [1, 9, 0, -3, True, 2.5, "many", "", "1", np.array([2, 3])])
def test_so_many_tiles_there_cannot_be(tiles: object) -> None:
    with pytest.raises(SettingError, match=r"tiles must be auto or a number from 2 to 8"):
        checked_tiles(tiles)


def test_so_many_digits_are_not_shown() -> None:
    for tiles in ("2" * 5000, 10**5000):
        with pytest.raises(SettingError, match=r"a number from 2 to 8: ('2{59}\.\.\.|int)\n"):
            checked_tiles(tiles)


def yolox() -> YoloxConfig:
    return YoloxConfig(depth=0.33, width=0.25, depthwise=True, size_hw=(INPUT, INPUT), num_classes=2)


PAINT = 200
"""The green of what is painted."""


class PaintDetector(PhotoDetector):
    """Finds each patch of one colour, if a network's input of its size would show enough of it."""

    config: Config = yolox()
    labels = ("small", "large")
    precision = "float32"
    threshold = 0.5

    def __init__(self, smallest: float = 8.0) -> None:
        self.base, self.provenance = {}, {}
        self.smallest = smallest
        self.looked_at: list[tuple[int, ...]] = []

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        self.looked_at.append(image.shape[:2])
        scale = INPUT / max(image.shape[:2])
        boxes, scores, class_ids = [], [], []
        is_paint = image[..., 1] == PAINT  # and no mean of two colours, where the photo was reduced
        for colour in np.unique(image[..., 0][is_paint]).tolist():
            rows, columns = np.nonzero(is_paint & (image[..., 0] == colour))
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            score = 0.6 + colour / 100
            if max(box[2] - box[0], box[3] - box[1]) * scale >= self.smallest and score > threshold:
                boxes.append(box)
                scores.append(score)
                class_ids.append(int(colour >= 20))
        order = np.argsort(-np.array(scores), kind="stable")
        return (
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(scores, np.float32)[order],
            np.array(class_ids, np.int64)[order],
        )


def painted(size_hw: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    image = np.zeros((*size_hw, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, 1):
        image[y1:y2, x1:x2] = (number, PAINT, 0)
    return image


SMALL = 14  # pixels of the photo: 2 in the input, and about 8 in that of a tile


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=12, unique=True),
    st.tuples(st.integers(0, 29), st.integers(0, 29)),
)
def test_every_small_object_is_found_once(cells: list[tuple[int, int]], offset: tuple[int, int]) -> None:
    """Wherever it lies, on the border of two tiles or of four."""
    boxes = [(x := c * 44 + offset[0], y := r * 44 + offset[1], x + SMALL, y + SMALL) for c, r in cells]
    photo = painted((320, 440), boxes)
    detector = PaintDetector(smallest=6)
    assert len(detector.detect(photo)) == 0
    found = detector.detect(photo, tiles="auto")
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(boxes)


@pytest.mark.slow
@settings(max_examples=40)
@example(273, 154, 107)
@given(st.integers(0, 300), st.integers(0, 200), st.integers(20, 140))
def test_an_object_of_any_size_is_found_once(x: int, y: int, side: int) -> None:
    """Also one longer than tiles overlap, of which several tiles see pieces."""
    photo = painted((340, 440), [(x, y, x + side, y + side)])
    found = PaintDetector(smallest=3).detect(photo, tiles="auto")
    # The photo whole is reduced first, to no less than twice the input: its boxes are that coarse, and a tile
    # may show a strip of an object, a pixel or two wide, that lies beside its box.
    (box,) = (box for box in found.boxes.tolist() if min(box[2] - box[0], box[3] - box[1]) > 3)
    assert box == pytest.approx([x, y, x + side, y + side], abs=3)


def test_a_piece_is_kept_if_nobody_sees_more() -> None:
    """An object longer than a tile that the photo whole does not show the detector."""

    class Nearsighted(PaintDetector):
        def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
            found = super()._find(image, threshold)
            return found if max(image.shape) < 200 else tuple(part[:0] for part in found)  # type: ignore[return-value]

    photo = painted((200, 440), [(30, 80, 400, 100)])
    found = Nearsighted(smallest=3).detect(photo, tiles="auto")
    assert 1 < len(found) <= 5  # in pieces that do not lie on each other
    assert found.boxes[:, 0].min() == 30
    assert found.boxes[:, 2].max() == 400


def test_parts_within_an_object_too_large_for_a_tile_are_no_objects() -> None:
    photo = painted((320, 440), [(40, 30, 400, 300)])
    found = PaintDetector().detect(photo, tiles="auto")
    assert len(found) == 1
    assert found.boxes[0] == pytest.approx([40, 30, 400, 300], abs=3)


def test_another_class_in_front_stays() -> None:
    photo = np.zeros((320, 440, 3), np.uint8)
    photo[80:150, 180:250], photo[100:130, 200:230] = (20, PAINT, 0), (1, PAINT, 0)
    found = PaintDetector().detect(photo, tiles="auto")
    assert sorted(found.class_ids.tolist()) == [0, 1]


@pytest.mark.parametrize("tiles", ["auto", 2, 8])
def test_a_photo_smaller_than_the_input_has_no_tiles(tiles: int | str) -> None:
    detector = PaintDetector()
    photo = painted((60, 50), [(10, 10, 30, 30)])
    found, plain = detector.detect(photo, tiles=tiles), detector.detect(photo)
    assert detector.looked_at == [(60, 50)] * 2
    assert np.array_equal(found.boxes, plain.boxes)
    assert np.array_equal(found.scores, plain.scores)


def test_a_higher_threshold_only_leaves_out() -> None:
    """What is found above a threshold is the same whatever else was asked for."""
    photo = painted((320, 440), [(20 * i, 13 * i, 20 * i + 15 + 3 * i, 13 * i + 16) for i in range(18)])
    detector = TiledDetector(PaintDetector(smallest=5), "auto")
    every, few = detector.detect(photo, threshold=0.01), detector.detect(photo, threshold=0.68)
    assert 0 < len(few) < len(every)
    assert np.array_equal(every.above(0.68).boxes, few.boxes)


@pytest.mark.parametrize(
    ("config", "size_wh"),
    [
        (yolox(), (128, 128)),  # fills the input
        (RETINANET_V2.changed(num_classes=2), (640, 480)),  # takes any proportions: the photo's
    ],
)
def test_a_tile_fills_the_input(config: Config, size_wh: tuple[int, int]) -> None:
    detector = PaintDetector()
    detector.config = config
    grid = TiledDetector(detector, "auto").tiles_of((3000, 4000))
    width, height = (grid[0, 2:] - grid[0, :2]).tolist()
    assert width / height == pytest.approx(size_wh[0] / size_wh[1], rel=0.01)


def test_what_squeezes_photos_squeezes_tiles_alike() -> None:
    config = SsdConfig.__new__(SsdConfig)
    object.__setattr__(config, "size_hw", (300, 300))
    object.__setattr__(config, "num_classes", 2)
    detector = PaintDetector()
    detector.config = config
    grid = TiledDetector(detector, 4).tiles_of((3000, 4000))
    width, height = (grid[0, 2:] - grid[0, :2]).tolist()
    assert width / height == pytest.approx(4 / 3, rel=0.01)


def test_photos_are_read_as_large_as_tiles_need_them(tmp_path: Path) -> None:
    Image.fromarray(painted((640, 880), [(500, 300, 520, 320)])).save(tmp_path / "large.png")
    detector = PaintDetector()
    assert len(detector.detect(tmp_path / "large.png")) == 0
    assert detector.looked_at.pop() == (160, 220)  # read at a quarter of its size
    found = detector.detect(tmp_path / "large.png", tiles="auto")
    assert found.boxes.tolist() == [[500, 300, 520, 320]]
    assert detector.looked_at[0] == (160, 220)  # whole, as without tiles
    assert {max(size) for size in detector.looked_at[1:]} == {141}  # a reduction of 2.2: there are 8


def test_mirrored_tiles() -> None:
    photo = painted((320, 440), [(200, 100, 214, 114)])
    found = TtaDetector(PaintDetector(smallest=6)).detect(photo, tiles="auto")
    assert found.boxes.tolist() == [[200, 100, 214, 114]]


DUCK_SIDE = 80  # pixels of a photo of 2400: 14 in an input of 416
DUCKS_HW = (3, 4)


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    """A photo of 2400 x 1800 with 12 of the demo's ducks, small, and where they are."""
    generator, truth = np.random.default_rng(0), []
    photo = np.full((1800, 2400, 3), (118, 124, 112), np.uint8)
    photo += generator.integers(0, 12, photo.shape, np.uint8)
    ducks = [(image, box) for image in demo_photos()[1].images for box in image.boxes]
    alone = [(image, box) for image, box in ducks if _is_alone(box, image.boxes, image.size_hw)]
    for number in range(DUCKS_HW[0] * DUCKS_HW[1]):
        image, box = alone[number % len(alone)]
        scale = DUCK_SIDE / max(box.x2 - box.x1, box.y2 - box.y1)
        duck = Image.fromarray(read_image(image.path)).crop((box.x1 - 5, box.y1 - 5, box.x2 + 5, box.y2 + 5))
        duck = duck.resize((round(duck.width * scale), round(duck.height * scale)), Image.Resampling.LANCZOS)
        row, column = divmod(number, DUCKS_HW[1])
        x = 2400 // DUCKS_HW[1] * column + int(generator.integers(0, 500))
        y = 1800 // DUCKS_HW[0] * row + int(generator.integers(0, 500))
        photo[y : y + duck.height, x : x + duck.width] = np.asarray(duck)
        edge = 5 * scale
        truth.append((x + edge, y + edge, x + duck.width - edge, y + duck.height - edge))
    path = tmp_path_factory.mktemp("pond") / "pond.png"
    Image.fromarray(photo).save(path, compress_level=1)
    return path, np.array(truth, np.float32)


def _is_alone(box: Any, boxes: Sequence[Any], size_hw: tuple[int, int]) -> bool:
    """Whether a box shows one whole duck and nothing of another."""
    height, width = size_hw
    if min(box.x1, box.y1, width - box.x2, height - box.y2) < 6:
        return False
    around = np.array([[box.x1 - 6, box.y1 - 6, box.x2 + 6, box.y2 + 6]])
    others = np.array([[one.x1, one.y1, one.x2, one.y2] for one in boxes if one is not box])
    return not len(others) or not pairwise_iou(around, others.reshape(-1, 4)).any()


def num_found(truth: NDArray[np.float32], found: Detections) -> int:
    return int((pairwise_iou(truth, found.boxes) >= 0.5).any(1).sum()) if len(found) else 0


@pytest.mark.slow
def test_small_ducks_in_a_large_photo(
    exported_duck: ExportedDuck, pond: tuple[Path, NDArray[np.float32]]
) -> None:
    photo, truth = pond
    detector = exported_duck.detector
    assert num_found(truth, detector.detect(photo)) <= 1
    found = detector.detect(photo, tiles="auto")
    assert num_found(truth, found) >= 9
    between = pairwise_iou(found.boxes, found.boxes) - np.eye(len(found), dtype=np.float32)
    assert between.max() < 0.3  # no duck twice
    assert len(found) <= len(truth) + 2


@pytest.mark.slow
def test_every_engine_finds_the_same_in_tiles(
    exported_duck: ExportedDuck, pond: tuple[Path, NDArray[np.float32]]
) -> None:
    """In a quarter of the pond: it has tiles enough."""
    photo = read_image(pond[0])[:900, :1200]
    expected = exported_duck.detector.detect(photo, tiles="auto")
    assert len(expected) >= 2
    for name in filter(importlib.util.find_spec, EXPORT_ENGINES):
        engine = open_detector(exported_duck.onnx, engine=name, num_threads=1)
        found = engine.detect(photo, tiles="auto")
        agreement = compare_found(
            (expected.boxes, expected.scores, expected.class_ids),
            (found.boxes, found.scores, found.class_ids),
        )
        assert len(found) == len(expected)
        assert agreement.lowest_iou >= MIN_IOU
        assert agreement.largest_score_difference <= MAX_SCORE_DIFFERENCE


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a detector with random weights, which finds something anywhere, above 0.4 not too much."""
    path = tmp_path_factory.mktemp("painter") / "d.safetensors"
    detector = random_detector()
    detector.threshold = 0.4
    detector.save(path)
    return str(path)


def save_noise(tmp_path: Path) -> str:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise).save(tmp_path / "photos/p.png")
    return str(tmp_path / "photos/p.png")


def rows_of(folder: Path) -> Any:
    return json.loads((folder / "detections.json").read_text())


@pytest.mark.slow
def test_detections_say_that_there_were_tiles(tmp_path: Path, painter: str) -> None:
    photo, expected = save_noise(tmp_path), Detector.load(painter)
    for tiles, said in ([], "auto"), (["3"], 3):
        assert main(["detect", painter, photo, "-o", str(tmp_path / "found"), "--tiles", *tiles]) == 0
        document = rows_of(tmp_path / "found")
        assert document["tiles"] == said
        found = expected.detect(photo, tiles=said)
        assert document["photos"][0]["detections"] == found.to_dict()["detections"]
    assert build_parser().parse_args(["detect", "d", "p", "-o", "f", "--tiles", "auto"]).tiles == "auto"
    assert main(["detect", painter, photo, "-o", str(tmp_path / "plain")]) == 0
    assert "tiles" not in rows_of(tmp_path / "plain")


@pytest.mark.slow
def test_tiles_that_no_photo_has_are_told(
    tmp_path: Path, painter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for them would believe that the photos were looked at more closely."""
    photo = save_noise(tmp_path)
    small = str(tmp_path / "photos/small.png")
    Image.new("RGB", (64, 48)).save(small)
    told = "no photo is so large that the detector looks at tiles of it: all is as without --tiles"
    command = ["detect", painter, "-o", str(tmp_path / "found"), "--agnostic-nms", "--tiles", "3"]
    assert main([*command, small]) == 0
    assert told in capsys.readouterr().out
    assert main([*command, small, photo]) == 0
    assert "as without --tiles" not in capsys.readouterr().out
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"small.png,3,3,20,20,{Detector.load(painter).labels[0]}\n")
    evaluate = ["evaluate", painter, small, "--boxes", str(boxes), "--json"]
    assert main([*evaluate, "--tiles", "3"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["tiles"] == 3
    assert told in printed.err
    assert main(evaluate) == 0
    assert "as without --tiles" not in capsys.readouterr().err


@pytest.mark.parametrize(("pixel_aspect", "is_large"), [(Fraction(1), False), (Fraction(3), True)])
def test_a_film_has_tiles_by_its_size_as_it_is_shown(
    tmp_path: Path,
    painter: str,
    capsys: pytest.CaptureFixture[str],
    pixel_aspect: Fraction,
    is_large: bool,
) -> None:
    film = write_film(tmp_path / "film.mp4", ticks=[0, 512], audio=False, pixel_aspect=pixel_aspect)
    assert main(["detect", painter, str(film), "-o", str(tmp_path / "f_tracks.csv"), "--tiles"]) == 0
    told = "no frame is so large that the detector looks at tiles of it: all is as without --tiles"
    printed = capsys.readouterr()
    assert (told not in printed.out + printed.err) == is_large


def test_pictures_of_large_photos_stay_small(tmp_path: Path, painter: str) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos/large.png"
    Image.fromarray(np.full((400, 5000, 3), 90, np.uint8)).save(photo)
    assert main(["detect", painter, str(photo), "-o", str(tmp_path / "found"), "--tiles"]) == 0
    with Image.open(tmp_path / "found/large.png") as picture:
        assert picture.size == (2500, 200)  # as without tiles


def test_wrong_tiles_are_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["detect", "d.safetensors", "p.png", "-o", str(tmp_path / "found")],
        ["evaluate", "d.safetensors", "p"],
    ):
        assert main([*command, "--tiles", "9"]) == 2
        assert "tiles must be auto or a number from 2 to 8: '9'" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_in_tiles(tmp_path: Path, painter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of what is found in tiles, and say so."""
    detector, photo = painter, save_noise(tmp_path)
    best = Detector.load(detector).detect(photo, tiles=3)
    (x1, y1, x2, y2), _, label = next(iter(best))
    (tmp_path / "boxes.csv").write_text(f"p.png,{x1},{y1},{x2},{y2},{label}\n")
    command = [
        "evaluate",
        detector,
        str(tmp_path / "photos"),
        "--boxes",
        str(tmp_path / "boxes.csv"),
        "--json",
    ]
    assert main([*command, "--tiles", "3"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tiles"] == 3
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "tiles" not in plain
    assert document["coco"] != plain["coco"]


@pytest.mark.slow
def test_a_film_in_tiles(tmp_path: Path, painter: str) -> None:
    pytest.importorskip("av", reason="needs the extra fewbox[video]")
    detector, photo = painter, save_noise(tmp_path)
    counts = []
    for more in ([], ["--tiles", "2"]):
        assert main(["detect", detector, photo, "-o", str(tmp_path / "film.csv"), *more]) == 0
        counts.append((tmp_path / "film.csv").read_text())
    assert counts[0] != counts[1]


@pytest.mark.slow
@pytest.mark.usefixtures("in_here")
def test_a_run_with_workers_in_tiles(
    tmp_path: Path, painter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tables hold what tiles show, and it goes on only with the same tiles."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra fewbox[ray]")
    detector, photo = painter, save_noise(tmp_path)
    command = ["detect", detector, photo, "-o", str(tmp_path / "run"), "--engine-cluster", "processes"]
    assert main([*command, "--workers", "1", "--tiles", "3"]) == 0
    rows = parquet.read_table(tmp_path / "run/detections/000000.parquet").to_pylist()
    expected = Detector.load(detector).detect(photo, tiles=3)
    assert len(rows) == len(expected)
    np.testing.assert_allclose([row["score"] for row in rows], expected.scores, atol=1e-5)
    assert main([*command, "--workers", "1", "--tiles", "3"]) == 0
    capsys.readouterr()
    assert main([*command, "--workers", "1"]) == 2
    assert "begun with tiles of 3, not none" in capsys.readouterr().err
