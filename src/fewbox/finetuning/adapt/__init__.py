"""Adapting: from the linear probe's detector to one of which all but the first layers have learnt.

    photos -> linear probe -> novel head at its start
           -> augmented views -> frozen layers -> cached maps -> rounds of learning -> detector

The linear probe ranks the boxes of a frozen base. On objects unlike those of COCO no box of the base holds
them, however many photos there are; then the layers that make the boxes have to learn. Whether that pays,
and for how many rounds, is tried on photos held out:

    photos in two halves -> from each the linear probe, then rounds of adapting -> AP in the other half
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fewbox.config import FinetuneConfig
from fewbox.core import counted, num_cores
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import Detector
from fewbox.detection.parallel import run_parallel
from fewbox.evaluation.metrics import coco_metrics, none_if_nan
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.adapt.cache import CachedViews, cache_views
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings, steps_in_time
from fewbox.finetuning.crossval import Found, checked_classes, folds_of, outcomes_in
from fewbox.finetuning.estimate import Estimate, Lift, estimate_of_photos
from fewbox.finetuning.input_size import pooled_ap50
from fewbox.finetuning.linear_probe.recipe import Fitted, Probe
from fewbox.finetuning.resume import ComputedArrays, UnfinishedRun
from fewbox.models.base import BaseModel
from fewbox.models.families import build_network, family_of, require_adaptable
from fewbox.models.weights import Weight

if TYPE_CHECKING:
    import torch

FOLDS = 2
"""Each costs a run of half the steps. What comes out is cautious: half of the photos teach less."""
LIFT = Lift(mean=0.6, spread=0.6)
"""From half of the photos and half of the steps to all. Measured on seven sets far from COCO: 0.4 on the mean
of draws of 5 to 15 photos, 0.9 of 5 and 10 shots, and from -1.1 to 2.4 of one draw."""
MIN_SCORE = 0.01
"""Of detections in held-out photos."""
HALFWAY = 0.5
"""Of the way from the linear probe that a detector goes where the base's boxes hold the objects. Measured
with five photos: 57 AP of raccoons, where the linear probe has 50 and all of the way 44. The last stage of
the backbone stays frozen there: a draw of five raccoons and one of ten, 54 and 57 AP, and 32 and 47 where it
learns."""
BRIEF_STEPS, BRIEF_VIEWS = 40, 4
"""Of each half, and of each photo, where sizes of the input are compared."""
CLEAR_GAIN, CHANCE = 0.03, 0.5
"""AP differs by more than chance if it does by the first, and by a standard deviation. The second is that of
whether one object is found, if half are; that of the share of ``n`` is less by the root of ``n``."""


def adapt_fitted(
    probe: Probe,
    fitted: Fitted,
    how: AdaptSettings,
    *,
    may_stay: bool,
    show_progress: bool,
    run: UnfinishedRun | None = None,
) -> Fitted:
    """``fitted`` adapted, or as it is, if it may be, where that is stopped or finds less in photos held out.

    Where the base's boxes hold the objects, halfway (see :attr:`AdaptSettings.mixing`), unless photos held
    out say that all of the way is better.

    Args:
        probe: the photos, as the base has seen them.
        fitted: what the linear probe learnt from all of them.
        how: how long and how fast.
        may_stay: whether it stays as it is where adapting finds less, or is stopped before a whole round.
        show_progress: show how far the work has come.
        run: where what is computed of each photo is kept, if it is, until that ends.

    Raises:
        KeyboardInterrupt: it is stopped too soon, and must not stay as it is.
    """
    annotations, start = probe.annotations, fitted.detector
    trial = None
    done: list[AdaptedRound] = []
    try:
        halfway = fitted.boxes_hold()
        computed = None
        if run is not None:
            base, num_views = probe.base, how.views_of(len(annotations))
            decided_by = (base.weights_sha256, base.config, start.device, annotations.labels)
            computed = run.computed(len(annotations), "C3 and C4", *decided_by, num_views, how.seed)
        views = views_of(annotations, start, how, show_progress=show_progress, computed=computed)
        if halfway:
            fewer, rates = steps_in_time(how.steps, views), {**how.rates, "last stage": 0.0}
            how = replace(how, mixing=HALFWAY, steps=fewer, rates=rates)
        if can_be_tried(probe):
            trial = try_adapting(probe, views, how, may_stay=may_stay, show_progress=show_progress)
            how = replace(how, mixing=trial.mixing)
    except KeyboardInterrupt:
        if not may_stay:
            raise
        return fitted.untried()
    rounds = how.rounds if trial is None else trial.best
    if trial is not None and rounds == 0 and may_stay:
        before, after = trial.aps[0], max(trial.aps[1:])
        return fitted.with_reason(
            f"not adapted: AP in photos held out is {before:.1%}, with adapting {after:.1%}"
        )
    rounds = rounds or how.rounds
    chosen = replace(how, steps=how.steps * rounds // how.rounds, rounds=rounds)
    adapt(annotations, start, chosen, views=views, show_progress=show_progress, on_round=done.append)
    if not done and not may_stay:
        raise KeyboardInterrupt
    if not done:
        return fitted.with_reason("not adapted: stopped before the end of the first round")
    outcomes = None if trial is None else trial.outcomes[done[-1].number]
    expected = estimate_of_photos(probe.photos, annotations.labels, outcomes, LIFT)
    detector = calibrated(done[-1].detector, expected)
    steps, views_of_each = counted(len(detector.history), "step"), how.views_of(len(annotations))
    words = f"adapted: {steps} on {counted(views_of_each, 'view')} of each photo"
    if halfway and how.mixing < 1:
        words += ", and halfway back, as the base's boxes hold the objects"
    elif halfway:
        words += ", all of the way, as that finds more"
    if trial is None:
        words += "; untried, as nothing can be held out"
    else:
        aps = detector.provenance["ap_by_round"] = trial.aps[: done[-1].number + 1]
        words += f"; AP in photos held out {aps[-1]:.1%}, of the linear probe {aps[0]:.1%}"
    detector.provenance["plan"] = (*probe.budget.reasons, words)
    return fitted._replace(detector=detector, estimate=expected, outcomes=outcomes)


def views_of(
    annotations: AnnotationSet,
    start: Detector,
    settings: AdaptSettings,
    *,
    show_progress: bool,
    computed: ComputedArrays | None = None,
) -> CachedViews:
    """What the frozen layers of ``start`` give for views of all photos."""
    adapter = family_of(start.config).adapter(build_network(start.config, start.weights, device=start.device))
    num_views = settings.views_of(len(annotations))
    return cache_views(
        adapter, annotations, num_views, settings.seed, show_progress=show_progress, computed=computed
    )


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
    on_round: Callable[[AdaptedRound], None] = lambda _: None,
) -> Detector:
    """What ``start`` becomes when all that follows its frozen layers learns.

    After each round there is a detector. A run that is interrupted (Ctrl-C) ends with that of the last
    whole round, or with ``start``.

    Args:
        annotations: photos with boxes; every one must have been looked at.
        start: a YOLOX of novel classes alone, as the linear probe makes it.
        settings: how long and how fast.
        views: of ``annotations``, if the frozen layers have seen them already.
        show_progress: show how far the work has come, and the loss of every round.
        on_round: told after each round.

    Raises:
        SettingError: ``start`` is something else.
        FinetuneError: the loss is no longer a finite number.
    """
    require_adaptable(start.config, str(start))
    latest, learning = start, None
    try:
        if views is None:
            views = views_of(annotations, start, settings, show_progress=show_progress)
        learning = Adaptation.of(start, views, settings)
        with progress_bar("adapting", settings.rounds, show=show_progress) as advance:
            for done in learning.rounds():
                latest = _with_weights(start, done.weights, learning.history)
                on_round(AdaptedRound(done.number, done.loss, latest))
                advance(f"loss {done.loss:.3f}")
    except KeyboardInterrupt:
        if show_progress:
            steps = 0 if learning is None else len(learning.history)
            console.print(f"stopped after {steps} of {settings.steps} steps")
    return latest


def _with_weights(start: Detector, folded: Mapping[str, Weight], history: list[dict[str, float]]) -> Detector:
    """``start`` with the weights of a folded network, what is frozen bit for bit as before."""
    return Detector(
        config=start.config,
        weights=family_of(start.config).adapted_weights(folded, start.weights, start.config),
        labels=start.labels,
        base=start.base,
        provenance=start.provenance | {"adapted": True},
        history=list(history),
        threshold=start.threshold,
        device=start.device,
    )


def calibrated(detector: Detector, expected: Estimate) -> Detector:
    """The same, with calibrated scores, and the threshold for them."""
    stretch, shift = expected.calibration.stretch, expected.calibration.shift
    return Detector(
        config=detector.config,
        weights=family_of(detector.config).calibrated_weights(detector.weights, stretch, shift),
        labels=detector.labels,
        base=detector.base,
        provenance=detector.provenance | {"estimate": expected.to_dict()},
        history=detector.history,
        threshold=expected.score_threshold,
        device=detector.device,
    )


@dataclass(frozen=True, eq=False)
class Trial:
    """What was found in photos held out, after each round; round 0 is the linear probe."""

    mixing: float
    """What part of the way from the linear probe the weights lie that it was found with."""
    aps: tuple[float, ...]
    """AP as in COCO, 0 to 1."""
    outcomes: tuple[Outcomes, ...]

    @property
    def best(self) -> int:
        """The round to stop after; 0 for the linear probe.

        That is the last, as all photos keep for longer what half of them lose, unless another is better by
        more than chance, be it the linear probe.
        """
        last = len(self.aps) - 1
        peak = max(range(1, last + 1), key=self.aps.__getitem__)
        best = peak if self.aps[peak] >= self.aps[last] + self.by_chance else last
        return 0 if self.is_worse(best) else best

    def is_worse(self, number: int) -> bool:
        """Whether that round is worse than the linear probe by more than chance."""
        return self.aps[0] >= self.aps[number] + self.by_chance

    @property
    def by_chance(self) -> float:
        """What an AP may differ from another by chance: it is the mean of the classes', however rare."""
        truth = self.outcomes[0].ground_truth
        _, counts = np.unique(truth.class_ids[~truth.ignore], return_counts=True)
        if len(counts) == 0:
            return CHANCE
        return max(CLEAR_GAIN, CHANCE * math.sqrt((1 / counts).sum()) / len(counts))


def can_be_tried(probe: Probe) -> bool:
    """Whether photos can be held out: there are two at least, and some class has objects in both halves."""
    photos, num_classes = probe.photos, len(probe.annotations.labels)
    if len(photos) < FOLDS:
        return False
    return bool(checked_classes(photos, folds_of(photos, FOLDS), num_classes).any())


def try_adapting(
    probe: Probe, views: CachedViews, settings: AdaptSettings, *, may_stay: bool, show_progress: bool
) -> Trial:
    """Adapt to half of the photos, and to the other half, and detect in the photos held out.

    Args:
        probe: where learning starts, and the photos, which :func:`can_be_tried`.
        views: of all photos.
        settings: of the run on all photos; half of the photos get half of the steps. Where these go a part of
            the way, all of it is looked at too, and is the trial if it finds more than chance explains.
        may_stay: stop as soon as a round is worse than the linear probe by more than chance. Measured: where
            adapting pays, it does from the first round on (21 draws of sets far from COCO).
        show_progress: print AP after each round.
    """
    photos, num_classes = probe.photos, len(probe.annotations.labels)
    halves = folds_of(photos, FOLDS)
    shorter = replace(settings, steps=settings.steps // FOLDS)
    runs = [Adaptation.of(probe.fit_without(half), views.without(half), shorter) for half in halves]
    # Halves are beside each other: a step, or a photo, has too little work for more than one thread or two.
    threads = max(num_cores() // FOLDS, 1)

    def look(trial: Trial) -> Trial:
        def find(half: tuple[Adaptation, list[int]]) -> dict[int, Found]:
            return _found_in(probe, *half, trial.mixing)

        found: dict[int, Found] = {}
        for done in run_parallel(find, zip(runs, halves, strict=True), threads):
            found |= done.result()
        outcomes = outcomes_in(photos, halves, num_classes, [found[n] for n in range(len(photos))])
        metrics = coco_metrics(outcomes.predictions, outcomes.ground_truth, num_classes)
        ap = none_if_nan(metrics.ap) or 0.0
        return replace(trial, aps=(*trial.aps, ap), outcomes=(*trial.outcomes, outcomes))

    learning = [run.rounds() for run in runs]
    with progress_bar("trying to adapt", settings.rounds + 1, show=show_progress) as advance:
        trials = [look(Trial(settings.mixing, (), ()))]
        if settings.mixing < 1:
            trials.append(replace(trials[0], mixing=1.0))
        advance("")
        for number in range(1, settings.rounds + 1):
            for done in run_parallel(next, learning, threads):
                done.result()
            trials = [look(trial) for trial in trials]
            ap, before = trials[0].aps[-1], trials[0].aps[0]
            if show_progress:
                console.print(
                    f"round {number} of {settings.rounds}: AP {ap:.0%} in photos held out, "
                    f"of the linear probe {before:.0%}"
                )
            advance(f"AP {ap:.0%}")
            if may_stay and all(trial.is_worse(number) for trial in trials):
                break
    trial, further = trials[0], trials[-1]
    return further if further.aps[further.best] >= trial.aps[trial.best] + trial.by_chance else trial


def ap50_of_brief_adapting(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    device: torch.device | None = None,
) -> float | None:
    """AP50 in photos held out, all classes in one ranking: the mean of before and after a few steps.

    So sizes of the input are compared where adapting follows. The linear probe alone says too little: what it
    finds hangs on the boxes that the base happens to make. So do a few steps alone, which end differently by
    chance. None if nothing can be held out.
    """
    quick = replace(settings, effort="quick")
    probe = Probe.of(annotations, base, quick, show_progress=False, device=device)
    if not can_be_tried(probe):
        return None
    how = AdaptSettings(steps=FOLDS * BRIEF_STEPS, rounds=1, views=BRIEF_VIEWS, seed=settings.seed)
    views = views_of(annotations, probe.fit_without(()), how, show_progress=False)
    trial = try_adapting(probe, views, how, may_stay=False, show_progress=False)
    return float(np.mean([pooled_ap50(outcomes) for outcomes in trial.outcomes]))


def _found_in(probe: Probe, run: Adaptation, numbers: Iterable[int], mixing: float) -> dict[int, Found]:
    """What a run finds in each of some photos; boxes in pixels of the network's input, within the photo."""
    result = {}
    for number in numbers:
        found = run.detect(run.views.of_photo(number), MIN_SCORE, mixing)
        boxes, scores, class_ids = (part.numpy() for part in found)
        config, size_hw = probe.base.config, probe.annotations.images[number].size_hw
        boxes = config.to_photo(boxes, size_hw)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
        result[number] = config.to_input(boxes[inside], size_hw), scores[inside], class_ids[inside]
    return result
