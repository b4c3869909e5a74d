"""Adapting: the later layers learn from maps that the frozen ones gave once."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fewbox
from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection import parallel
from fewbox.detection.detector import Detector
from fewbox.errors import FinetuneError, OutputError, SettingError
from fewbox.finetuning.adapt import AdaptedRound, adapt, cache
from fewbox.finetuning.adapt.cache import CachedViews, MapStore, ViewTruth, Window, cache_views
from fewbox.finetuning.adapt.learn import (
    Adaptation,
    AdaptSettings,
    Descent,
    Round,
    fitting_window,
    inside,
    share_at,
    starts_around,
)
from fewbox.models.base import BaseModel
from fewbox.models.families import build_network, family_of
from fewbox.models.network import IGNORED_ID
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.adapting import YoloxAdapter, unfolded
from fewbox.models.yolox.network import YoloxDetector
from tiny import make_base, tiny_base
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = pytest.mark.usefixtures("in_float32")

FROZEN = tuple(f"backbone.backbone.{stage}." for stage in ("stem", "dark2", "dark3", "dark4"))
SETTINGS = AdaptSettings(steps=6, rounds=3, batch_size=4, window=0)


@pytest.fixture(scope="module")
def photos() -> AnnotationSet:
    train, _ = demo_photos()
    return replace(train, images=train.images[:3])


@pytest.fixture(scope="module", params=["nano", "tiny"], ids=["depthwise", "dense"])
def start(request: pytest.FixtureRequest, photos: AnnotationSet) -> tuple[YoloxConfig, dict[str, Tensor]]:
    """A folded network with a novel head, with random weights."""
    count = len(photos.labels)
    config = replace(
        YOLOX_SIZES[request.param], width=0.125, size_hw=(96, 128), num_classes=count, num_novel=count
    )
    network = random_yolox(config).fold()
    weights = {name: w.clone() for name, w in network.state_dict().items()}
    for level in range(3):
        weights[f"head.novel_preds.{level}.bias"].fill_(-4)
        weights[f"head.reg_preds.{level}.weight"].mul_(0.1)
    return network.config, weights


@pytest.fixture(scope="module")
def views(start: tuple[YoloxConfig, dict[str, Tensor]], photos: AnnotationSet) -> CachedViews:
    return cache_views(_adapter(*start), photos, 4, seed=0)


def _network(config: YoloxConfig, weights: Mapping[str, Tensor]) -> YoloxDetector:
    network = build_network(config, weights)
    assert isinstance(network, YoloxDetector)
    return network


def _adapter(config: YoloxConfig, weights: Mapping[str, Tensor]) -> YoloxAdapter:
    return YoloxAdapter(_network(config, {name: weight.clone() for name, weight in weights.items()}))


def _adapted(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews, settings: AdaptSettings = SETTINGS
) -> tuple[Adaptation, list[Round]]:
    learning = Adaptation(_adapter(*start), views, settings)
    return learning, list(learning.rounds())


@pytest.mark.slow
def test_the_loss_falls(start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews) -> None:
    learning, _ = _adapted(start, views, replace(SETTINGS, steps=30))
    losses = [row["total"] for row in learning.history]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.slow
def test_after_each_round_there_is_a_network_and_what_is_frozen_is_as_it_was(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews
) -> None:
    config, weights = start
    before = {name: weight.clone() for name, weight in weights.items()}
    _, rounds = _adapted(start, views, replace(SETTINGS, steps=12))
    assert all(np.array_equal(weight, before[name]) for name, weight in weights.items())  # left as they were
    assert [(one.number, one.steps) for one in rounds] == [(1, 4), (2, 8), (3, 12)]
    for one in rounds:
        assert one.weights.keys() == weights.keys()
        _network(config, one.weights)
        for name, weight in one.weights.items():
            is_same = np.array_equal(weight, weights[name])
            assert is_same == name.startswith(FROZEN), name


@pytest.mark.slow
@pytest.mark.parametrize("window", [0, 2])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews, window: int
) -> None:
    settings = replace(SETTINGS, window=window, steps=3, rounds=1)
    once, again, other = (
        _adapted(start, views, replace(settings, seed=seed))[1][-1].weights for seed in (1, 1, 2)
    )
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert any(not np.array_equal(once[name], other[name]) for name in once)


@pytest.mark.slow
def test_cached_maps_give_what_the_whole_network_gives(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews, photos: AnnotationSet
) -> None:
    network = _network(*start)
    learning = Adaptation(_adapter(*start), views, SETTINGS)
    first = views.photos.index(1)
    with torch.no_grad():
        whole = network(network.batch_of([read_image(photos.images[1].path)]))
        cached = learning.adapter.outputs(views.store.maps([views.store.whole(first)]))
    for expected, found in zip(whole, cached, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


@pytest.mark.slow
def test_gradients_are_those_of_the_plain_network(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews
) -> None:
    learning = Adaptation(_adapter(*start), views, SETTINGS)
    plain = _network(start[0], {name: w.clone() for name, w in start[1].items()})
    maps = views.store.maps([views.store.whole(0), views.store.whole(5)])
    sums = []
    for network in (learning.adapter.network, plain):
        named = dict(network.named_parameters())
        learnt = [named[name].requires_grad_() for name in learning.names]
        c3, c4 = maps
        pyramid = network.backbone.merged(c3, c4, network.backbone.backbone.dark5(c4))
        codes, logits = network.heads(network.towers(pyramid))
        sums.append(torch.autograd.grad(codes.square().mean() + logits.square().mean(), learnt))
    for name, ours, theirs in zip(learning.names, *sums, strict=True):
        atol = 1e-4 * float(theirs.abs().max()) + 1e-9
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=atol, msg=name)


def test_many_maps_go_to_a_file_and_come_back_as_they_were() -> None:
    shapes, scales = [(4, 8, 12), (6, 4, 6)], (4, 2)
    maps = [torch.randn(1, *shape).half().float() for shape in shapes]
    stores = [MapStore(3, shapes, scales, most_in_memory=limit) for limit in (10**6, 0)]
    assert [store.is_spilled for store in stores] == [False, True]
    for store in stores:
        store.put(2, maps)
        for kept, given in zip(store.maps([store.whole(2)]), maps, strict=True):
            assert np.array_equal(kept, given)
        part = store.maps([Window(2, top=1, left=2, rows=1, columns=1)])
        assert np.array_equal(part[0], maps[0][:, :, 4:8, 8:12])
        assert np.array_equal(part[1], maps[1][:, :, 2:4, 4:6])


def test_no_more_maps_wait_to_be_stored_than_photos_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stored, most = [], [], 0

    def two_views(*_: object) -> list[tuple[list[torch.Tensor], ViewTruth]]:
        nonlocal most
        nothing = ViewTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
        made.extend(range(2))
        most = max(most, len(made) - len(stored))
        return [([torch.ones(1, 2, 4, 4)], nothing)] * 2

    def slowly(_: MapStore, view: int, __: object) -> None:
        time.sleep(0.005)
        stored.append(view)

    monkeypatch.setattr(cache, "_views_of_photo", two_views)
    monkeypatch.setattr(MapStore, "put", slowly)
    monkeypatch.setattr(parallel, "num_cores", lambda: 2)
    images = tuple(AnnotatedImage(Path(f"{number}.jpg"), (9, 9), (), True) for number in range(20))
    views = cache_views(
        SimpleNamespace(coarsest_stride=32, map_strides=(16,)), AnnotationSet(images, ("a",)), 2, seed=0
    )
    assert sorted(stored) == list(range(40))
    assert views.photos == [number for number in range(20) for _ in range(2)]
    assert most <= 3 * 2  # of the three photos that two cores look at


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room cannot be set aside here")
def test_no_room_for_many_maps_is_said_before_any_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="fewbox-maps: no space left on the disk"):
        MapStore(3, [(4, 8, 12)], [1], most_in_memory=0)
    assert not MapStore(3, [(4, 8, 12)], [1]).is_spilled  # few need none


def test_a_window_holds_the_boxes_whose_centres_are_in_it() -> None:
    boxes = torch.tensor([[40.0, 40, 60, 60], [90, 40, 110, 60], [100, 40, 140, 60], [0, 0, 20, 20]])
    truth = ViewTruth(boxes, torch.tensor([0, 1, 2, 3]))
    seen = inside(truth, Window(0, 1, 1, 2, 2), 32)  # 32 to 96 both ways
    assert seen.class_ids.tolist() == [0, IGNORED_ID]
    assert seen.boxes.tolist() == [[8, 8, 28, 28], [58, 8, 78, 28]]


@pytest.mark.parametrize(
    ("span", "starts"),
    [
        ((3, 5), range(4)),  # all of it is seen
        ((3, 10), range(3, 4)),  # just fits
        ((3, 11), range(1, 8)),  # does not: its centre, 7, from the last column to the first
        ((2.5, 11.5), range(1, 8)),
        ((0, 12), range(7)),
        ((10, 19), range(8, 14)),
        ((18, 20), range(13, 14)),  # at the border
    ],
)
def test_windows_lie_on_all_sides_of_an_object(span: tuple[float, float], starts: range) -> None:
    box = np.array([span[0], span[0], span[1], span[1]], np.float64)
    first, last = starts_around(box, 7, np.array([13, 13]))
    assert (first.tolist(), last.tolist()) == ([starts[0]] * 2, [starts[-1]] * 2)
    truth = ViewTruth(torch.tensor(box[None] * 32, dtype=torch.float32), torch.tensor([4]))
    for start in starts:
        assert inside(truth, Window(0, start, start, 7, 7), 32).class_ids.tolist() == [4]


def test_the_window_follows_from_the_objects() -> None:
    def window(*sides: float) -> int:
        boxes = torch.tensor([[0, 0, side, side / 2] for side in sides]).reshape(-1, 4)
        return fitting_window([ViewTruth(boxes, torch.zeros(len(sides), dtype=torch.int64))], 32)

    assert window(20, 30, 400) == 7
    assert window(240) == 10
    assert window() == 0


@pytest.mark.slow
def test_a_frozen_part_does_not_move(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews
) -> None:
    rates = dict(SETTINGS.rates) | {"last stage": 0.0, "neck": 0.0}
    weights = _adapted(start, views, replace(SETTINGS, rates=rates))[1][-1].weights
    assert all(np.array_equal(w, start[1][n]) for n, w in weights.items() if n.startswith("backbone."))
    assert not np.array_equal(weights["head.reg_preds.0.weight"], start[1]["head.reg_preds.0.weight"])


@pytest.mark.slow
def test_two_threads_learn_the_same_from_halves_of_a_step(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And twice the same bytes."""
    alone = _adapted(start, views, replace(SETTINGS, steps=3))[0]
    learnt_of, sizes = Adaptation._learnt_of, []

    def noted(self: Adaptation, places: Sequence[Window], *, whole: bool = False) -> Any:
        sizes.append(len(places))
        return learnt_of(self, places, whole=whole)

    monkeypatch.setattr(Adaptation, "_learnt_of", noted)
    torch.set_num_threads(2)
    try:
        halves = [_adapted(start, views, replace(SETTINGS, steps=3))[0] for _ in range(2)]
    finally:
        torch.set_num_threads(1)
    assert sizes == [SETTINGS.batch_size // 2] * 12
    assert halves[0].history[-1] == pytest.approx(alone.history[-1], rel=1e-4)
    assert halves[0].history == halves[1].history
    for mine, again, other in zip(*(one.descent.mean for one in (*halves, alone)), strict=True):
        assert torch.equal(mine, again)
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run(
    start: tuple[YoloxConfig, dict[str, Tensor]], views: CachedViews
) -> None:
    config, weights = start
    broken = weights | {"head.novel_preds.0.bias": weights["head.novel_preds.0.bias"] * float("inf")}
    with pytest.raises(FinetuneError, match="step 1: the loss is not finite"):
        list(Adaptation(_adapter(config, broken), views, SETTINGS).rounds())


def test_descent_finds_the_lowest_place_and_is_drawn_back() -> None:
    def ended(pull: float) -> float:
        weight = torch.full((1,), 1.0)
        descent = Descent([weight], [0.2], pull=pull, mean_of=5)
        for step in range(200):
            descent.step([2 * (weight - 3)], share_at(step, 200))
        return float(descent.mean[0])

    assert ended(0) == pytest.approx(3, abs=0.05)
    assert 1 < ended(0.1) < 2.9


@pytest.fixture(scope="module")
def with_norms(photos: AnnotationSet) -> Detector:
    """A detector of new classes alone, its batch-norms not folded."""
    count = len(photos.labels)
    config = replace(tiny_yolox_config(), num_classes=count, num_novel=count)
    weights = random_yolox(config).state_dict()
    return Detector(config=config, weights=weights, labels=photos.labels, base={}, provenance={})


def test_a_network_with_batch_norms_gets_its_weights_back(with_norms: Detector) -> None:
    before, config = with_norms.weights, with_norms.config
    assert isinstance(config, YoloxConfig)
    folded = {name: weight.numpy() for name, weight in _network(config, before).state_dict().items()}
    after = unfolded(folded, before, config)
    assert after.keys() == before.keys()
    pixels = torch.rand(1, 3, *config.size_hw) * 255
    expected, found = (_network(config, weights)(pixels) for weights in (before, after))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_there_is_a_detector_after_each_round_and_ctrl_c_keeps_the_last(
    with_norms: Detector, photos: AnnotationSet
) -> None:
    seen: list[AdaptedRound] = []

    def stop_after_two(done: AdaptedRound) -> None:
        seen.append(done)
        if done.number == 2:
            raise KeyboardInterrupt

    settings = replace(SETTINGS, views=2)
    kept = adapt(photos, with_norms, settings, show_progress=False, on_round=stop_after_two)
    assert [done.number for done in seen] == [1, 2]
    assert kept is seen[1].detector
    assert len(kept.history) == 4
    for name, weight in kept.weights.items():
        if name.startswith(FROZEN):
            assert np.array_equal(weight, with_norms.weights[name])
    kept.detect(photos.images[0].path)


def test_ctrl_c_before_the_first_round_leaves_the_detector_as_it_is(
    with_norms: Detector, photos: AnnotationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fewbox.finetuning.adapt.cache_views", stopped)
    assert adapt(photos, with_norms, SETTINGS, show_progress=False) is with_norms


def test_only_a_yolox_of_new_classes_is_adapted(with_norms: Detector, photos: AnnotationSet) -> None:
    config = replace(with_norms.config, num_novel=0)
    detector = Detector(config=config, weights={}, labels=photos.labels, base={}, provenance={})
    with pytest.raises(SettingError, match="new classes alone"):
        adapt(photos, detector, SETTINGS, show_progress=False)


@pytest.fixture(scope="module")
def tiny_yolox() -> BaseModel:
    config = tiny_yolox_config()
    return make_base(config, random_yolox(config).state_dict())


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting")
def test_the_recipe_makes_a_detector_with_an_estimate_and_the_same_one_again(
    photos: AnnotationSet, tiny_yolox: BaseModel, tmp_path: Path
) -> None:
    quick = fewbox.FinetuneConfig(effort="quick")
    once, again = (
        fewbox.finetune(photos, tiny_yolox, recipe="adapt", config=quick, show_progress=False)
        for _ in range(2)
    )
    assert all(np.array_equal(once.weights[name], again.weights[name]) for name in once.weights)
    assert once.provenance["recipe"] == "adapt"
    plan = once.provenance["plan"][-1]
    assert plan.startswith("adapted: 4 steps on 2 views of each photo; AP in photos held out ")
    assert once.provenance["estimate"]["overall"]["objects"] > 0
    assert [row["step"] for row in once.history] == list(range(1, 5))
    for name, weight in tiny_yolox.weights.items():
        if name.startswith(FROZEN):
            assert np.array_equal(once.weights[name], weight)
    once.save(tmp_path / "d.safetensors")
    loaded, photo = Detector.load(tmp_path / "d.safetensors"), photos.images[0].path
    np.testing.assert_array_equal(loaded.detect(photo).boxes, once.detect(photo).boxes)
    with pytest.raises(OutputError, match="more than the heads has learnt"):
        loaded.save(tmp_path / "heads.safetensors", heads_only=True)


def test_calibrated_weights_give_calibrated_scores(with_norms: Detector) -> None:
    config = with_norms.config
    changed = family_of(config).calibrated_weights(with_norms.weights, 0.5, -1.0)
    pixels = torch.rand(1, 3, *config.input_size_hw) * 255
    logits, calibrated = (_network(config, w)(pixels)[1] for w in (with_norms.weights, changed))
    torch.testing.assert_close(calibrated, 0.5 * logits - 1, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_what_cannot_be_adapted_is_refused(photos: AnnotationSet, tiny_yolox: BaseModel) -> None:
    with pytest.raises(SettingError, match="adapting is for a YOLOX or the starter"):
        fewbox.finetune(photos, tiny_base(), recipe="adapt", show_progress=False)
    with pytest.raises(SettingError, match="does not keep the base's classes"):
        fewbox.finetune(photos, tiny_yolox, recipe="adapt", keep_classes=True, show_progress=False)


@pytest.mark.slow
def test_an_adapted_starter_is_saved_and_finds_the_same(photos: AnnotationSet, tmp_path: Path) -> None:
    """Its kernels have their channels last after learning, which is not how a file holds them."""
    photos = replace(photos, images=photos.images[:1])
    config = fewbox.FinetuneConfig(effort="quick", input_size=320)
    learnt = fewbox.finetune(photos, "starter", recipe="probe", config=config, show_progress=False)
    detector = adapt(photos, learnt, replace(SETTINGS, views=1, steps=3), show_progress=False)
    detector.save(tmp_path / "d.safetensors")
    loaded, photo = Detector.load(tmp_path / "d.safetensors"), photos.images[0].path
    assert all(np.array_equal(loaded.weights[name], weight) for name, weight in detector.weights.items())
    np.testing.assert_array_equal(loaded.detect(photo).boxes, detector.detect(photo).boxes)
