"""Photos that show the same, and sets divided so that such photos stay together.

They are told by a perceptual hash, which survives resizing, saving again and a little light. The hash of a
photo says for each place of a 16 x 16 grid whether the next place to the right is brighter, and the next one
below: a difference hash, 512 bits. The distance of two photos is the share of bits in which they differ,
about 0.5 for photos that have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core import counted
from fewbox.core.arguments import as_number
from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import read_reduced
from fewbox.errors import AnnotationError, SettingError

PerceptualHash = npt.NDArray[np.bool_]

SAME = 0.03
"""So near are copies of a photo: saved again, resized, or made brighter.

So are photos of a camera that does not move, if little changes in them: boxes tell which are copies.
"""
NEARLY_SAME = 0.12
"""Up to this distance two photos were taken from one place within moments, as frames of a video are.

Measured by ``benchmarks/perceptual_hash.py``. Other boards laid on one desk begin beyond; chessmen moved
before a camera that stands still do not.
"""

_SIDE = 16
HASH_BITS = 2 * _SIDE * _SIDE
_MIN_CONTRAST = 3.0  # below it the hash is one of noise
_ROWS_AT_ONCE = 512
HASHED_HW = (64, 64)
"""At least; enough for the hash's grid of 17."""
_WAYS = 50
_SLACK = 0.5, 0.1
"""Of the smaller part, and of all photos: so far may a division be from the share for the sake of a class.

By one photo it always may, which of few photos is more: else no photo beside a burst would be learnt from.
"""


def perceptual_hash(image: npt.NDArray[np.uint8]) -> PerceptualHash | None:
    """The perceptual hash ``[512]`` of an image ``[H, W, 3]``; None of one that shows nothing."""
    grey = Image.fromarray(image).convert("L")
    across, down = (
        np.asarray(grey.resize(size_wh, Image.Resampling.LANCZOS)).astype(np.int16)
        for size_wh in ((_SIDE + 1, _SIDE), (_SIDE, _SIDE + 1))
    )
    if across.std() < _MIN_CONTRAST:
        return None
    brighter = (across[:, 1:] > across[:, :-1], down[1:] > down[:-1])
    return np.concatenate([part.ravel() for part in brighter])


def similar_pairs(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], max_distance: float
) -> Iterator[tuple[int, int, float]]:
    """Pairs ``(i, j, distance)`` of the hashes ``[N, 512]`` and ``[M, 512]`` that are alike."""
    signs, others = (2 * prints.astype(np.float32) - 1 for prints in (first, second))
    for start in range(0, len(signs), _ROWS_AT_ONCE):
        distances = 0.5 - signs[start : start + _ROWS_AT_ONCE] @ others.T / (2 * signs.shape[1])  # [n, M]
        for i, j in np.argwhere(distances <= max_distance).tolist():
            yield start + i, j, float(distances[i, j])


def groups_alike(paths: Sequence[Path]) -> list[list[int]]:
    """The numbers of N photos, those together that are nearly the same as another of their group.

    Raises:
        PhotoError: a photo cannot be read.
    """
    hashes = [perceptual_hash(read_reduced(path, HASHED_HW).image) for path in paths]
    numbers = [number for number, found in enumerate(hashes) if found is not None]
    bits = np.array([hashes[number] for number in numbers], np.bool_).reshape(-1, HASH_BITS)
    group = list(range(len(paths)))
    for i, j, _ in similar_pairs(bits, bits, NEARLY_SAME):
        old, new = group[numbers[i]], group[numbers[j]]
        if old != new:  # so at most once for each photo, however many pairs there are
            group = [new if one == old else one for one in group]
    return [[n for n, one in enumerate(group) if one == which] for which in dict.fromkeys(group)]


def numbers_of_first_part(photos: AnnotationSet, share: float, seed: int) -> list[int]:
    """Which photos ``AnnotationSet.split`` puts into the first part; arguments and errors as there."""
    if not 0 < as_number(share) < 1:
        raise SettingError(f"a share must be above 0 and below 1: {share!r}", hint="0.8, for example")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise SettingError(f"a seed must be a whole number from 0: {seed!r}")
    groups = groups_alike([image.path for image in photos])
    if len(groups) < 2:
        what = f"all {len(photos)} photos look alike" if len(photos) > 1 else counted(len(photos), "photo")
        hint = "add photos of other moments or places"
        raise AnnotationError(f"{photos.source}: cannot be divided: {what}", hint=hint)
    labels = [{box.label for box in image.objects} for image in photos]
    return divided(groups, labels, as_number(share), seed)


def divided(
    groups: Sequence[Sequence[int]], labels: Sequence[Set[str]], share: float, seed: int
) -> list[int]:
    """Which photos go into the first of two parts, groups kept whole; rising.

    The first is learnt from: of a class that is nowhere else, and were it all there is, nothing would be
    learnt. So of many random ways, of those as near to the share as can be and not much farther, the one is
    taken that leaves the fewest classes out of it, then out of the rest, and then comes nearest.

    Args:
        groups: two or more.
        labels: what there is to learn in each photo.
        share: of the photos, above 0 and below 1.
        seed: another one gives another division.
    """
    generator = np.random.default_rng(seed)
    wanted = share * len(labels)
    every = set().union(*labels)
    in_group = [set().union(*(labels[number] for number in group)) for group in groups]
    slack = max(min(_SLACK[0] * min(wanted, len(labels) - wanted), _SLACK[1] * len(labels)), 1.0)
    ways: list[tuple[float, int, int, list[int], int]] = []
    for _ in range(_WAYS):
        drawn: list[int] = generator.permutation(len(groups)).tolist()
        fits = [place for place in drawn if len(groups[place]) <= wanted + slack]
        others = [place for place in drawn if len(groups[place]) > wanted + slack]
        for order in (_new_labels_first(drawn, in_group), _new_labels_first(fits, in_group) + others):
            off = np.abs(np.cumsum([len(groups[place]) for place in order])[:-1] - wanted)
            lacking = (_lacking(order, in_group, every), _lacking(order[::-1], in_group, every)[::-1])
            near = np.flatnonzero(off <= off.min() + slack).tolist()
            ways += [(float(off[n]), lacking[0][n], lacking[1][n + 1], order, n + 1) for n in near]
    farthest = min(way[0] for way in ways) + slack
    *_, order, cut = min((way for way in ways if way[0] <= farthest), key=lambda way: (*way[1:3], way[0]))
    return sorted(number for place in order[:cut] for number in groups[place])


def _lacking(order: Sequence[int], labels: Sequence[Set[str]], every: Set[str]) -> list[int]:
    """How many of the labels neither a group nor one before it has, for each group in this order."""
    seen: set[str] = set()
    counts = []
    for place in order:
        seen |= labels[place]
        counts.append(len(every) - len(seen))
    return counts


def _new_labels_first(order: Sequence[int], labels: Sequence[Set[str]]) -> list[int]:
    """The groups in this order, but before the others those with a label that none before them has.

    Of many classes, each in one photo, hardly any random way has them all in one part.
    """
    seen: set[str] = set()
    brings = {}
    for place in order:
        brings[place] = bool(labels[place] - seen)
        seen |= labels[place]
    return sorted(order, key=lambda place: not brings[place])
