"""The default recipe: a linear probe, that is logistic regression on the features of a frozen network.

    photos -> augmented views -> frozen network -> features -> targets -> regression -> head -> detector

The base stays as it is, its boxes too: what it learnt of outlines from a hundred thousand photos is better
than what five can teach. What is learnt is which of its boxes show the new objects.

The policy is in this file: how much work, in which order, how strongly regularised. What an anchor is taught
is in the package itself, with the loss and its minimum. What each part is worth was measured:
docs/decisions/0022-best-recipe.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fewbox.config import FinetuneConfig
from fewbox.core import counted, single_blas_thread
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import SCORE_THRESHOLD, Detector
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.crossval import ap50_where_learnt, held_out_outcomes, save_held_out
from fewbox.finetuning.estimate import Estimate, estimate_of_photos
from fewbox.finetuning.features import CachedPhoto, extract_features, feature_extractor
from fewbox.finetuning.linear_probe import DesignMatrix, assign_targets
from fewbox.finetuning.resume import ComputedArrays, UnfinishedRun
from fewbox.models.base import BaseModel, take_weights
from fewbox.models.families import Config, family_of, weight_shapes
from fewbox.models.features import FeatureExtractor

if TYPE_CHECKING:
    import torch

AUGMENTED_VIEWS = {"quick": 1, "normal": 4, "long": 16}
"""Of each photo beside itself, while there are few photos. Measured: 4 give +1.7 AP, 10 give no more."""
MAX_IMAGES = {"quick": 600, "normal": 600, "long": 1200}
"""Photos and views in all; each is a pass of the network and about a megabyte of features."""
MIN_BACKGROUND, MAX_BACKGROUND, BACKGROUND_IN_ALL = 30, 300, 30_000
"""Background anchors of an image, of each of two kinds, and of all images: more only cost time."""
MAX_KEPT, KEPT_IN_ALL = 4000, 400_000
"""Anchors of a photo, and of all photos, that are kept to detect in it once it is held out; 0.3 GB."""
FOLDS = {"quick": 3, "normal": 5, "long": 10}
"""Of cross-validation: it calibrates scores and says how good the detector is; the fit ignores it."""
RIDGE = 100.0
"""L2 regularisation, for columns of spread 1 and objects of weight 20. Measured: 30 costs 1.1 AP, and 300
gives 0.2 more."""
MAX_STEPS = 80
"""Of L-BFGS; it ends sooner once a step hardly lowers the loss."""
HELD = 0.7
"""AP50 in the photos learnt from, from which on the base's boxes hold the objects. Measured with five
photos: 0.72 to 1.0 of ducks, raccoons and circuit boards, 0.09 to 0.72 of seven sets far from COCO."""


@dataclass(frozen=True)
class Budget:
    """How much work the photos deserve, and why."""

    augmented_views: int
    """Of each photo, beside the photo itself."""
    background: int
    """Background anchors that each image gives, of each of two kinds."""
    kept: int
    """Anchors of each photo, the likeliest by the base, to detect among once it is held out."""
    folds: int
    """0 where there is nothing to hold out."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Probe:
    """A base that has looked at all photos: what is learnt from them takes matrix products only."""

    annotations: AnnotationSet
    base: BaseModel
    extractor: FeatureExtractor
    device: torch.device | None
    budget: Budget
    photos: list[CachedPhoto]

    @classmethod
    def of(
        cls,
        annotations: AnnotationSet,
        base: BaseModel,
        settings: FinetuneConfig,
        *,
        show_progress: bool,
        device: torch.device | None = None,
        run: UnfinishedRun | None = None,
    ) -> Probe:
        """Show every photo to the base; see :func:`fewbox.finetune`.

        What is computed of each is kept in ``run``, if there is one, until that ends.
        """
        take_weights(base, base.config, {})  # a base that lacks a weight is refused before any work
        extractor = feature_extractor(base, settings.precision, device)
        budget = budget_for(len(annotations), settings.effort)
        seed = settings.seed
        computed = None
        if run is not None:
            decided_by = (base.weights_sha256, base.config, settings.precision, device, annotations.labels)
            computed = run.computed(len(annotations), "features", *decided_by, budget, seed)
        photos = cache_photos(
            extractor, base.config, annotations, budget, seed, show_progress=show_progress, computed=computed
        )
        return cls(annotations, base, extractor, device, budget, photos)

    def fit(self, *, keep_classes: bool = False) -> Fitted:
        """Learn from all photos, and check on those held out."""
        fitted = fit_detector(
            self.photos,
            self.annotations.labels,
            self.extractor,
            self.base,
            self.budget,
            keep_classes=keep_classes,
            device=self.device,
        )
        if not keep_classes or fitted.estimate.score_threshold >= SCORE_THRESHOLD:
            return fitted
        alone = f"{SCORE_THRESHOLD:.2f}"
        return fitted.with_remark(
            "the base's own classes are reported from that threshold too: more boxes of theirs may be wrong "
            f"than with the base alone, which takes {alone}; detect with --threshold {alone} if that matters "
            "more than new objects that are missed then"
        )

    def fit_without(self, numbers: Sequence[int]) -> Detector:
        """Learn from all photos but those of these numbers; no photo is held out to check on."""
        left_out = set(numbers)
        photos = [photo for number, photo in enumerate(self.photos) if number not in left_out]
        unchecked = replace(self.budget, folds=0)
        labels, base, device = self.annotations.labels, self.base, self.device
        return fit_detector(
            photos, labels, self.extractor, base, unchecked, keep_classes=False, device=device
        ).detector

    def save_held_out(self, target: Path, fitted: Fitted) -> None:
        """Write the picture of photos held out, if any were."""
        estimate, outcomes = fitted.estimate, fitted.outcomes
        if outcomes is not None:
            scores = estimate.calibration.applied(outcomes.predictions.scores)
            save_held_out(
                target,
                self.annotations.images,
                outcomes,
                scores,
                self.annotations.labels,
                self.base.config,
                estimate.score_threshold,
            )


def budget_for(num_photos: int, effort: str) -> Budget:
    """Divide the work: many augmented views of few photos, few of many."""
    views = min(AUGMENTED_VIEWS[effort], max(MAX_IMAGES[effort] // num_photos - 1, 0))
    folds = min(FOLDS[effort], num_photos) if num_photos > 1 else 0
    photos, of_each = counted(num_photos, "photo"), counted(views, "view")
    reasons = [f"{photos}, effort {effort}: {of_each} of each beside the photo itself"]
    if views < AUGMENTED_VIEWS[effort]:
        reasons.append(
            f"fewer views than {AUGMENTED_VIEWS[effort]}: so many photos differ enough by themselves"
        )
    if views == 0:
        reasons.append(
            "with so many photos, training the network itself would find more: fewbox finetune-deep"
        )
    background = min(max(BACKGROUND_IN_ALL // (num_photos * (views + 1)), MIN_BACKGROUND), MAX_BACKGROUND)
    return Budget(views, background, min(KEPT_IN_ALL // num_photos, MAX_KEPT), folds, tuple(reasons))


def cache_photos(
    extractor: FeatureExtractor,
    config: Config,
    annotations: AnnotationSet,
    budget: Budget,
    seed: int,
    *,
    show_progress: bool,
    computed: ComputedArrays | None = None,
) -> list[CachedPhoto]:
    """What there is to learn in every photo: the network looks at each, and at each view of it, once."""
    assign = partial(assign_targets, num_classes=len(annotations.labels), num_background=budget.background)
    return extract_features(
        extractor,
        config,
        annotations,
        assign,
        num_views=budget.augmented_views,
        num_kept=budget.kept,
        seed=seed,
        show_progress=show_progress,
        computed=computed,
    )


def design_of(photos: Sequence[CachedPhoto], extractor: FeatureExtractor) -> DesignMatrix:
    """What there is to learn in all photos and their views."""
    return DesignMatrix.of(
        [sample for photo in photos for sample in photo.samples],
        [number for number, photo in enumerate(photos) for _ in photo.samples],
        extractor.column_scale,
        extractor.num_groups,
    )


class Fitted(NamedTuple):
    """A detector, and how good cross-validation finds it."""

    detector: Detector
    estimate: Estimate
    outcomes: Outcomes | None
    """Of detections in photos held out; None if nothing could be held out."""
    ap50_where_learnt: Callable[[], float]
    """In the photos it has learnt from; looked for only when asked, as few who fit a detector want it."""

    def boxes_hold(self) -> bool:
        """Whether the base has boxes that hold the objects: those learnt from are found."""
        return self.ap50_where_learnt() >= HELD

    def with_reason(self, reason: str) -> Fitted:
        """The same, with a line more in its plan."""
        made = self.detector.provenance
        made["plan"] = (*made["plan"], reason)
        return self

    def untried(self) -> Fitted:
        """The same, where somebody has stopped before it was known what adapting brings."""
        return self.with_reason("not adapted: stopped before it was known what that brings")

    def with_remark(self, remark: str) -> Fitted:
        """The same, with a remark before the others of its estimate."""
        told = replace(self.estimate, remarks=(remark, *self.estimate.remarks))
        self.detector.provenance["estimate"] = told.to_dict()
        return self._replace(estimate=told)


def fit_detector(
    photos: Sequence[CachedPhoto],
    labels: tuple[str, ...],
    extractor: FeatureExtractor,
    base: BaseModel,
    budget: Budget,
    *,
    keep_classes: bool,
    device: torch.device | None = None,
) -> Fitted:
    """Learn the classes ``labels`` from photos that the network of ``base`` has looked at."""
    config = family_of(base.config).probe_config(base.config, len(labels), keep_classes=keep_classes)
    outcomes = None
    with single_blas_thread():
        design = design_of(photos, extractor)
        coefficients, losses = design.fit(RIDGE, MAX_STEPS)
        if budget.folds:
            outcomes = held_out_outcomes(photos, design, budget.folds, RIDGE, config, len(labels))
    expected = estimate_of_photos(photos, labels, outcomes)
    head = extractor.head(expected.calibration.of_head(coefficients), keep_classes=keep_classes)
    detector = Detector(
        config=config,
        weights={name: (base.weights | head)[name] for name in weight_shapes(config)},
        labels=_all_labels(base, labels) if keep_classes else labels,
        base=base.origin(),
        provenance={"plan": budget.reasons, "estimate": expected.to_dict()},
        history=[
            {"step": step, "total": sum(loss), "objects": loss.objects, "background": loss.background}
            for step, loss in enumerate(losses, start=1)
        ],
        threshold=expected.score_threshold,
        device=device,
    )
    own = partial(ap50_where_learnt, photos, coefficients, config, len(labels))
    return Fitted(detector, expected, outcomes, own)


def _all_labels(base: BaseModel, novel: Sequence[str]) -> tuple[str, ...]:
    """The base's labels, then the novel ones; of two that are alike, the base's says where it comes from."""
    kept = base.class_labels()
    return (*(f"{label} ({base.name})" if label in novel else label for label in kept), *novel)
