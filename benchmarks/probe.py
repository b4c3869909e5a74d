"""The simplest few-shot detector that a frozen YOLOX allows, to compare with.

One logistic regression on both towers of every cell, the same for all levels, a ridge of 1, no views.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.finetuning.linear_probe.logistic import Rows, fit_logistic
from fewbox.finetuning.seed import corners_of
from fewbox.models.base import BaseModel
from fewbox.models.boxes import pairwise_iou
from fewbox.models.families import build_network, family_of, weight_shapes
from fewbox.models.network import Coefficients
from fewbox.models.yolox.features import YoloxFeatureExtractor

MATCHED_IOU = 0.6
MAX_STEPS = 300


def probe(annotations: AnnotationSet, base: BaseModel) -> Detector:
    """A detector for the classes of ``annotations``."""
    network: Any = build_network(base.config, base.weights)
    reader, labels = YoloxFeatureExtractor(network), annotations.labels
    columns, targets = [], []
    for photo in annotations:
        image = read_image(photo.path)
        features = reader.read(image)
        target = torch.zeros(len(features.boxes), len(labels))
        boxes = network.to_input(corners_of(photo.boxes), (image.shape[0], image.shape[1]))
        overlaps = pairwise_iou(boxes, features.boxes)
        for box, overlap in zip(photo.boxes, overlaps, strict=True):
            class_id = labels.index(box.label)
            target[overlap > MATCHED_IOU, class_id] = 1
            target[overlap.argmax(), class_id] = 1
        columns.append(features.tower_features)
        targets.append(target)
    rows = torch.cat(columns)
    nothing = torch.zeros(len(rows), 0)
    weights = torch.ones(len(rows), len(labels))
    start = Coefficients(
        torch.zeros(rows.shape[1], len(labels)), torch.zeros(1, 0, len(labels)), torch.zeros(len(labels))
    )
    learnt, losses = fit_logistic(
        Rows(rows, nothing, [len(rows)], torch.cat(targets), weights), 1.0, start, MAX_STEPS
    )
    same = learnt.base_logits.expand(reader.num_groups, -1, -1)
    head = Coefficients(torch.zeros(base.config.num_classes + 1, len(labels)), same, learnt.bias)
    config = family_of(base.config).probe_config(base.config, len(labels), keep_classes=False)
    config = replace(config, iou_threshold=base.config.iou_threshold, vote_iou=None)
    tuned = reader.head(head, keep_classes=False)
    return Detector(
        config=config,
        weights={name: (base.weights | tuned)[name] for name in weight_shapes(config)},
        labels=labels,
        base=base.origin(),
        provenance={},
        history=[{"total": sum(losses[-1])}],
    )
