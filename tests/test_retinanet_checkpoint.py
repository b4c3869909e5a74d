"""What torchvision saves is read as it is meant, and nothing else is read at all."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exports import shallow
from fewbox.detection.detector import Detector
from fewbox.errors import CheckpointError, SettingError
from fewbox.models import base as base_module
from fewbox.models.base import load_base
from fewbox.models.retinanet import RETINANET_V1, RETINANET_V2, RetinanetConfig, read_retinanet
from fewbox.models.retinanet.network import RetinanetDetector
from tiny_retinanet import VERSIONS

NUM_CLASSES = 2
KERNEL = "backbone.body.conv1.weight"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights() -> dict[str, dict[str, Tensor]]:
    """All weights of both versions, full size but for the class head; each value tells where it belongs."""
    return {version: numbered(replace(c, num_classes=NUM_CLASSES)) for version, c in VERSIONS.items()}


@pytest.fixture
def of_few_blocks() -> Iterator[dict[str, Tensor]]:
    """Those of a first version of 5 blocks, and for as long nothing else is a ResNet-50.

    Where a file is converted and hashed again and again: 16 blocks would be no other case. The number of
    classes is its own, so that no shapes are remembered for a published network.
    """
    with shallow():
        yield numbered(replace(RETINANET_V1, num_classes=NUM_CLASSES + 1))


def numbered(config: RetinanetConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        shapes = {name: w.shape for name, w in RetinanetDetector(config).state_dict().items()}
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where to save weights. They are large, and pytest would keep them for the next runs."""
    path = tmp_path / "weights.pth"
    yield path
    path.unlink(missing_ok=True)


def with_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    counters = [
        name.replace("running_var", "num_batches_tracked") for name in weights if "running_var" in name
    ]
    return {**weights, **{name: torch.tensor(7) for name in counters}}


def in_earlier_spelling(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    def earlier(name: str) -> str:
        parts = name.split(".")
        if parts[2] == "conv":
            parts[3:5] = [str(2 * int(parts[3]))]
        if parts[2] in ("inner_blocks", "layer_blocks"):
            del parts[4]
        return ".".join(parts)

    return {earlier(name): tensor for name, tensor in weights.items()}


def test_earlier_spelling_is_what_it_was(weights: dict[str, dict[str, Tensor]]) -> None:
    names = in_earlier_spelling(weights["v1"]).keys()
    assert {"backbone.fpn.inner_blocks.2.weight", "head.regression_head.conv.6.bias", KERNEL} < names
    assert "backbone.fpn.extra_blocks.p6.bias" in names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "spell", "norm_epsilon"),
    [
        ("v1", in_earlier_spelling, 0.0),
        ("v1", dict, 0.0),
        ("v1", with_counters, 1e-5),  # an ordinary batch-norm, not the frozen one of the published weights
        ("v2", with_counters, 1e-5),
        ("v2", dict, 1e-5),
    ],
)
def test_reads_what_is_published(
    weights: dict[str, dict[str, Tensor]],
    path: Path,
    version: str,
    spell: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    norm_epsilon: float,
) -> None:
    torch.save(OrderedDict(spell(weights[version])), path)
    config, read = read_retinanet(path)
    assert config == replace(VERSIONS[version], num_classes=NUM_CLASSES, norm_epsilon=norm_epsilon)
    assert read.keys() == weights[version].keys()
    assert all(np.array_equal(read[name], tensor) for name, tensor in weights[version].items())
    with torch.device("meta"):
        network = RetinanetDetector(config)
    network.load_state_dict({n: torch.tensor(weight) for n, weight in read.items()}, assign=True)


# --- what the file of a first version does not say


@pytest.mark.slow
def test_a_trainers_file_and_a_variance_of_zero(weights: dict[str, dict[str, Tensor]], path: Path) -> None:
    variance = "backbone.body.bn1.running_var"
    dead = {**weights["v1"], variance: torch.zeros(64)}  # with nothing added, all would be infinite
    torch.save({"model": dead, "epoch": 25}, path)
    assert read_retinanet(path)[0].norm_epsilon == 1e-5


@pytest.mark.slow
def test_what_cannot_be_known_is_said_and_can_be_stated(
    of_few_blocks: dict[str, Tensor],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    torch.save(of_few_blocks, path)
    for _ in range(2):  # also when it comes out of the cache
        assert load_base(path).config.norm_epsilon == 0
        remark = capfd.readouterr().err
        assert f"{path}: does not say what its batch-norms add" in remark
        assert "--batch-norm-eps 1e-05" in remark
    stated = load_base(path, batch_norm_eps=1e-5)
    assert stated.config.norm_epsilon == 1e-5  # not what the cache has of the same file
    assert load_base(path, batch_norm_eps=1e-3).config.norm_epsilon == 1e-3
    assert load_base(path, batch_norm_eps=0).config.norm_epsilon == 0
    assert not capfd.readouterr().err

    labels = [str(column) for column in range(NUM_CLASSES + 1)]
    detector = Detector(
        config=stated.config, weights=stated.weights, labels=labels, base=stated.origin(), provenance={}
    )
    file = tmp_path / "d.safetensors"
    detector.save(file, heads_only=True)
    for base in (None, path):  # the base as the file alone tells it lends its weights, not its settings
        assert Detector.load(file, base=base).config.norm_epsilon == 1e-5
    assert not capfd.readouterr().err


@pytest.mark.slow
def test_the_published_file_needs_no_remark(
    of_few_blocks: dict[str, Tensor],
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    published = base_module.ZOO["retinanet_resnet50_fpn"].sha256
    monkeypatch.setattr(base_module, "official_sha256", lambda _: published)
    torch.save(of_few_blocks, path)
    assert load_base(path).config.norm_epsilon == 0
    torch.save(with_counters(of_few_blocks), path)
    monkeypatch.setattr(base_module, "official_sha256", lambda _: "0" * 64)
    assert load_base(path).config.norm_epsilon == 1e-5
    assert not capfd.readouterr().err


@pytest.mark.parametrize("eps", [-1e-5, 1.5, float("nan"), "1e-5", True])
def test_an_epsilon_that_is_none_is_refused(eps: Any) -> None:
    with pytest.raises(SettingError, match="batch_norm_eps must be a number from 0 to 1"):
        load_base("weights.pth", batch_norm_eps=eps)


@pytest.mark.parametrize("base", ["starter", "yolox_nano", "retinanet_resnet50_fpn", "a.onnx", "a.tar.gz"])
def test_what_states_its_own_epsilon_is_not_asked(base: str) -> None:
    with pytest.raises(SettingError, match=f"batch_norm_eps is only for a .pth: {base} states its own"):
        load_base(base, batch_norm_eps=1e-5)


def test_published_class_head_has_all_columns() -> None:
    assert replace(RETINANET_V1, num_classes=91) == RETINANET_V1
    assert replace(RETINANET_V2, num_classes=91) == RETINANET_V2


def test_reads_the_form_before_2020_and_half_precision(
    weights: dict[str, dict[str, Tensor]], path: Path
) -> None:
    halves = {name: tensor.half() for name, tensor in weights["v1"].items()}
    torch.save(halves, path, _use_new_zipfile_serialization=False)
    _, read = read_retinanet(path)
    assert {tensor.dtype for tensor in read.values()} == {np.dtype(np.float32)}
    assert np.array_equal(read[KERNEL], weights["v1"][KERNEL])


def test_a_tensor_too_many_is_named(weights: dict[str, dict[str, Tensor]], path: Path) -> None:
    torch.save({**weights["v1"], "backbone.body.fc.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"no part of the network takes: backbone\.body\.fc\.weight"):
        read_retinanet(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"module.conv1.weight": torch.zeros(1)}, f"tensor missing: {KERNEL}"),
        ({KERNEL: torch.zeros(64, 3, 3, 3)}, f"{KERNEL}: shape [64, 3, 3, 3], expected [64, 3, 7, 7]"),
        ({KERNEL: torch.zeros(64, 3, 7, 7, dtype=torch.int8)}, f"{KERNEL}: numbers of type int8"),
        ({KERNEL: torch.zeros(1).expand(64, 3, 7, 7)}, f"{KERNEL}: claims more numbers than the file holds"),
        ({KERNEL: torch.zeros(64).to_sparse()}, f"'{KERNEL}' is no plain tensor"),
        ({"epoch": 3}, "'epoch' is no plain tensor but: int"),
        ({3: torch.zeros(1)}, "3 is no plain tensor"),
        ([torch.zeros(1)], "not a state dict but: list"),
        (torch.zeros(3), "not a state dict but: Tensor"),
        ({}, "not a state dict but: dict"),
    ],
    ids=("missing", "shape", "integers", "expanded", "sparse", "number", "key", "list", "tensor", "empty"),
)
def test_what_does_not_fit_is_named(path: Path, content: object, problem: str) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=re.escape(problem)) as caught:
        read_retinanet(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "retinanet_resnet50_fpn_v2" in (caught.value.hint or "")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.999])
def test_a_file_cut_off_is_refused(path: Path, share: float) -> None:
    torch.save({KERNEL: torch.zeros(64, 3, 7, 7)}, path)
    with path.open("rb+") as file:
        file.truncate(int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match="damaged or") as caught:
        read_retinanet(path)
    assert "\n" not in caught.value.message


def test_a_changed_byte_is_found(path: Path) -> None:
    torch.save({KERNEL: torch.zeros(64, 3, 7, 7)}, path)
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\x55")
    with pytest.raises(CheckpointError, match="damaged: weights/data/0") as caught:
        read_retinanet(path)
    assert "download the file again" in (caught.value.hint or "")


def test_a_packed_archive_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("weights/data.pkl", bytes(10_000))
    with pytest.raises(CheckpointError, match=r"packed: weights/data\.pkl"):
        read_retinanet(path)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(path: Path, zipped: bool) -> None:
    sprung = path.with_name("sprung")
    torch.save({KERNEL: Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="which is not run") as caught:
        read_retinanet(path)
    assert not sprung.exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights\n", b"PK\x03\x04", pickle.dumps({"a": 1}, protocol=2), bytes(100)],
    ids=("empty", "text", "zip", "pickle", "zeros"),
)
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth: (damaged or cut off|not a file of weights)"):
        read_retinanet(path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth: cannot be read: No such file"):
        read_retinanet(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_retinanet(tmp_path)
