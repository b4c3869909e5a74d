"""The recipe ``adapt``: from the linear probe's detector to one whose neck, towers and heads have learnt.

    photos -> linear probe -> novel head at its start
           -> augmented views -> frozen backbone -> cached maps -> rounds of learning -> detector

The linear probe ranks the boxes of a frozen base. On objects unlike those of COCO no box of the base holds
them, however many photos there are; then the layers that make the boxes have to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fewbox.config import FinetuneConfig
from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.errors import SettingError
from fewbox.finetuning.adapt.cache import CachedViews, cache_views
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings, Round
from fewbox.finetuning.crossval import Found, cross_validate
from fewbox.finetuning.estimate import Estimate, estimate_in_words, estimate_of_photos
from fewbox.finetuning.linear_probe.recipe import Fitted, budget_for, cache_photos, fit_detector
from fewbox.finetuning.pictures import save_held_out
from fewbox.models.base import BaseModel
from fewbox.models.families import Config, build_network, family_of
from fewbox.models.network import Network

FOLDS = 2
"""Each costs a run of its own, of half the steps. The estimate is cautious: half of the photos teach less."""
STEPS = {"quick": 60, "normal": 200, "long": 600}
VIEWS = {"quick": 8, "normal": 16, "long": 32}
MIN_SCORE = 0.01
"""Of detections in held-out photos."""


def finetune_adapt(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    show_progress: bool,
    held_out: Path | None = None,
) -> Detector:
    """A detector for the classes of ``annotations``; see :func:`fewbox.finetune`."""
    family, labels, count = family_of(base.config), annotations.labels, len(annotations)
    config = family.probe_config(base.config, len(labels), keep_classes=False)
    require_adaptable(config, base.name)
    network = build_network(base.config, base.weights)
    extractor, budget = family.feature_extractor(network), budget_for(count, settings.effort)
    photos = cache_photos(extractor, network, annotations, budget, settings.seed, show_progress=show_progress)
    how = AdaptSettings(steps=STEPS[settings.effort], views=VIEWS[settings.effort], seed=settings.seed)

    def probe(numbers: Sequence[int], folds: int) -> Fitted:
        some = [photos[number] for number in numbers]
        fold_budget = replace(budget, folds=folds)
        return fit_detector(
            some, labels, extractor, base, fold_budget, keep_classes=False, show_progress=False
        )

    start = probe(range(count), budget.folds)
    views = views_of(annotations, start.detector, how, show_progress=show_progress)

    def detect(out: list[int]) -> list[Found]:
        others = [number for number in range(count) if number not in out]
        shorter = replace(how, steps=how.steps // 2)
        begin, kept = probe(others, 0).detector, views.without(out)
        learnt = adapt(annotations, begin, shorter, views=kept, show_progress=False, may_stop=False)
        return [found_in(learnt.network, annotations.images[number].path) for number in out]

    if show_progress and count > 1:
        console.print("checking on held-out photos what adapting brings")
    outcomes = cross_validate(photos, FOLDS, len(labels), detect) if count > 1 else None
    expected = estimate_of_photos(photos, labels, outcomes)
    calibration = expected.calibration
    reasons = (plan_of(how, count, start.estimate, expected),)
    if show_progress:
        for line in (*reasons, *estimate_in_words(expected.to_dict()).splitlines()):
            console.print(line)
    if held_out is not None and outcomes is not None:
        scores = calibration.applied(outcomes.predictions.scores)
        images, threshold = annotations.images, expected.score_threshold
        save_held_out(held_out, images, outcomes, scores, labels, network, threshold)
    adapted = adapt(annotations, start.detector, how, views=views, show_progress=show_progress)
    if adapted is start.detector:  # stopped before the first round: it is calibrated already
        return adapted
    return Detector(
        config=adapted.config,
        weights=family.calibrated_weights(adapted.weights, calibration.stretch, calibration.shift),
        labels=labels,
        base=base.origin(),
        provenance={"plan": reasons, "estimate": expected.to_dict()},
        history=adapted.history,
        score_threshold=expected.score_threshold,
    )


def require_adaptable(config: Config, name: str) -> None:
    """Refuse a base of a family that does not adapt.

    Raises:
        SettingError: it is none.
    """
    if not family_of(config).adapts(config):
        raise SettingError(
            f"adapting is for a YOLOX or the starter, and new classes alone: {name}",
            hint="for example: --base yolox_nano",
        )


def plan_of(how: AdaptSettings, num_photos: int, before: Estimate, after: Estimate) -> str:
    """What is done and why, in a line."""
    words = f"adapting: {how.steps} steps on {how.views_of(num_photos)} views of each photo"
    old, new = before.overall.ap50, after.overall.ap50
    if old is None or new is None:
        return words
    return f"{words}; AP50 on held-out photos {new:.0%}, of the linear probe {old:.0%}"


def found_in(network: Network, path: Path) -> Found:
    """The detections in a photo; boxes in pixels of the network's input."""
    image = read_image(path)
    found = network.find(image, MIN_SCORE)
    return network.to_input(found.boxes, (image.shape[0], image.shape[1])), found.scores, found.class_ids


def views_of(
    annotations: AnnotationSet, start: Detector, settings: AdaptSettings, *, show_progress: bool
) -> CachedViews:
    """What the backbone of ``start`` gives for views of all photos."""
    adapter = family_of(start.config).adapter(build_network(start.config, start.weights))
    num_views = settings.views_of(len(annotations))
    return cache_views(adapter, annotations, num_views, settings.seed, show_progress=show_progress)


@dataclass(frozen=True)
class AdaptedRound:
    """A detector as it is after a round."""

    number: int
    loss: float
    """Mean over the steps of the round."""
    detector: Detector


def adapt(
    annotations: AnnotationSet,
    start: Detector,
    settings: AdaptSettings,
    *,
    views: CachedViews | None = None,
    show_progress: bool = True,
    may_stop: bool = True,
    on_round: Callable[[AdaptedRound], None] = lambda _: None,
) -> Detector:
    """What ``start`` becomes when all that follows its backbone learns.

    After each round there is a detector. A run that is interrupted (Ctrl-C) ends with that of the last
    whole round, or with ``start``.

    Args:
        annotations: photos with boxes; every one must have been looked at.
        start: a YOLOX of novel classes alone, as the linear probe makes it.
        settings: how long and how fast.
        views: of ``annotations``, if the backbone has seen them already.
        show_progress: show how far the work has come, and the loss of every round.
        may_stop: whether Ctrl-C ends it with what there is; else it ends everything.
        on_round: told after each round.

    Raises:
        SettingError: ``start`` is something else.
        FinetuneError: the loss is no longer a finite number.
    """
    require_adaptable(start.config, str(start))
    weights = {name: weight.clone() for name, weight in start.weights.items()}
    adapter = family_of(start.config).adapter(build_network(start.config, weights))
    if views is None:
        views = views_of(annotations, start, settings, show_progress=show_progress)
    learning = Adaptation(adapter, views, settings)
    latest = start

    def take(done: Round) -> None:
        nonlocal latest
        latest = replace_weights(start, done.weights, learning.history)
        if show_progress:
            console.print(f"round {done.number} of {settings.rounds}, loss {done.loss:.3f}")
        on_round(AdaptedRound(done.number, done.loss, latest))

    try:
        learning.run(take)
    except KeyboardInterrupt:
        if not may_stop:
            raise
        if show_progress:
            console.print(f"stopped after {len(learning.history)} of {settings.steps} steps")
    return latest


def replace_weights(
    start: Detector, folded: Mapping[str, Tensor], history: list[dict[str, float]]
) -> Detector:
    """``start`` with the weights of a folded network, its backbone bit for bit as before."""
    return Detector(
        config=start.config,
        weights=family_of(start.config).adapted_weights(folded, start.weights, start.config),
        labels=start.labels,
        base=start.base,
        provenance=start.provenance,
        history=list(history),
        score_threshold=start.score_threshold,
    )
