"""What people give from Python is taken as they mean it, or refused in their words; nothing fails inside."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewbox
from fewbox.core.arguments import checked_threshold
from fewbox.detection.detector import Detector
from fewbox.errors import (
    AnnotationError,
    BaseModelError,
    DetectorFileError,
    ExportError,
    FewboxError,
    OutputError,
    PhotoError,
    SettingError,
)
from tiny import make_photos, tiny_base

WRONG = (None, 5, b"x", object(), {}, np.zeros((4, 4)), "", "a\0b")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    fewbox.write_coco(make_photos(folder), folder / "annotations.json")
    return folder


@pytest.fixture(scope="module")
def detector(photos: Path) -> Detector:
    """Taught by a folder in which boxes were drawn."""
    config = fewbox.FinetuneConfig(steps=np.int64(2))
    taught = fewbox.finetune(photos, tiny_base(), recipe="seed", config=config, show_progress=False)
    taught.threshold = 0.05
    return taught


class TestPhotosToDetectIn:
    @pytest.mark.slow
    def test_all_that_is_one_photo(self, detector: Detector, photos: Path) -> None:
        path = fewbox.find_photos(photos)[0]
        image = fewbox.read_image(path)
        tensor = torch.from_numpy(image)
        with Image.open(path) as opened:
            opened.load()
        given = [str(path), path.read_bytes(), bytearray(path.read_bytes()), io.BytesIO(path.read_bytes())]
        given += [image, tensor, tensor.permute(2, 0, 1), opened, opened.convert("RGBA")]
        expected = detector.detect(path)
        assert len(expected) > 0
        for photo in given:
            found = detector.detect(photo)
            np.testing.assert_array_equal(found.boxes, expected.boxes)
            assert found.draw().size == (image.shape[1], image.shape[0])
        with path.open("rb") as file:
            np.testing.assert_array_equal(detector.detect(file).boxes, expected.boxes)

    def test_grey(self, detector: Detector) -> None:
        grey = np.random.default_rng(0).integers(0, 256, (50, 60), np.uint8)
        expected = detector.detect(np.stack([grey] * 3, -1), threshold=0.01).boxes
        for given in (grey, grey[..., None], torch.from_numpy(grey)[None], Image.fromarray(grey)):
            found = detector.detect(given, threshold=0.01).boxes
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.slow
    def test_several(self, detector: Detector, photos: Path) -> None:
        paths = fewbox.find_photos(photos)
        expected = [len(found) for found in detector.detect(paths)]
        for several in (tuple(paths), iter(paths), (path for path in paths), map(str, paths)):
            assert [len(found) for found in detector.detect(several)] == expected
        assert detector.detect([]) == []

    @pytest.mark.parametrize(
        ("photo", "message", "hint"),
        [
            (None, "nothing that a photo is given as: None", "a path, the bytes"),
            ({"photo"}, "nothing that a photo is given as: set", "a path, the bytes"),
            (np.zeros((9, 9, 3)), "uint8, 0 to 255: float64", r"image \* 255"),
            (torch.rand(3, 9, 9, requires_grad=True), "uint8, 0 to 255: float32", r"image \* 255"),
            (torch.zeros(3, 9, 9, dtype=torch.bfloat16), "uint8, 0 to 255: torch.bfloat16", r"image \* 255"),
            (np.zeros((3, 9, 9), np.uint8), r"\[3, 9, 9\]", r"transpose\(1, 2, 0\)"),
            (torch.zeros(2, 5, 9, 9, dtype=torch.uint8), r"s\[0\]: .*\[5, 9, 9\]", "a path, the bytes"),
            (b"no photo", "not a photo in a format", "save it again"),
            (io.StringIO("text"), "the opened file does not give bytes", "open it for reading bytes"),
            ("", "no such path: ''", "a path"),
        ],
    )
    def test_what_is_none(self, detector: Detector, photo: object, message: str, hint: str) -> None:
        with pytest.raises(PhotoError, match=rf"photo.*{message}") as caught:
            detector.detect(photo)
        with pytest.raises(PhotoError, match=hint):
            raise caught.value

    def test_a_place_in_a_list_is_named(self, detector: Detector) -> None:
        with pytest.raises(PhotoError, match=r"^photos\[1\]: an image array is uint8"):
            detector.detect([np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3))])

    def test_a_folder(self, detector: Detector, photos: Path) -> None:
        with pytest.raises(PhotoError, match="it is a folder, not a photo") as caught:
            detector.detect(photos)
        assert "fewbox.find_photos(" in (caught.value.hint or "")


class TestThreshold:
    @pytest.mark.parametrize(
        "value", [0, 1, 0.5, np.float32(0.5), np.int64(1), np.array(0.5), torch.tensor(0.5)]
    )
    def test_any_number_from_0_to_1(self, value: Any) -> None:
        assert checked_threshold(value) == float(value)

    @pytest.mark.parametrize("value", [30, -0.1, math.nan, math.inf, "0.5", b"1", True, [0.5], None, 10**400])
    def test_anything_else(self, value: Any) -> None:
        with pytest.raises(SettingError, match="the threshold must be a number from 0 to 1: "):
            checked_threshold(value)

    def test_is_held_wherever_one_is_given(self, detector: Detector, photos: Path) -> None:
        photo = fewbox.find_photos(photos)[0]
        with pytest.raises(SettingError, match=r"from 0 to 1: 30\nhint: 30% is threshold=0.3"):
            detector.detect(photo, threshold=30)
        with pytest.raises(SettingError, match="from 0 to 1"):
            detector.detect(photo).above(math.nan)


class TestFiles:
    def test_what_is_no_detector(self, detector: Detector, photos: Path, tmp_path: Path) -> None:
        exported, photo = tmp_path / "d.onnx", fewbox.find_photos(photos)[0]
        exported.write_bytes(b"\x08\x08")
        for path, words in (
            (exported, r"exported detector.*\nhint: open it .*fewbox\.open_detector\("),
            (photos, "a folder, not a detector's file"),
            (photo, "not a safetensors file"),
        ):
            with pytest.raises(DetectorFileError, match=words):
                Detector.load(path)

    def test_a_detector_is_no_base_and_nobody_is_told_to_delete_it(
        self, detector: Detector, tmp_path: Path
    ) -> None:
        detector.save(tmp_path / "d.safetensors")
        with pytest.raises(BaseModelError, match="not a base model") as caught:
            fewbox.load_base(tmp_path / "d.safetensors")
        assert "delete" not in str(caught.value)

    def test_a_detector_is_not_saved_under_a_name_it_cannot_be_loaded_by(
        self, detector: Detector, tmp_path: Path
    ) -> None:
        with pytest.raises(OutputError, match=r"cannot be written as '\.onnx'"):
            detector.save(tmp_path / "d.onnx")

    @pytest.mark.slow
    def test_evaluate_takes_paths(self, detector: Detector, photos: Path, tmp_path: Path) -> None:
        detector.save(tmp_path / "d.safetensors")
        evaluation = fewbox.evaluate(str(tmp_path / "d.safetensors"), photos, show_progress=False)
        assert len(evaluation.annotations) == len(fewbox.find_photos(photos))


CALLS: dict[str, tuple[type[FewboxError], Callable[[Any, Any], object]]] = {
    "annotate": (FewboxError, lambda wrong, _: fewbox.annotate(wrong)),
    "check_annotations": (AnnotationError, lambda wrong, _: fewbox.check_annotations(wrong or 5)),
    "Detector.load": (DetectorFileError, lambda wrong, _: Detector.load(wrong)),
    "Detector.save": (OutputError, lambda wrong, detector: detector.save(wrong)),
    "evaluate": (FewboxError, lambda wrong, _: fewbox.evaluate(wrong, wrong)),
    "evaluate on": (AnnotationError, lambda wrong, detector: fewbox.evaluate(detector, wrong)),
    "export_detector": (ExportError, lambda wrong, _: fewbox.export_detector(wrong, "d.onnx")),
    "find_photos": (PhotoError, lambda wrong, _: fewbox.find_photos(wrong)),
    "finetune": (AnnotationError, lambda wrong, _: fewbox.finetune(wrong, "starter")),
    "load_base": (BaseModelError, lambda wrong, _: fewbox.load_base(wrong)),
    "open_detector": (DetectorFileError, lambda wrong, _: fewbox.open_detector(wrong)),
    "read_annotations": (AnnotationError, lambda wrong, _: fewbox.read_annotations(wrong)),
    "read_image": (PhotoError, lambda wrong, _: fewbox.read_image(wrong)),
    "read_reduced": (PhotoError, lambda wrong, _: fewbox.read_reduced(wrong, (9, 9))),
    "save_report": (SettingError, lambda wrong, _: fewbox.save_report(wrong, "r.html")),
    "write_annotations": (AnnotationError, lambda wrong, _: fewbox.write_annotations(wrong, "b.csv")),
    "write_coco": (AnnotationError, lambda wrong, _: fewbox.write_coco(wrong, "b.json")),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", WRONG, ids=[type(wrong).__name__ + str(i) for i, wrong in enumerate(WRONG)])
def test_wrong_things_are_refused_at_the_door(
    name: str, wrong: Any, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error, call = CALLS[name]
    if name == "check_annotations" and isinstance(wrong, np.ndarray):
        wrong = [wrong]
    with pytest.raises(error) as caught:
        call(wrong, detector)
    assert len(str(caught.value)) < 1000
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file_of_boxes(photos: Path) -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        fewbox.write_coco(fewbox.read_annotations(photos / "annotations.json"), Path())


@pytest.mark.parametrize(
    "write",
    [
        lambda photos, own: fewbox.write_coco(photos, own),
        lambda photos, own: fewbox.write_annotations(photos, own, "coco"),
        lambda photos, own: fewbox.write_annotations(photos, own, "csv"),
        lambda photos, own: fewbox.finetune(photos, "no base", held_out=own),
        lambda photos, own: fewbox.finetune(
            fewbox.AnnotationSet(photos.images[1:], photos.labels), "no base", negatives=own, held_out=own
        ),
        lambda _, own: fewbox.save_gif([Image.open(own + ".gif")], own + ".gif"),
    ],
    ids=["coco", "annotations", "table", "held out", "negative", "animation"],
)
def test_no_photo_is_replaced_by_what_is_written_of_it(
    write: Callable[[Any, str], Any], tmp_path: Path
) -> None:
    made = make_photos(tmp_path)
    own = made.images[0].path
    animation = Path(f"{own}.gif")
    Image.new("RGB", (80, 60)).save(animation)
    before = own.read_bytes(), animation.read_bytes()
    with pytest.raises(OutputError) as error:
        write(made, str(own))
    assert error.value.hint
    assert before == (own.read_bytes(), animation.read_bytes())
