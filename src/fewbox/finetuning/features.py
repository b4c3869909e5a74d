"""Cached features: each photo, and augmented views of it, as the frozen network saw them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection.parallel import run_each
from fewbox.finetuning.augment import with_views
from fewbox.finetuning.linear_probe.targets import Sample
from fewbox.finetuning.resume import ComputedTensors, Tensors
from fewbox.models.device import device_of, in_batches
from fewbox.models.network import AnchorFeatures, FeatureExtractor, Network

SMALL_NETWORK = 6_000_000
"""Numbers in its weights up to which a network is small: one pass has too little work for two threads."""
MIN_VISIBLE = 0.6
"""A box of which a view shows less is ignored there: too little of the object is left to learn it from."""

Assign = Callable[[AnchorFeatures, Tensor, Tensor, Tensor, torch.Generator], Sample]
"""What to learn from the features of an image, its boxes, their class ids, and regions to ignore."""


@dataclass(frozen=True, eq=False)
class CachedPhoto:
    """One photo and its augmented views. Boxes are in pixels of the network's input."""

    name: str
    features: AnchorFeatures
    """Of the photo itself."""
    boxes: Tensor
    class_ids: Tensor
    ignored: Tensor
    samples: list[Sample]
    """The photo's own, then one per augmented view."""

    def to_tensors(self) -> Tensors:
        """All but the name, as they are written to a file."""
        tensors = {"boxes": self.boxes, "class_ids": self.class_ids, "ignored": self.ignored}
        tensors |= _named("photo", self.features)
        for view, sample in enumerate(self.samples):
            tensors |= {f"{view}.targets": sample.targets, f"{view}.weights": sample.weights}
            tensors |= _named(str(view), sample.features)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Tensors, name: str) -> CachedPhoto:
        """What :meth:`to_tensors` gave of the photo of this name."""
        views = sum(key.endswith(".targets") for key in tensors)
        samples = [
            Sample(_features(str(view), tensors), tensors[f"{view}.targets"], tensors[f"{view}.weights"])
            for view in range(views)
        ]
        boxes, class_ids, ignored = (tensors[key] for key in ("boxes", "class_ids", "ignored"))
        return cls(name, _features("photo", tensors), boxes, class_ids, ignored, samples)


def _named(prefix: str, features: AnchorFeatures) -> Tensors:
    return {f"{prefix}.{field.name}": getattr(features, field.name) for field in fields(features)}


def _features(prefix: str, tensors: Tensors) -> AnchorFeatures:
    return AnchorFeatures(
        **{field.name: tensors[f"{prefix}.{field.name}"] for field in fields(AnchorFeatures)}
    )


def extract_features(
    extractor: FeatureExtractor,
    network: Network,
    annotations: AnnotationSet,
    assign: Assign,
    *,
    num_views: int,
    num_kept: int,
    seed: int,
    show_progress: bool,
    computed: ComputedTensors | None = None,
) -> list[CachedPhoto]:
    """Show every photo and its augmented views to the frozen network, once.

    Args:
        extractor: reads the network.
        network: the base's own, folded.
        annotations: N photos.
        assign: takes from the features of each image what is learnt from; all others are dropped at once.
        num_views: augmented views of each photo, of which the first is its mirror image.
        num_kept: anchors of the photo itself, the likeliest by the base, of which the features are kept.
        seed: with a photo's place, what its views are drawn from.
        show_progress: show how far the work has come.
        computed: what a run before has computed, and where this one keeps it; None keeps nothing.
    """
    is_gpu = device_of(network).type != "cpu"
    turn = threading.Lock() if is_gpu else nullcontext()

    def look(number: int) -> CachedPhoto:
        photo, labels = annotations.images[number], annotations.labels
        seeds = (seed, number)
        compute = partial(
            _cached, extractor, network, photo, labels, assign, num_views, num_kept, seeds, turn
        )
        if computed is None:
            return compute()
        unpack = partial(CachedPhoto.from_tensors, name=photo.path.name)
        return computed.of_photo(number, photo, compute, CachedPhoto.to_tensors, unpack)

    is_small = sum(weight.numel() for weight in network.parameters()) <= SMALL_NETWORK
    looks = run_each(look, range(len(annotations)), beside=is_gpu or is_small)
    photos = []
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for image, done in zip(annotations, looks, strict=True):
            photos.append(done.result())
            advance(image.path.name)
    if show_progress and computed is not None and computed.num_found:
        console.print(computed.in_words(len(photos)))
    return photos


def _cached(
    extractor: FeatureExtractor,
    network: Network,
    photo: AnnotatedImage,
    labels: Sequence[str],
    assign: Assign,
    num_views: int,
    num_kept: int,
    seeds: tuple[int, int],
    turn: AbstractContextManager[object],
) -> CachedPhoto:
    image = read_image(photo.path)
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
    ids = torch.tensor([labels.index(box.label) for box in photo.boxes], dtype=torch.int64)
    ignore = torch.tensor([box.ignore for box in photo.boxes], dtype=torch.bool)
    draws = torch.Generator().manual_seed(seeds[0] + seeds[1])
    samples: list[Sample] = []
    for view in with_views(network, image, corners, num_views, np.random.default_rng(seeds)):
        with turn:  # the columns of one view alone fill tens of megabytes of a GPU
            features = next(in_batches(lambda views: [extractor.read(views[0])], [view.image], 1))
        view_size_hw = (view.image.shape[0], view.image.shape[1])
        boxes = network.to_input(torch.from_numpy(view.boxes).float(), view_size_hw)
        visible = torch.from_numpy(view.visible)
        learnt = (visible >= MIN_VISIBLE) & ~ignore
        ignored = ~learnt & (visible > 0)
        samples.append(assign(features, boxes[learnt], ids[learnt], boxes[ignored], draws))
        if len(samples) == 1:
            kept = features.base_score.topk(min(num_kept, len(features.base_score))).indices.sort().values
            original = (features.at(kept), boxes[learnt], ids[learnt], boxes[ignored])
    return CachedPhoto(photo.path.name, *original, samples)
