"""Export a detector: write it for other programs, once it is seen that it finds the same there.

What is compared are anchors, one by one: the likeliest of each photo, however unlikely they are. So any
photo will do, also one in which nothing is found; and no two boxes that are nearly alike can be taken for
each other. What is found in the end is compared as well, where something is: with what PyTorch selects of
the file's own anchors, as the last bit of a score can decide which of many boxes are kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewbox import __version__
from fewbox.core import EXPORTING, counted, missing_packages, require_packages
from fewbox.core.arguments import checked_path, kind_of
from fewbox.core.boxes import paired_iou, pairwise_iou
from fewbox.core.files import replacing, require_writable
from fewbox.data import demo_photos
from fewbox.data.images import StrPath, find_photos, read_reduced, read_size_hw
from fewbox.errors import ExportError, OutputError
from fewbox.export.graph import core_of_weights, detector_content
from fewbox.models.families import Config, build_network, family_of
from fewbox.models.weights import Weight, hash_weights
from fewbox.runtimes import FORMAT_VERSION, Engine
from fewbox.runtimes.onnxruntime import OnnxRuntimeEngine

if TYPE_CHECKING:
    from torch import Tensor

    from fewbox.models.network import Network

NUM_PHOTOS = 8
"""So many photos are looked at, to see whether both find the same."""
_NUM_DEMO_PHOTOS = 3


class Exportable(Protocol):
    """What is needed of a detector; ``detect.Detector`` has it."""

    config: Config
    weights: dict[str, Weight]
    labels: tuple[str, ...]
    base: dict[str, str]
    provenance: dict[str, Any]
    precision: str
    threshold: float


def export_detector(
    detector: Exportable,
    target: StrPath,
    *,
    raw: bool = False,
    photos: StrPath | Sequence[StrPath] | None = None,
) -> Agreement:
    """Write a detector as ONNX: photos in, boxes out. See ``docs/export.md`` for what is in the file.

    It is written only if ONNX Runtime finds with it what PyTorch finds with the detector.

    Args:
        detector: a :class:`Detector`.
        target: ends in ``.onnx``.
        raw: write the network alone: it takes its own input, and gives the boxes of all anchors.
        photos: folders, files or patterns of photos to compare on, best with the objects in them; the
            first eight are taken. Some of the demo's if not given, which do as well: what the two
            compute is compared, found or not.

    Returns:
        How well the two agree.

    Raises:
        SettingError: a package is missing.
        ExportError: they do not find the same; nothing is written.
        PhotoError: a photo cannot be read.
        OutputError: the file cannot be written.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> agreement = fewbox.export_detector(detector, "duck.onnx")
        >>> agreement.lowest_iou > 0.99
        True
    """
    target = checked_path(target, "the file to write", OutputError)
    if not hasattr(detector, "weights"):
        hint = "load one that can: fewbox.Detector.load('duck.safetensors')"
        raise ExportError(f"only a detector with its weights can be exported: {kind_of(detector)}", hint=hint)
    require_writable(target, [".onnx"])
    require_packages(EXPORTING, f"{target}: exporting")
    from fewbox.export.onnx import anchors_of, make_model

    images = read_photos(photos, detector.config)
    network = build_network(detector.config, detector.weights)
    header = make_header(detector, network.architecture, raw=raw)
    model = make_model(network, detector.config, header, raw=raw)
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
        if raw:
            agreement = compare_anchors(network, anchors_of(temporary, raw=True), images)
        else:
            agreement = compare_detector(
                network,
                OnnxRuntimeEngine(temporary),
                anchors_of(temporary, raw=False),
                images,
                detector.config.iou_threshold,
            )
        if not agreement.holds:
            raise not_the_same(target, agreement)
    return agreement


def write_graph(detector: Exportable, target: Path) -> None:
    """Write a detector that runs as a graph, as :func:`export_detector` does, but for the comparison.

    Raises:
        OutputError: the file cannot be written.
    """
    core = core_of_weights(detector.config, detector.weights)
    header = make_header(detector, family_of(detector.config).architecture, raw=False)
    with replacing(target) as temporary:
        temporary.write_bytes(detector_content(core, detector.config, header))


def make_header(detector: Exportable, architecture: str, *, raw: bool) -> dict[str, Any]:
    """What the file will say of itself; see ``runtimes/__init__.py``."""
    identity = {
        "architecture": architecture,
        "config": detector.config.to_dict(),
        "labels": detector.labels,
        "score_threshold": detector.threshold,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    digest.update(hash_weights(detector.weights).encode())
    return {
        "format_version": FORMAT_VERSION,
        "fewbox_version": __version__,
        "input": "images" if raw else "photos",
        **identity,
        "precision": detector.precision,
        "base": detector.base,
        "provenance": detector.provenance,
        "detector_sha256": digest.hexdigest(),
    }


def can_export() -> bool:
    """Whether all packages are installed that exporting needs."""
    return not missing_packages(EXPORTING)


def read_photos(photos: StrPath | Sequence[StrPath] | None, config: Config) -> list[NDArray[np.uint8]]:
    """The photos to compare on, as large as a detector reads them at least."""
    if photos is not None:
        return [_read_photo(path, config) for path in find_photos(photos)[:NUM_PHOTOS]]
    train, _ = demo_photos()
    return [_read_photo(image.path, config) for image in train.images[:_NUM_DEMO_PHOTOS]]


def _read_photo(path: Path, config: Config) -> NDArray[np.uint8]:
    height, width = config.covered_hw(read_size_hw(path))
    return read_reduced(path, (2 * height, 2 * width)).image


def not_the_same(target: Path, agreement: Agreement) -> ExportError:
    """Why a file is not written."""
    return ExportError(
        f"{target}: not written: it does not find the same in ONNX Runtime as in PyTorch: {agreement}",
        hint="look at other photos with --photos FOLDER; if it stays so, please report it",
    )


MIN_IOU = 0.99
"""How well each box must lie on its counterpart."""
MAX_SCORE_DIFFERENCE = 1e-3
MAX_SCORE_SHARE = 0.01
"""How far apart the scores of likely anchors may be, in parts of the score: what tells low ones apart."""
MIN_SCORE = 0.05
"""Detections below it are not compared: nobody would look at them."""

_LIKELIEST = 100  # anchors of a photo that are compared, on either side, even if no score reaches MIN_SCORE
# Boxes of anchors that show nothing, or that a photo's edge cuts, may be as thin as a hair: no IoU for them.
_SAME_PX = 0.01
# ONNX Runtime's sigmoid is 1.2e-7 off at low scores, down to 0, whatever the score.
_SCORE_ROUNDING = 1e-6
# Of boxes that are as likely as each other, and overlap, either may be the one that is kept.
_TIED = 1e-5

Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes ``[K, 4]``, scores ``[K]``, class ids ``[K]``."""
Anchors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes ``[A, 4]`` in pixels of the network's input, scores ``[A, C]``."""
AnchorsOf = Callable[[NDArray[np.uint8], "Tensor"], Anchors]
"""What an exported file computes of a photo ``[H, W, 3]``, or of the input ``[1, 3, h, w]`` made of it."""


@dataclass(frozen=True)
class Agreement:
    """How far two ways to compute one detector's boxes are apart."""

    num_photos: int
    num_boxes: int
    lowest_iou: float
    """Of a box and its counterpart; 0 if a box has none."""
    largest_score_difference: float
    largest_score_share: float = 0.0
    """Of the likeliest anchors: how far two scores are apart, in parts of the higher; rounding left out."""

    def __post_init__(self) -> None:
        """What is no number is as far apart as can be: in comparisons, and in ``min``, it would pass."""
        for name, worst in (
            ("lowest_iou", 0.0),
            ("largest_score_difference", math.inf),
            ("largest_score_share", math.inf),
        ):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, worst)

    @property
    def holds(self) -> bool:
        """Whether some boxes were compared, and all are the same."""
        return (
            self.num_boxes > 0
            and self.lowest_iou >= MIN_IOU
            and self.largest_score_difference <= MAX_SCORE_DIFFERENCE
            and self.largest_score_share <= MAX_SCORE_SHARE
        )

    def __str__(self) -> str:
        return (
            f"{counted(self.num_boxes, 'box')} in {counted(self.num_photos, 'photo')}: "
            f"IoU {self.lowest_iou:.4f} or more "
            f"(at least {MIN_IOU}), scores {self.largest_score_difference:.1e} apart at the most "
            f"(up to {MAX_SCORE_DIFFERENCE:.0e}), or {self.largest_score_share:.1%} "
            f"of the score (up to {MAX_SCORE_SHARE:.0%})"
        )


def compare_anchors(
    network: Network, anchors_of: AnchorsOf, images: Sequence[NDArray[np.uint8]]
) -> Agreement:
    """All anchors of photos ``[H, W, 3]``; boxes, and shares of scores, of the likeliest on either side."""
    return total_agreement(_anchors_of_one(network, anchors_of, image) for image in images)


def _anchors_of_one(network: Network, anchors_of: AnchorsOf, image: NDArray[np.uint8]) -> Agreement:
    import torch

    with torch.inference_mode():
        pixels = network.batch_of([image])
        codes, logits = network.forward(pixels)
        anchors = network.anchors((pixels.shape[-2], pixels.shape[-1]))
        scores = network.scores(logits)[0].numpy()
        boxes = network.decode(codes.float(), anchors)[0].numpy()
    their_boxes, their_scores = anchors_of(image, pixels.contiguous())
    if (boxes.shape, scores.shape) != (their_boxes.shape, their_scores.shape):
        return Agreement(1, len(boxes), 0.0, 1.0)
    chosen = np.union1d(_likeliest(scores), _likeliest(their_scores))
    ours, theirs = scores[chosen], their_scores[chosen]
    shares = (np.abs(ours - theirs) - _SCORE_ROUNDING) / np.maximum(ours, theirs).clip(min=1e-12)
    return Agreement(
        1,
        len(chosen),
        float(iou_of_counterparts(boxes[chosen], their_boxes[chosen]).min()),
        float(np.abs(scores - their_scores).max()),
        float(np.maximum(shares, 0).max()),
    )


def compare_detector(
    network: Network,
    engine: Engine,
    anchors_of: AnchorsOf,
    images: Sequence[NDArray[np.uint8]],
    iou_threshold: float,
) -> Agreement:
    """The anchors of photos ``[H, W, 3]``, and what ``network`` and ``engine`` select of them.

    Both are given the file's anchors: of boxes that are as likely as each other, it is the last bit of a
    score that says which is kept, which others it then suppresses, and so on.

    Args:
        network: the original.
        engine: runs the exported file.
        anchors_of: what the same file computes before anything is suppressed.
        images: the photos.
        iou_threshold: from which IoU on one box suppresses another.
    """
    import torch

    results, threshold = [compare_anchors(network, anchors_of, images)], MIN_SCORE - MAX_SCORE_DIFFERENCE
    if not results[0].holds:
        return results[0]
    selection = _selection_of(network)
    for image in images:
        their_boxes, their_scores = map(torch.from_numpy, anchors_of(image, network.batch_of([image])))
        found = selection.found(their_boxes, their_scores, (image.shape[0], image.shape[1]), threshold)
        expected = (found.boxes.numpy(), found.scores.numpy(), found.class_ids.numpy())
        boxes, scores, class_ids = (part[0] for part in engine.run(image[None], threshold))
        is_one = class_ids >= 0
        actual = (boxes[is_one], scores[is_one], class_ids[is_one])
        results.append(replace(compare_found(expected, actual, iou_threshold), num_photos=0))
    return total_agreement(results)


def _selection_of(network: Network) -> Network:
    """The network, with boxes in place of codes and scores in place of logits."""
    selection: Any = copy.copy(network)
    selection.decode = lambda boxes, _anchors: boxes
    selection.scores = lambda scores: scores
    chosen: Network = selection
    return chosen


def compare_found(expected: Arrays, actual: Arrays, iou_threshold: float | None = None) -> Agreement:
    """The detections of one photo: each of either side with the nearest of its class on the other.

    Both should have been looked for down to a score of ``MIN_SCORE - MAX_SCORE_DIFFERENCE``. With
    ``iou_threshold`` one that is as likely, and overlaps by more than that, is a counterpart too: only one
    of the two is kept, and the last bit of their scores says which.
    """
    lowest, furthest, count = 1.0, 0.0, 0
    for one, other in ((expected, actual), (actual, expected)):
        (boxes, scores, class_ids), (others, their_scores, their_ids) = one, other
        same_class = class_ids[:, None] == their_ids[None, :]
        iou = np.where(_is_same(boxes[:, None], others), 1.0, pairwise_iou(boxes, others))
        iou = np.where(same_class & ~np.isnan(iou), iou, 0.0)
        apart = np.nan_to_num(np.abs(scores[:, None] - their_scores[None, :]), nan=np.inf)
        if iou_threshold is not None:
            is_tied = apart <= _TIED
            iou = np.where(is_tied & (iou > iou_threshold), np.maximum(iou, MIN_IOU), iou)
        for row in np.flatnonzero(scores > MIN_SCORE):
            count += 1
            highest = float(iou[row].max(initial=0.0))
            # Of slivers at an edge several may be the same: none suppresses another.
            nearest = float(apart[row][iou[row] == highest].min(initial=1.0))
            lowest, furthest = min(lowest, highest), max(furthest, nearest)
    return Agreement(1, -(-count // 2), lowest, furthest)


def total_agreement(results: Iterable[Agreement]) -> Agreement:
    """Of several photos together: the worst of each."""
    each = list(results)
    return Agreement(
        sum(one.num_photos for one in each),
        sum(one.num_boxes for one in each),
        min((one.lowest_iou for one in each), default=1.0),
        max((one.largest_score_difference for one in each), default=0.0),
        max((one.largest_score_share for one in each), default=0.0),
    )


def _likeliest(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which anchors of ``[A, C]`` have a score above ``MIN_SCORE``, and those with the highest scores."""
    best = scores.max(1)
    return np.union1d(np.flatnonzero(best > MIN_SCORE), np.argsort(-best, kind="stable")[:_LIKELIEST])


def iou_of_counterparts(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU ``[M]`` of each box with the one in its place; 1 where no edge is elsewhere, of any box."""
    overlap = np.nan_to_num(paired_iou(first, second), nan=0.0)
    return np.where(_is_same(first, second), np.float32(1), overlap)


def _is_same(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether no edge of boxes ``[..., 4]`` is elsewhere; the shapes are broadcast."""
    return np.asarray(np.isclose(first, second, rtol=1e-5, atol=_SAME_PX).all(-1))
