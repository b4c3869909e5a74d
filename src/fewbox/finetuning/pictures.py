"""The picture of held-out photos.

Beside the boxes that were drawn stand those that a head found which had not learnt from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fewbox.core import counted
from fewbox.data.annotations import AnnotatedImage
from fewbox.data.images import read_reduced
from fewbox.detection.drawing import contact_sheet, draw_boxes, save_picture
from fewbox.evaluation.outcomes import Outcomes
from fewbox.models.families import Config

MAX_PHOTOS = 12
"""Photos on the sheet: those with mistakes first."""
SIDE = 420
"""The longer side of a photo on the sheet, in pixels; each is there twice."""
_GAP = 6


def save_held_out(
    target: Path,
    images: Sequence[AnnotatedImage],
    outcomes: Outcomes,
    scores: NDArray[np.float64],
    labels: Sequence[str],
    config: Config,
    threshold: float,
) -> None:
    """Draw held-out photos on one sheet, each twice: the boxes drawn, then the boxes found.

    A box drawn and not found is dashed, and so is a false alarm.

    Args:
        target: the picture to write.
        images: N photos.
        outcomes: of held-out detections in them; boxes in pixels of the network's input.
        scores: ``[K]`` of the detections, calibrated.
        labels: of the C classes.
        config: of the network, which knows its input from a photo.
        threshold: detections with a higher score are shown.

    Raises:
        OutputError: the picture cannot be written.
    """
    shown = scores > threshold
    sure = outcomes.found_score > (outcomes.predictions.scores[~shown].max() if (~shown).any() else -1.0)
    tiles = [_Tile(number, outcomes, shown, sure) for number in range(len(images))]
    tiles = [tile for tile in tiles if len(tile.drawn) or not images[tile.number].boxes]
    tiles = sorted(tiles, key=lambda tile: -tile.mistakes)[:MAX_PHOTOS]
    if not tiles:
        return
    pictures = (tile.draw(images[tile.number], labels, config, scores) for tile in tiles)
    captions = [f"{images[tile.number].path.name}: {tile}" for tile in tiles]
    save_picture(contact_sheet(pictures, min(2, len(tiles)), 2 * SIDE + _GAP, captions), target)


class _Tile:
    """What became of one photo.

    Args:
        number: of the photo.
        outcomes: of all photos.
        shown: ``[K]`` detections above the threshold.
        sure: ``[M]`` annotations found by one of these.
    """

    def __init__(
        self, number: int, outcomes: Outcomes, shown: NDArray[np.bool_], sure: NDArray[np.bool_]
    ) -> None:
        self.number = number
        self.outcomes = outcomes
        self.drawn = np.flatnonzero((outcomes.ground_truth.photo_ids == number) & outcomes.counted)
        self.found = np.flatnonzero((outcomes.predictions.photo_ids == number) & shown)
        self.missed = ~sure[self.drawn]
        self.alarms = outcomes.is_false_positive[self.found]

    @property
    def mistakes(self) -> int:
        """Boxes missed and false alarms."""
        return int(self.missed.sum() + self.alarms.sum())

    def __str__(self) -> str:
        count, alarms = len(self.drawn), int(self.alarms.sum())
        words = [f"{int((~self.missed).sum())} of {count} found" if count else "nothing to find"]
        if alarms:
            words.append(counted(alarms, "false alarm"))
        return ", ".join(words)

    def draw(
        self, image: AnnotatedImage, labels: Sequence[str], config: Config, scores: NDArray[np.float64]
    ) -> Image.Image:
        """The photo with its boxes, beside the photo with what was found."""
        height, width = image.size_hw
        ratio = min(1.0, SIDE / max(height, width))
        read = read_reduced(image.path, (ratio * height, ratio * width))
        truth, found = self.outcomes.ground_truth, self.outcomes.predictions

        def half(
            boxes: NDArray[np.float64], ids: NDArray[Any], tags: list[str], dashed: NDArray[np.bool_]
        ) -> Image.Image:
            corners = config.to_photo(boxes, image.size_hw)
            small = ImageOps.contain(Image.fromarray(read.image), (SIDE, SIDE))
            scale = np.array([small.width / width, small.height / height] * 2)
            return draw_boxes(np.asarray(small), corners * scale, tags, ids, dashed=dashed.tolist())

        ids, found_ids = truth.class_ids[self.drawn], found.class_ids[self.found]
        tags = [labels[class_id] for class_id in ids]
        found_tags = [
            f"{labels[class_id]} {score:.0%}"
            for class_id, score in zip(found_ids, scores[self.found], strict=True)
        ]
        left = half(truth.boxes[self.drawn], ids, tags, self.missed)
        right = half(found.boxes[self.found], found_ids, found_tags, self.alarms)
        pair = Image.new("RGB", (left.width + _GAP + right.width, left.height), "white")
        pair.paste(left, (0, 0))
        pair.paste(right, (left.width + _GAP, 0))
        return pair
