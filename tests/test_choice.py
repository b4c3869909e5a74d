"""The recipe best: the linear probe, or what adapting makes of it, as photos held out say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fewbox
from fewbox import finetuning
from fewbox.config import FinetuneConfig
from fewbox.data import demo_photos
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, Box
from fewbox.detection.detector import Detector
from fewbox.errors import FewboxError, OutputError, PhotoError
from fewbox.evaluation.matching import GroundTruthTable, PredictionTable
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning import adapt as adapting
from fewbox.finetuning import adapting_steps, why_not_adapt
from fewbox.finetuning.adapt import Trial, can_be_tried, try_adapting
from fewbox.finetuning.adapt.cache import ViewTruth, Window
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings
from fewbox.finetuning.crossval import folds_of
from fewbox.finetuning.estimate import Calibration
from fewbox.finetuning.input_size import larger_base, likeliest_cure
from fewbox.finetuning.linear_probe import recipe as probing
from fewbox.finetuning.linear_probe.recipe import Fitted, Probe
from fewbox.finetuning.resume import UnfinishedRun
from fewbox.models.base import BaseModel
from fewbox.models.families import build_network
from tiny import make_base, tiny_base
from tiny_yolox import random_yolox, tiny_yolox_config

pytestmark = pytest.mark.usefixtures("in_float32")

NORMAL = FinetuneConfig()
HOW = AdaptSettings(steps=6, rounds=3, batch_size=2, views=2)
WITH_LAST_STAGE_FROZEN = replace(HOW, rates={**HOW.rates, "last stage": 0.0})


@pytest.fixture(scope="module")
def photos() -> AnnotationSet:
    train, _ = demo_photos()
    return replace(train, images=train.images[:4])


@pytest.fixture(scope="module")
def base() -> BaseModel:
    config = tiny_yolox_config()
    return make_base(config, random_yolox(config).state_dict())


@pytest.fixture(scope="module")
def probe(photos: AnnotationSet, base: BaseModel) -> Probe:
    return Probe.of(photos, base, FinetuneConfig(effort="quick"), show_progress=False)


@pytest.fixture
def fitted(probe: Probe) -> Fitted:
    return probe.fit()._replace(ap50_where_learnt=lambda: 1.0)


def trial_of(
    fitted: Fitted, *aps: float, objects: int = 0, rare: Sequence[int] = (), mixing: float = 0.5
) -> Trial:
    """With so many objects held out, and ``rare`` ones of other classes; 0 for those of the photos."""
    assert fitted.outcomes is not None
    if not objects:
        return Trial(mixing, aps, (fitted.outcomes,) * len(aps))
    class_ids = np.repeat(np.arange(1 + len(rare)), (objects, *rare))
    objects = len(class_ids)
    truth = replace(
        fitted.outcomes.ground_truth,
        photo_ids=np.zeros(objects, np.int64),
        class_ids=class_ids,
        boxes=np.zeros((objects, 4)),
        ignore=np.zeros(objects, bool),
    )
    return Trial(mixing, aps, (replace(fitted.outcomes, ground_truth=truth),) * len(aps))


def adapted(
    probe: Probe,
    fitted: Fitted,
    trial: Trial | None,
    monkeypatch: pytest.MonkeyPatch,
    *,
    may_stay: bool = True,
) -> Fitted:
    """As if photos held out had said ``trial``, or as if none could be held out."""
    monkeypatch.setattr(adapting, "can_be_tried", lambda *_: trial is not None)
    monkeypatch.setattr(adapting, "try_adapting", lambda *_, **__: trial)
    return adapting.adapt_fitted(probe, fitted, HOW, may_stay=may_stay, show_progress=False)


def test_it_goes_on_to_the_end_unless_another_round_was_clearly_better(fitted: Fitted) -> None:
    def best(*aps: float) -> int:
        return trial_of(fitted, *aps, objects=300).best

    assert best(0.60, 0.61, 0.62) == 2
    assert best(0.60, 0.59, 0.58) == 2
    assert best(0.10, 0.30, 0.29) == 2
    assert best(0.10, 0.45, 0.20) == 1
    assert best(0.30, 0.2, 0.1) == 0


def test_few_objects_held_out_do_not_decide_against_what_nearly_always_helps(fitted: Fitted) -> None:
    # Teeth, five photos: 1.1 AP on test photos by the linear probe, 4.3 adapted.
    teeth = trial_of(fitted, 0.18, 0.03, 0.06, 0.06, objects=4)
    assert teeth.best == 3
    assert not teeth.is_worse(1)
    # Five photos of dice: 3.7 and 5.3.
    assert trial_of(fitted, 0.075, 0.030, 0.035, objects=36).best == 2
    many = trial_of(fitted, 0.18, 0.03, 0.06, 0.06, objects=100)
    assert many.best == 0
    assert many.is_worse(1)


def test_a_class_with_few_objects_held_out_does_not_decide_when_to_stop(fitted: Fitted) -> None:
    # Cars from above, ten shots, draw 1: AP is the mean of four classes, and of trucks there are three.
    aps = (0.08, 0.27, 0.20, 0.19, 0.19)
    assert trial_of(fitted, *aps, objects=142).best == 1
    assert trial_of(fitted, *aps, objects=142, rare=(12, 11, 3)).best == 4


@pytest.mark.parametrize(("where_learnt", "mixing"), [(0.72, 0.5), (0.63, 1.0)])
@pytest.mark.slow
def test_where_the_boxes_of_the_base_hold_the_objects_it_goes_halfway_with_the_backbone_as_it_is(
    where_learnt: float,
    mixing: float,
    probe: Probe,
    fitted: Fitted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = fitted._replace(ap50_where_learnt=lambda: where_learnt)
    detector = adapted(probe, start, None, monkeypatch).detector
    assert ("halfway back" in detector.provenance["plan"][-1]) == (mixing < 1)
    before, after = (
        build_network(made.config, made.weights).state_dict() for made in (fitted.detector, detector)
    )
    for name in before:
        if name.startswith("backbone.backbone."):
            learns = mixing == 1 and name.startswith("backbone.backbone.dark5.")
            assert torch.allclose(before[name], after[name], atol=1e-6) != learns, name
    how = HOW if mixing == 1 else WITH_LAST_STAGE_FROZEN
    all_of_the_way = adapting.adapt(probe.annotations, fitted.detector, how, show_progress=False)
    begun, end, got = (folded(made) for made in (fitted.detector, all_of_the_way, detector))
    assert np.abs(end - begun).max() > 1e-3
    np.testing.assert_allclose(got, begun + mixing * (end - begun), atol=1e-5)


@pytest.mark.slow
def test_photos_held_out_may_say_that_it_goes_all_of_the_way(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "calibrated", lambda detector, _: detector)
    trial = trial_of(fitted, 0.1, 0.2, 0.3, 0.4, mixing=1.0)
    detector = adapted(probe, fitted, trial, monkeypatch).detector
    assert ", all of the way, as that finds more; AP" in detector.provenance["plan"][-1]
    how = WITH_LAST_STAGE_FROZEN
    all_of_the_way = adapting.adapt(probe.annotations, fitted.detector, how, show_progress=False)
    np.testing.assert_allclose(folded(detector), folded(all_of_the_way), atol=1e-5)


@pytest.mark.parametrize(("side", "steps"), [(100.0, 100), (200.0, 60), (400.0, 30)])
def test_large_objects_need_large_windows_and_get_fewer_steps(side: float, steps: int) -> None:
    truth = ViewTruth(torch.tensor([[0.0, 0.0, side, side]]), torch.zeros(1, dtype=torch.int64))
    store = SimpleNamespace(whole=lambda view: Window(view, 0, 0, 13, 13))
    views: Any = SimpleNamespace(store=store, truths=[truth], chosen=[0], stride=32)
    assert adapting.steps_in_time(100, views) == steps


def folded(detector: Detector) -> NDArray[np.float32]:
    """All weights, with batch-norms folded into them."""
    network = build_network(detector.config, detector.weights)
    return np.concatenate([weight.numpy().ravel() for weight in network.state_dict().values()])


def test_it_stays_with_the_linear_probe_where_adapting_finds_no_more(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = adapted(probe, fitted, trial_of(fitted, 0.6, 0.2, 0.3, 0.1), monkeypatch)
    assert result.detector is fitted.detector
    last = result.detector.provenance["plan"][-1]
    assert last == "not adapted: AP in photos held out is 60.0%, with adapting 30.0%"


def test_it_adapts_for_as_many_rounds_as_were_best(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector = adapted(probe, fitted, trial_of(fitted, 0.1, 0.2, 0.7, 0.2), monkeypatch).detector
    assert len(detector.history) == 4  # of 6 steps in 3 rounds
    words = (
        "adapted: 4 steps on 2 views of each photo, and halfway back, as the base's boxes hold the objects; "
        "AP in photos held out 70.0%, of the linear probe 10.0%"
    )
    assert detector.provenance["plan"][-1] == words
    assert detector.provenance["ap_by_round"] == (0.1, 0.2, 0.7)
    with pytest.raises(OutputError, match="more than the heads has learnt"):
        detector.save(tmp_path / "heads.safetensors", heads_only=True)
    detector.save(tmp_path / "d.safetensors")
    with pytest.raises(OutputError, match="more than the heads has learnt"):
        Detector.load(tmp_path / "d.safetensors").save(tmp_path / "heads.safetensors", heads_only=True)


def test_who_asks_for_it_gets_it_adapted(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = adapted(probe, fitted, trial_of(fitted, 0.4, 0.2, 0.1, 0.1), monkeypatch, may_stay=False)
    assert len(result.detector.history) == 6


def test_with_nothing_to_hold_out_it_adapts_untried(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = adapted(probe, fitted, None, monkeypatch)
    assert len(result.detector.history) == 6
    assert result.estimate.overall.ap50 is None
    assert result.detector.provenance["plan"][-1].endswith("; untried, as nothing can be held out")


def test_ctrl_c_while_trying_keeps_the_linear_probe(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapting, "try_adapting", stopped)
    result = adapting.adapt_fitted(probe, fitted, HOW, may_stay=True, show_progress=False)
    assert result.detector is fitted.detector
    assert result.detector.provenance["plan"][-1].startswith("not adapted: stopped")


@pytest.mark.parametrize("where", ["views_of", "try_adapting"])
def test_ctrl_c_before_it_is_adapted_as_it_must_be_ends_the_run(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapting, where, stopped)
    with pytest.raises(KeyboardInterrupt):  # which leaves what is kept for the next run
        adapting.adapt_fitted(probe, fitted, HOW, may_stay=False, show_progress=False)


def test_ctrl_c_while_pytorch_is_loaded_keeps_the_linear_probe(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stopped() -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "importing_torch", stopped)
    result = finetuning._adapted(
        probe, fitted, NORMAL, may_stay=True, show_progress=False, run=UnfinishedRun()
    )
    assert result.detector is fitted.detector
    assert result.detector.provenance["plan"][-1].startswith("not adapted: stopped")


def test_ctrl_c_while_adapting_keeps_the_last_round_and_what_is_known_of_it(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Adaptation.learn

    def stop_at_the_fifth(run: Adaptation, chosen: list[int], step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt
        learn(run, chosen, step)

    monkeypatch.setattr(Adaptation, "learn", stop_at_the_fifth)
    detector = adapted(probe, fitted, trial_of(fitted, 0.1, 0.2, 0.3, 0.4), monkeypatch).detector
    assert len(detector.history) == 4
    assert detector.provenance["ap_by_round"] == (0.1, 0.2, 0.3)


def test_ctrl_c_in_the_first_round_of_what_must_be_adapted_ends_the_run(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Adaptation, "learn", stop)
    trial = trial_of(fitted, 0.1, 0.2, 0.3, 0.4)
    with pytest.raises(KeyboardInterrupt):
        adapted(probe, fitted, trial, monkeypatch, may_stay=False)


@pytest.mark.slow
def test_what_is_tried_on_photos_held_out_has_not_learnt_from_them(probe: Probe, fitted: Fitted) -> None:
    views = adapting.views_of(probe.annotations, fitted.detector, HOW, show_progress=False)
    trial, again = (try_adapting(probe, views, HOW, may_stay=False, show_progress=False) for _ in range(2))
    assert len(trial.aps) == HOW.rounds + 1
    assert trial.aps == again.aps
    for half in folds_of(probe.photos, 2):
        # Round 0 is the linear probe that has learnt from the other half.
        start = probe.fit_without(half)
        for number in half:
            rows = trial.outcomes[0].predictions.photo_ids == number
            found = start.detect(probe.annotations.images[number].path, threshold=0.01)
            expected = torch.as_tensor(found.scores[:5]).double().numpy()
            assert trial.outcomes[0].predictions.scores[rows][:5] == pytest.approx(expected, abs=0.02)


NO_MEMORY = "there is not enough memory (end other programs that use it, or learn from fewer photos)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OutputError("fewbox-maps: no space left on the disk", hint="make room in /tmp"),
            "fewbox-maps: no space left on the disk (make room in /tmp)",
        ),
        (MemoryError("Unable to allocate 62 MiB for an array"), NO_MEMORY),
        (RuntimeError("could not create a primitive"), NO_MEMORY),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), NO_MEMORY),
        (PhotoError("duck_01.jpg: no such photo"), "duck_01.jpg: no such photo"),
    ],
)
def test_what_hinders_adapting_leaves_the_linear_probe(
    fitted: Fitted, probe: Probe, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    def adapted_or_not(*, may_stay: bool) -> Fitted:
        run = UnfinishedRun()
        return finetuning._adapted(probe, fitted, NORMAL, may_stay=may_stay, show_progress=False, run=run)

    monkeypatch.setattr(adapting, "adapt_fitted", full)
    plan = adapted_or_not(may_stay=True).detector.provenance["plan"]
    assert plan[-1] == f"not adapted: {told}"
    with pytest.raises(FewboxError, match=told.partition(" (")[0]):
        adapted_or_not(may_stay=False)


def test_an_error_of_ours_while_adapting_is_not_taken_for_a_hindrance(
    fitted: Fitted, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(adapting, "adapt_fitted", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        finetuning._adapted(probe, fitted, NORMAL, may_stay=True, show_progress=False, run=UnfinishedRun())


def test_what_hinders_adapting_is_printed(
    photos: AnnotationSet,
    base: BaseModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(adapting, "cache_views", full)
    plan = fewbox.finetune(photos[:2], base).provenance["plan"]
    assert plan[-1] == f"not adapted: {NO_MEMORY}"
    assert plan[-1] in capsys.readouterr().err.replace("\n", " ")


def test_one_photo_cannot_be_tried(photos: AnnotationSet, base: BaseModel) -> None:
    one = replace(photos, images=photos.images[:1])
    probe = Probe.of(one, base, FinetuneConfig(effort="quick"), show_progress=False)
    assert not can_be_tried(probe)
    assert can_be_tried(Probe.of(photos, base, FinetuneConfig(effort="quick"), show_progress=False))


def test_more_photos_are_learnt_from_for_longer() -> None:
    steps = [adapting_steps("normal", count) for count in (1, 2, 8, 10, 24, 100)]
    assert steps == [60, 60, 200, 250, 600, 600]
    assert adapting_steps("quick", 10) < adapting_steps("normal", 10) < adapting_steps("long", 10)


@pytest.mark.slow
def test_what_is_clearly_worse_after_a_round_is_not_tried_further(
    probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "coco_metrics", metrics_of(0.5, 0.4))
    monkeypatch.setattr(adapting, "CHANCE", 0.1)  # as if more objects were held out
    views = adapting.views_of(probe.annotations, fitted.detector, HOW, show_progress=False)
    trial = try_adapting(probe, views, HOW, may_stay=True, show_progress=False)
    assert trial.aps == (0.5, 0.4)
    assert trial.best == 0
    monkeypatch.setattr(adapting, "coco_metrics", metrics_of(0.5, 0.4, 0.3, 0.2))
    assert try_adapting(probe, views, HOW, may_stay=False, show_progress=False).aps == (0.5, 0.4, 0.3, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "mixing"), [(0.02, 0.5), (0.08, 1.0)])
def test_all_of_the_way_is_gone_if_that_finds_more_than_chance(
    gain: float, mixing: float, probe: Probe, fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "CHANCE", 0.1)  # as if more objects were held out
    views = adapting.views_of(probe.annotations, fitted.detector, HOW, show_progress=False)
    monkeypatch.setattr(adapting, "coco_metrics", metrics_of(0.5, 0.6, 0.6 + gain))
    halfway = replace(HOW, mixing=0.5, rounds=1, steps=4)
    trial = try_adapting(probe, views, halfway, may_stay=True, show_progress=False)
    assert trial.mixing == mixing
    assert trial.aps == (0.5, 0.6 if mixing == 0.5 else 0.6 + gain)


def metrics_of(*aps: float) -> Callable[..., SimpleNamespace]:
    """Of the linear probe, then of each round; if that goes halfway, all of the way next."""
    following = iter(aps)
    return lambda *_: SimpleNamespace(ap=next(following))


def test_best_does_not_try_what_cannot_be_or_must_be_quick(fitted: Fitted) -> None:
    assert why_not_adapt(fitted, NORMAL, keep_classes=False) is None
    assert why_not_adapt(fitted, NORMAL, keep_classes=True) == ""
    assert why_not_adapt(fitted, FinetuneConfig(effort="quick"), keep_classes=False) == ""


def test_best_adapts_one_photo_untried_unless_the_boxes_of_the_base_hold_its_objects(
    fitted: Fitted, photos: AnnotationSet, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = fitted._replace(outcomes=None)
    assert why_not_adapt(several, NORMAL, keep_classes=False) is None
    one = several._replace(estimate=replace(fitted.estimate, photos=1))
    assert (why_not_adapt(one, NORMAL, keep_classes=False) or "").startswith("not adapted: one photo")
    lost = one._replace(ap50_where_learnt=lambda: 0.12)
    assert why_not_adapt(lost, NORMAL, keep_classes=False) is None
    monkeypatch.setattr(finetuning, "adapting_steps", lambda *_: 8)
    monkeypatch.setattr(probing, "ap50_where_learnt", lambda *_: 0.12)
    beside = AnnotatedImage(photos.images[1].path, photos.images[1].size_hw, (), reviewed=True)
    with_negative = replace(photos, images=(photos.images[0], beside))
    assert (
        Probe.of(with_negative, base, FinetuneConfig(effort="quick"), show_progress=False)
        .fit()
        .estimate.photos
        == 1
    )
    plan = fewbox.finetune(photos[:1], base, show_progress=False).provenance["plan"]
    assert plan[-1] == "adapted: 8 steps on 16 views of each photo; untried, as nothing can be held out"


def test_best_does_not_try_where_nearly_all_is_found(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "mean_ap50", lambda *_: 0.97)
    reason = why_not_adapt(fitted, NORMAL, keep_classes=False)
    assert reason == "not adapted: AP50 in photos held out is 97% already"


def test_a_family_that_cannot_adapt_keeps_the_linear_probe(photos: AnnotationSet) -> None:
    probe = Probe.of(photos, tiny_base(), FinetuneConfig(effort="quick"), show_progress=False)
    assert why_not_adapt(probe.fit(), NORMAL, keep_classes=False) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting")
def test_the_recipe_best_says_what_it_chose_and_is_the_same_every_time(
    photos: AnnotationSet, base: BaseModel, capsys: pytest.CaptureFixture[str]
) -> None:
    once = fewbox.finetune(photos, base)
    said = " ".join(capsys.readouterr().err.split())
    again = fewbox.finetune(photos, base, show_progress=False)
    assert all(np.array_equal(once.weights[name], again.weights[name]) for name in once.weights)
    assert once.provenance["recipe"] == "best"
    assert once.provenance["plan"][-1].partition(":")[0] in ("adapted", "not adapted")
    assert said.count("in photos held out") >= 3  # each of two rounds, and the choice
    assert said.count("score threshold") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("short_adapting")
def test_heads_only_leaves_all_else_as_it_was(photos: AnnotationSet, tmp_path: Path) -> None:
    fewbox.write_annotations(photos, tmp_path / "boxes.json")
    from fewbox.cli import main

    folder = photos.images[0].path.parent
    arguments = ["finetune", str(folder), "--boxes", str(tmp_path / "boxes.json"), "--base", "starter"]
    assert main([*arguments, "--heads-only", "--reviewed-only", "-o", str(tmp_path / "d.safetensors")]) == 0
    assert Detector.load(tmp_path / "d.safetensors").provenance["recipe"] == "probe"


def poor(fitted: Fitted, ap50: float) -> Fitted:
    estimate = replace(fitted.estimate, overall=replace(fitted.estimate.overall, ap50=ap50))
    return fitted._replace(estimate=estimate)


def boxes_of(side: float, count: int, photo_side: int = 1000) -> AnnotationSet:
    boxes = tuple(Box(0, 0, side, side, "bolt") for _ in range(count))
    size_hw = (photo_side, photo_side)
    return AnnotationSet((AnnotatedImage(Path("a.jpg"), size_hw, boxes, reviewed=True),), ("bolt",))


@pytest.mark.parametrize(
    ("effort", "side", "count", "name", "cure"),
    [
        (
            *("normal", 500, 20, "starter"),
            "another base, that has seen real photos: --base yolox_nano (base='yolox_nano' in Python)",
        ),
        ("quick", 500, 20, "mine", "more effort: --effort normal (effort='normal' in Python)"),
        ("normal", 500, 3, "mine", "more photos: 3 boxes of bolt are few"),
        ("normal", 20, 20, "mine", "a larger input, as the boxes are small: --input-size"),
    ],
)
def test_a_poor_estimate_names_the_likeliest_cure(
    fitted: Fitted, base: BaseModel, effort: str, side: float, count: int, name: str, cure: str
) -> None:
    settings = FinetuneConfig(effort=effort)
    line = likeliest_cure(boxes_of(side, count), replace(base, name=name), settings, poor(fitted, 0.2))
    assert line is not None
    assert line.startswith(f"that is little; the likeliest cure: {cure}")
    assert likeliest_cure(boxes_of(side, count), base, settings, poor(fitted, 0.8)) is None


def test_a_poor_estimate_names_tiles_loose_boxes_or_photos_where_these_are_likelier(
    fitted: Fitted, base: BaseModel
) -> None:
    settings, unsure = FinetuneConfig(), poor(fitted, 0.2)
    # Every size of input is larger than such a photo, which has more pixels than the base's own shows.
    assert "likeliest cure: tiles" in str(likeliest_cure(boxes_of(8, 20, 300), base, settings, unsure))
    corners = np.array([[0.0, 0.0, 50.0, 50.0]] * 3)
    numbers, ids = np.arange(3), np.zeros(3, np.int64)
    truth = GroundTruthTable(numbers, ids, corners, np.zeros(3, bool))
    a_third = corners + np.array([25.0, 0.0, 25.0, 0.0])  # their IoU
    beside = PredictionTable(numbers, ids, a_third, np.full(3, 0.9))
    loose = unsure._replace(outcomes=Outcomes.of(beside, truth))
    assert "cure: boxes that agree" in str(likeliest_cure(boxes_of(500, 20), base, settings, loose))
    unknown = unsure._replace(outcomes=None)
    small, largest = (
        likeliest_cure(boxes_of(500, 20), one, settings, unknown) for one in (base, tiny_base())
    )
    assert "cure: a larger base: --base yolox_nano (base='yolox_nano' in Python)" in str(small)
    assert "cure: more photos, that show what the photos to come will show" in str(largest)


@pytest.mark.parametrize(("score", "shift", "is_told"), [(0.2, 3.0, True), (0.7, -3.0, False)])
def test_what_the_detector_finds_once_its_scores_are_calibrated_is_not_missed(
    fitted: Fitted, base: BaseModel, score: float, shift: float, is_told: bool
) -> None:
    """Loose boxes are the cure if most misses are theirs: three, beside four that are found or not."""
    numbers, ids, corners = np.arange(7), np.zeros(7, np.int64), np.array([[0.0, 0.0, 50.0, 50.0]] * 7)
    boxes = corners + np.array([[25.0, 0.0, 25.0, 0.0]] * 3 + [[0.0] * 4] * 4)
    scores = np.array([0.9] * 3 + [score] * 4)
    truth = GroundTruthTable(numbers, ids, corners, np.zeros(7, bool))
    unsure = poor(fitted, 0.2)
    estimate = replace(unsure.estimate, calibration=Calibration(1.0, shift), score_threshold=0.5)
    outcomes = Outcomes.of(PredictionTable(numbers, ids, boxes, scores), truth)
    loose = unsure._replace(outcomes=outcomes, estimate=estimate)
    line = str(likeliest_cure(boxes_of(500, 20), base, FinetuneConfig(), loose))
    assert ("cure: boxes that agree" in line) == is_told


def test_the_next_larger_base_is_of_the_same_kind(base: BaseModel) -> None:
    assert larger_base(base) == "yolox_nano"
    assert larger_base(tiny_base()) is None
