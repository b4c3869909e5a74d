"""Results in words, the worst mistakes with the kind of each, and pictures of them, for people.

The kinds are those of ``outcomes.py``. A true positive is a right box here, and a false positive a false
alarm: what is written here, people read.

Pictures are whole photos and parts of them, as small JPEGs. The boxes are not drawn into the pixels. The page
of the report draws them, in pixels of the photo, so that they come and go as the threshold is moved.
"""

from __future__ import annotations

import base64
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core import counted, some_of
from fewbox.core.boxes import box_areas
from fewbox.core.progress import progress_bar
from fewbox.data.images import read_image
from fewbox.data.remote import short_names
from fewbox.evaluation.matching import overlaps
from fewbox.evaluation.outcomes import ALARM_KINDS, HIT_IOU, MISS_KINDS, SHOWN_SCORE, Outcomes

_FEW = 10  # counts up to here are said as they are, and so many names are listed
_NEARLY = 0.05  # between the mean score and the share of right boxes


def some_names(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    return some_of(names, _FEW)


def found_in_words(found: int, annotations: int) -> str:
    """Such as ``finds 44 of 49 (90%)``: two detectors are compared by it, so the number is as it is."""
    if annotations == 0:
        return "nothing to find"
    if found == annotations:
        return f"finds all {annotations}" if annotations > 1 else "finds the only one"
    if found == 0:
        return f"finds none of {annotations}"
    if annotations <= _FEW:
        return f"finds {found} of {annotations}"
    tenths = round(10 * found / annotations)
    if tenths == 10:
        return f"finds all but {annotations - found} of {annotations}"
    share = f" ({found / annotations:.0%})" if tenths else ""
    return f"finds {found} of {annotations}{share}"


def alarms_in_words(found: int, false_alarms: int) -> str:
    """Such as ``27 of its 77 boxes are wrong (35%)``, of all boxes that are shown."""
    shown = found + false_alarms
    if shown == 0:
        return "no boxes"
    if false_alarms == 0:
        return f"none of its {shown} boxes is wrong" if shown > 1 else "its only box is right"
    if found == 0:
        return f"all its {shown} boxes are wrong" if shown > 1 else "its only box is wrong"
    wrong = f"{false_alarms} of its {shown} boxes {'is' if false_alarms == 1 else 'are'} wrong"
    percent = round(100 * false_alarms / shown)
    return f"{wrong} ({percent}%)" if shown > _FEW and 0 < percent < 100 else wrong


def too_few_in_words(at: Mapping[str, Any]) -> str:
    """That so few boxes above a threshold do not tell that nine in ten would be right in other photos too."""
    boxes = counted(at["found"] + at["false_alarms"], "box")
    told = f"only {boxes} above {at['score_threshold']:.2f}, where they are so here"
    return f"from which threshold nine boxes in ten are right cannot be told: {told}"


def learnt_from_in_words(count: int, num_photos: int) -> str:
    """The warning that the detector knows ``count`` of the photos."""
    seem = "seem to be ones" if count > 1 else "seems to be one"
    photos = counted(num_photos, "photo")
    return f"{count} of {photos} {seem} it learnt from, which makes it look better than it is"


_ALARMS = {"duplicate": "duplicate", "localization": "localization error", "confusion": "class confusion"}
_MISSES = {
    "low_score": "with too low a score",
    "localization": "with the box too far off",
    "confusion": "taken for another class",
    "shared_box": "in one box with another object",
    "not_seen": "not seen",
}


def alarm_kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Such as ``3 on an object (2 duplicates, 1 localization error), 4 on the background``; "" for none."""
    on_object = sum(kinds[kind] for kind in _ALARMS)
    named = [counted(kinds[kind], name) for kind, name in _ALARMS.items() if kinds[kind]]
    parts = [f"{on_object} on an object ({', '.join(named)})"] if on_object else []
    if kinds["background"]:
        parts.append(f"{kinds['background']} on the background")
    return ", ".join(parts)


def miss_kinds_in_words(kinds: Mapping[str, int]) -> str:
    """Such as ``1 with the box too far off, 1 not seen``; "" for none."""
    return ", ".join(f"{kinds[kind]} {text}" for kind, text in _MISSES.items() if kinds[kind])


def others_in_words(boxes: Mapping[str, int]) -> str:
    """Such as ``not counted: 2 boxes of classes that nobody annotated in these photos (2 bird)``."""
    total = counted(sum(boxes.values()), "box")
    named = some_of([f"{count} {label}" for label, count in boxes.items()])
    return f"not counted: {total} of classes that nobody annotated in these photos ({named})"


def expected_in_words(ap50: float, low: float, high: float) -> str:
    """What was promised of AP50, to stand beside what it is."""
    return f"expected of it was AP50 {ap50:.3f}, four times in five between {low:.3f} and {high:.3f}"


def scores_in_words(scores: npt.NDArray[np.float64], is_true_positive: npt.NDArray[np.bool_]) -> str:
    """Whether the scores ``[K]`` of the boxes that are shown can be taken at their word."""
    if not len(scores):
        return "There are no boxes above its threshold."
    mean, share = float(scores.mean()), float(is_true_positive.mean())
    text = (
        f"Boxes above its threshold have a score of {mean:.2f} on average, and {share:.0%} of them are right"
    )
    if abs(share - mean) < _NEARLY:
        return f"{text}: its scores can be taken as they are."
    return f"{text}: its scores are too {'modest' if share > mean else 'high'}."


@dataclass(frozen=True)
class Mistake:
    """A miss or a false alarm.

    Attributes:
        row: of the ground truth that was missed, or of the prediction that is a false alarm.
        label: its class.
        score: the ground truth is missed at thresholds from this one on; the prediction is a false
            alarm at thresholds below it.
        reason: what kind of mistake it is, in words.
        told_by: of a miss, the prediction that the reason is about; -1 if none.
    """

    row: int
    label: str
    score: float
    reason: str
    told_by: int = -1


def worst_misses(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """Ground truth that was not found or with the lowest scores, larger ones first."""
    order = np.lexsort((-box_areas(outcomes.ground_truth.boxes), outcomes.found_score))
    worst = [int(row) for row in order if outcomes.counted[row]][:limit]
    return [
        Mistake(
            row,
            labels[outcomes.ground_truth.class_ids[row]],
            float(outcomes.found_score[row]),
            _why_missed(outcomes, row, labels),
            int(outcomes.causes.miss_by[row]),
        )
        for row in worst
    ]


def worst_false_alarms(outcomes: Outcomes, labels: Sequence[str], limit: int) -> list[Mistake]:
    """The false positives with the highest scores."""
    scores = np.where(outcomes.is_false_positive, outcomes.predictions.scores, 0)
    worst = [int(row) for row in np.argsort(-scores, kind="stable")[:limit] if scores[row] > SHOWN_SCORE]
    return [
        Mistake(
            row,
            labels[outcomes.predictions.class_ids[row]],
            float(scores[row]),
            f"score {scores[row]:.2f}, {_why_wrong(outcomes, row, labels)}",
        )
        for row in worst
    ]


def _why_missed(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    kind, by = MISS_KINDS[outcomes.causes.miss_kind[row]], int(outcomes.causes.miss_by[row])
    best = float(outcomes.found_score[row])
    only = f"only {best:.2f}" if best >= 0.005 else "less than 0.01"
    if kind == "low_score":
        return f"found, but its score is {only}"
    if kind == "not_seen":
        return "not seen"
    score = f"score {outcomes.predictions.scores[by]:.2f}"
    if kind == "shared_box":
        return f"one box for two objects, which counts for the other: {score}"
    overlap = _overlap(outcomes, by, row)
    if kind == "localization":
        text = f"{_box_off(overlap)}, {score}"
    else:
        taken_for = f"taken for {labels[outcomes.predictions.class_ids[by]]}"
        off = "" if overlap >= HIT_IOU else f" and {_box_off(overlap)}"
        text = f"{taken_for}{off}, {score}"
    return text + (f"; a right box has {only}" if best else "")


def _why_wrong(outcomes: Outcomes, row: int, labels: Sequence[str]) -> str:
    kind, on = ALARM_KINDS[outcomes.causes.alarm_kind[row]], int(outcomes.causes.alarm_on[row])
    if kind == "background":
        return _what_is_near(outcomes, row)
    if kind == "duplicate":
        return "a second box on one object"
    overlap = _overlap(outcomes, row, on)
    if kind == "localization":
        return _box_off(overlap)
    covers = "" if overlap >= HIT_IOU else f" and {_box_off(overlap)}"
    return f"annotated as {labels[outcomes.ground_truth.class_ids[on]]}{covers}"


def _what_is_near(outcomes: Outcomes, row: int) -> str:
    """Of a false alarm on the background: it may still touch an object, or lie on a small part of one."""
    here = outcomes.counted & (outcomes.ground_truth.photo_ids == outcomes.predictions.photo_ids[row])
    nearest = overlaps(outcomes.predictions.boxes[row], outcomes.ground_truth.boxes[here]).max(initial=0.0)
    return (
        f"hardly on anything annotated: IoU {nearest:.2f}" if nearest >= 0.005 else "nothing annotated here"
    )


def _overlap(outcomes: Outcomes, predicted: int, target: int) -> float:
    return float(overlaps(outcomes.predictions.boxes[predicted], outcomes.ground_truth.boxes[target]))


def _box_off(overlap: float) -> str:
    # Below a half, but 0.499 would be read as one.
    return f"box too far off: IoU {min(overlap, 0.49):.2f}"


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
    names = short_names(photos)
    with progress_bar("making the report", len(numbers)) as advance:
        for photo_id, of_photo in numbers.items():
            image = Image.fromarray(read_image(photos[photo_id]))
            marks = marks_of_photo(outcomes, photo_id, labels)
            for number in of_photo:
                pictures[number] = _take(image, printable_name(names[photo_id]), wanted[number][1], marks)
            advance(names[photo_id])
    taken = [pictures[number] for number in range(len(wanted))]
    first_alarm = len(whole) + len(misses)
    return taken[: len(whole)], taken[len(whole) : first_alarm], taken[first_alarm:]


def printable_name(name: str) -> str:
    """A file name as text: bytes in it that are none, which Linux allows, become question marks."""
    return os.fsencode(name).decode("utf-8", "replace")


def marks_of_photo(outcomes: Outcomes, photo_id: int, labels: Sequence[str]) -> list[Mark]:
    """All boxes of a photo: those that are there at some thresholds only, and those to ignore."""
    predictions, ground_truth = outcomes.predictions, outcomes.ground_truth
    marks, rows = [], np.flatnonzero(ground_truth.photo_ids == photo_id).tolist()
    ignored = Counter(tuple(ground_truth.boxes[row]) for row in rows if not outcomes.counted[row])
    for row in rows:
        label, corners = labels[ground_truth.class_ids[row]], ground_truth.boxes[row]
        if outcomes.counted[row]:
            marks.append(_mark("miss", row, corners, label, shown_from=float(outcomes.found_score[row])))
        elif times := ignored.pop(tuple(corners), 0):  # one of no class is there once for each
            text = f"{label}, to ignore" if times == 1 else "to ignore"
            marks.append(_mark("ignore", row, corners, text))
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
