"""Fine-tune: from annotated photos and a base model to a detector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewbox import __version__
from fewbox.arguments import require_kind
from fewbox.config import FinetuneConfig
from fewbox.data.annotations import AnnotationSet, Box
from fewbox.data.formats import annotation_set
from fewbox.data.images import StrPath, find_photos, read_image
from fewbox.detect.detector import Detector
from fewbox.detect.precision import check_bfloat16
from fewbox.errors import FinetuneError, SettingError
from fewbox.finetuning.anchor_heads import AnchorHeads
from fewbox.finetuning.best import finetune_best
from fewbox.finetuning.cell_heads import CellHeads
from fewbox.finetuning.heads import Features, Heads
from fewbox.finetuning.restore import restore
from fewbox.models.architectures import build_network
from fewbox.models.base import BaseModel, load_base
from fewbox.models.yolox import YoloxDetector
from fewbox.progress import console, progress_bar

RECIPES = ("best", "seed")
PRECISION_PHOTOS = 2
"""Photos on which bfloat16 is tried; each costs two passes of the network."""


Step = dict[str, float]
"""One step's number, ``step``, from 1, and its losses before the update: ``total`` and its two parts."""


def finetune(
    annotations: AnnotationSet | StrPath,
    base: BaseModel | StrPath,
    *,
    recipe: str = "best",
    config: FinetuneConfig | None = None,
    negatives: StrPath | Sequence[StrPath] = (),
    keep_classes: bool = False,
    show_progress: bool = True,
    held_out: StrPath | None = None,
) -> Detector:
    """Teach a base model the classes of ``annotations``.

    ``recipe="best"`` fits a linear probe, a logistic regression, to the features of augmented photos.
    ``recipe="seed"`` is the one of TensorFlow's "eager few shot" notebook: a new class head,
    everything else from the base, and plain gradient descent on the two heads alone.

    Args:
        annotations: photos with boxes; every one must have been looked at. Or where they are, as for
            :func:`read_annotations`: a folder in which boxes were drawn, or a file of boxes.
        base: a base model, or its name or file as for :func:`fewbox.load_base`.
        recipe: ``"best"`` or ``"seed"``.
        config: settings; those of gradient descent are for the seed recipe alone.
        negatives: folders, files or patterns of photos in which there is none of the objects.
        keep_classes: find the base's own classes too, exactly as the base does; not with ``"seed"``.
        show_progress: print the loss as it goes and show how far the work has come.
        held_out: a picture (.jpg or .png) to write of photos as a detector sees them that has not learnt
            from them, beside their boxes; only with ``"best"``, and if there are photos enough.

    Raises:
        AnnotationError: a photo has not been looked at, or there is no box at all.
        PhotoError: a photo cannot be read.
        BaseModelError: the base cannot be found or used.
        FinetuneError: the loss is no longer a finite number.

    Examples:
        >>> photos = fewbox.read_annotations("ducks/train.json", "ducks/train")
        >>> quick = fewbox.FinetuneConfig(effort="quick")
        >>> detector = fewbox.finetune(photos, "starter", config=quick, show_progress=False)
        >>> detector.labels
        ('rubber_duck',)
        >>> detector.save("duck.safetensors")
    """
    if recipe not in RECIPES:
        raise SettingError(f"unknown recipe: {recipe!r}", hint=f"recipes: {', '.join(RECIPES)}")
    if keep_classes and recipe == "seed":
        raise SettingError("the seed recipe does not keep the base's classes", hint="use the recipe: best")
    settings = FinetuneConfig() if config is None else config
    require_kind(settings, FinetuneConfig, "config", SettingError, "FinetuneConfig(seed=1), for example")
    annotations = annotation_set(annotations)
    if not (isinstance(negatives, Sequence) and len(negatives) == 0):
        annotations = annotations.with_negatives(find_photos(negatives))
    annotations.require_reviewed()
    base_model = base if isinstance(base, BaseModel) else load_base(base)

    if recipe == "best":
        detector = finetune_best(
            annotations,
            base_model,
            settings,
            keep_classes=keep_classes,
            show_progress=show_progress,
            held_out=None if held_out is None else Path(held_out),
        )
    else:
        detector = finetune_seed(annotations, base_model, settings, show_progress=show_progress)
    detector.provenance |= provenance(annotations, recipe, settings, detector.history)
    return with_fastest_precision(detector, annotations, show_progress=show_progress)


def finetune_seed(
    annotations: AnnotationSet, base: BaseModel, settings: FinetuneConfig, *, show_progress: bool
) -> Detector:
    """A detector made by the seed recipe; see :func:`finetune`."""
    network_config, weights, report = restore(base, len(annotations.labels), settings.seed)
    if show_progress:
        console.print(str(report))
    network = build_network(network_config, weights, getattr(torch, settings.precision))
    heads = heads_of(network, weights)
    photos = features_of(heads, annotations, show_progress=show_progress)
    schedule = make_schedule(len(photos), settings)
    history = fit_heads(heads, photos, schedule, settings, show_progress=show_progress)
    detector = Detector(
        config=network_config,
        weights=weights | heads.tensors(),
        labels=annotations.labels,
        base=base.origin(),
        provenance={},
        history=history,
    )
    if settings.precision == detector.precision:
        # The network is built already; only its heads are new.
        network.load_state_dict(heads.tensors(), strict=False, assign=True)
        detector.network = network
    return detector


def with_fastest_precision(
    detector: Detector, annotations: AnnotationSet, *, show_progress: bool
) -> Detector:
    """The detector in bfloat16 if its boxes on photos it learnt from stay where they are, else as it is."""
    photos = sorted(annotations, key=lambda image: -len(image.boxes))[:PRECISION_PHOTOS]
    check = check_bfloat16(detector, [image.path for image in photos])
    if show_progress:
        console.print(str(check))
    return detector.with_precision("bfloat16") if check.holds else detector


def heads_of(network: Any, weights: Mapping[str, Tensor]) -> Heads[Any]:
    """The heads of a network, ready to be tuned from ``weights``."""
    if isinstance(network, YoloxDetector):
        return CellHeads(network, weights)
    return AnchorHeads(network, weights)


def features_of(heads: Heads[Features], annotations: AnnotationSet, *, show_progress: bool) -> list[Features]:
    """One pass of the frozen network over every photo, in the order of ``annotations``."""
    photos = []
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for image in annotations:
            learnt = [box for box in image.boxes if not box.ignore]
            class_ids = [annotations.labels.index(box.label) for box in learnt]
            ignored = corners_of([box for box in image.boxes if box.ignore])
            ids = torch.tensor(class_ids, dtype=torch.int64)
            photos.append(heads.features(read_image(image.path), corners_of(learnt), ids, ignored))
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


def provenance(
    annotations: AnnotationSet, recipe: str, settings: Any, history: Sequence[Step]
) -> dict[str, object]:
    """What a detector file says of its making; nothing in it changes from one run to the next."""
    return {
        "fewbox": __version__,
        "torch": torch.__version__,
        "recipe": recipe,
        "settings": asdict(settings),
        "photos": [{"name": i.path.name, "boxes": len(i.boxes)} for i in annotations],
        "final_loss": history[-1]["total"],
    }
