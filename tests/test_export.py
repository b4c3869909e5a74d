"""An exported detector finds what the original finds, and is written only if it does."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from exports import KINDS, detector_of, exported, noise, save_noise, wrap
from fewbox import export as exporter
from fewbox.detection.detector import Detector
from fewbox.errors import ExportError, OutputError, PhotoError, SettingError
from fewbox.export import (
    MAX_SCORE_DIFFERENCE,
    MIN_IOU,
    MIN_SCORE,
    Agreement,
    compare_found,
    export_detector,
    total_agreement,
)
from fewbox.export import onnx as onnx_model
from fewbox.export.graph import prepare
from fewbox.models.graph_builder import OPSET, GraphBuilder
from fewbox.models.letterbox import letterbox
from fewbox.models.yolox import YOLOX_SIZES
from fewbox.runtimes import HEADER_KEY, read_onnx_header
from fewbox.runtimes.onnxruntime import OnnxRuntimeEngine
from made_once import made_once
from tiny_yolox import random_yolox, tiny_yolox_config

SIZES = ((96, 128), (131, 61), (40, 170))


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    """A detector and its export."""
    path = tmp_path_factory.mktemp("exports") / "d.onnx"
    path.write_bytes(exported(request.param))
    return detector_of(request.param), path


class TestAnExport:
    @pytest.mark.slow
    @pytest.mark.parametrize("threshold", [0.0, 0.2])
    def test_finds_what_the_original_finds(self, pair: tuple[Detector, Path], threshold: float) -> None:
        detector, path = pair
        engine = OnnxRuntimeEngine(path, num_threads=1)
        num_found = 0
        for size_hw in SIZES:
            images = [noise(size_hw, seed) for seed in (5, 6)]  # two photos at once
            outputs = engine.run(np.stack(images), threshold)
            for number, image in enumerate(images):
                found = detector.network.find(image, threshold)
                count = len(found.scores)
                boxes, scores, class_ids = (part[number] for part in outputs)
                expected = (found.boxes.numpy(), found.scores.numpy(), found.class_ids.numpy())
                same = compare_found(expected, (boxes[:count], scores[:count], class_ids[:count]))
                assert same.lowest_iou >= MIN_IOU
                assert same.largest_score_difference <= MAX_SCORE_DIFFERENCE
                assert (scores[:count] > threshold).all()
                assert (np.diff(scores) <= 0).all()
                assert (scores[count:] == 0).all()
                assert (class_ids[count:] == -1).all()
                assert (boxes[count:] == 0).all()
                num_found += count
        assert num_found > 10

    @pytest.mark.slow
    def test_says_what_it_takes_and_gives(self, pair: tuple[Detector, Path]) -> None:
        detector, path = pair
        session = onnxruntime.InferenceSession(path)
        described = {v.name: (v.type, v.shape) for v in (*session.get_inputs(), *session.get_outputs())}
        rows = detector.config.max_detections
        assert described == {
            "photos": ("tensor(uint8)", ["batch", "height", "width", 3]),
            "score_threshold": ("tensor(float)", []),
            "boxes": ("tensor(float)", ["batch", rows, 4]),
            "scores": ("tensor(float)", ["batch", rows]),
            "class_ids": ("tensor(int64)", ["batch", rows]),
        }

    @pytest.mark.slow
    def test_says_what_it_is(self, pair: tuple[Detector, Path]) -> None:
        detector, path = pair
        header = read_onnx_header(path)
        stored = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert json.loads(stored[HEADER_KEY]) == header
        assert header["labels"] == ["cup", "lid", "spoon"]
        assert header["architecture"] == detector.network.architecture
        assert type(detector.config).from_dict(header["config"]) == detector.config
        assert header["base"] == detector.base
        assert header["provenance"] == detector.provenance
        assert header["score_threshold"] == detector.threshold
        assert len(header["detector_sha256"]) == 64

    @pytest.mark.slow
    def test_opens_without_a_warning(
        self, pair: tuple[Detector, Path], capfd: pytest.CaptureFixture[str]
    ) -> None:
        onnxruntime.InferenceSession(pair[1], providers=["CPUExecutionProvider"])
        assert capfd.readouterr().err == ""

    @pytest.mark.slow
    def test_uses_no_numbers_that_a_runtime_may_lack(self, pair: tuple[Detector, Path]) -> None:
        model = onnx.load(pair[1])
        assert [entry.version for entry in model.opset_import] == [OPSET]
        assert {node.domain for node in model.graph.node} == {""}
        kinds = {constant.data_type for constant in model.graph.initializer}
        casts = {a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute}
        assert onnx.TensorProto.DOUBLE not in kinds | casts


def test_what_is_found_in_a_photo_does_not_depend_on_the_others(tmp_path: Path) -> None:
    (tmp_path / "d.onnx").write_bytes(exported("yolox_all_novel"))
    engine = OnnxRuntimeEngine(tmp_path / "d.onnx", num_threads=1)
    photos = np.stack([noise((80, 100), seed) for seed in range(3)])
    together = engine.run(photos, 0.1)
    for number in range(3):
        alone = engine.run(photos[number : number + 1], 0.1)
        for one, of_all in zip(alone, together, strict=True):
            assert np.allclose(one[0], of_all[number], atol=1e-3)


@pytest.mark.slow
def test_a_pytorch_that_no_longer_traces_exports_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "_HAS_TRACER", False)
    config = replace(tiny_yolox_config("tiny"), num_novel=3)  # half as many convolutions as of a nano
    detector = wrap(config, random_yolox(config).state_dict())
    agreement = export_detector(detector, tmp_path / "d.onnx", photos=save_noise(tmp_path, count=1))
    assert agreement.num_boxes > 0


@pytest.mark.slow
def test_the_network_alone() -> None:
    detector = detector_of("yolox_with_novel")

    def export(folder: Path) -> None:
        agreement = export_detector(detector, folder / "raw.onnx", raw=True, photos=save_noise(folder))
        assert agreement.holds
        assert agreement.num_boxes >= 200

    path = made_once("raw_yolox_with_novel", export) / "raw.onnx"
    session = onnxruntime.InferenceSession(path)
    images = detector.network.batch_of([noise((96, 130), seed) for seed in range(3)]).contiguous()
    boxes, scores = session.run(["boxes", "scores"], {"images": images.numpy()})
    num_anchors = len(detector.network.anchors((images.shape[2], images.shape[3])))
    assert boxes.shape == (3, num_anchors, 4)
    assert scores.shape == (3, num_anchors, 3)
    assert read_onnx_header(path)["input"] == "images"


@pytest.mark.slow
def test_photos_are_prepared_to_the_last_bit() -> None:
    config = YOLOX_SIZES["nano"]
    graph = GraphBuilder("prepare")
    graph.rename(prepare(graph, "photos", config).images, "images")
    photos = onnx.helper.make_tensor_value_info("photos", onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, None)
    parts = onnx.helper.make_graph(graph.nodes, "prepare", [photos], [images], graph.constants)
    model = onnx.helper.make_model(parts, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 900), (660, 495), (540, 720), *rng.integers(1, 900, (12, 2)).tolist()]
    for height, width in sizes:
        photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (prepared,) = session.run(None, {"photos": photo[None]})
        expected = letterbox(photo, config.size_hw)[..., ::-1].transpose(2, 0, 1)
        assert (prepared[0] == expected).all(), (height, width)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """What the next export will write, in place of what it would have to make first."""
    model = onnx.load_from_string(exported("yolox_all_novel"))
    monkeypatch.setattr(onnx_model, "make_model", lambda *_arguments, **_options: model)
    return model


def change(model: onnx.ModelProto, head: str, part: str, new: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put other numbers into the weights or the bias of a head, on every level."""
    names = [c for c in model.graph.initializer if head in c.name and c.name.endswith(part)]
    assert len(names) == 3
    for constant in names:
        numbers = new(onnx.numpy_helper.to_array(constant)).astype(np.float32)
        constant.CopyFrom(onnx.numpy_helper.from_array(numbers, constant.name))


def biased(model: onnx.ModelProto, by: float) -> Detector:
    """A detector, and its ``model``, that find everything as much likelier: logits are ``by`` higher."""
    detector = detector_of("yolox_all_novel")
    weights = {
        name: value + by if "novel_preds" in name and "bias" in name else value
        for name, value in detector.weights.items()
    }
    change(model, "novel_preds", "bias", lambda bias: bias + by)
    return wrap(detector.config, weights)


def unsure(model: onnx.ModelProto) -> Detector:
    """They find everything unlikely, as a detector does of what is in no photo."""
    return biased(model, by=-9)


@pytest.mark.slow
def test_a_detector_that_finds_nothing_in_the_photos(tmp_path: Path, model: onnx.ModelProto) -> None:
    same = export_detector(unsure(model), tmp_path / "d.onnx")
    assert (tmp_path / "d.onnx").exists()
    assert same.num_photos == 3
    assert same.num_boxes >= 300


@pytest.mark.slow
def test_temporary_files_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_arguments: object, **_settings: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full_disk)
    export_detector(detector_of("yolox_all_novel"), tmp_path / "d.onnx", photos=save_noise(tmp_path))
    assert (tmp_path / "d.onnx").exists()


@pytest.mark.slow
def test_a_detector_that_is_sure_of_many_boxes_that_overlap(tmp_path: Path, model: onnx.ModelProto) -> None:
    detector = biased(model, by=14)
    found = detector.network.find(noise((90, 140)), 0.999)
    assert len(found.scores) > 1
    same = export_detector(detector, tmp_path / "d.onnx", photos=save_noise(tmp_path))
    assert (tmp_path / "d.onnx").exists()
    assert same.lowest_iou >= MIN_IOU


class TestNothingIsWritten:
    @pytest.mark.slow
    def test_if_it_finds_something_else(self, tmp_path: Path, model: onnx.ModelProto) -> None:
        target = tmp_path / "d.onnx"
        target.write_text("from before")
        detector = detector_of("yolox_all_novel")
        change(model, "reg_preds", "weight", lambda kernel: kernel * 1.1)
        numbers = r"boxes in 2 photos: IoU 0\.\d+ or more \(at least 0\.99\), scores .* apart"
        with pytest.raises(ExportError, match=r"d\.onnx: not written: it does not find the same.*" + numbers):
            export_detector(detector, target, photos=save_noise(tmp_path))
        assert target.read_text() == "from before"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["d.onnx", "noise0.png", "noise1.png"]

    @pytest.mark.slow
    def test_if_other_boxes_are_suppressed(self, tmp_path: Path, model: onnx.ModelProto) -> None:
        (step,) = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
        (iou,) = [one for one in model.graph.initializer if one.name == step.input[3]]
        number = onnx.numpy_helper.to_array(iou) * np.float32(0.1)
        iou.CopyFrom(onnx.numpy_helper.from_array(number, iou.name))
        with pytest.raises(ExportError, match=r"d\.onnx: not written: it does not find the same"):
            export_detector(detector_of("yolox_all_novel"), tmp_path / "d.onnx", photos=save_noise(tmp_path))

    @pytest.mark.slow
    def test_if_it_is_otherwise_unsure_where_neither_finds_anything(
        self, tmp_path: Path, model: onnx.ModelProto
    ) -> None:
        detector = unsure(model)
        change(model, "novel_preds", "weight", lambda kernel: kernel * 1.2)
        assert len(detector.network.find(noise((90, 140)), MIN_SCORE).scores) == 0
        with pytest.raises(
            ExportError, match=r"d\.onnx: not written: it does not find the same.*or \d+\.\d%"
        ):
            export_detector(detector, tmp_path / "d.onnx", photos=save_noise(tmp_path))
        assert not (tmp_path / "d.onnx").exists()

    @pytest.mark.slow
    def test_if_the_disk_is_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto
    ) -> None:
        def full_disk(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fewbox.core.files.os.fsync", full_disk)
        with pytest.raises(OutputError, match=r"d\.onnx: no space left on the disk"):
            export_detector(detector_of("yolox_all_novel"), tmp_path / "d.onnx", photos=save_noise(tmp_path))
        assert not list(tmp_path.glob("*.onnx"))

    @pytest.mark.slow
    @pytest.mark.parametrize("place", ["made", "written"])
    def test_if_there_is_no_room_for_temporary_files_which_are_blamed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        def full_disk(*_arguments: object, **_settings: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(onnx_model, "_HAS_TRACER", True)
        made_or_written = tempfile if place == "made" else onnx_model.torch.onnx
        monkeypatch.setattr(made_or_written, "TemporaryDirectory" if place == "made" else "export", full_disk)
        with pytest.raises(OutputError, match="no space left on the disk") as refused:
            export_detector(detector_of("yolox_with_novel"), tmp_path / "d.onnx", raw=True)
        hint = f"free some space on the disk that holds {tempfile.gettempdir()}, then try again"
        assert refused.value.hint == hint
        assert not list(tmp_path.iterdir())

    def test_without_the_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exporter, "EXPORTING", ("onnx", "not_installed_here"))
        with pytest.raises(SettingError, match="exporting needs not_installed_here, not installed") as caught:
            export_detector(detector_of("yolox_all_novel"), tmp_path / "d.onnx")
        assert caught.value.hint == "pip install '.[train]'"

    def test_under_another_suffix_or_without_photos(self, tmp_path: Path) -> None:
        detector = detector_of("yolox_all_novel")
        with pytest.raises(OutputError, match=r"cannot be written as '\.tflite'"):
            export_detector(detector, tmp_path / "d.tflite")
        with pytest.raises(PhotoError, match="no such photo or folder"):
            export_detector(detector, tmp_path / "d.onnx", photos=tmp_path / "none")


class TestComparing:
    box = np.array([[10, 10, 30, 30]], np.float32)
    score, class_id = np.array([0.8], np.float32), np.array([0])
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def test_the_same(self) -> None:
        found = (self.box, self.score, self.class_id)
        same = compare_found(found, found)
        assert (same.num_boxes, same.lowest_iou, same.largest_score_difference) == (1, 1.0, 0.0)
        assert same.holds

    def test_one_missing_on_either_side(self) -> None:
        found = (self.box, self.score, self.class_id)
        assert compare_found(found, self.nothing).lowest_iou == 0
        assert compare_found(self.nothing, found).lowest_iou == 0

    def test_another_class_score_or_place(self) -> None:
        found = (self.box, self.score, self.class_id)
        assert not compare_found(found, (self.box, self.score, self.class_id + 1)).holds
        assert not compare_found(found, (self.box, self.score - np.float32(0.01), self.class_id)).holds
        assert not compare_found(found, (self.box + np.float32(1), self.score, self.class_id)).holds

    def test_a_sliver_at_the_edge_of_the_photo(self) -> None:
        sliver = np.array([[10, 10, 10.0014, 30]], np.float32)
        moved = sliver + np.array([0, 0, 1.5e-5, 0], np.float32)
        assert compare_found((sliver, self.score, self.class_id), (moved, self.score, self.class_id)).holds

    def test_several_slivers_at_one_place(self) -> None:
        slivers = np.array([[0, 10, 0, 30]] * 2, np.float32)
        found = (slivers, np.array([0.9, 0.5], np.float32), np.array([0, 0]))
        assert compare_found(found, found).holds
        assert not compare_found(found, (slivers, np.array([0.9, 0.6], np.float32), found[2])).holds

    def test_what_is_no_number_is_never_the_same(self) -> None:
        found = (self.box, self.score, self.class_id)
        for edge in range(4):
            broken = self.box.copy()
            broken[0, edge] = np.nan
            unknown = (broken, self.score, self.class_id)
            for one, other in ((found, unknown), (unknown, found), (unknown, unknown)):
                assert not compare_found(one, other, iou_threshold=0.5).holds
        unlike = (self.box, np.array([np.nan], np.float32), self.class_id)
        assert not compare_found(found, unlike).holds

    def test_a_photo_of_no_numbers_counts_whichever_it_is(self) -> None:
        good = Agreement(1, 3, 1.0, 0.0, 0.0)
        for measures in ((np.nan, 0, 0), (1, np.nan, 0), (1, 0, np.nan)):
            bad = Agreement(1, 3, *measures)
            assert not bad.holds
            for photos in ([bad, good, good], [good, bad, good], [good, good, bad]):
                assert not total_agreement(photos).holds

    def test_either_of_two_that_are_as_likely_may_be_kept(self) -> None:
        found, other = (self.box, self.score, self.class_id), (self.box + 3, self.score, self.class_id)
        assert compare_found(found, other, iou_threshold=0.5).holds
        assert not compare_found(found, other, iou_threshold=0.9).holds
        less_likely = (self.box + 3, self.score - np.float32(5e-4), self.class_id)
        assert not compare_found(found, less_likely, iou_threshold=0.5).holds

    def test_what_nobody_would_look_at_does_not_count(self) -> None:
        faint = np.array([MIN_SCORE - 0.01], np.float32)
        assert compare_found((self.box, faint, self.class_id), self.nothing).num_boxes == 0
        assert not compare_found(self.nothing, self.nothing).holds
