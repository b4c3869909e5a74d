"""How large the network's input is: the base's own, the one asked for, or one that small objects need.

    boxes, as the network would see them -> sizes worth a try -> AP50 on held-out photos at each -> a size

The weights of a network of convolutions serve any size, and whatever is learnt afterwards is learnt at the
size chosen here. A larger input costs time at every photo for ever, so the base's size stays unless boxes are
small and photos that were held out speak for more. What it is worth was measured:
docs/decisions/0082-small-boxes-get-a-larger-input.md.

Where a detector is expected to find little all the same, the last function here names what would most likely
help: a larger input is one of the cures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewbox.config import FinetuneConfig
from fewbox.core import counted, single_blas_thread
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotationSet
from fewbox.errors import SettingError
from fewbox.evaluation.metrics import average_precision
from fewbox.evaluation.outcomes import MISS_KINDS, Outcomes
from fewbox.finetuning.crossval import held_out_outcomes
from fewbox.finetuning.features import feature_extractor
from fewbox.finetuning.linear_probe.recipe import RIDGE, Fitted, budget_for, cache_photos, design_of
from fewbox.models import STARTER, ZOO
from fewbox.models.base import BaseModel, take_weights
from fewbox.models.device import full_memory_told
from fewbox.models.families import Config, family_of

if TYPE_CHECKING:
    import torch

LARGER_INPUT_BELOW = 32
"""Pixels of the input: boxes are small if half of them have a shorter side below it."""
AIM_SIDE = 48
"""Pixels of the input that the median shorter side is brought to, if the photos have so many."""
MIN_GAIN = 0.02
"""In AP50 on held-out photos, by which a larger input must be better than the base's own. Between larger ones
there is no such margin: what comes out gains more by pixels than what is compared here."""
MIN_PHOTOS = 4
"""With fewer, held-out photos say nothing about so small a difference."""
MOST_PHOTOS = 30
"""Of more photos so many, evenly spaced, are tried on: with all of them it would take too long."""
MIN_WITH_BOXES = 20
"""Among those, if there are so many: few of many photos may show anything."""
MAX_WORK = 5e14
"""Pixels looked at, times the network's weights: about a minute on two cores. It is no limit of time, so
that the same photos and seed give the same detector on any machine."""

OTHER_SCORES = "; the base's own classes then get other scores than they had"

POOR = 0.5
"""Expected AP50 below which something has to be done."""
FEW_OBJECTS = 10
"""Of a class; more photos help most below it: measured, 5 to 10 shots give far more than 10 to 15."""
TINY_SIDE = 16
"""Pixels of the input: half of the boxes have a shorter side below it, and a larger input shows more."""


Judge = Callable[[AnnotationSet, BaseModel, FinetuneConfig, "torch.device | None"], float | None]
"""AP50 in photos held out, of what learns as with these settings; None if nothing can be held out."""


@dataclass(frozen=True, eq=False)
class SizedBase:
    """A base with the input it is to have, and why."""

    base: BaseModel
    reasons: tuple[str, ...] = ()
    """For the plan; none where boxes are large and nobody asked for another size."""


def with_input_size(base: BaseModel, side: int) -> BaseModel:
    """The same base, with an input of ``side`` x ``side`` pixels.

    Raises:
        SettingError: the size of its input is not a matter of choice.
    """
    family = family_of(base.config)
    if not family.input_sides:
        raise SettingError(
            f"the size of its input cannot be chosen: {base.name}",
            hint="leave the input size out, or take a YOLOX or the starter as the base",
        )
    return replace(base, config=family.with_input_size(base.config, side))


def choose_input_size(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    keep_classes: bool = False,
    judge: Judge | None = None,
    show_progress: bool = False,
    device: torch.device | None = None,
) -> SizedBase:
    """The base with the size asked for, or with the one that the boxes in ``annotations`` need.

    Args:
        annotations: N photos.
        base: its own size stays unless boxes are small.
        settings: ``input_size`` is what was asked for; with the effort ``quick`` no other size is tried.
        keep_classes: the base's own classes stay, and have its scores at its own size alone; so no size is
            tried that nobody asked for.
        judge: tells which size is better, instead of :func:`held_out_ap50`.
        show_progress: print why, and show how far the work has come.
        device: where sizes are tried.

    Raises:
        SettingError: a size is asked for, and the base has no choice of size.
        PhotoError: a photo cannot be read.
    """
    if settings.input_size:
        sized = _as_asked(base, settings.input_size, keep_classes=keep_classes)
    else:
        sides = sides_to_try(annotations, base.config)
        if not sides:
            return SizedBase(base)
        affordable = _affordable(sides, len(annotations), base)
        tried = None
        if not keep_classes and affordable and settings.effort != "quick":
            tried = _best_size(
                annotations,
                base,
                settings,
                affordable,
                judge=judge or held_out_ap50,
                show_progress=show_progress,
                device=device,
            )
        if tried is not None:
            sized = tried
        else:
            option = f"--input-size {sides[-1]} (input_size={sides[-1]} in Python)"
            words = f"a larger input may find more, and takes longer: {option}"
            words += OTHER_SCORES if keep_classes else ""
            sized = SizedBase(base, (f"{_small_in_words(annotations, base.config)}; {words}",))
    if show_progress:
        for reason in sized.reasons:
            console.print(reason)
    return sized


def _as_asked(base: BaseModel, side: int, *, keep_classes: bool) -> SizedBase:
    sized = with_input_size(base, side)
    if sized.config == base.config:
        return SizedBase(base)
    reason = f"input {side}x{side}, as asked for, instead of {_in_words(base.config)}"
    return SizedBase(sized, (reason + (OTHER_SCORES if keep_classes else ""),))


def sides_to_try(annotations: AnnotationSet, config: Config) -> list[int]:
    """One or two sides larger than the base's, rising; none if boxes are large or photos have no more pixels.

    The largest brings the median shorter side of the boxes to ``AIM_SIDE``, or the photos to their own size.
    """
    size_hw, short = config.input_size_hw, median_short_side(annotations, config)
    if size_hw is None or size_hw[0] != size_hw[1] or short is None or short >= LARGER_INPUT_BELOW:
        return []
    sides = _sides_between(size_hw[0], _photo_side(annotations), config)
    reach = next((i for i, s in enumerate(sides) if short * s / size_hw[0] >= AIM_SIDE), len(sides) - 1)
    # Of two, the smaller one lies half way or below: it costs less.
    return [sides[i] for i in sorted({max(reach - 1, 0) // 2, reach})] if sides else []


def _photo_side(annotations: AnnotationSet) -> float:
    """The median of the photos' longer sides: a larger input enlarges half of them, and shows nothing new."""
    return float(np.median([max(image.size_hw) for image in annotations]))


def _sides_between(own: int, photo_side: float, config: Config) -> list[int]:
    """The sides larger than the base's own, up to that of the photos, rising."""
    return [side for side in family_of(config).input_sides if own < side <= photo_side]


def median_short_side(annotations: AnnotationSet, config: Config) -> float | None:
    """The median of the boxes' shorter sides in pixels of the network's input; None without boxes."""
    sides = []
    for image in annotations:
        (height, width), (covered_h, covered_w) = image.size_hw, config.covered_hw(image.size_hw)
        for box in image.objects:
            in_input = (box.x2 - box.x1) * covered_w / width, (box.y2 - box.y1) * covered_h / height
            sides.append(min(in_input))
    return float(np.median(sides)) if sides else None


def _affordable(sides: list[int], num_photos: int, base: BaseModel) -> list[int]:
    """Those of ``sides`` that can be tried within the limits, the larger ones left out first."""
    if num_photos < MIN_PHOTOS or base.config.input_size_hw is None:
        return []
    num_weights = sum(weight.size for weight in base.weights.values())
    num_photos = min(num_photos, MOST_PHOTOS)
    looks = num_photos * (1 + budget_for(num_photos, "quick").augmented_views)
    tried = [base.config.input_size_hw[0], *sides]
    while len(tried) > 1 and looks * sum(side**2 for side in tried) * num_weights > MAX_WORK:
        tried.pop()
    return tried[1:]


def photos_to_try(annotations: AnnotationSet) -> AnnotationSet:
    """At most ``MOST_PHOTOS``, in their order: evenly spaced ones with boxes, and evenly spaced others."""
    if len(annotations) <= MOST_PHOTOS:
        return annotations
    shows = np.array([bool(image.objects) for image in annotations])
    room = round(MOST_PHOTOS * shows.mean())
    room = min(max(room, MIN_WITH_BOXES, MOST_PHOTOS - int((~shows).sum())), int(shows.sum()))
    chosen = (_evenly(np.flatnonzero(shows), room), _evenly(np.flatnonzero(~shows), MOST_PHOTOS - room))
    return annotations[np.sort(np.concatenate(chosen))]


def _evenly(numbers: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` of ``numbers``, from the first to the last."""
    return numbers[np.linspace(0, max(len(numbers) - 1, 0), count).round().astype(np.int64)]


def _best_size(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    sides: list[int],
    *,
    judge: Judge,
    show_progress: bool,
    device: torch.device | None,
) -> SizedBase | None:
    """The base with the size that finds most on held-out photos; a larger one must be clearly better.

    None if nothing can be held out, or there is not enough memory.
    """
    candidates = {_in_words(base.config): base} | {
        f"{side}x{side}": with_input_size(base, side) for side in sides
    }
    tried_on = photos_to_try(annotations)
    take_weights(base, base.config, {})  # a base that lacks a weight is refused before any work
    found: dict[str, float] = {}
    with progress_bar("trying sizes of the input", len(candidates), show=show_progress) as advance:
        for size, candidate in candidates.items():
            try:
                with full_memory_told():
                    ap50 = judge(tried_on, candidate, settings, device)
            except SettingError:  # no memory for it: the base's size needs the least
                return None
            if ap50 is None:
                return None
            found[size] = ap50
            advance(size)
    chosen = clearly_best(found)
    usual, small = _in_words(base.config), _small_in_words(annotations, base.config)
    if chosen == usual:
        others = " and ".join(f"{ap50:.0%} with {size}" for size, ap50 in found.items() if size != usual)
        reason = f"input {usual}: {small}, but AP50 on held-out photos is {found[usual]:.0%}, and {others}"
    else:
        reason = (
            f"input {chosen} instead of {usual}: {small}; "
            f"AP50 on held-out photos {found[chosen]:.0%} instead of {found[usual]:.0%}"
        )
    return SizedBase(candidates[chosen], (reason,))


def clearly_best(found: Mapping[str, float]) -> str:
    """The size to take, of AP50 by size in rising order: the best larger one, if it is clearly better."""
    usual, *larger = found
    best = max(larger, key=found.__getitem__, default=usual)
    return best if found[best] >= found[usual] + MIN_GAIN else usual


def held_out_ap50(
    annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, device: torch.device | None = None
) -> float | None:
    """AP50 by cross-validation of a linear probe; None if nothing can be held out."""
    outcomes = outcomes_at(annotations, base, settings, device)
    return None if outcomes is None else pooled_ap50(outcomes)


def outcomes_at(
    annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, device: torch.device | None = None
) -> Outcomes | None:
    """What a linear probe finds in photos held out; None if nothing can be.

    With the views and folds of the effort ``quick``: sizes are compared, and all of them learn as little.
    """
    extractor = feature_extractor(base, settings.precision, device)
    budget = budget_for(len(annotations), "quick")
    photos = cache_photos(extractor, base.config, annotations, budget, settings.seed, show_progress=False)
    num_classes = len(annotations.labels)
    config = family_of(base.config).probe_config(base.config, num_classes, keep_classes=False)
    with single_blas_thread():
        design = design_of(photos, extractor)
        return held_out_outcomes(photos, design, budget.folds, RIDGE, config, num_classes)


def pooled_ap50(outcomes: Outcomes) -> float:
    """AP50 with the detections of all classes in one ranking; 0 if no object was held out.

    The mean of classes with a handful of objects each is too much a matter of chance to choose by.
    """
    order = np.argsort(-outcomes.predictions.scores, kind="stable")
    objects = int(outcomes.counted.sum())
    if not objects:
        return 0.0
    return average_precision(outcomes.is_true_positive[order], outcomes.is_false_positive[order], objects)


def _small_in_words(annotations: AnnotationSet, config: Config) -> str:
    short = round(median_short_side(annotations, config) or 0)
    return f"half the boxes are smaller than {counted(short, 'pixel')} at {_in_words(config)}"


def _in_words(config: Config) -> str:
    height, width = config.input_size_hw or (0, 0)
    return f"{height}x{width}"


def likeliest_cure(
    annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, fitted: Fitted
) -> str | None:
    """The line, or None if the detector is good enough or nothing is known of it."""
    expected = fitted.estimate.overall.ap50
    if expected is None or expected >= POOR:
        return None
    return f"that is little; the likeliest cure: {_cure(annotations, base, settings, fitted)}"


def _cure(annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, fitted: Fitted) -> str:
    config = fitted.detector.config
    if base.name == STARTER:
        more = "(8 MB, downloaded once)"
        return f"another base, that has seen real photos: {_option('base', 'yolox_nano')} {more}"
    if settings.effort == "quick" and family_of(config).adapts(config):
        return (
            f"more effort: {_option('effort', 'normal')} also tries to teach the layers that make the boxes"
        )
    boxes = Counter(box.label for photo in annotations for box in photo.objects)
    label, fewest = min(boxes.items(), key=lambda item: item[1])
    if fewest < FEW_OBJECTS:
        return f"more photos: {counted(fewest, 'box')} of {label} {'is' if fewest == 1 else 'are'} few"
    short = median_short_side(annotations, config)
    if short is not None and short < TINY_SIDE and config.input_size_hw is not None:
        photo_side = _photo_side(annotations)
        if larger := _sides_between(config.input_size_hw[0], photo_side, config):
            option = _option("input_size", larger[0])
            return f"a larger input, as the boxes are small: {option}"
        if photo_side > max(config.input_size_hw):
            option = _option("tiles", "auto")
            return f"tiles: cut the photos into parts to learn from, and detect with {option}"
    if fitted.outcomes is not None and _mostly_misplaced(fitted):
        return "boxes that agree: draw all of them as tightly, around the whole object"
    bigger = larger_base(base)
    if bigger is not None:
        return f"a larger base: {_option('base', bigger)}"
    return "more photos, that show what the photos to come will show"


def _option(name: str, value: object) -> str:
    """A setting as both the command line and Python have it."""
    return f"--{name.replace('_', '-')} {value} ({name}={value!r} in Python)"


def _mostly_misplaced(fitted: Fitted) -> bool:
    """Whether most objects that were missed in photos held out have a box that is not quite on them."""
    outcomes, estimate = fitted.outcomes, fitted.estimate
    assert outcomes is not None
    # The threshold is for scores as the detector gives them; in outcomes they are as learnt, 0 if not found.
    is_sure = estimate.calibration.applied(outcomes.found_score) > estimate.score_threshold
    missed = outcomes.causes.miss_kind[outcomes.counted & ~(is_sure & (outcomes.found_score > 0))]
    return len(missed) > 0 and float(np.mean(missed == MISS_KINDS.index("localization"))) > 0.5


def larger_base(base: BaseModel) -> str | None:
    """The name of the next larger base of the same kind with published weights, if there is one."""
    num_weights = sum(weight.size for weight in base.weights.values())
    kind = family_of(base.config).architecture
    alike = [entry for entry in ZOO.values() if entry.reader == kind and entry.url is not None]
    larger = [entry for entry in alike if entry.parameters > 1.5 * num_weights]
    return min(larger, key=lambda entry: entry.parameters).name if larger else None
