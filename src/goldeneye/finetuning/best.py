"""The recipe ``best``: a novel head by logistic regression on the evidence of many views.

    photos -> views -> frozen network -> evidence -> lessons -> novel head -> detector

The base stays as it is, also its boxes: what it learnt of outlines from a hundred thousand photos is
better than what five can teach. What each part is worth: docs/decisions/0022-best-recipe.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from goldeneye.config import FinetuneConfig
from goldeneye.data.annotations import AnnotationSet
from goldeneye.detect.detector import Detector
from goldeneye.finetuning.anchor_evidence import AnchorReader
from goldeneye.finetuning.cell_evidence import CellReader
from goldeneye.finetuning.evidence import Reader
from goldeneye.finetuning.novel_head import Lessons, fit_novel_head
from goldeneye.finetuning.policy import plan
from goldeneye.finetuning.restore import take_weights
from goldeneye.finetuning.seen import see_photos
from goldeneye.models.architectures import Config, build_network, weight_shapes
from goldeneye.models.base import BaseModel
from goldeneye.models.yolox import YoloxDetector
from goldeneye.models.yolox_config import YoloxConfig
from goldeneye.progress import console

VOTE_IOU = 0.65
"""From which overlap on the boxes of neighbouring cells are averaged; measured: +2 to +4 AP."""


def finetune_best(
    annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, *, show_progress: bool
) -> Detector:
    """A detector for the classes of ``annotations``; see :func:`goldeneye.finetune`."""
    take_weights(base, base.config, {})  # a base that lacks a weight is refused before any work
    network = build_network(base.config, base.weights, getattr(torch, settings.precision))
    reader = reader_of(network)
    work = plan(len(annotations), settings.effort)
    if show_progress:
        for reason in work.reasons:
            console.print(reason)
    seen = see_photos(reader, network, annotations, work.views, settings.seed, show_progress=show_progress)
    lessons = [lesson for photo in seen for lesson in photo.lessons]
    photos = [number for number, photo in enumerate(seen) for _ in photo.lessons]
    head, losses = fit_novel_head(Lessons.of(lessons, photos, reader.caution, reader.num_groups))
    config = novel_config(base.config, len(annotations.labels))
    tuned = reader.head(head)
    return Detector(
        config=config,
        weights={
            name: tuned[name] if name in tuned else base.weights[name] for name in weight_shapes(config)
        },
        labels=annotations.labels,
        base=base.origin(),
        provenance={},
        history=[
            {"step": step, "total": loss, "classification": loss, "localization": 0.0}
            for step, loss in enumerate(losses)
        ],
    )


def reader_of(network: Any) -> Reader:
    """What reads the evidence of a kind of network."""
    return CellReader(network) if isinstance(network, YoloxDetector) else AnchorReader(network)


def novel_config(config: Config, num_novel: int) -> Config:
    """The settings of the base's network with a novel head in place of its own."""
    if isinstance(config, YoloxConfig):
        return replace(config, num_classes=num_novel, num_novel=num_novel, vote_iou=VOTE_IOU)
    return replace(config, num_classes=num_novel)
