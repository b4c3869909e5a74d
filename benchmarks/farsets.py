"""Seven data sets whose objects COCO never showed, divided so that no near-duplicate is on both sides.

Photos that look alike stand together in a group: the tiles of an aerial photo, or of one film, the frames of
a video of plants, the tiles of one frame of a dish, the neighbouring frames of a dive. A group is
either drawn from or tested on, never both. Which groups are tested on follows from the names alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fewbox.data.annotations import AnnotatedImage
from fewbox.data.formats import read_annotations
from machine import SHARED

TEST_SHARE = 0.4
MOST_TEST_PHOTOS = 40
TRIED = 300
"""Divisions tried; that is taken which has the classes most evenly on both sides."""
DIVE_GAP = 25
"""Frames of the dives that lie further apart than this are taken for different scenes."""


def _each_alone(names: Sequence[str]) -> list[str]:
    return list(names)


def _flights(names: Sequence[str]) -> list[str]:
    """The photo before its tile number; all photos of one of the three films (MOS) are one."""
    groups = []
    for name in names:
        photo = re.sub(r"_t\d\d\.jpg$", "", name)
        film = re.search(r"MOS(\d+)", photo)
        groups.append(photo if film is None else f"{photo[: film.start()]}MOS{len(film[1])}")
    return groups


def _frames_of_dish(names: Sequence[str]) -> list[str]:
    return [name[: len("frame_000")] for name in names]


def _videos(names: Sequence[str]) -> list[str]:
    return [name.split("_frame")[0] for name in names]


def _dives(names: Sequence[str]) -> list[str]:
    """Runs of frames whose numbers are near one another."""
    numbers = sorted(int(name.removesuffix(".jpg")) for name in names)
    starts = [b for a, b in zip([-math.inf, *numbers], numbers, strict=False) if b - a > DIVE_GAP]
    return [str(max(s for s in starts if s <= int(name.removesuffix(".jpg")))) for name in names]


GROUPINGS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "dice": _each_alone,
    "chess_pieces": _each_alone,
    "plants": _videos,
    "dental_xray": _each_alone,
    "nematode_dish": _frames_of_dish,
    "underwater_robosub": _dives,
    "aerial_cars": _flights,
}
"""How the photos of each set are told apart by name."""


@dataclass(frozen=True)
class Division:
    """The photos of a set to draw from, and those to test on."""

    pool: tuple[AnnotatedImage, ...]
    test: tuple[AnnotatedImage, ...]
    labels: tuple[str, ...]


def far_set(name: str) -> Division:
    """One of the sets in ``GROUPINGS``, divided.

    The groups of 300 seeded orders are dealt to the test side until it has its share; the order
    is kept that leaves every class most evenly on both sides. Of the test side at most 40 photos are kept.
    """
    folder = SHARED / "data" / name
    read = read_annotations(folder / "boxes_coco.json", folder / "images")
    images = sorted((image for image in read.images if image.boxes), key=lambda image: image.path.name)
    groups = GROUPINGS[name]([image.path.name for image in images])
    counts = np.zeros((len(images), len(read.labels)))
    for row, image in enumerate(images):
        for label, count in Counter(box.label for box in image.objects).items():
            counts[row, read.labels.index(label)] = count
    is_test = _divided(np.array(groups), counts)
    test = [image for image, chosen in zip(images, is_test, strict=True) if chosen]
    kept = np.sort(np.random.default_rng(7).permutation(len(test))[:MOST_TEST_PHOTOS])
    pool = tuple(image for image, chosen in zip(images, is_test, strict=True) if not chosen)
    return Division(pool, tuple(test[i] for i in kept), read.labels)


def _divided(groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which photos ``[N]`` are tested on, from their groups ``[N]`` and boxes of each class ``[N, C]``."""
    names = np.unique(groups)
    best, least = np.zeros(len(groups), bool), math.inf
    for seed in range(TRIED):
        is_test = np.zeros(len(groups), bool)
        for name in np.random.default_rng(seed).permutation(names):
            if is_test.sum() < TEST_SHARE * len(groups):
                is_test |= groups == name
        share = counts[is_test].sum(0) / counts.sum(0)
        uneven = float(np.abs(share - TEST_SHARE).max()) + abs(is_test.mean() - TEST_SHARE)
        if uneven < least:
            best, least = is_test, uneven
    return best
