"""The pictures of the report: whole photos and parts of them, as small JPEGs, and the boxes over them.

The boxes are not drawn into the pixels. The page draws them, in pixels of the photo, so that they come
and go as the threshold is moved.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core.progress import progress_bar
from fewbox.data.images import read_image
from fewbox.evaluation.error_analysis import Mistake
from fewbox.evaluation.outcomes import SHOWN_SCORE, Outcomes

PHOTO_SIDE = 640
"""The longer side of a whole photo in the report, in pixels."""

_CROP_SIDE = 280
_JPEG_QUALITY = 72
_CONTEXT = 2.4  # how many times as wide and high as its box a crop is
_SMALLEST_CROP = 64.0  # pixels of the photo: less shows nothing but blur
_CROP_RATIO = 4 / 3

_View = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A box over a picture.

    Attributes:
        kind: ``hit``, ``alarm``, ``miss`` or ``ignore``.
        row: of the prediction or ground truth that it is of.
        x: left edge, in pixels of the photo, as the three that follow.
        y: upper edge.
        width: of the box.
        height: of the box.
        text: its label, and its score if it has one.
        shown_from: it is there at this threshold and at higher ones, and
        shown_below: at thresholds below this one.
    """

    kind: str
    row: int
    x: float
    y: float
    width: float
    height: float
    text: str
    shown_from: float = 0.0
    shown_below: float = 2.0


@dataclass(frozen=True)
class Picture:
    """A photo or a part of it, with its boxes; ``view`` is x, y, width, height in pixels of the photo."""

    name: str
    view: _View
    jpeg: str
    marks: tuple[Mark, ...]


def take_pictures(
    photos: Sequence[Path],
    outcomes: Outcomes,
    labels: Sequence[str],
    whole: Sequence[int],
    misses: Sequence[Mistake],
    alarms: Sequence[Mistake],
) -> tuple[list[Picture], list[Picture], list[Picture]]:
    """Pictures of the photos ``whole``, of each miss and of each false alarm, in these orders.

    Each photo is read once, however many parts of it are shown, and one at a time.

    Raises:
        PhotoError: a photo can no longer be read.
    """
    predictions, ground_truth = outcomes.predictions, outcomes.ground_truth
    wanted: list[tuple[int, npt.NDArray[np.float64] | None]] = [(photo_id, None) for photo_id in whole]
    wanted += [(int(ground_truth.photo_ids[miss.row]), ground_truth.boxes[miss.row]) for miss in misses]
    wanted += [(int(predictions.photo_ids[alarm.row]), predictions.boxes[alarm.row]) for alarm in alarms]
    numbers: dict[int, list[int]] = {}
    for number, (photo_id, _) in enumerate(wanted):
        numbers.setdefault(photo_id, []).append(number)
    pictures: dict[int, Picture] = {}
    with progress_bar("making the report", len(numbers)) as advance:
        for photo_id, of_photo in numbers.items():
            path = photos[photo_id]
            image = Image.fromarray(read_image(path))
            marks = marks_of_photo(outcomes, photo_id, labels)
            for number in of_photo:
                pictures[number] = _take(image, printable_name(path.name), wanted[number][1], marks)
            advance(path.name)
    taken = [pictures[number] for number in range(len(wanted))]
    first_alarm = len(whole) + len(misses)
    return taken[: len(whole)], taken[len(whole) : first_alarm], taken[first_alarm:]


def printable_name(name: str) -> str:
    """A file name as text: bytes in it that are none, which Linux allows, become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def marks_of_photo(outcomes: Outcomes, photo_id: int, labels: Sequence[str]) -> list[Mark]:
    """All boxes of a photo: those that are there at some thresholds only, and those to ignore."""
    predictions, ground_truth = outcomes.predictions, outcomes.ground_truth
    marks = []
    for row in np.flatnonzero(ground_truth.photo_ids == photo_id).tolist():
        label, corners = labels[ground_truth.class_ids[row]], ground_truth.boxes[row]
        if outcomes.counted[row]:
            marks.append(_mark("miss", row, corners, label, shown_from=float(outcomes.found_score[row])))
        else:
            marks.append(_mark("ignore", row, corners, f"{label}, to ignore"))
    shown = (
        (predictions.photo_ids == photo_id)
        & (outcomes.is_true_positive | outcomes.is_false_positive)
        & (predictions.scores > SHOWN_SCORE)
    )
    for row in np.flatnonzero(shown)[::-1].tolist():  # the most certain last: on top
        kind, score = "hit" if outcomes.is_true_positive[row] else "alarm", float(predictions.scores[row])
        text = f"{labels[predictions.class_ids[row]]} {score:.2f}"
        marks.append(_mark(kind, row, predictions.boxes[row], text, shown_below=score))
    return marks


def _mark(
    kind: str,
    row: int,
    corners: npt.NDArray[np.float64],
    text: str,
    *,
    shown_from: float = 0.0,
    shown_below: float = 2.0,
) -> Mark:
    x1, y1, x2, y2 = (round(edge, 1) for edge in corners.tolist())
    return Mark(kind, row, x1, y1, round(x2 - x1, 1), round(y2 - y1, 1), text, shown_from, shown_below)


def _take(
    image: Image.Image, name: str, box: npt.NDArray[np.float64] | None, marks: Sequence[Mark]
) -> Picture:
    if box is None:
        view = (0.0, 0.0, float(image.width), float(image.height))
        return Picture(name, view, _jpeg(image, PHOTO_SIDE), tuple(marks))
    x, y, width, height = view = _view_around(box, image.width, image.height)
    inside = [
        mark
        for mark in marks
        if mark.x < x + width and x < mark.x + mark.width and mark.y < y + height and y < mark.y + mark.height
    ]
    part = image.crop((int(x), int(y), int(x + width), int(y + height)))
    return Picture(name, view, _jpeg(part, _CROP_SIDE), tuple(inside))


def _view_around(box: npt.NDArray[np.float64], photo_width: int, photo_height: int) -> _View:
    """A part of the photo, in whole pixels, with ``box`` in its middle as far as the border allows."""
    x1, y1, x2, y2 = box.tolist()
    height = max(_CONTEXT * max(y2 - y1, (x2 - x1) / _CROP_RATIO), _SMALLEST_CROP)
    width, height = min(height * _CROP_RATIO, photo_width), min(height, photo_height)
    x = min(max((x1 + x2 - width) / 2, 0), photo_width - width)
    y = min(max((y1 + y2 - height) / 2, 0), photo_height - height)
    return float(int(x)), float(int(y)), float(max(int(width), 1)), float(max(int(height), 1))


def _jpeg(image: Image.Image, side: int) -> str:
    """The picture as a data URL, its longer side at most ``side`` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
