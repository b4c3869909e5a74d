"""A base exported to learn from: what it tells, what is refused, and what others say of its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exports import detector_of, noise, save_noise
from fewbox.cli import main
from fewbox.errors import BaseModelError, DetectorFileError, ExportError
from fewbox.export import onnx as exported_base
from fewbox.export.onnx import export_base
from fewbox.models import BASE_HEADER
from fewbox.models.base import BaseModel, load_base
from fewbox.models.families import build_network, family_of
from fewbox.models.features import AnchorFeatures, FeatureExtractor
from fewbox.runtimes import is_exported_detector, read_onnx_header
from fewbox.runtimes.onnxruntime import open_session
from made_once import made_once
from tiny import tiny_base, tiny_config
from tiny_yolox import random_yolox, tiny_yolox_config


def small_base() -> BaseModel:
    config = tiny_yolox_config()
    weights = random_yolox(config).state_dict()
    return BaseModel("tiny", config, dict(weights), "0" * 64, "made up", "0" * 64, "none")


@pytest.fixture
def written() -> Path:
    def make(folder: Path) -> None:
        agreement = export_base(small_base(), folder / "base.onnx", photos=save_noise(folder))
        assert agreement.num_photos == 2

    return made_once("tiny_base", make) / "base.onnx"


def all_of(extractor: FeatureExtractor, image: np.ndarray) -> AnchorFeatures:
    seen = extractor.read(image)
    return seen.at(np.arange(len(seen.boxes)))


def header_of(path: Path) -> dict:
    (entry,) = onnx.load(path).metadata_props
    assert entry.key == BASE_HEADER
    return json.loads(entry.value)


@pytest.mark.slow
def test_it_tells_what_the_linear_probe_reads(written: Path) -> None:
    base, header, image = small_base(), header_of(written), noise((90, 120), seed=5)
    extractor = family_of(base.config).feature_extractor(build_network(base.config, base.weights))
    own = all_of(extractor, image)
    inputs = {"photos": image[None], "score_threshold": np.array(0.5, np.float32)}
    names = [header["outputs"][name] for name in ("boxes", "base_logits", "tower_features")]
    for told, expected in zip(
        open_session(written).run(names, inputs),
        (own.boxes, own.base_logits, own.tower_features),
        strict=True,
    ):
        np.testing.assert_allclose(told[0], expected, atol=1e-3, rtol=1e-3)
    assert header["columns"] == extractor.column_scale.tolist()
    assert [level["anchors"] for level in header["levels"]] == own.group_sizes(extractor.num_groups)
    assert header["base"] == base.origin()


@pytest.mark.slow
def test_its_columns_make_base_logits_of_tower_features(written: Path) -> None:
    base, header = small_base(), header_of(written)
    network = build_network(base.config, base.weights)
    own = all_of(family_of(base.config).feature_extractor(network), noise((64, 96)))
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(written).graph.initializer}
    start = 0
    for level in header["levels"]:
        rows = slice(start, start + level["anchors"])
        kernel, shift = constants[level["columns_weight"]][:, :, 0, 0], constants[level["columns_bias"]]
        logits = own.tower_features[rows] @ kernel.T + shift
        np.testing.assert_allclose(logits, own.base_logits[rows], atol=1e-3, rtol=1e-3)
        assert constants[level["weight"]].shape[0] == 1  # a head of its own for every level: none is shared
        start += level["anchors"]


@pytest.mark.slow
def test_it_finds_nothing_by_itself(written: Path) -> None:
    inputs = {"photos": noise((64, 96))[None], "score_threshold": np.array(0, np.float32)}
    (class_ids,) = open_session(written).run(["class_ids"], inputs)
    assert (class_ids == -1).all()


@pytest.mark.slow
def test_no_detector_can_be_opened_from_it(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_exported_detector(written)  # whoever opens it as one is told
    with pytest.raises(DetectorFileError, match="a base to learn from in a browser, no detector yet"):
        read_onnx_header(written)
    assert main(["show", str(written)]) == 2
    assert "examples/web" in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_learnt_from_it_in_python_and_the_cure_is_told(written: Path) -> None:
    with pytest.raises(BaseModelError, match="a base prepared to learn from in a browser") as refused:
        load_base(written)
    assert refused.value.hint == "name what it was made from: --base 'made up'"


def test_a_base_whose_heads_read_more_than_a_cell_is_refused(tmp_path: Path) -> None:
    base = tiny_base(tiny_config(side=96))
    with pytest.raises(BaseModelError, match="its head cannot be learnt in a browser"):
        export_base(base, tmp_path / "base.onnx")


@pytest.mark.slow
def test_nothing_is_written_if_it_tells_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(weights: dict) -> list:
        (kernel, shift), *others = columns(weights)
        return [(kernel[:, ::-1], shift), *others]

    family = family_of(small_base().config)
    columns = family.base_columns
    monkeypatch.setattr(type(family), "base_columns", lambda _, weights: swapped(weights))
    with pytest.raises(ExportError, match="not written"):
        exported_base.export_base(small_base(), tmp_path / "base.onnx", photos=save_noise(tmp_path))
    assert not (tmp_path / "base.onnx").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-o", "b.onnx"], "there is nothing to export"),
        (["--base", "starter"], "one file to write is needed"),
        (["--base", "starter", "--raw", "-o", "b.onnx"], "--raw is for detectors"),
        (["--base", "starter", "--precision", "int8", "-o", "b.onnx"], "--precision int8 is for detectors"),
        (["--base", "starter", "--force", "-o", "b.onnx"], "--force is for --precision bfloat16 or"),
        (["--base", "starter", "-o", "b.xml"], ".onnx"),
    ],
)
def test_the_command_says_what_is_missing(
    options: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--base", "starter", "-o", str(tmp_path / "base.onnx")]) == 0
    said = capsys.readouterr().out
    assert "reads the same" in said
    assert "a base to learn from in a browser" in said
    assert header_of(tmp_path / "base.onnx")["base"]["name"] == "starter"


@pytest.mark.slow
def test_the_graph_of_a_detector_does_not_depend_on_its_classes() -> None:
    """What the page relies on that puts the numbers of a head into the graph of another."""
    from fewbox.export.onnx import make_model

    three = detector_of("yolox_all_novel")
    one = replace(three.config, num_classes=1, num_novel=1)
    models = []
    for config in (three.config, one):
        weights = {
            name: weight[: config.num_classes] if "novel" in name else weight
            for name, weight in three.weights.items()
        }
        network = build_network(config, weights)
        models.append(make_model(network, config, {"fewbox_version": "0"}, raw=False))
    for model in models:
        heads = [one for one in model.graph.initializer if "novel_preds" in one.name]
        assert len(heads) == 6
        for head in heads:
            model.graph.initializer.remove(head)
    assert models[0].graph == models[1].graph
