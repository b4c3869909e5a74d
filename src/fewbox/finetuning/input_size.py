"""How large the network's input is: the base's own, the one asked for, or one that small objects need.

    boxes, as the network would see them -> sizes worth a try -> AP50 on held-out photos at each -> a size

The weights of a network of convolutions serve any size, and what is learnt afterwards is learnt at the size
chosen here. A larger input costs time at every photo for ever, so the base's size stays unless the boxes are
small, and unless photos that were held out speak for more. Measured: docs/decisions/0082-input-size.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fewbox.config import FinetuneConfig
from fewbox.core import counted
from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet
from fewbox.errors import SettingError
from fewbox.finetuning.crossval import held_out_outcomes
from fewbox.finetuning.estimate import mean_ap50
from fewbox.finetuning.linear_probe.recipe import RIDGE, budget_for, cache_photos, design_of
from fewbox.models.base import BaseModel
from fewbox.models.families import Config, build_network, family_of

SMALL_SIDE = 32
"""Pixels of the input: boxes are small if half of them, or more, have a shorter side below it."""
AIM_SIDE = 48
"""Pixels of the input that the median shorter side is brought to, if the photos have so many."""
MAX_COMPARED = 30
"""Photos; of more, none is looked at twice only to choose a size."""
MIN_COMPARED = 4
"""Photos; with fewer, held-out photos say nothing about so small a difference."""
MIN_GAIN = 0.02
"""In AP50 on held-out photos, by which a larger input must be better, for each step of the size."""


@dataclass(frozen=True, eq=False)
class SizedBase:
    """A base with the input it is to have, and why."""

    base: BaseModel
    reasons: tuple[str, ...] = ()
    """For the plan; none where nobody asked, and boxes are large."""


def with_input_size(base: BaseModel, side: int) -> BaseModel:
    """The same base, with an input of ``side`` x ``side`` pixels.

    Raises:
        SettingError: the size of its input is not a matter of choice.
    """
    family = family_of(base.config)
    if not family.input_sides:
        raise SettingError(
            f"the size of its input cannot be chosen: {base.name}",
            hint="leave --input-size out, or take a YOLOX or the starter: --base yolox_nano",
        )
    return replace(base, config=family.with_input_size(base.config, side))


def held_out_ap50(annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig) -> float | None:
    """AP50 by cross-validation of a linear probe; None if nothing can be held out.

    With the views and folds of effort ``quick``: sizes are compared, and all are looked at alike.
    """
    network = build_network(base.config, base.weights, getattr(torch, settings.precision))
    family = family_of(base.config)
    extractor = family.feature_extractor(network)
    budget = budget_for(len(annotations), "quick")
    photos = cache_photos(extractor, network, annotations, budget, settings.seed, show_progress=False)
    num_classes = len(annotations.labels)
    config = family.probe_config(base.config, num_classes, keep_classes=False)
    design = design_of(photos, extractor)
    outcomes = held_out_outcomes(photos, design, budget.folds, RIDGE, config.iou_threshold, num_classes)
    return None if outcomes is None else mean_ap50(outcomes, num_classes)
