"""Cached features: each photo, and augmented views of it, as the frozen network saw them; and what runs that.

A base runs as its graph in ONNX Runtime, or as its network in PyTorch. On the processor a pass of a small
base takes ONNX Runtime a third to a half of the time, and to import it a tenth of what PyTorch takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewbox.core import importing_torch, num_cores, require_packages
from fewbox.core.boxes import are_same_boxes
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotatedImage, AnnotationSet, require_size
from fewbox.data.images import read_image
from fewbox.data.similar import SAME, perceptual_hash
from fewbox.detection.parallel import run_each
from fewbox.finetuning.augment import with_views
from fewbox.finetuning.linear_probe import Sample
from fewbox.finetuning.resume import Arrays, ComputedArrays
from fewbox.models.base import BaseModel
from fewbox.models.device import is_processor
from fewbox.models.families import Config, build_network, family_of
from fewbox.models.features import (
    SMALL_NETWORK,
    AnchorFeatures,
    BaseGraph,
    Coefficients,
    FeatureExtractor,
    Floats,
    PictureFeatures,
)
from fewbox.runtimes.onnxruntime import open_session

if TYPE_CHECKING:
    import torch


def require_runnable(base: BaseModel, precision: str, device: torch.device | None) -> None:
    """Refuse, before any work, a base that only PyTorch runs where that is missing.

    Raises:
        SettingError: it is.
    """
    if not _runs_as_graph(base, precision, device):
        require_packages(["torch"], f"learning from {base.name}")


def _runs_as_graph(base: BaseModel, precision: str, device: torch.device | None) -> bool:
    return is_processor(device) and precision == "float32" and family_of(base.config).writes_graphs


def feature_extractor(
    base: BaseModel, precision: str = "float32", device: torch.device | None = None
) -> FeatureExtractor:
    """What reads features with ``base``.

    Args:
        base: frozen.
        precision: of what it computes: ``"float32"`` or ``"bfloat16"``.
        device: where it computes; on the processor if not given.

    Raises:
        SettingError: that needs PyTorch, and it is not installed.
    """
    require_runnable(base, precision, device)
    family = family_of(base.config)
    if _runs_as_graph(base, precision, device):
        return GraphExtractor(base, family.base_graph(base.config, base.weights))
    with importing_torch():
        import torch

    network = build_network(base.config, base.weights, getattr(torch, precision), device)
    return family.feature_extractor(network)


class GraphExtractor:
    """Reads the anchors of a base whose family writes it as a graph; see :class:`FeatureExtractor`.

    Args:
        base: frozen.
        graph: made of it.
    """

    def __init__(self, base: BaseModel, graph: BaseGraph) -> None:
        self.base, self.family = base, family_of(base.config)
        self.num_groups, self.column_scale = len(graph.group_sizes), graph.column_scale
        self.reads_beside = sum(weight.size for weight in base.weights.values()) <= SMALL_NETWORK
        self._session = open_session(graph.content, num_threads=1 if self.reads_beside else num_cores())
        self._groups = np.repeat(np.arange(self.num_groups), graph.group_sizes)

    def read(self, image: NDArray[np.uint8]) -> AnchorFeatures:
        """One pass over a picture ``[H, W, 3]``."""
        pixels = self.family.prepared_array(image, self.base.config)
        names = ["base_logits", "tower_features", "boxes", "base_score"]
        of_picture = (output[0] for output in self._session.run(names, {"pixels": pixels}))
        base_logits, tower_features, boxes, base_score = of_picture
        return AnchorFeatures(base_logits, tower_features, self._groups, boxes, base_score)

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, Floats]:
        """A head beside the base's own, which are kept or not."""
        return self.family.novel_head(coefficients, self.base.weights)


MIN_VISIBLE = 0.6
"""A box of which a view shows less is ignored there: too little of the object is left to learn it from."""

HASHED_SIDE = 512
"""Pixels of the shorter side, of larger photos about so many are enough for a hash of 17 x 17 places."""
SAME_SIDE = 0.9
"""From which ratio on a side of a box is that of one in a copy, where the copy may be mirrored or turned."""

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
    picture_hash: NDArray[np.bool_]
    """By which copies of a photo are known, ``[512]``; ``[0]`` if it shows too little for that."""

    def to_arrays(self) -> Arrays:
        """All but the name, as they are written to a file."""
        arrays: Arrays = {"boxes": self.boxes, "class_ids": self.class_ids, "ignored": self.ignored}
        arrays["picture_hash"] = self.picture_hash
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
        own = _features("photo", arrays)
        return cls(
            name, own, boxes, class_ids, ignored, samples, arrays.get("picture_hash", np.zeros(0, bool))
        )


def _named(prefix: str, features: AnchorFeatures) -> Arrays:
    return {f"{prefix}.{field.name}": getattr(features, field.name) for field in fields(features)}


def _features(prefix: str, arrays: Arrays) -> AnchorFeatures:
    return AnchorFeatures(
        **{field.name: arrays[f"{prefix}.{field.name}"] for field in fields(AnchorFeatures)}
    )


def shared_boxes(photos: Sequence[CachedPhoto]) -> list[tuple[int, int]]:
    """Classes with a box in the very same place, in pairs: the one that is learnt there, then the other."""
    pairs = set[tuple[int, int]]()
    for photo in photos:
        first, second = np.nonzero(np.triu((photo.boxes[:, None] == photo.boxes).all(2), 1))
        pairs |= set(zip(photo.class_ids[first].tolist(), photo.class_ids[second].tolist(), strict=True))
    return sorted(pair for pair in pairs if pair[0] != pair[1])


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
    names = annotations.names

    def look(number: int) -> CachedPhoto:
        photo, labels = annotations.images[number], annotations.labels
        seeds = (seed, number)
        compute = partial(
            _cached, extractor, config, photo, labels, assign, num_views, num_kept, seeds, names[number]
        )
        if computed is None:
            return compute()
        unpack = partial(CachedPhoto.from_arrays, name=names[number])
        return computed.of_photo(number, photo, compute, CachedPhoto.to_arrays, unpack)

    looks = run_each(look, range(len(annotations)), beside=extractor.reads_beside)
    photos = []
    with progress_bar("looking at the photos", len(annotations), show=show_progress) as advance:
        for name, done in zip(names, looks, strict=True):
            photos.append(done.result())
            advance(name)
    if show_progress and computed is not None and computed.num_found:
        console.print(computed.in_words(len(photos)))
    return photos


def image_of(photo: AnnotatedImage) -> NDArray[np.uint8]:
    """``[H, W, 3]``: the photo, upright.

    Raises:
        AnnotationError: it has another size now than its boxes were drawn in.
        PhotoError: it cannot be read.
    """
    image = read_image(photo.path)
    if photo.boxes:
        require_size(photo.size_hw, image.shape[:2], photo.path.name)
    return image


def _cached(
    extractor: FeatureExtractor,
    config: Config,
    photo: AnnotatedImage,
    labels: Sequence[str],
    assign: Assign,
    num_views: int,
    num_kept: int,
    seeds: tuple[int, int],
    name: str,
) -> CachedPhoto:
    image = image_of(photo)
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
    step = max(min(image.shape[:2]) // HASHED_SIDE, 1)
    picture_hash = perceptual_hash(image[::step, ::step])
    return CachedPhoto(name, *original, samples, np.zeros(0, bool) if picture_hash is None else picture_hash)


def groups_of_copies(photos: Sequence[CachedPhoto]) -> list[list[int]]:
    """The numbers of the photos, together those that are copies of one.

    Copies are one picture bit for bit; or they have the same boxes and are alike, as of a photo saved again;
    or Roboflow made them of one, as their names say, and their boxes are as large: mirrored ones too. Photos
    of a camera that does not move are as alike, but what lies in them lies elsewhere.
    """
    same_bits: dict[bytes, list[int]] = {}
    for number, photo in enumerate(photos):
        same_bits.setdefault(photo.features.base_score.tobytes(), []).append(number)
    twins = {max(group, key=lambda n: len(photos[n].boxes)): group for group in same_bits.values()}
    of_classes: dict[tuple[int, ...], list[int]] = {}
    for number in sorted(twins):
        of_classes.setdefault(tuple(np.sort(photos[number].class_ids).tolist()), []).append(number)
    groups: list[list[int]] = []
    for classes, numbers in of_classes.items():
        alike = _groups_of_same_boxes([photos[number] for number in numbers]) if classes else []
        groups += [[numbers[place] for place in group] for group in alike] or [[number] for number in numbers]
    return sorted(sorted(n for first in group for n in twins[first]) for group in groups)


def has_same_boxes(copy: CachedPhoto, other: CachedPhoto) -> bool:
    """Whether a copy says the same as another: one picture may have been annotated twice, or marked empty."""
    if copy.features.base_score.tobytes() != other.features.base_score.tobytes():
        return True  # by its boxes it is known as a copy
    return bool(are_same_boxes(copy.class_ids, copy.boxes, other.class_ids, other.boxes))


def _groups_of_same_boxes(photos: Sequence[CachedPhoto]) -> list[list[int]]:
    """The places of copies together, of N photos with M boxes of the same classes, in whatever order."""
    boxes = np.stack([photo.boxes for photo in photos])  # [N, M, 4]
    class_ids = np.stack([photo.class_ids for photo in photos])
    sides = np.stack([_sorted_sides(photo) for photo in photos])
    sources = np.array([_roboflow_source(photo) for photo in photos])
    groups, left = [], np.arange(len(photos))
    # Each is held against the first of a group: in a slow film all are like their neighbours.
    while len(left):
        first, others = left[0], left[1:]
        is_copy = are_same_boxes(class_ids[first], boxes[first], class_ids[others], boxes[others])
        own = photos[first].picture_hash
        for place in np.flatnonzero(is_copy).tolist():
            other = photos[others[place]].picture_hash
            is_copy[place] = len(own) == len(other) > 0 and (own != other).mean() <= SAME
        if sources[first]:
            shorter, longer = (pick(sides[first], sides[others]) for pick in (np.minimum, np.maximum))
            is_copy |= (sources[others] == sources[first]) & (shorter >= SAME_SIDE * longer).all((1, 2))
        groups.append([int(first), *others[is_copy].tolist()])
        left = others[~is_copy]
    return groups


def _sorted_sides(photo: CachedPhoto) -> Floats:
    """The shorter and the longer sides ``[2, M]`` of the boxes, each sorted within each class."""
    lengths = np.sort(photo.boxes[:, 2:] - photo.boxes[:, :2], -1)  # a copy may be turned
    return np.stack([side[np.lexsort((side, photo.class_ids))] for side in lengths.T])


def _roboflow_source(photo: CachedPhoto) -> str:
    """What Roboflow calls the photo that it made this one of; many may be called ``image_jpg``."""
    named = re.fullmatch(r"(.+)\.rf\.[0-9a-f]{32}\.\w+", PurePath(photo.name).name)
    return named[1] if named else ""


def held_together(photos: Sequence[CachedPhoto]) -> list[list[int]]:
    """The numbers of the photos, together those that one fold holds out: copies of one.

    If all that have boxes are copies of one, it is held out from itself: nothing else can be.
    """
    groups = groups_of_copies(photos)
    if sum(any(len(photos[number].boxes) for number in group) for group in groups) > 1:
        return groups
    return [[number] for number in range(len(photos))]


def _highest(values: Floats, count: int) -> NDArray[np.int64]:
    """Where the highest ``count`` of the values are, ascending."""
    if count >= len(values):
        return np.arange(len(values))
    return np.sort(np.argpartition(values, -count)[-count:])
