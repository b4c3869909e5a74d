"""The simplest few-shot detector that a frozen YOLOX allows, to compare with.

One logistic regression on both towers of every cell, the same for all levels, a ridge of 1, no views.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.core.boxes import pairwise_iou
from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection.detector import Detector
from fewbox.finetuning.linear_probe import Rows, fit_logistic
from fewbox.models.base import BaseModel
from fewbox.models.families import build_network, family_of, weight_shapes
from fewbox.models.features import Coefficients
from fewbox.models.yolox.network import YoloxFeatureExtractor

MATCHED_IOU = 0.6
MAX_STEPS = 300


def probe(annotations: AnnotationSet, base: BaseModel) -> Detector:
    """A detector for the classes of ``annotations``."""
    network: Any = build_network(base.config, base.weights)
    reader, labels = YoloxFeatureExtractor(network), annotations.labels
    columns, targets = [], []
    for photo in annotations:
        image = read_image(photo.path)
        seen = reader.read(image)
        features = seen.at(np.arange(len(seen.boxes)))
        target = np.zeros((len(features.boxes), len(labels)), np.float32)
        corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
        boxes = base.config.to_input(corners, (image.shape[0], image.shape[1]))
        overlaps = pairwise_iou(boxes, features.boxes)
        for box, overlap in zip(photo.boxes, overlaps, strict=True):
            class_id = labels.index(box.label)
            target[overlap > MATCHED_IOU, class_id] = 1
            target[overlap.argmax(), class_id] = 1
        columns.append(features.tower_features)
        targets.append(target)
    rows = np.concatenate(columns)

    def filled(value: float, *shape: int) -> NDArray[np.float32]:
        return np.full(shape, value, np.float32)

    start = Coefficients(
        filled(0, rows.shape[1], len(labels)), filled(0, 1, 0, len(labels)), filled(0, len(labels))
    )
    weights = filled(1, len(rows), len(labels))
    learnt, losses = fit_logistic(
        Rows(rows, filled(0, len(rows), 0), [len(rows)], np.concatenate(targets), weights),
        1.0,
        start,
        MAX_STEPS,
    )
    same = np.broadcast_to(learnt.base_logits, (reader.num_groups, *learnt.base_logits.shape))
    head = Coefficients(filled(0, base.config.num_classes + 1, len(labels)), same, learnt.bias)
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
