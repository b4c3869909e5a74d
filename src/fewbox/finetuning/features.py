"""Photos as the frozen network saw them, and views of them: all that fitting and checking need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbox.core.progress import progress_bar
from fewbox.data.annotations import AnnotatedImage, AnnotationSet
from fewbox.data.images import read_image
from fewbox.finetuning.augment import View, mirrored, random_view
from fewbox.finetuning.budget import Plan
from fewbox.finetuning.linear_probe.targets import Sample, assign_targets
from fewbox.models.network import AnchorFeatures, FeatureExtractor, Network

MIN_VISIBLE = 0.6
"""A box of which a view shows less is ignored there: too little of the object is left to learn it from."""


@dataclass(frozen=True, eq=False)
class CachedPhoto:
    """One photo and its views. Boxes are in pixels of the network's input."""

    name: str
    features: AnchorFeatures
    """Of the photo itself."""
    boxes: Tensor
    class_ids: Tensor
    ignored: Tensor
    samples: list[Sample]
    """The photo's own, then one per view."""


def extract_features(
    reader: FeatureExtractor,
    network: Network,
    annotations: AnnotationSet,
    work: Plan,
    seed: int,
    *,
    show_progress: bool,
) -> list[CachedPhoto]:
    """Show every photo and its views to the frozen network, once.

    Args:
        reader: reads the network.
        network: the base's own, folded.
        annotations: N photos.
        work: how many views each gets beside itself, of which the first is its mirror image.
        seed: with a photo's place, what its views are drawn from.
        show_progress: show how far the work has come.
    """
    seen = []
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for number, photo in enumerate(annotations):
            seen.append(_see(reader, network, photo, annotations.labels, work, (seed, number)))
            advance(photo.path.name)
    return seen


def _see(
    reader: FeatureExtractor,
    network: Network,
    photo: AnnotatedImage,
    labels: Sequence[str],
    work: Plan,
    seeds: tuple[int, int],
) -> CachedPhoto:
    image = read_image(photo.path)
    corners = np.array([(b.x1, b.y1, b.x2, b.y2) for b in photo.boxes]).reshape(-1, 4)
    ids = torch.tensor([labels.index(box.label) for box in photo.boxes], dtype=torch.int64)
    ignore = torch.tensor([box.ignore for box in photo.boxes], dtype=torch.bool)
    draws = torch.Generator().manual_seed(seeds[0] + seeds[1])
    samples: list[Sample] = []
    for view in _views_of(network, image, corners, work.views, np.random.default_rng(seeds)):
        features = reader.read(view.image)
        view_size_hw = (view.image.shape[0], view.image.shape[1])
        boxes = network.to_input(torch.from_numpy(view.boxes).float(), view_size_hw)
        visible = torch.from_numpy(view.visible)
        learnt = (visible >= MIN_VISIBLE) & ~ignore
        ignored = ~learnt & (visible > 0)
        samples.append(
            assign_targets(
                features, boxes[learnt], ids[learnt], boxes[ignored], len(labels), work.rows, draws
            )
        )
        if len(samples) == 1:
            kept = features.base_score.topk(min(work.kept, len(features.base_score))).indices.sort().values
            original = (features.at(kept), boxes[learnt], ids[learnt], boxes[ignored])
    return CachedPhoto(photo.path.name, *original, samples)


def _views_of(
    network: Network,
    image: NDArray[np.uint8],
    corners: NDArray[np.float64],
    count: int,
    generator: np.random.Generator,
) -> Iterator[View]:
    """The photo itself, then ``count`` views of it."""
    yield View(image, corners, np.ones(len(corners)))
    size_hw = (image.shape[0], image.shape[1])
    scale_x, scale_y = network.to_input(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), size_hw)[0, 2:].tolist()
    for number in range(count):
        if number == 0:
            yield mirrored(image, corners)
        else:
            yield random_view(image, corners, (scale_x, scale_y), network.input_size_hw(size_hw), generator)
