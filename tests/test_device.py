"""Devices: which one is taken, that everything lies where it belongs, and what happens without memory.

Where there is no GPU one is pretended; see ``pretend_gpu.py``. What only a real one shows is marked ``gpu``.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import fewbox
from exported_duck import ExportedDuck
from exports import shallow
from fewbox.cli import main
from fewbox.config import DeepConfig
from fewbox.core.boxes import pairwise_iou
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import Detector
from fewbox.detection.loading import open_detector
from fewbox.detection.parallel import Batcher, run_parallel
from fewbox.detection.photo_detector import TtaDetector
from fewbox.errors import DetectorFileError, SettingError
from fewbox.finetuning.adapt.cache import cache_views
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings
from fewbox.finetuning.deep import Trainer, finetune_deep
from fewbox.models import families
from fewbox.models.base import BaseModel
from fewbox.models.device import ProcessGroup, choose_device, in_batches, process_group
from fewbox.models.families import build_network, family_of
from fewbox.runtimes import HEADER_KEY, read_onnx_header
from pretend_gpu import PretendTensor, pretend_gpu
from tiny import make_base, make_photos, tiny_base
from tiny_retinanet import VERSIONS, random_retinanet, tiny_retinanet_config
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG, wait_until

CPU = torch.device("cpu")
QUICK = fewbox.FinetuneConfig(effort="quick")
QUICKLY = {"seed": fewbox.FinetuneConfig(steps=3)}
HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device, and a PyTorch that has CUDA")


def _retinanet_base() -> BaseModel:
    config = tiny_retinanet_config(VERSIONS["v2"])
    return make_base(config, random_retinanet(config).state_dict())


def _yolox_base() -> BaseModel:
    config = tiny_yolox_config("nano")
    return make_base(config, random_yolox(config).state_dict())


BASES = {"ssd": tiny_base, "yolox": _yolox_base, "retinanet": _retinanet_base}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotationSet:
    return make_photos(tmp_path_factory.mktemp("photos"), 2)


def _detector(base: BaseModel, device: torch.device = CPU) -> Detector:
    """The base's own classes."""
    labels = [f"class {number}" for number in range(base.config.num_classes)]
    return Detector(
        config=base.config,
        weights=base.weights,
        labels=labels,
        base=base.origin(),
        provenance={},
        threshold=0.01,
        device=device,
    )


def test_threads_that_begin_together_build_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def slow(*given: Any) -> Any:
        built.append(given)
        time.sleep(0.1)
        return build_network(*given)

    monkeypatch.setattr("fewbox.detection.detector.build_network", slow)
    # As from Python 3.12 on, where a cached property has no lock.
    monkeypatch.setattr(Detector.__dict__["network"], "lock", nullcontext(), raising=False)
    detector = _detector(_yolox_base())
    looks = run_parallel(detector.detect, [_image(number) for number in range(4)], 1)
    assert len([done.result() for done in looks]) == 4
    assert len(built) == 1


def _image(seed: int = 0, size_hw: tuple[int, int] = (120, 160)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


class TestWhichOneIsTaken:
    def test_auto_takes_the_first_gpu_and_else_the_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = [CPU]
        monkeypatch.setattr("fewbox.models.device.devices_here", lambda: here)
        assert choose_device("auto") == CPU
        here.insert(0, torch.device("mps"))
        assert choose_device() == torch.device("mps")
        assert choose_device("cpu") == CPU
        assert choose_device(torch.device("mps")) == torch.device("mps")

    def test_a_gpu_by_its_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = [torch.device("cuda", 0), torch.device("cuda", 1), CPU]
        monkeypatch.setattr("fewbox.models.device.devices_here", lambda: here)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        assert choose_device("cuda") == here[0]
        assert choose_device("cuda:1") == here[1]
        assert not torch.backends.cudnn.allow_tf32  # float32 is float32
        with pytest.raises(
            SettingError, match=r"no such device here: cuda:2; there is: cuda:0, cuda:1, cpu"
        ) as caught:
            choose_device("cuda:2")
        assert "counted from 0" in str(caught.value.hint)

    @pytest.mark.skipif(HAS_CUDA, reason="there is a GPU")
    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "d.safetensors").touch()
        with pytest.raises(SettingError, match=r"no such device here: cuda; there is: .*cpu") as caught:
            fewbox.Detector.load(tmp_path / "d.safetensors", device="cuda")
        assert "--device" in str(caught.value.hint)
        with pytest.raises(SettingError, match="unknown device: 'gpu'") as caught:
            choose_device("gpu")
        assert "cuda:N" in str(caught.value.hint)

    def test_several_processes_each_take_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        with (
            pytest.raises(SettingError, match="several processes cannot share one device: cuda:1"),
            process_group("cuda:1"),
        ):
            pass


def test_the_command_says_what_it_computes_on(
    exported_duck: ExportedDuck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(exported_duck.onnx), str(exported_duck.photos[0])]
    assert main(["detect", *files, "-o", str(tmp_path / "a.png"), "--device", "cpu"]) == 0
    assert capsys.readouterr().err.count("computing on: cpu\n") == 1
    assert main(["detect", *files, "-o", str(tmp_path / "a.png"), "--device", "mps"]) == 2
    error = capsys.readouterr().err
    assert "has no provider coreml; it has: cpu" in error
    assert "--device cpu" in error


@pytest.fixture(scope="class")
def few_blocks() -> Iterator[None]:
    """A ResNet-50 has 5 blocks: every step on a GPU that is pretended costs as much as ten."""
    with shallow():
        families._weight_shapes.cache_clear()
        yield
    families._weight_shapes.cache_clear()


@pytest.mark.usefixtures("few_blocks")
class TestEverythingLiesWhereItBelongs:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", BASES)
    @pytest.mark.parametrize("recipe", ["seed", "probe"])
    def test_fine_tuning(self, kind: str, recipe: str, photos: AnnotationSet, tmp_path: Path) -> None:
        base = BASES[kind]()
        here = fewbox.finetune(
            photos, base, recipe=recipe, config=QUICKLY.get(recipe, QUICK), show_progress=False, device="cpu"
        )
        with pretend_gpu() as device:
            there = fewbox.finetune(
                photos, base, recipe=recipe, config=QUICKLY.get(recipe, QUICK), show_progress=False
            )
            assert there.device == device
            assert all(isinstance(weight, PretendTensor) for weight in there.network.parameters())
            there.save(tmp_path / "there.safetensors")
        for name, weight in fewbox.Detector.load(
            tmp_path / "there.safetensors", device="cpu"
        ).weights.items():
            # On the processor a YOLOX is read in ONNX Runtime, which adds numbers in another order.
            np.testing.assert_allclose(weight, here.weights[name], rtol=1e-3, atol=2e-5)

    @pytest.mark.slow
    @pytest.mark.usefixtures("short_adapting")
    def test_adapting(self, photos: AnnotationSet) -> None:
        base = _yolox_base()

        def losses() -> list[float]:
            tuned = fewbox.finetune(photos, base, recipe="adapt", config=QUICK, show_progress=False)
            return [row["total"] for row in tuned.history]

        here = losses()
        with pretend_gpu():
            there = losses()
        assert len(here) >= 4
        assert there == pytest.approx(here, rel=1e-3)

    @pytest.mark.slow
    def test_deep_fine_tuning(self, photos: AnnotationSet, tmp_path: Path) -> None:
        base = _yolox_base()
        config = DeepConfig(epochs=2, batch_size=2, precision="float32", loaders=0, layers="all")
        here = finetune_deep(
            photos, base, tmp_path / "a.pt", ProcessGroup(0, 1, CPU), config=config, show_progress=False
        )
        with pretend_gpu() as device:
            group = ProcessGroup(0, 1, device)
            there = finetune_deep(
                photos, base, tmp_path / "b.pt", group, config=config, held_out=photos, show_progress=False
            )
            assert there.device == device
        for name, weight in there.weights.items():
            assert isinstance(weight, np.ndarray)
            np.testing.assert_allclose(weight, here.weights[name], rtol=1e-4, atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", BASES)
    def test_detecting(self, kind: str) -> None:
        base = BASES[kind]()
        images = [_image(), _image(1, (90, 200))]
        here = [_detector(base).detect(image) for image in images]
        assert min(map(len, here)) > 0
        with pretend_gpu() as device:
            detector = _detector(base, device)
            there = [detector.detect(image) for image in images]
            mirrored = TtaDetector(detector).detect(images[0])
            together = detector.detect(iter(images * 3))
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)
            np.testing.assert_array_equal(one.scores, other.scores)
        assert len(mirrored) > 0
        assert [one.size_hw for one in together] == [image.shape[:2] for image in images * 3]
        # A batch is rounded in another order than a photo alone.
        assert together[0].scores[0] == pytest.approx(here[0].scores[0], abs=1e-3)

    def test_what_is_left_behind_is_seen(self) -> None:
        with pretend_gpu() as device, pytest.raises(RuntimeError, match="beside one of the GPU"):
            torch.ones(2, device=device) + torch.ones(2)


class _Memory:
    """Takes so many photos at once, and no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def compute(self, items: Sequence[Any]) -> list[Any]:
        self.sizes.append(len(items))
        if len(items) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [2 * item for item in items]


class TestOutOfMemory:
    def test_the_batch_is_halved_and_the_work_goes_on(self) -> None:
        memory = _Memory(3)
        assert list(in_batches(memory.compute, list(range(10)), 8)) == [2 * n for n in range(10)]
        assert memory.sizes == [8, 4, 2, 2, 2, 2, 2]

    def test_without_room_for_one_the_cure_is_told(self) -> None:
        with pytest.raises(SettingError, match="no memory left, not even for one") as caught:
            list(in_batches(_Memory(0).compute, [1, 2], 2))
        assert "--device cpu" in str(caught.value.hint)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"
            ),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you ..."
            ),
            RuntimeError("could not create a primitive"),
            MemoryError("Unable to allocate 62.5 MiB for an array with shape (16, 2048000)"),
        ],
    )
    def test_the_memory_of_the_processor_may_be_full_too(self, error: Exception) -> None:
        def compute(items: Sequence[int]) -> list[int]:
            if len(items) > 1:
                raise error
            return list(items)

        assert list(in_batches(compute, [1, 2, 3], 3)) == [1, 2, 3]

    def test_another_error_is_no_lack_of_memory(self) -> None:
        def fail(_: Sequence[int]) -> list[int]:
            raise RuntimeError("shapes do not fit")

        with pytest.raises(RuntimeError, match="shapes do not fit"):
            list(in_batches(fail, [1], 1))

    @pytest.mark.slow
    def test_a_step_of_adapting_is_the_same_from_parts(
        self, photos: AnnotationSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = replace(tiny_yolox_config("nano"), num_novel=1, num_classes=1)
        network = random_yolox(config).fold()
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        tried: list[int] = []

        def adaptation(room: int) -> Adaptation:
            own = {name: weight.clone() for name, weight in weights.items()}
            adapter = family_of(config).adapter(build_network(network.config, own))
            loss = adapter.loss

            def with_room(codes: Tensor, *others: Any) -> Any:
                tried.append(len(codes))
                if len(codes) > room:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return loss(codes, *others)

            monkeypatch.setattr(adapter, "loss", with_room)
            views = cache_views(adapter, photos, 3, 0)
            return Adaptation(adapter, views, AdaptSettings(batch_size=6, window=0, steps=5))

        whole, parts = adaptation(6), adaptation(2)
        for one in (whole, parts):
            one.learn(list(range(6)), 1)
        assert parts.history[0] == pytest.approx(whole.history[0], rel=1e-5)
        for mine, other in zip(parts.descent.first, whole.descent.first, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
        tried.clear()
        for step in range(2, 6):
            parts.learn(list(range(6)), step)
        assert set(tried) == {1}, "what did not fit once is not tried again"
        with pytest.raises(SettingError, match="not even for one"):
            adaptation(0).learn(list(range(6)), 1)

    @pytest.mark.slow
    def test_a_step_of_deep_fine_tuning_is_the_same_from_parts(
        self, photos: AnnotationSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = DeepConfig(epochs=5, batch_size=3, precision="float32", loaders=0, layers="all")
        rows, gradients, tried = [], [], []
        for room in (3, 1):
            trainer = Trainer(photos, _yolox_base(), config, ProcessGroup(0, 1, CPU))
            loss = trainer._loss

            def with_room(batch: Any, loss: Any = loss, room: int = room) -> Any:
                tried.append(len(batch.pixels))
                if len(batch.pixels) > room:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return loss(batch)

            monkeypatch.setattr(trainer, "_loss", with_room)
            batches = trainer.batches()
            rows.append(trainer.train_step(next(batches)))
            gradients.append(
                [weight.grad.clone() for weight in trainer.network.parameters() if weight.grad is not None]
            )
        assert rows[1] == pytest.approx(rows[0], rel=1e-5)
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
        tried.clear()
        for batch in batches:
            trainer.train_step(batch)
        assert trainer.step > 3
        assert set(tried) == {1}, "what did not fit once is not tried again"


class TestPhotosOfSeveralThreads:
    def test_those_that_wait_are_computed_together(self) -> None:
        first_runs, may_end = threading.Event(), threading.Event()
        sizes: list[int] = []

        def compute(inputs: Sequence[Tensor]) -> list[float]:
            sizes.append(len(inputs))
            first_runs.set()
            may_end.wait(LONG)
            return [float(one.sum()) for one in inputs]

        batcher = Batcher(compute, 8)
        results: dict[int, float] = {}

        def ask(number: int) -> None:
            results[number] = batcher.run(torch.full((1,), float(number)))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        threads[0].start()
        assert first_runs.wait(LONG)
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: len(batcher._waiting) == 5)
        may_end.set()
        for thread in threads:
            thread.join()
        assert sizes == [1, 5]
        assert results == {number: float(number) for number in range(6)}

    def test_photos_of_another_size_are_another_batch(self) -> None:
        shapes: list[list[tuple[int, ...]]] = []

        def compute(inputs: Sequence[Tensor]) -> list[int]:
            shapes.append([tuple(one.shape) for one in inputs])
            return [len(one) for one in inputs]

        batcher = Batcher(compute, 8)
        assert [batcher.run(torch.zeros(size)) for size in (2, 3, 2)] == [2, 3, 2]
        assert shapes == [[(2,)], [(3,)], [(2,)]]

    def test_an_error_is_for_whoever_asked(self) -> None:
        def fail(_: Sequence[Tensor]) -> list[int]:
            raise RuntimeError("broken")

        batcher = Batcher(fail, 8)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                batcher.run(torch.zeros(1))


class TestProvidersOfOnnxRuntime:
    @pytest.fixture
    def providers(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
        """Names of those that are installed; DirectML starts, and the others do not."""
        names = ["CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider"]
        real = onnxruntime.InferenceSession

        class Session:
            def __init__(self, path: Path, options: Any, providers: list[Any]) -> None:
                wanted = [one if isinstance(one, str) else one[0] for one in providers]
                self.started = [one for one in wanted if one != "CUDAExecutionProvider"]
                self.session = real(path, options, providers=["CPUExecutionProvider"])

            def get_providers(self) -> list[str]:
                return self.started

            def run(self, *arguments: Any) -> Any:
                return self.session.run(*arguments)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))
        return names

    def test_one_that_cannot_start_leaves_it_to_the_processor(
        self, exported_duck: ExportedDuck, providers: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        detector = open_detector(exported_duck.onnx, engine="onnxruntime", device="cuda")
        assert detector.runs_on == "cpu"
        assert "cannot start cuda, so the cpu computes" in capsys.readouterr().err
        assert len(detector.detect(exported_duck.photos[0])) > 0

    @pytest.mark.parametrize("engine", ["onnxruntime", "onnxruntime:directml"])
    def test_one_that_fails_at_its_first_photo_leaves_it_to_the_processor(
        self,
        exported_duck: ExportedDuck,
        providers: list[str],
        engine: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        class Failing(onnxruntime.InferenceSession):  # type: ignore[misc, name-defined]
            def run(self, *arguments: Any) -> Any:
                if "DmlExecutionProvider" in self.get_providers():
                    raise OSError("[ONNXRuntimeError] : 1 : FAIL : Non-zero status\ncode of Resize")
                return super().run(*arguments)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Failing)
        detector = open_detector(exported_duck.onnx, engine=engine)
        assert detector.runs_on == "cpu"
        assert (
            "cannot compute with directml, so the cpu computes: [ONNXRuntimeError] : 1 : FAIL : Non-zero"
            in (capsys.readouterr().err)
        )
        assert len(detector.detect(exported_duck.photos[0])) > 0

    def test_the_fastest_is_measured_once(
        self,
        exported_duck: ExportedDuck,
        providers: list[str],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def seconds(session: Any, _: Any) -> float:
            return 0.001 if "DmlExecutionProvider" in session.get_providers() else 0.1

        monkeypatch.setattr("fewbox.runtimes.onnxruntime._seconds", seconds)
        for said in ("ONNX Runtime computes with directml: directml 1 ms a photo, cpu 100 ms", ""):
            detector = open_detector(exported_duck.onnx, engine="onnxruntime")
            assert detector.runs_on == "ONNX Runtime with directml"
            error = capsys.readouterr().err
            assert said in error
            assert bool(said) == ("ms a photo" in error)

    def test_one_with_other_scores_is_left_out(
        self, exported_duck: ExportedDuck, providers: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fewbox.runtimes.onnxruntime._MAX_SCORE_SHIFT", -1)
        assert open_detector(exported_duck.onnx, engine="onnxruntime").runs_on == "cpu"

    def test_one_without_photos_is_refused_before_anything_is_measured(
        self, exported_duck: ExportedDuck, providers: list[str], tmp_path: Path
    ) -> None:
        info = onnx.helper.make_tensor_value_info
        node = onnx.helper.make_node("Identity", ["images"], ["boxes"])
        graph = onnx.helper.make_graph([node], "g", [info("images", 1, [1])], [info("boxes", 1, [1])])
        model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])
        header = {**read_onnx_header(exported_duck.onnx), "input": "images"}
        onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
        onnx.save(model, tmp_path / "raw.onnx")
        with pytest.raises(DetectorFileError, match="was exported with --raw"):
            open_detector(tmp_path / "raw.onnx", engine="onnxruntime")

    def test_the_engine_overrules(self, exported_duck: ExportedDuck, providers: list[str]) -> None:
        detector = open_detector(exported_duck.onnx, engine="onnxruntime:directml", device="cpu")
        assert detector.runs_on == "ONNX Runtime with directml"
        with pytest.raises(SettingError, match="unknown provider of ONNX Runtime: 'rocm'"):
            open_detector(exported_duck.onnx, engine="onnxruntime:rocm")
        with pytest.raises(SettingError, match="has no provider coreml"):
            open_detector(exported_duck.onnx, device="mps")

    def test_openvino_has_no_gpu_here(self, exported_duck: ExportedDuck) -> None:
        with pytest.raises(SettingError, match="OpenVINO computes on the processor here, not on cuda"):
            open_detector(exported_duck.onnx, engine="openvino", device="cuda")


@pytest.mark.gpu
@needs_cuda
class TestOnCuda:
    @pytest.mark.parametrize("kind", BASES)
    def test_the_detections_are_those_of_the_processor(self, kind: str) -> None:
        base = BASES[kind]()
        images = [_image(number) for number in range(20)]
        here, there = (_detector(base).on(device).detect(images) for device in ("cpu", "cuda"))
        for one, other in zip(here, there, strict=True):
            clear = one.above(0.05)
            iou = pairwise_iou(clear.boxes, other.boxes) * (clear.class_ids[:, None] == other.class_ids[None])
            assert (iou.max(1) >= 0.99).all()
            np.testing.assert_allclose(other.scores[iou.argmax(1)], clear.scores, atol=1e-3)

    @pytest.mark.parametrize("recipe", ["seed", "probe", "adapt"])
    def test_fine_tuning_gives_a_file_for_any_machine(
        self, recipe: str, photos: AnnotationSet, tmp_path: Path
    ) -> None:
        detector = fewbox.finetune(
            photos,
            _yolox_base(),
            recipe=recipe,
            config=QUICKLY.get(recipe, QUICK),
            show_progress=False,
            device="cuda",
        )
        assert detector.device.type == "cuda"
        detector.save(tmp_path / "d.safetensors")
        opened = fewbox.Detector.load(tmp_path / "d.safetensors", device="cpu")
        assert all(isinstance(weight, np.ndarray) for weight in opened.weights.values())

    def test_too_large_a_batch_is_halved(self) -> None:
        def fill(items: Sequence[int]) -> list[int]:
            total = torch.cuda.get_device_properties(0).total_memory
            held = torch.empty(int(total * len(items) / 2.5), dtype=torch.uint8, device="cuda")
            return [held.ndim for _ in items]

        assert list(in_batches(fill, [1, 2, 3, 4], 4)) == [1] * 4
