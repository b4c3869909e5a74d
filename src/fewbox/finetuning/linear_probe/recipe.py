"""The recipe ``best``: a novel head by logistic regression on the features of many views.

    photos -> views -> frozen network -> features -> samples -> novel head -> detector

The base stays as it is, also its boxes: what it learnt of outlines from a hundred thousand photos is
better than what five can teach. What each part is worth: docs/decisions/0022-best-recipe.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fewbox.config import FinetuneConfig
from fewbox.core.progress import console
from fewbox.data.annotations import AnnotationSet
from fewbox.detection.detector import Detector
from fewbox.evaluation.outcomes import Outcomes
from fewbox.finetuning.budget import Plan, plan
from fewbox.finetuning.crossval import held_out_outcomes
from fewbox.finetuning.estimate import (
    Calibration,
    Estimate,
    calibrate,
    data_warnings,
    estimate,
    estimate_in_words,
)
from fewbox.finetuning.features import CachedPhoto, extract_features
from fewbox.finetuning.linear_probe.logistic import DesignMatrix, fit_novel_head
from fewbox.finetuning.pictures import save_held_out
from fewbox.finetuning.restore import take_weights
from fewbox.models.anchor_heads import AnchorFeatureExtractor
from fewbox.models.architectures import build_network, weight_shapes
from fewbox.models.base import BaseModel
from fewbox.models.families import Config
from fewbox.models.network import FeatureExtractor
from fewbox.models.yolox import YoloxConfig
from fewbox.models.yolox.features import YoloxFeatureExtractor
from fewbox.models.yolox.network import YoloxDetector
from fewbox.models.zoo import base_labels

SUPPRESSION_IOU = 0.5
"""YOLOX's own 0.65 leaves several nested boxes on one object. With the base's classes it stays theirs."""
VOTE_IOU = 0.65
"""From which overlap on the boxes of neighbouring cells are averaged; measured: +2 to +4 AP."""


def finetune_best(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    keep_classes: bool,
    show_progress: bool,
    held_out: Path | None = None,
) -> Detector:
    """A detector for the classes of ``annotations``; see :func:`fewbox.finetune`."""
    take_weights(base, base.config, {})  # a base that lacks a weight is refused before any work
    network = build_network(base.config, base.weights, getattr(torch, settings.precision))
    reader = feature_extractor_of(network)
    work = plan(len(annotations), settings.effort)
    seen = extract_features(reader, network, annotations, work, settings.seed, show_progress=show_progress)

    def draw(outcomes: Outcomes, expected: Estimate) -> None:
        if held_out is not None:
            scores = expected.calibration.applied(outcomes.predictions.scores)
            threshold, labels = expected.score_threshold, annotations.labels
            save_held_out(held_out, annotations.images, outcomes, scores, labels, network, threshold)

    return learn_from(
        seen,
        annotations.labels,
        reader,
        base,
        work,
        keep_classes=keep_classes,
        show_progress=show_progress,
        on_held_out=draw,
    )


def learn_from(
    seen: Sequence[CachedPhoto],
    labels: tuple[str, ...],
    reader: FeatureExtractor,
    base: BaseModel,
    work: Plan,
    *,
    keep_classes: bool,
    show_progress: bool,
    on_held_out: Callable[[Outcomes, Estimate], None] = lambda _, __: None,
) -> Detector:
    """A detector for the classes ``labels``, from photos that the network of ``base`` has seen already.

    ``on_held_out`` is told what became of held-out detections, if there are any.
    """
    samples = DesignMatrix.of(
        [sample for photo in seen for sample in photo.samples],
        [number for number, photo in enumerate(seen) for _ in photo.samples],
        reader.column_scale,
        reader.num_groups,
    )
    head, losses = fit_novel_head(samples)
    config = novel_config(base.config, len(labels), keep_classes=keep_classes)
    outcomes = None
    if work.folds:
        outcomes = held_out_outcomes(seen, samples, work.folds, config.iou_threshold, len(labels))
    calibration = Calibration() if outcomes is None else calibrate(outcomes)
    shown = {class_id for photo in seen for class_id in photo.class_ids.tolist()}
    boxless = [label for class_id, label in enumerate(labels) if class_id not in shown]
    remarks = data_warnings(seen, outcomes)
    expected = estimate(outcomes, labels, len(seen), calibration, remarks, boxless)
    if show_progress:
        for line in (*work.reasons, *estimate_in_words(expected.to_dict()).splitlines()):
            console.print(line)
    if outcomes is not None:
        on_held_out(outcomes, expected)
    tuned = reader.head(calibration.of_head(head), keep_classes=keep_classes)
    return Detector(
        config=config,
        weights={name: (base.weights | tuned)[name] for name in weight_shapes(config)},
        labels=_all_labels(base, labels) if keep_classes else labels,
        base=base.origin(),
        provenance={"plan": work.reasons, "estimate": expected.to_dict()},
        history=[
            {"step": step, "total": sum(loss), "objects": loss.objects, "background": loss.background}
            for step, loss in enumerate(losses, start=1)
        ],
        score_threshold=expected.score_threshold,
    )


def feature_extractor_of(network: Any) -> FeatureExtractor:
    """What reads the features of a kind of network."""
    return (
        YoloxFeatureExtractor(network)
        if isinstance(network, YoloxDetector)
        else AnchorFeatureExtractor(network)
    )


def novel_config(config: Config, num_novel: int, *, keep_classes: bool) -> Config:
    """The settings of the base's network with a novel head in place of its own, or beside it."""
    num_classes = num_novel + (config.num_classes if keep_classes else 0)
    suppression_iou = config.iou_threshold if keep_classes else min(config.iou_threshold, SUPPRESSION_IOU)
    config = replace(config, num_classes=num_classes, iou_threshold=suppression_iou)
    if isinstance(config, YoloxConfig):
        return replace(config, num_novel=num_novel, vote_iou=VOTE_IOU)
    return replace(config, num_novel=num_novel if keep_classes else 0)


def _all_labels(base: BaseModel, novel: Sequence[str]) -> tuple[str, ...]:
    """The base's labels, then the novel ones; of two that are alike, the base's says where it comes from."""
    kept = base_labels(base.name, base.config.num_classes)
    return (*(f"{label} ({base.name})" if label in novel else label for label in kept), *novel)
