"""What YOLOX's release saves and exports is read as it is meant, and nothing else is read at all."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from fewbox.errors import CheckpointError, SettingError
from fewbox.models.base import load_base
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.checkpoint import read_yolox
from fewbox.models.yolox.network import YoloxDetector
from tiny_yolox import random_yolox
from yolox_release import exported

STEM = "backbone.backbone.stem.conv.conv.weight"
NANO = replace(YOLOX_SIZES["nano"], num_classes=2)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return dict(random_yolox(NANO).state_dict())


@pytest.fixture(scope="module")
def folded() -> YoloxDetector:
    """The network of the same weights, its batch-norms folded."""
    return random_yolox(NANO).fold()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "yolox.pth"


def with_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = [n.replace("running_var", "num_batches_tracked") for n in weights if n.endswith("running_var")]
    return {**weights, **dict.fromkeys(names, torch.tensor(7))}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


# --- the release's .pth


def test_weights_that_are_no_numbers_are_refused(
    path: Path, weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path))
    broken = weights[STEM].clone()
    broken[0, 0, 0, 0] = torch.nan
    torch.save({"model": {**weights, STEM: broken}}, path)
    for _ in range(2):  # nothing is left of it in the cache
        with pytest.raises(CheckpointError, match=rf"{STEM}: not all of its numbers are finite"):
            load_base(path)


@pytest.mark.parametrize("size", ["nano", "tiny"])
def test_reads_what_is_published(path: Path, size: str) -> None:
    with torch.device("meta"):
        shapes = {n: w.shape for n, w in YoloxDetector(YOLOX_SIZES[size]).state_dict().items()}
    numbered = {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]}
    torch.save({"start_epoch": 300, "model": with_counters(numbered), "optimizer": optimizer}, path)
    config, read = read_yolox(path)
    assert config == YOLOX_SIZES[size]
    assert same(read, numbered)
    with torch.device("meta"):
        network = YoloxDetector(config)
    network.load_state_dict({n: torch.tensor(weight) for n, weight in read.items()}, assign=True)


@pytest.mark.slow
def test_another_epsilon_can_be_stated(
    weights: dict[str, Tensor],
    folded: YoloxDetector,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEWBOX_CACHE", str(tmp_path / "cache"))
    torch.save({"model": weights}, path)
    assert load_base(path).config.norm_epsilon == 1e-3
    assert load_base(path, batch_norm_eps=1e-5).config.norm_epsilon == 1e-5
    torch.save({"model": folded.state_dict()}, path)
    assert load_base(path).config.norm_epsilon is None
    with pytest.raises(SettingError, match="no batch-norms left"):
        load_base(path, batch_norm_eps=1e-5)


def test_every_size_is_known_by_its_stem() -> None:
    assert len({config.channels(64) for config in YOLOX_SIZES.values()}) == len(YOLOX_SIZES) == 6


def test_reads_what_its_trainer_saves(weights: dict[str, Tensor], path: Path) -> None:
    accuracy = {"best_ap": np.float64(0.3), "curr_ap": np.float32(0.2)}
    torch.save({"model": with_counters(weights), **accuracy}, path)
    config, read = read_yolox(path)
    assert config == NANO
    assert same(read, weights)
    # A later reader in the same process must not accept more than before.
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_reads_a_bare_state_dict_in_the_form_before_2020_and_in_half_precision(
    weights: dict[str, Tensor], path: Path
) -> None:
    halves = {name: tensor.half() for name, tensor in weights.items()}
    torch.save(halves, path, _use_new_zipfile_serialization=False)
    config, read = read_yolox(path)
    assert config == NANO
    assert same(read, {name: tensor.float() for name, tensor in halves.items()})


def test_reads_folded_weights(folded: YoloxDetector, path: Path) -> None:
    torch.save(folded.state_dict(), path)
    config, read = read_yolox(path)
    assert config == folded.config
    assert config.is_folded
    assert same(read, dict(folded.state_dict()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({STEM: None}, f"not a YOLOX: no kernel {STEM}"),
        ({STEM: torch.zeros(16)}, f"not a YOLOX: no kernel {STEM}"),
        ({STEM: torch.zeros(17, 12, 3, 3)}, "no size of YOLOX has a stem of 17 channels"),
        (
            {STEM: torch.zeros(24, 12, 3, 3)},
            "backbone.backbone.stem.conv.bn.weight: shape [16], expected [24]",
        ),
        (
            {"head.cls_preds.0.weight": torch.zeros(0, 64, 1, 1)},
            "head.cls_preds.0.weight: shape [0, 64, 1, 1]",
        ),
        ({STEM: torch.zeros(16, 12, 1, 1)}, f"{STEM}: shape [16, 12, 1, 1], expected [16, 12, 3, 3]"),
        ({STEM: torch.zeros(16, 12, 3, 3, dtype=torch.int8)}, f"{STEM}: numbers of type int8"),
        ({STEM: torch.zeros(1).expand(16, 12, 3, 3)}, f"{STEM}: claims more numbers than the file holds"),
        ({"head.obj_preds.2.bias": None}, "tensor missing: head.obj_preds.2.bias"),
        ({"head.cls_preds.1.bias": torch.zeros(3)}, "head.cls_preds.1.bias: shape [3], expected [2]"),
        ({"head.extra": torch.zeros(3)}, "tensor that no part of the network takes: head.extra"),
        ({"head.extra": "text"}, "not a state dict: 'head.extra' is no plain tensor but: str"),
        ({3: torch.zeros(3)}, "not a state dict: 3 is no plain tensor"),
    ],
)
def test_what_does_not_fit_is_named(
    weights: dict[str, Tensor], path: Path, change: dict[Any, Any], problem: str
) -> None:
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    torch.save({"model": changed}, path)
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: {problem}")) as caught:
        read_yolox(path)
    assert "nano, tiny, s, m, l, x" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(3), {}, {"model": {}}])
def test_other_things_that_torch_saved_are_refused(path: Path, content: Any) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a state dict but: "):
        read_yolox(path)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("new_form", [True, False])
def test_a_file_that_would_run_code_is_refused(
    weights: dict[str, Tensor], path: Path, tmp_path: Path, new_form: bool
) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"model": weights, "x": Trap(sprung)}, path, _use_new_zipfile_serialization=new_form)
    with pytest.raises(CheckpointError, match="more in it than weights, which is not run") as caught:
        read_yolox(path)
    assert not sprung.exists()
    assert "weights_only" not in str(caught.value)


def test_numpy_names_give_access_to_nothing(path: Path) -> None:
    # What is read as nothing stays nothing, whatever is asked of it.
    content = b"\x80\x02cnumpy\ndtype\n(cos\nsystem\ntR."
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a file of weights|damaged"):
        read_yolox(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights\n", b"PK\x03\x04", pickle.dumps({"a": 1}, protocol=2), bytes(100)],
    ids=("empty", "text", "zip", "pickle", "zeros"),
)
@pytest.mark.parametrize("name", ["yolox.pth", "yolox.onnx"])
def test_other_files_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: \w"):
        read_yolox(path)


@pytest.mark.parametrize("name", ["none.pth", "none.onnx"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read: No such file"):
        read_yolox(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read: Is a directory"):
        read_yolox(tmp_path / name)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.999])
def test_a_cut_file_is_damaged(weights: dict[str, Tensor], path: Path, part: float) -> None:
    torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"yolox\.pth: "):
        read_yolox(path)


def test_changed_bytes_are_noticed(weights: dict[str, Tensor], path: Path) -> None:
    torch.save(weights, path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged: "):
        read_yolox(path)


# --- the ONNX export


@pytest.fixture(scope="module")
def export(folded: YoloxDetector) -> onnx.ModelProto:
    """A nano for two classes as the release's script exports it: folded, and most names lost."""
    return exported(folded)


def read_export(model: onnx.ModelProto, tmp_path: Path) -> tuple[YoloxConfig, dict[str, Tensor]]:
    path = tmp_path / "yolox.onnx"
    path.write_bytes(model.SerializeToString())
    return read_yolox(path)


def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@pytest.mark.slow
def test_reads_an_export(export: onnx.ModelProto, folded: YoloxDetector, tmp_path: Path) -> None:
    config, read = read_export(export, tmp_path)
    assert config == folded.config
    assert config.is_folded
    assert same(read, dict(folded.state_dict()))


@pytest.mark.slow
def test_both_files_make_the_same_network(
    export: onnx.ModelProto, weights: dict[str, Tensor], path: Path, tmp_path: Path
) -> None:
    torch.save({"model": weights}, path)
    networks = []
    for config, read in (read_yolox(path), read_export(export, tmp_path)):
        with torch.device("meta"):
            network = YoloxDetector(config)
        network.load_state_dict({n: torch.tensor(weight) for n, weight in read.items()}, assign=True)
        networks.append(network.fold())
    assert networks[0].config == networks[1].config
    assert same(dict(networks[0].state_dict()), dict(networks[1].state_dict()))


@pytest.mark.slow
def test_order_of_branches_does_not_matter(
    export: onnx.ModelProto, folded: YoloxDetector, tmp_path: Path
) -> None:
    model, done = changed(export), {"pixels"} | {constant.name for constant in export.graph.initializer}
    waiting, nodes = list(export.graph.node), []
    done.add("")
    while waiting:  # the last that can be computed now, or what reads the same and comes before it
        able = [node for node in waiting if set(node.input) <= done]
        chosen = next(node for node in able if node.input[0] == able[-1].input[0])
        waiting.remove(chosen)
        nodes.append(chosen)
        done |= set(chosen.output)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    orders = [[node.input[1] for node in convolutions(m)] for m in (export, model)]
    assert orders[0] != orders[1]
    assert same(read_export(model, tmp_path)[1], dict(folded.state_dict()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "size_hw"),
    [((1, 3, 320, 640), (320, 640)), ((1, 3, "height", "width"), (416, 416)), (None, (416, 416))],
)
def test_input_may_have_another_size(
    export: onnx.ModelProto, tmp_path: Path, shape: Any, size_hw: tuple[int, int]
) -> None:
    model = changed(export)
    del model.graph.input[:]
    if shape is not None:
        model.graph.input.append(helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, shape))
    assert read_export(model, tmp_path)[0].size_hw == size_hw


@pytest.mark.slow
def test_constants_may_be_halves_or_lists_or_inputs(
    export: onnx.ModelProto, folded: YoloxDetector, tmp_path: Path
) -> None:
    model, expected = changed(export), dict(folded.state_dict())
    for constant in model.graph.initializer:
        values = numpy_helper.to_array(constant)
        if constant.name == "head.obj_preds.0.weight":
            constant.CopyFrom(helper.make_tensor(constant.name, 1, values.shape, values.ravel()))
            assert not constant.raw_data
        elif constant.name == "head.obj_preds.1.weight":
            constant.CopyFrom(numpy_helper.from_array(values.astype(np.float16), constant.name))
            expected[constant.name] = expected[constant.name].half().float()
        info = helper.make_tensor_value_info(constant.name, 1, values.shape)
        model.graph.input.insert(0, info)
    config, read = read_export(model, tmp_path)
    assert config.size_hw == (416, 416)
    assert same(read, expected)


def kinds_of(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def replaced(node: onnx.NodeProto, kind: str, **attributes: Any) -> None:
    node.CopyFrom(helper.make_node(kind, list(node.input), list(node.output), **attributes))


def with_activation(kind: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """Each SiLU becomes another activation; the gates, which nothing reads any more, stay."""

    def spoil(model: onnx.ModelProto) -> None:
        for node in kinds_of(model, "Mul"):
            node.CopyFrom(helper.make_node(kind, [node.input[0]], list(node.output), **attributes))

    spoil.__name__ = f"{kind} {attributes}"
    return spoil


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "relu", "lrelu"])
def test_the_graph_says_the_activation(tmp_path: Path, activation: Any) -> None:
    size_hw = (64, 96)
    network = random_yolox(replace(NANO, activation=activation, size_hw=size_hw)).fold()
    config, read = read_export(exported(network), tmp_path)
    assert config == network.config
    again = YoloxDetector(config)
    again.load_state_dict({n: torch.tensor(weight) for n, weight in read.items()}, assign=True)
    pixels = torch.rand(1, 3, *size_hw, generator=torch.Generator().manual_seed(1)) * 255
    session = onnxruntime.InferenceSession(tmp_path / "yolox.onnx")
    levels = session.run(None, {"pixels": pixels.numpy()})
    expected = np.concatenate([level.reshape(1, 7, -1) for level in levels], 2)[0].T
    codes, logits = again(pixels)
    found = torch.cat((codes[0], torch.sigmoid(logits[0])), 1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil",
    [with_activation("Relu"), with_activation("LeakyRelu", alpha=0.1), with_activation("Identity")],
    ids=lambda spoil: spoil.__name__,
)
def test_activations_are_all_of_one_kind(
    export: onnx.ModelProto, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None]
) -> None:
    model = changed(export)
    last = kinds_of(model, "Mul")[-1]
    kept = onnx.NodeProto()
    kept.CopyFrom(last)
    spoil(model)
    last.CopyFrom(kept)
    with pytest.raises(CheckpointError, match=r"yolox\.onnx: before .* where YOLOX has "):
        read_export(model, tmp_path)


def gated_by_a_hard_sigmoid(model: onnx.ModelProto) -> None:
    for node in kinds_of(model, "Sigmoid"):
        if "gate" in node.output[0]:
            replaced(node, "HardSigmoid", alpha=1 / 6)


def with_pixels_scaled(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "by"))
    model.graph.node.insert(0, helper.make_node("Div", ["pixels", "by"], ["scaled"]))
    for node in kinds_of(model, "Slice"):
        if node.input[0] == "pixels":
            node.input[0] = "scaled"


def with_corners_in_another_order(model: onnx.ModelProto) -> None:
    first = kinds_of(model, "Concat")[0]
    first.input[:] = [first.input[n] for n in (0, 2, 1, 3)]


def with_another_pool(model: onnx.ModelProto) -> None:
    pool = kinds_of(model, "MaxPool")[0]
    replaced(pool, "MaxPool", kernel_shape=(7, 7), strides=(1, 1), pads=(3, 3, 3, 3))


def with_smooth_doubling(model: onnx.ModelProto) -> None:
    replaced(kinds_of(model, "Resize")[0], "Resize", mode="linear")


def with_a_shift(model: onnx.ModelProto) -> None:
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"}
    replaced(kinds_of(model, "Resize")[0], "Resize", mode="nearest", **how)


def with_another_stride(model: onnx.ModelProto) -> None:
    strides = next(a for a in convolutions(model)[1].attribute if a.name == "strides")
    strides.ints[:] = [1, 1]


def with_a_norm(model: onnx.ModelProto) -> None:
    mul = kinds_of(model, "Mul")[0]
    values = [numpy_helper.from_array(np.ones(16, np.float32), f"norm{n}") for n in range(4)]
    model.graph.initializer.extend(values)
    norm = helper.make_node("BatchNormalization", [mul.output[0], *(v.name for v in values)], ["normed"])
    for node in model.graph.node:
        node.input[:] = ["normed" if name == mul.output[0] else name for name in node.input]
    model.graph.node.insert(list(model.graph.node).index(mul) + 1, norm)


def scored_by_softmax(model: onnx.ModelProto) -> None:
    scores = next(n for n in kinds_of(model, "Sigmoid") if n.output[0] == "head_cls_preds_1_scores")
    replaced(scores, "Softmax", axis=1)


def with_codes_cut(model: onnx.ModelProto) -> None:
    concat = next(n for n in kinds_of(model, "Concat") if n.output[0] == "level_2")
    model.graph.node.insert(
        list(model.graph.node).index(concat), helper.make_node("Relu", [concat.input[0]], ["cut"])
    )
    concat.input[0] = "cut"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (with_activation("HardSwish"), "HardSwish where YOLOX has silu"),
        (with_activation("LeakyRelu"), r"LeakyRelu of 0\.01 where YOLOX has silu"),
        (with_activation("LeakyRelu", alpha=0.2), r"LeakyRelu of 0\.2 where YOLOX has silu"),
        (with_activation("Elu"), "Elu where YOLOX has silu"),
        (with_activation("Sigmoid"), "Sigmoid where YOLOX has silu"),
        (with_activation("Identity"), "another order where YOLOX has silu"),
        (gated_by_a_hard_sigmoid, "HardSigmoid, Mul where YOLOX has silu"),
        (with_pixels_scaled, r"before backbone\.backbone\.stem\.conv\.conv: Div where YOLOX has none of it"),
        (with_corners_in_another_order, r"before backbone\.backbone\.stem\.conv\.conv: another order"),
        (with_another_pool, "MaxPool 7 where YOLOX has MaxPool 5"),
        (with_smooth_doubling, "Resize linear.* where YOLOX has Resize"),
        (with_a_shift, "Resize nearest, asymmetric, ceil where YOLOX has Resize"),
        (with_another_stride, r"dconv\.conv: strides \[1, 1\], YOLOX has \[2, 2\]"),
        (with_a_norm, "BatchNormalization where YOLOX has none of it"),
        (scored_by_softmax, r"after head\.cls_preds\.1: Softmax, which YOLOX does not have there"),
        (with_codes_cut, r"after head\.reg_preds\.2: Relu, which YOLOX does not have there"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_yolox_does_not_compute_is_named(
    export: onnx.ModelProto, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], problem: str
) -> None:
    model = changed(export)
    spoil(model)
    with pytest.raises(CheckpointError, match=rf"yolox\.onnx: .*{problem}") as caught:
        read_export(model, tmp_path)
    assert "export script" in (caught.value.hint or "")


def without_bias(model: onnx.ModelProto) -> None:
    del convolutions(model)[5].input[2]


def without_a_layer(model: onnx.ModelProto) -> None:
    model.graph.node.remove(convolutions(model)[-1])


def joined_the_other_way(model: onnx.ModelProto) -> None:
    concat = next(n for n in model.graph.node if n.op_type == "Concat" and len(set(n.input)) == 2)
    concat.input[:] = reversed(concat.input)


def with_whole_numbers(model: onnx.ModelProto) -> None:
    constant(model, convolutions(model)[3].input[1]).data_type = onnx.TensorProto.INT32


def in_another_file(model: onnx.ModelProto) -> None:
    constant(model, convolutions(model)[3].input[1]).data_location = onnx.TensorProto.EXTERNAL


def with_fewer_bytes(model: onnx.ModelProto) -> None:
    stored = constant(model, convolutions(model)[3].input[1])
    stored.raw_data = stored.raw_data[:-4]


def with_a_negative_side(model: onnx.ModelProto) -> None:
    constant(model, convolutions(model)[3].input[1]).dims[0] = -1


def with_another_shape(model: onnx.ModelProto) -> None:
    dims = constant(model, convolutions(model)[3].input[1]).dims
    dims[0], dims[1] = dims[1], dims[0]


def with_a_number_for_a_stem(model: onnx.ModelProto) -> None:
    name = convolutions(model)[0].input[1]
    constant(model, name).CopyFrom(numpy_helper.from_array(np.float32(3), name))


def with_a_name_used_twice(model: onnx.ModelProto) -> None:
    first, *_, last = convolutions(model)
    last.output[:] = first.output


def without_numbers(model: onnx.ModelProto) -> None:
    name = convolutions(model)[3].input[1]
    constant(model, name).CopyFrom(numpy_helper.from_array(np.zeros((0, 32, 1, 1), np.float32), name))


def without_a_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.remove(constant(model, convolutions(model)[3].input[1]))


def with_a_wide_stem(model: onnx.ModelProto) -> None:
    name = convolutions(model)[0].input[1]
    constant(model, name).CopyFrom(numpy_helper.from_array(np.zeros((17, 12, 3, 3), np.float32), name))


def with_an_odd_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 417


def of_another_network(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Gemm", ["pixels"], ["out"]))


def with_many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Add", ["pixels", "pixels"], ["x"])] * 5000)


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def constant(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(constant for constant in model.graph.initializer if constant.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (without_bias, "no bias, so no batch-norm is folded into it"),
        (without_a_layer, "convolution missing: head.cls_preds.2"),
        (joined_the_other_way, r"convolution '\w+' is none of YOLOX's"),
        (with_whole_numbers, "1006: not floating point numbers inside the file"),
        (in_another_file, "1006: not floating point numbers inside the file"),
        (with_fewer_bytes, r"1006: shape \[16, 32, 1, 1\] does not fit its 2044 bytes"),
        (with_a_negative_side, r"1006: shape \[18446744073709551615, 32, 1, 1\] does not fit"),
        (with_another_shape, r"conv1\.conv\.weight: shape \[32, 16, 1, 1\], expected \[16, 32, 1, 1\]"),
        (with_a_number_for_a_stem, "no size of YOLOX has a stem of 0 channels"),
        (with_a_name_used_twice, r"convolution '\w+' is none of YOLOX's"),
        (without_numbers, r"1006: shape \[0, 32, 1, 1\] does not fit its 0 bytes"),
        (without_a_constant, "no constant named '1006'"),
        (with_a_wide_stem, "no size of YOLOX has a stem of 17 channels"),
        (with_an_odd_input, r"input of shape \[1, 3, 417, 416\]: no size that YOLOX can have"),
        (of_another_network, "not a YOLOX: it begins with no convolution"),
        (with_many_nodes, "more than 4096 nodes"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_export_that_does_not_fit_is_told_why(
    export: onnx.ModelProto, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], problem: str
) -> None:
    model = changed(export)
    spoil(model)
    with pytest.raises(CheckpointError, match=rf"yolox\.onnx: .*{problem}") as caught:
        read_export(model, tmp_path)
    assert caught.value.hint


@pytest.mark.slow
def test_damage_is_never_more_than_an_error(export: onnx.ModelProto, tmp_path: Path) -> None:
    """Whatever happens to the bytes, the file is read or refused."""
    path, whole = tmp_path / "yolox.onnx", export.SerializeToString()
    generator = np.random.default_rng(0)
    structure = len(whole) - sum(len(c.raw_data) for c in export.graph.initializer)
    outcomes = set()
    for trial in range(18):
        content = bytearray(whole)
        if trial % 3 == 0:
            content = content[: generator.integers(len(whole))]
        else:  # the nodes come first, then constants: half of the trials hit each
            at = generator.integers(structure // 2 if trial % 3 == 1 else len(whole))
            content[at] = generator.integers(256)
        path.write_bytes(content)
        try:
            read_yolox(path)
            outcomes.add("read")
        except CheckpointError as error:
            outcomes.add("refused" if error.message.startswith(str(path)) else "unnamed")
    assert outcomes == {"read", "refused"}


@pytest.mark.slow
@pytest.mark.shared
def test_reads_the_export_of_the_release(shared: Path) -> None:
    path = shared / "weights" / "yolox_nano_coco.onnx"
    config, read = read_yolox(path)
    assert config == replace(YOLOX_SIZES["nano"], norm_epsilon=None)
    graph = onnx.load(io.BytesIO(path.read_bytes())).graph
    stored = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    kept = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    assert len(read) == len(kept) == len(set(kept)) == 226
    for name, tensor in read.items():
        if name in stored:  # only the heads have kept their names
            assert np.array_equal(tensor, stored[name])
    assert sum(name in stored for name in read) == 18
    assert sorted(float(t.sum()) for t in read.values()) == pytest.approx(
        sorted(float(stored[name].sum()) for name in kept), abs=1e-3
    )
