"""A frozen base as a graph in ONNX Runtime reads what its network in PyTorch reads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fewbox.finetuning import finetune
from fewbox.finetuning.features import GraphExtractor, feature_extractor
from fewbox.models.base import BaseModel, load_base
from fewbox.models.families import build_network, family_of, weight_shapes
from fewbox.models.features import AnchorFeatures, Coefficients, FeatureExtractor
from fewbox.models.graph_builder import GraphBuilder
from fewbox.models.yolox import YOLOX_SIZES
from fewbox.models.yolox.network import YoloxDetector
from fewbox.runtimes.onnxruntime import open_session
from tiny import make_base, make_photos, tiny_base
from tiny_yolox import random_yolox, tiny_yolox_config

IMAGE = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)


def base_with(**changes: Any) -> BaseModel:
    config = replace(tiny_yolox_config(), **changes)
    return make_base(config, random_yolox(config).state_dict())


def in_torch(base: BaseModel) -> FeatureExtractor:
    return family_of(base.config).feature_extractor(build_network(base.config, base.weights))


def all_of(extractor: FeatureExtractor) -> AnchorFeatures:
    seen = extractor.read(IMAGE)
    return seen.at(np.arange(len(seen.boxes)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"depthwise": False}, {"activation": "relu"}, {"activation": "lrelu"}, {"size_hw": (96, 160)}],
)
def test_it_reads_the_same(changes: dict[str, Any]) -> None:
    base = base_with(**changes)
    graph, network = feature_extractor(base), in_torch(base)
    assert isinstance(graph, GraphExtractor)
    ours, theirs = all_of(graph), all_of(network)
    for name in ("base_logits", "tower_features", "boxes", "base_score"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=2e-4)
    assert ours.groups.tolist() == theirs.groups.tolist()
    assert graph.column_scale.tolist() == network.column_scale.tolist()


@pytest.mark.slow
def test_it_writes_the_same_head() -> None:
    base = base_with()
    graph, network = feature_extractor(base), in_torch(base)
    features = all_of(graph)
    draw = np.random.default_rng(1)
    shapes = ((features.base_logits.shape[1], 2), (3, features.tower_features.shape[1], 2), (2,))
    learnt = Coefficients(*(draw.standard_normal(shape, np.float32) for shape in shapes))
    ours, theirs = (each.head(learnt, keep_classes=False) for each in (graph, network))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_starter_as_a_graph_is_valid_onnx() -> None:
    base = load_base("starter")
    graph = family_of(base.config).base_graph(base.config, base.weights)
    model = onnx.load_model_from_string(graph.content)
    onnx.checker.check_model(model, full_check=True)
    names = {constant.name for constant in model.graph.initializer}
    assert {f"network/network.{name}" for name in base.weights} <= names


def test_other_families_and_other_precisions_are_run_by_pytorch() -> None:
    for extractor in (feature_extractor(tiny_base()), feature_extractor(base_with(), "bfloat16")):
        assert not isinstance(extractor, GraphExtractor)


@pytest.mark.slow
def test_detectors_are_the_same_within_rounding(tmp_path, monkeypatch) -> None:
    photos, base = make_photos(tmp_path, count=4), load_base("starter")
    first = finetune(photos, base, effort="quick", show_progress=False)
    monkeypatch.setattr(type(family_of(base.config)), "writes_graphs", False)
    second = finetune(photos, base, effort="quick", show_progress=False)
    for image in photos:
        one, other = (each.detect(image.path, threshold=0.1) for each in (first, second))
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.2)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


def test_the_weights_of_a_yolox_have_the_shapes_that_its_network_has() -> None:
    novel = ({}, {"num_classes": 2, "num_novel": 2}, {"num_classes": 82, "num_novel": 2})
    for size, changes, epsilon in itertools.product(("nano", "s", "x"), novel, (1e-3, None)):
        config = replace(YOLOX_SIZES[size], norm_epsilon=epsilon, **changes)
        with torch.device("meta"):
            state = YoloxDetector(config).state_dict()
        assert weight_shapes(config) == {name: tuple(weight.shape) for name, weight in state.items()}


@pytest.mark.slow
def test_rounded_as_a_graph_a_network_is_as_far_off_as_in_bfloat16() -> None:
    base = base_with()
    pixels = torch.randint(0, 256, (1, 3, 64, 96)).float()
    exact, rounded = (build_network(base.config, base.weights, dtype) for dtype in (None, torch.bfloat16))
    expected = rounded.scores(rounded.forward(pixels.bfloat16())[1])[0].numpy()
    graph = GraphBuilder("network")
    written = family_of(base.config).add_network(graph, "pixels", base.config, base.weights, rounds=True)
    content = graph.model({"pixels": (1, 3, 64, 96)}, {written[1]: (1, "A", 3)})
    (found,) = open_session(content).run(None, {"pixels": pixels.numpy()})
    plain = exact.scores(exact.forward(pixels)[1])[0].numpy()
    ours, theirs = (np.abs(scores - plain).mean() for scores in (found[0], expected))
    assert 0.7 * theirs < ours < 1.5 * theirs  # each sum is rounded elsewhere, so they are not alike
