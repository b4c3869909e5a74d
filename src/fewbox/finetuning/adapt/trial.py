"""What adapting brings, found out on photos held out: whether to adapt, and for how many rounds.

photos in two halves -> from each the linear probe, then rounds of adapting -> AP in the other half
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewbox.core import num_cores
from fewbox.core.progress import console, progress_bar
from fewbox.detection.parallel import run_parallel
from fewbox.evaluation.metrics import coco_metrics, none_if_nan
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.adapt.cache import CachedViews
from fewbox.finetuning.adapt.learn import Adaptation, AdaptSettings
from fewbox.finetuning.crossval import Found, checked_classes, folds_of, outcomes_in
from fewbox.finetuning.linear_probe.recipe import Probe

FOLDS = 2
"""Each costs a run of half the steps. What comes out is cautious: half of the photos teach less."""
LIFT = 0.4
"""Of the logit of AP50, from half of the photos and half of the steps to all: measured, 0.4 on the mean of
eight draws from sets far from COCO."""
MIN_SCORE = 0.01
"""Of detections in held-out photos."""
LEAST_GAIN, CLEAR_GAIN, CLEAR_RATIO = 0.005, 0.03, 1.25
"""AP is clearly higher if it is so by the first, and by the second or times the third: photos are few."""
CHANCE = 0.25
"""Divided by the root of the number of objects held out: a gain of AP that chance alone may give. If half of
them are found, that is half of a standard deviation, as both detectors see the same objects."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What was found in photos held out, after each round; round 0 is the linear probe."""

    aps: tuple[float, ...]
    """AP as in COCO, 0 to 1."""
    outcomes: tuple[Outcomes, ...]

    @property
    def best(self) -> int:
        """The round to stop after; 0 if none is clearly better than the linear probe.

        That is the last, as all photos keep for longer what half of them lose, unless another is clearly
        better. With few objects held out a gain has to be larger.
        """
        gain = max(CLEAR_GAIN, CHANCE / max(self.num_objects, 1) ** 0.5)
        last = len(self.aps) - 1
        peak = max(range(1, last + 1), key=self.aps.__getitem__)
        best = peak if _is_clearly_higher(self.aps[peak], self.aps[last], gain) else last
        return best if _is_clearly_higher(self.aps[best], self.aps[0], gain) else 0

    @property
    def num_objects(self) -> int:
        """Of the photos held out."""
        return int((~self.outcomes[0].ground_truth.ignore).sum())


def can_be_tried(probe: Probe) -> bool:
    """Whether photos can be held out: there are two at least, and some class has objects in both halves."""
    photos, num_classes = probe.photos, len(probe.annotations.labels)
    return len(photos) >= FOLDS and bool(checked_classes(photos, FOLDS, num_classes).any())


def _is_clearly_higher(ap: float, other: float, gain: float = CLEAR_GAIN) -> bool:
    return ap >= other + LEAST_GAIN and ap >= min(other + gain, other * CLEAR_RATIO)


def try_adapting(
    probe: Probe, views: CachedViews, settings: AdaptSettings, *, may_stay: bool, show_progress: bool
) -> Trial:
    """Adapt to half of the photos, and to the other half, and detect in the photos held out.

    Args:
        probe: where learning starts, and the photos, which :func:`can_be_tried`.
        views: of all photos.
        settings: of the run on all photos; half of the photos get half of the steps.
        may_stay: stop as soon as a round is clearly worse than the linear probe. Measured: where adapting
            pays, it does from the first round on (21 draws of sets far from COCO).
        show_progress: print AP after each round.
    """
    photos, num_classes = probe.photos, len(probe.annotations.labels)
    halves = folds_of(len(photos), FOLDS)
    shorter = replace(settings, steps=settings.steps // FOLDS)
    runs = []
    for held_out in halves:
        runs.append(Adaptation.of(probe.fit_without(held_out), views.without(held_out), shorter))

    def look() -> tuple[float, Outcomes]:
        found: dict[int, Found] = {}
        for held_out, run in zip(halves, runs, strict=True):
            found |= {number: _found_in(probe, run, number) for number in held_out}
        outcomes = outcomes_in(photos, FOLDS, num_classes, [found[n] for n in range(len(photos))])
        metrics = coco_metrics(outcomes.predictions, outcomes.ground_truth, num_classes)
        return none_if_nan(metrics.ap) or 0.0, outcomes

    learning = [run.rounds() for run in runs]
    with progress_bar("trying to adapt", settings.rounds + 1, show=show_progress) as advance:
        seen = [look()]
        advance("")
        for number in range(1, settings.rounds + 1):
            # Beside each other: a step has too little work for more than one thread or two.
            for done in run_parallel(next, learning, max(num_cores() // FOLDS, 1)):
                done.result()
            seen.append(look())
            ap, before = seen[-1][0], seen[0][0]
            if show_progress:
                console.print(
                    f"round {number} of {settings.rounds}: AP {ap:.0%} in photos held out, "
                    f"of the linear probe {before:.0%}"
                )
            advance(f"AP {ap:.0%}")
            if may_stay and _is_clearly_higher(before, ap):
                break
    aps, outcomes = zip(*seen, strict=True)
    return Trial(aps, outcomes)


def _found_in(probe: Probe, run: Adaptation, number: int) -> Found:
    """What a run finds in a photo; boxes in pixels of the network's input, within the photo."""
    boxes, scores, class_ids = (part.numpy() for part in run.detect(run.views.of_photo(number), MIN_SCORE))
    config, size_hw = probe.base.config, probe.annotations.images[number].size_hw
    boxes = config.to_photo(boxes, size_hw)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return config.to_input(boxes[inside], size_hw), scores[inside], class_ids[inside]
