"""What would most likely help a detector that is expected to find little, in one line."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fewbox.config import FinetuneConfig
from fewbox.core import counted
from fewbox.data.annotations import AnnotationSet
from fewbox.evaluation.outcomes import MISS_KINDS
from fewbox.finetuning.input_size import median_short_side
from fewbox.finetuning.linear_probe.recipe import Fitted
from fewbox.models import STARTER, ZOO
from fewbox.models.base import BaseModel
from fewbox.models.families import family_of

POOR = 0.5
"""Expected AP50 below which something has to be done."""
FEW_OBJECTS = 10
"""Of a class; more photos help most below it: measured, 5 to 10 shots give far more than 10 to 15."""
SMALL_SIDE = 16
"""Pixels of the input: half of the boxes have a shorter side below it, and a larger input shows more."""


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
    if short is not None and short < SMALL_SIDE and config.input_size_hw is not None:
        photo_side = float(np.median([max(photo.size_hw) for photo in annotations]))
        larger = [s for s in family_of(config).input_sides if config.input_size_hw[0] < s <= photo_side]
        if larger:
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
