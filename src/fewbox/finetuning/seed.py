"""The seed recipe, whole: gradient descent on the heads alone, as in TensorFlow's "eager few shot" notebook.

    photos -> frozen network -> cached features -> schedule of batches -> gradient descent -> detector

A photo's features are all that the heads read of it, so a step costs the heads alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fewbox.config import FinetuneConfig
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotationSet, Box
from fewbox.detection.detector import Detector
from fewbox.errors import FinetuneError
from fewbox.finetuning.features import image_of
from fewbox.models.base import BaseModel, restore
from fewbox.models.families import build_network, family_of
from fewbox.models.network import Features, Heads

Step = dict[str, float]
"""One step's number, ``step``, from 1, and its losses before the update: ``total`` and its two parts."""


def finetune_seed(
    annotations: AnnotationSet,
    base: BaseModel,
    settings: FinetuneConfig,
    *,
    show_progress: bool,
    device: torch.device | None = None,
) -> Detector:
    """A detector made by the seed recipe; see :func:`fewbox.finetune`."""
    network_config, weights, report = restore(base, len(annotations.labels), settings.seed)
    if show_progress:
        console.print(str(report))
    network = build_network(network_config, weights, getattr(torch, settings.precision), device)
    heads = family_of(network_config).heads(network, weights)
    photos = features_of(heads, annotations, show_progress=show_progress)
    schedule = make_schedule(len(photos), settings)
    history = fit_heads(heads, photos, schedule, settings, show_progress=show_progress)
    detector = Detector(
        config=network_config,
        weights=weights | {name: weight.numpy() for name, weight in heads.tensors().items()},
        labels=annotations.labels,
        base=base.origin(),
        provenance={},
        history=history,
        device=device,
    )
    if settings.precision == detector.precision:
        # The network is built already; only its heads are new.
        tuned = {name: weight.to(device) for name, weight in heads.tensors().items()}
        network.load_state_dict(tuned, strict=False, assign=True)
        detector.network = network
    return detector


def features_of(heads: Heads[Features], annotations: AnnotationSet, *, show_progress: bool) -> list[Features]:
    """One pass of the frozen network over every photo, in the order of ``annotations``."""
    photos = []
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for image in annotations:
            learnt = image.objects
            class_ids = [annotations.labels.index(box.label) for box in learnt]
            ignored = corners_of([box for box in image.boxes if box.ignore])
            ids = torch.tensor(class_ids, dtype=torch.int64)
            photos.append(heads.features(image_of(image), corners_of(learnt), ids, ignored))
            advance(image.path.name)
    return photos


def corners_of(boxes: Sequence[Box]) -> Tensor:
    """Boxes as a tensor ``[M, 4]``."""
    return torch.tensor([(b.x1, b.y1, b.x2, b.y2) for b in boxes]).reshape(-1, 4)


def make_schedule(num_photos: int, settings: FinetuneConfig) -> list[list[int]]:
    """Which photos each step learns from: every time a fresh shuffle, of which the first few are taken."""
    generator = np.random.default_rng(settings.seed)
    return [generator.permutation(num_photos)[: settings.batch_size].tolist() for _ in range(settings.steps)]


def fit_heads(
    heads: Heads[Features],
    photos: Sequence[Features],
    schedule: Sequence[Sequence[int]],
    settings: FinetuneConfig,
    *,
    show_progress: bool = True,
) -> list[Step]:
    """Fit ``heads`` in place by gradient descent with momentum; one row of losses per step.

    Raises:
        FinetuneError: the loss is no longer a finite number.
    """
    parameters = heads.parameters
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    history: list[Step] = []
    with progress_bar("fitting the heads", len(schedule), show=show_progress) as advance:
        for number, indices in enumerate(schedule, start=1):
            losses = heads.loss([photos[i] for i in indices])
            row: Step = {
                "step": number,
                "total": losses.total.item(),
                "classification": losses.classification.item(),
                "localization": losses.localization.item(),
            }
            require_finite(row)
            # Written out because torch.optim imports the compiler: about a second, for these two lines.
            gradients = torch.autograd.grad(losses.total, parameters)
            with torch.no_grad():
                for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
                    velocity.mul_(settings.momentum).add_(gradient)
                    parameter.sub_(settings.learning_rate * heads.step_scale * velocity)
            history.append(row)
            advance(f"loss {row['total']:.4f}")
            if show_progress and (number % 10 == 0 or number == len(schedule)):
                console.print(f"step {number} of {len(schedule)}, loss {row['total']:.4f}")
    return history


def require_finite(row: Step) -> None:
    """Stop at a loss that is infinite or no number: from there on every weight would be lost.

    Raises:
        FinetuneError: the parts of the loss that are not finite are named.
    """
    parts = ("classification", "localization")
    broken = [f"{part} {row[part]}" for part in parts if not math.isfinite(row[part])]
    if broken:
        raise FinetuneError(
            f"step {row['step']}: the loss is not finite: {', '.join(broken)}",
            hint="use a smaller learning rate: --learning-rate",
        )
