"""Official checkpoints become our weights: every tensor, whichever way the writer named it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fewbox.core.files import cache_folder
from fewbox.errors import BaseModelError, CheckpointError
from fewbox.models.base import find_base, load_base
from fewbox.models.ssd import read_ssd_weights, tensor_paths
from fewbox.models.ssd.network import SsdDetector
from fewbox.models.ssd.tf_checkpoint import TensorBundle
from tensor_bundle_writer import write_bundle
from tiny import tiny_base, tiny_config

Tensors = dict[str, np.ndarray]


def official_tensors() -> Tensors:
    """The tiny base's weights as a checkpoint holds them: first path of each, kernels HWIO."""
    weights = tiny_base().weights
    arrays = {}
    for name, paths in tensor_paths(tiny_config()):
        array = weights[name]
        array = array.copy()  # all tests have this base, and some here break what they get
        arrays[paths[0]] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return arrays | {"save_counter": np.int64(1)[None]}


def read(prefix: Path) -> dict[str, np.ndarray]:
    with TensorBundle.open(prefix) as bundle:
        return read_ssd_weights(bundle, tiny_config())


@pytest.mark.parametrize(("depth", "side"), [(50, 640), (50, 1024), (101, 640), (152, 1024)])
def test_every_weight_of_the_family_has_a_path_of_its_own(depth: int, side: int) -> None:
    config = replace(tiny_config(), backbone_depth=depth, size_hw=(side, side))
    with torch.device("meta"):
        names = set(SsdDetector(config).state_dict())
    listed = list(tensor_paths(config))
    assert {name for name, _ in listed} == names
    assert len(listed) == len(names)
    firsts = [paths[0] for _, paths in listed]
    assert len(set(firsts)) == len(firsts)


@pytest.mark.slow
def test_round_trip_under_either_alias(tmp_path: Path) -> None:
    tensors = official_tensors()
    names = {path: path for path in tensors}
    write_bundle(tmp_path / "ckpt-0", tensors, full_names=names, num_shards=2)
    wanted = tiny_base().weights
    weights = read(tmp_path / "ckpt-0")
    assert weights.keys() == wanted.keys()
    assert all(np.array_equal(weights[name], wanted[name]) for name in wanted)

    # A writer that met the towers first under the heads stores their kernels there.
    moved = dict(tensors)
    for name, paths in tensor_paths(tiny_config()):
        if ".convs." in name:
            moved[paths[1]] = moved.pop(paths[0])
    write_bundle(tmp_path / "ckpt-1", moved, full_names={path: path for path in moved})
    weights = read(tmp_path / "ckpt-1")
    assert all(np.array_equal(weights[name], wanted[name]) for name in wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda t: t.pop("model/_feature_extractor/_coarse_feature_layers/1/1/beta"),
            "missing: .*layers/1/1/beta",
        ),
        (
            lambda t: t.update({"model/_extra/kernel": np.zeros(2, np.float32)}),
            "no part .* takes: model/_extra",
        ),
        (
            lambda t: t.update(
                {"model/_box_predictor/_box_prediction_head/_box_encoder_layers/0/bias": np.zeros(5)}
            ),
            r"shape \[5\], but pipeline.config describes \[24\]",
        ),
        (
            lambda t: t["model/_feature_extractor/_coarse_feature_layers/1/1/beta"].fill(np.inf),
            r"pyramid\.coarse\.1\.norm\.bias: not all of its numbers are finite",
        ),
    ],
)
def test_misfits_are_named(tmp_path: Path, change: Callable[[Tensors], object], says: str) -> None:
    tensors = official_tensors()
    change(tensors)
    write_bundle(tmp_path / "ckpt-0", tensors, full_names={path: path for path in tensors})
    with pytest.raises(CheckpointError, match=says):
        read(tmp_path / "ckpt-0")


@pytest.mark.slow
def test_what_a_trainer_kept_is_left_over_with_reason(tmp_path: Path) -> None:
    tensors = official_tensors()
    tensors["optimizer/momentum"] = np.zeros(3, np.float32)
    write_bundle(tmp_path / "ckpt-0", tensors, full_names={path: path for path in tensors})
    assert len(read(tmp_path / "ckpt-0")) == len(tiny_base().weights)


@pytest.mark.slow
@pytest.mark.golden
def test_conversion_is_cached_with_its_origin(golden_archive: Path) -> None:
    base = load_base(golden_archive)
    (cached,) = (cache_folder() / "bases").glob("*.safetensors")
    with safe_open(cached, framework="np") as file:
        header = json.loads(file.metadata()["fewbox_base"])
    assert header["source"] == golden_archive.name
    assert len(header["source_sha256"]) == 64
    assert header["weights_sha256"] == base.weights_sha256
    assert "licence" in header
    written = cached.stat().st_mtime_ns
    again = load_base(golden_archive)
    assert cached.stat().st_mtime_ns == written
    assert again.weights_sha256 == base.weights_sha256
    found = find_base(base.weights_sha256)
    assert found is not None
    assert found.name == base.name
    assert find_base("0" * 64) is None
    assert sum(w.size for w in base.weights.values()) == 32_916_219 - 1  # all but the save counter


def test_offline_the_error_says_what_to_fetch_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewbox.models.download.ATTEMPTS", 1)
    monkeypatch.setenv("FEWBOX_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(BaseModelError) as caught:
        load_base("ssd_resnet50_fpn_640")
    message = str(caught.value)
    assert "ssd_resnet50_v1_fpn_640x640_coco17_tpu-8.tar.gz" in message
    assert "save it as" in message
    assert str(cache_folder()) in message
