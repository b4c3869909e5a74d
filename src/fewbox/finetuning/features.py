"""Cached features: each photo, and augmented views of it, as the frozen network saw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.images import read_image
from fewbox.detection.parallel import run_each
from fewbox.finetuning.augment import with_views
from fewbox.finetuning.linear_probe.targets import Sample
from fewbox.finetuning.resume import Arrays, ComputedArrays
from fewbox.models.families import Config
from fewbox.models.features import AnchorFeatures, FeatureExtractor, Floats, PictureFeatures

MIN_VISIBLE = 0.6
"""A box of which a view shows less is ignored there: too little of the object is left to learn it from."""

Assign = Callable[[PictureFeatures, Floats, NDArray[np.int64], Floats, np.random.RandomState], Sample]
"""What to learn from the features of an image, its boxes, their class ids, and regions to ignore."""


@dataclass(frozen=True, eq=False)
class CachedPhoto:
    """One photo and its augmented views. Boxes are in pixels of the network's input."""

    name: str
    features: AnchorFeatures
    """Of the photo itself."""
    boxes: Floats
    class_ids: NDArray[np.int64]
    ignored: Floats
    samples: list[Sample]
    """The photo's own, then one per augmented view."""

    def to_arrays(self) -> Arrays:
        """All but the name, as they are written to a file."""
        arrays: Arrays = {"boxes": self.boxes, "class_ids": self.class_ids, "ignored": self.ignored}
        arrays |= _named("photo", self.features)
        for view, sample in enumerate(self.samples):
            arrays |= {f"{view}.targets": sample.targets, f"{view}.weights": sample.weights}
            arrays |= _named(str(view), sample.features)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays, name: str) -> CachedPhoto:
        """What :meth:`to_arrays` gave of the photo of this name."""
        views = sum(key.endswith(".targets") for key in arrays)
        samples = [
            Sample(_features(str(view), arrays), arrays[f"{view}.targets"], arrays[f"{view}.weights"])
            for view in range(views)
        ]
        boxes, class_ids, ignored = (arrays[key] for key in ("boxes", "class_ids", "ignored"))
        return cls(name, _features("photo", arrays), boxes, class_ids, ignored, samples)


def _named(prefix: str, features: AnchorFeatures) -> Arrays:
    return {f"{prefix}.{field.name}": getattr(features, field.name) for field in fields(features)}


def _features(prefix: str, arrays: Arrays) -> AnchorFeatures:
    return AnchorFeatures(
        **{field.name: arrays[f"{prefix}.{field.name}"] for field in fields(AnchorFeatures)}
    )


def extract_features(
    extractor: FeatureExtractor,
    config: Config,
    annotations: AnnotationSet,
    assign: Assign,
    *,
    num_views: int,
    num_kept: int,
    seed: int,
    show_progress: bool,
    computed: ComputedArrays | None = None,
) -> list[CachedPhoto]:
    """Show every photo and its augmented views to the frozen network, once.

    Args:
        extractor: reads the network.
        config: of the base.
        annotations: N photos.
        assign: takes from the features of each image what is learnt from; all others are dropped at once.
        num_views: augmented views of each photo, of which the first is its mirror image.
        num_kept: anchors of the photo itself, the likeliest by the base, of which the features are kept.
        seed: with a photo's place, what its views are drawn from.
        show_progress: show how far the work has come.
        computed: what a run before has computed, and where this one keeps it; None keeps nothing.
    """

    def look(number: int) -> CachedPhoto:
        photo, labels = annotations.images[number], annotations.labels
        seeds = (seed, number)
        compute = partial(_cached, extractor, config, photo, labels, assign, num_views, num_kept, seeds)
        if computed is None:
            return compute()
        unpack = partial(CachedPhoto.from_arrays, name=photo.path.name)
        return computed.of_photo(number, photo, compute, CachedPhoto.to_arrays, unpack)

    looks = run_each(look, range(len(annotations)), beside=extractor.reads_beside)
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
    config: Config,
    photo: AnnotatedImage,
    labels: Sequence[str],
    assign: Assign,
    num_views: int,
    num_kept: int,
    seeds: tuple[int, int],
) -> CachedPhoto:
    image = read_image(photo.path)
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
    ids = np.array([labels.index(box.label) for box in photo.boxes], np.int64)
    ignore = np.array([box.ignore for box in photo.boxes], bool)
    draws = np.random.RandomState(sum(seeds) & 0xFFFFFFFF)
    samples: list[Sample] = []
    for view in with_views(config, image, corners, num_views, np.random.default_rng(seeds)):
        features = extractor.read(view.image)
        boxes = config.to_input(view.boxes, (view.image.shape[0], view.image.shape[1]))
        learnt = (view.visible >= MIN_VISIBLE) & ~ignore
        ignored = ~learnt & (view.visible > 0)
        samples.append(assign(features, boxes[learnt], ids[learnt], boxes[ignored], draws))
        if len(samples) == 1:
            kept = features.at(_highest(features.base_score, num_kept))
            original = (kept, boxes[learnt], ids[learnt], boxes[ignored])
    return CachedPhoto(photo.path.name, *original, samples)


def _highest(values: Floats, count: int) -> NDArray[np.int64]:
    """Where the highest ``count`` of the values are, ascending."""
    if count >= len(values):
        return np.arange(len(values))
    return np.sort(np.argpartition(values, -count)[-count:])
