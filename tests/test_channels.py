"""Arrays with their channels in either order, and batches of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from fewbox.core.boxes import FoundArrays
from fewbox.data.images import ReducedImage
from fewbox.detection import Detections
from fewbox.detection.detector import Detector
from fewbox.detection.photo_detector import PhotoDetector, TtaDetector
from fewbox.errors import PhotoError
from fewbox.models.yolox import YOLOX_SIZES
from fewbox.video import detect_video
from fewbox.video.reader import PhotoFrames

RED = np.zeros((40, 60, 3), np.uint8) + np.array([200, 60, 20], np.uint8)
BGR = np.ascontiguousarray(RED[..., ::-1])


class FindsRed(PhotoDetector):
    """Finds all of a photo that is more red than blue."""

    def __init__(self) -> None:
        self.config, self.labels, self.base = YOLOX_SIZES["nano"].changed(num_classes=1), ("red",), {}
        self.provenance, self.precision, self.threshold = {}, "float32", 0.5
        self.looks = 0

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        self.looks += 1
        height, width = image.shape[:2]
        count = int(image[..., 0].mean() > image[..., 2].mean())
        boxes = np.array([[0, 0, width, height]] * count, np.float32).reshape(-1, 4)
        return boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int64)


@pytest.fixture(autouse=True)
def _no_warning_unless_expected() -> None:
    warnings.simplefilter("error")


def chw(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@pytest.mark.parametrize(
    "photos",
    [
        BGR,
        chw(BGR),
        [BGR, BGR],
        (image for image in [BGR]),
        np.stack([BGR, BGR]),
        torch.stack([chw(BGR)] * 2),
        np.dstack([BGR, np.full((40, 60), 255, np.uint8)]),
    ],
    ids=["array", "tensor", "list", "generator", "batch", "batch of tensors", "with alpha"],
)
def test_bgr_is_taken_as_it_is_meant(photos: object) -> None:
    found = FindsRed().detect(photos, bgr=True)
    for one in [found] if isinstance(found, Detections) else found:
        assert len(one) == 1
        assert np.array_equal(one.source, RED)


class FindsRedBeside(FindsRed):
    """Looks at several photos at once, as where a GPU computes."""

    _device = torch.device("cuda")
    _detect_each = Detector._detect_each  # type: ignore[assignment]


def refilled(how: Callable[[NDArray[np.uint8]], Any]) -> Iterator[Any]:
    """Red, black, red, black ... of one array that is filled again each time, as a camera does."""
    buffer = np.empty_like(RED)
    for number in range(12):
        buffer[:] = 0 if number % 2 else RED
        yield how(buffer)


@pytest.mark.parametrize("kind", [FindsRed, FindsRedBeside])
@pytest.mark.parametrize(
    "how",
    [lambda a: a, chw, lambda a: a[..., ::-1][..., ::-1], lambda a: ReducedImage(a, (80, 120))],
    ids=["array", "tensor", "view", "reduced"],
)
def test_frames_of_one_buffer_are_looked_at_as_they_come(
    kind: type[FindsRed], how: Callable[[NDArray[np.uint8]], Any]
) -> None:
    found = kind().detect(refilled(how))
    assert [len(one) for one in found] == [1, 0] * 6
    for one in found[::2]:
        if one.source is not None:  # what is drawn on and cut out is the frame itself, too
            assert one.crops()[0].tolist() == RED.tolist()


@pytest.mark.parametrize("kind", [FindsRed, FindsRedBeside])
def test_pages_of_one_picture_are_looked_at_as_they_come(
    kind: type[FindsRed], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [Image.fromarray(image) for image in [RED, BGR] * 6]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "pages.tif") as opened:
        found = kind().detect(ImageSequence.Iterator(opened))
    assert [len(one) for one in found] == [1, 0] * 6
    assert found[0].crops()[0].tolist() == RED.tolist()
    assert "only the first" not in capsys.readouterr().err


def test_opened_files_are_read_before_the_next_is_opened(tmp_path: Path) -> None:
    def opened() -> Iterator[BinaryIO]:
        for number, image in enumerate([RED, BGR] * 6):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
            with (tmp_path / f"{number}.png").open("rb") as file:
                yield file

    assert [len(one) for one in FindsRedBeside().detect(opened())] == [1, 0] * 6


def test_a_wrong_photo_in_a_list_is_named_by_its_number_also_if_bgr() -> None:
    with pytest.raises(PhotoError, match=r"photos\[1\]: an image array is uint8"):
        FindsRed().detect([BGR, BGR.astype(float)], bgr=True)


def test_pixels_of_a_photo_made_smaller_may_be_bgr_too() -> None:
    assert len(FindsRed().detect(ReducedImage(BGR, (80, 120)), bgr=True)) == 1


def test_the_bytes_of_a_file_are_no_array_that_is_bgr() -> None:
    picture = io.BytesIO()
    Image.fromarray(RED).save(picture, "PNG")
    assert len(FindsRed().detect(memoryview(picture.getvalue()), bgr=True)) == 1


def test_pictures_and_grey_arrays_say_themselves_what_they_are() -> None:
    assert len(FindsRed().detect(Image.fromarray(RED), bgr=True)) == 1
    assert len(FindsRed().detect(RED[..., 0], bgr=True)) == 0


def test_what_wraps_a_detector_takes_bgr_too() -> None:
    for wrapper in (TtaDetector(FindsRed()), FindsRed().with_tiles(2)):
        assert len(wrapper.detect(BGR, bgr=True)) == 1


def test_an_array_that_makes_sense_as_bgr_only_gets_a_remark_a_few_times() -> None:
    detector = FindsRed()
    for _ in range(3):
        with pytest.warns(UserWarning, match=r"say so: detect\(\.\.\., bgr=True\)"):
            assert len(detector.detect(BGR)) == 0
    assert len(detector.detect(BGR)) == 0
    assert len(FindsRed().detect(np.zeros_like(RED))) == 0  # nothing to remark: it makes no sense either way
    assert len(FindsRed().detect(Image.fromarray(BGR))) == 0  # a picture knows its channels


@pytest.mark.parametrize("options", [{}, {"agnostic_nms": True}, {"tiles": "auto"}])
@pytest.mark.parametrize("wrap", [lambda detector: detector, TtaDetector])
def test_frames_in_which_nothing_is_are_looked_at_once_after_the_first(
    options: dict[str, Any], wrap: Callable[[PhotoDetector], PhotoDetector]
) -> None:
    """With options too, as a camera's frames are given one by one."""
    detector = FindsRed()
    asked, empty = wrap(detector), np.zeros_like(RED)
    looks = []
    for _ in range(5):
        detector.looks = 0
        asked.detect(empty, **options)
        looks.append(detector.looks)
    once = 2 if isinstance(asked, TtaDetector) else 1
    assert looks == [2 * once, 2 * once, 2 * once, once, once]


def test_mirrored_too_nobody_doubts_the_channels_of_a_file(tmp_path: Path) -> None:
    Image.fromarray(BGR).save(tmp_path / "blue.png")
    assert len(TtaDetector(FindsRed()).detect(tmp_path / "blue.png")) == 0
    with pytest.warns(UserWarning, match="bgr=True") as told:
        assert len(TtaDetector(FindsRed()).detect(BGR)) == 0
    assert len(told) == 1


def test_nobody_doubts_the_channels_of_a_film(tmp_path: Path) -> None:
    Image.fromarray(BGR).save(tmp_path / "blue.png")
    film = PhotoFrames([tmp_path / "blue.png"] * 3, 5)
    summary = detect_video(FindsRed(), film, tmp_path / "boxes.csv", show_progress=False)
    assert (summary.num_frames_detected, summary.num_boxes) == (3, 0)


def test_a_batch_gives_a_list() -> None:
    found = FindsRed().detect(np.stack([RED, RED]))
    assert [len(one) for one in found] == [1, 1]
