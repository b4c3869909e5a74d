"""Follow objects from frame to frame, so that each keeps its number.

The method is ByteTrack's (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
Detection Box", ECCV 2022): certain detections are matched with the tracks first, then the uncertain
ones with the tracks that are left, since an object that is half hidden is found too, with a low score.
In between, each box moves on at the speed it had (a Kalman filter of constant velocity).

Two differences. A track's width and height are filtered rather than its aspect and height (Aharon et
al., "BoT-SORT", 2022), and only detections of a track's own class can go on with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fewbox.core.boxes import clip_boxes, cxcywh_to_xyxy, pairwise_iou, xyxy_to_cxcywh
from fewbox.detection.detections import Detections


def assign(costs: npt.NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Pair rows with columns so that the sum of costs is least, a row or column left alone costing ``limit``.

    Rows join one by one; each takes the cheapest way to a free column, along which those before it
    may move over (D. F. Crouse, "On implementing 2D rectangular assignment algorithms", 2016).

    Args:
        costs: ``[R, C]``; infinite where a pair is out of the question.
        limit: a pair that costs as much or more is not made.

    Returns:
        Pairs (row, column), by row; each row and each column is in one pair at most.
    """
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in assign(costs.T, limit))
    capped = np.minimum(costs, limit)
    num_rows, num_columns = capped.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    row_of, column_of = np.full(num_columns, -1), np.full(num_rows, -1)
    for newcomer in range(num_rows):
        distance, via = np.full(num_columns, np.inf), np.full(num_columns, -1)
        reached = np.zeros(num_columns, dtype=bool)
        row, length = newcomer, 0.0
        while True:
            through_row = length + capped[row] - row_price[row] - column_price
            shorter = ~reached & (through_row < distance)
            distance[shorter], via[shorter] = through_row[shorter], row
            column = int(np.where(reached, np.inf, distance).argmin())
            length = float(distance[column])
            if row_of[column] < 0:
                break
            reached[column] = True
            row = int(row_of[column])
        row_price[newcomer] += length
        row_price[row_of[reached]] += length - distance[reached]
        column_price[reached] += distance[reached] - length
        while column >= 0:  # back along the way; the newcomer had no column yet
            row = int(via[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [(row, int(column)) for row, column in enumerate(column_of) if capped[row, column] < limit]


# From the release of ByteTrack: what may cost how much, 1 - IoU (times the score, in the first and last).
_COST_CERTAIN, _COST_UNCERTAIN, _COST_TENTATIVE = 0.8, 0.5, 0.7
_LOWEST_SCORE = 0.1
# Its noise, in parts of a box's side per frame: of where a box is, and of how fast it moves.
_POSITION_NOISE, _SPEED_NOISE = 1 / 20, 1 / 160

Floats = npt.NDArray[np.float64]


class TrackedBox(NamedTuple):
    """One object in one frame."""

    box: tuple[float, float, float, float]
    """``(x1, y1, x2, y2)`` in pixels of the upright frame."""
    label: str
    class_id: int
    score: float | None
    """None where nothing was detected: the box was predicted from the frames before."""
    track_id: int | None
    """The object's number, from 1; None without tracking."""


@dataclass
class _Motion:
    """Centre, width and height of a box and their speeds, per frame: four independent Kalman filters.

    Since nothing in the model mixes the four, the 8 x 8 covariance of the paper splits into one of 2 x 2 for
    each: variance, covariance with the speed, and variance of the speed. All ``[4]``.
    """

    state: Floats
    speed: Floats
    variance: Floats
    covariance: Floats
    speed_variance: Floats

    @classmethod
    def begin(cls, measured: Floats) -> _Motion:
        sides = _sides(measured)
        return cls(
            measured,
            np.zeros(4),
            (2 * _POSITION_NOISE * sides) ** 2,
            np.zeros(4),
            (10 * _SPEED_NOISE * sides) ** 2,
        )

    def advance(self) -> None:
        """One frame on."""
        sides = _sides(self.state)
        self.state = self.state + self.speed
        self.variance = (
            self.variance + 2 * self.covariance + self.speed_variance + (_POSITION_NOISE * sides) ** 2
        )
        self.covariance = self.covariance + self.speed_variance
        self.speed_variance = self.speed_variance + (_SPEED_NOISE * sides) ** 2

    def correct(self, measured: Floats) -> None:
        """Correct the state by where the box was found."""
        spread = self.variance + (_POSITION_NOISE * _sides(self.state)) ** 2
        gain, speed_gain = self.variance / spread, self.covariance / spread
        error = measured - self.state
        self.state, self.speed = self.state + gain * error, self.speed + speed_gain * error
        self.speed_variance = self.speed_variance - speed_gain * self.covariance
        self.variance, self.covariance = (1 - gain) * self.variance, (1 - gain) * self.covariance


@dataclass
class _Track:
    track_id: int
    class_id: int
    score: float
    motion: _Motion
    confirmed: bool
    """Found twice; a new track that is missed once was a mistake."""
    frames_since_found: int = 0
    lost: bool = False
    """Missed in the last detection: not shown, but known again if it comes back soon."""

    def advance(self) -> None:
        if self.lost:
            self.motion.speed[2:] = 0  # unseen, a box would swell or shrink for ever
        self.motion.advance()
        self.frames_since_found += 1

    def find(self, measured: Floats, score: float) -> None:
        self.motion.correct(measured)
        self.score, self.confirmed, self.frames_since_found, self.lost = score, True, 0, False


class Tracker:
    """Gives the objects of a video their numbers, frame by frame.

    Args:
        score_threshold: an object with a higher score becomes a track; one that is tracked already may
            have as little as ``lowest_score``.
        frames_lost: how long an object may be out of sight and keep its number.
    """

    def __init__(self, score_threshold: float, frames_lost: int = 30) -> None:
        self.score_threshold = score_threshold
        self.lowest_score = min(_LOWEST_SCORE, score_threshold)
        self.frames_lost = frames_lost
        self.num_tracks = 0
        self._tracks: list[_Track] = []
        self._labels: tuple[str, ...] = ()
        self._size_hw = (0, 0)

    def update(self, found: Detections) -> list[TrackedBox]:
        """The objects of the next frame, the most certain first, given what was detected in it.

        Args:
            found: detections down to ``lowest_score``.
        """
        is_first, self._labels, self._size_hw = not self._labels, found.class_names, found.size_hw
        self._advance()
        certain = np.flatnonzero(found.scores > self.score_threshold)
        uncertain = np.flatnonzero(found.scores <= self.score_threshold)
        old, tentative = _split(self._tracks)
        owner: dict[int, _Track] = {}
        owner |= _match(old, found, certain, _COST_CERTAIN, with_score=True)
        in_sight = [track for track in _without(old, owner) if not track.lost]
        owner |= _match(in_sight, found, uncertain, _COST_UNCERTAIN, with_score=False)
        left = np.array([index for index in certain if index not in owner], dtype=np.int64)
        owner |= _match(tentative, found, left, _COST_TENTATIVE, with_score=True)

        for track in _without(self._tracks, owner):
            track.lost = True
        measured, scores = xyxy_to_cxcywh(found.boxes.astype(np.float64)), found.scores.tolist()
        for index, track in owner.items():
            track.find(measured[index], scores[index])
        for index in map(int, left):
            if index not in owner:
                owner[index] = self._begin(
                    int(found.class_ids[index]), measured[index], scores[index], is_first
                )
        self._tracks = [
            track
            for track in self._tracks
            if not track.lost or (track.confirmed and track.frames_since_found <= self.frames_lost)
        ]
        detections = list(found)
        return [
            TrackedBox(
                detections[index].box, detections[index].label, track.class_id, scores[index], track.track_id
            )
            for index, track in sorted(owner.items())
        ]

    def predict(self) -> list[TrackedBox]:
        """The objects of the next frame without detecting in it: each moves on as it did."""
        self._advance()
        tracks = sorted(self._tracks, key=lambda track: -track.score)
        states = np.array([track.motion.state for track in tracks]).reshape(-1, 4)
        boxes = clip_boxes(cxcywh_to_xyxy(states), self._size_hw).tolist()
        tracked = []
        for track, (x1, y1, x2, y2) in zip(tracks, boxes, strict=True):
            if not track.lost and x1 < x2 and y1 < y2:
                label = self._labels[track.class_id]
                tracked.append(TrackedBox((x1, y1, x2, y2), label, track.class_id, None, track.track_id))
        return tracked

    def _advance(self) -> None:
        for track in self._tracks:
            track.advance()

    def _begin(self, class_id: int, measured: Floats, score: float, confirmed: bool) -> _Track:
        self.num_tracks += 1
        track = _Track(self.num_tracks, class_id, score, _Motion.begin(measured), confirmed)
        self._tracks.append(track)
        return track


class Untracked:
    """Stands in for a :class:`Tracker` where no numbers are wanted: each frame is taken by itself."""

    def __init__(self, score_threshold: float) -> None:
        self.lowest_score = score_threshold
        self.num_tracks = 0
        self._last: list[TrackedBox] = []

    def update(self, found: Detections) -> list[TrackedBox]:
        """What was detected in the next frame."""
        tracked = [
            TrackedBox(box, label, int(class_id), score, None)
            for (box, score, label), class_id in zip(found, found.class_ids, strict=True)
        ]
        self._last = [each._replace(score=None) for each in tracked]
        return tracked

    def predict(self) -> list[TrackedBox]:
        """The last boxes once more, where they were."""
        return self._last


def _split(tracks: list[_Track]) -> tuple[list[_Track], list[_Track]]:
    return [track for track in tracks if track.confirmed], [track for track in tracks if not track.confirmed]


def _without(tracks: list[_Track], owner: dict[int, _Track]) -> list[_Track]:
    taken = {track.track_id for track in owner.values()}
    return [track for track in tracks if track.track_id not in taken]


def _match(
    tracks: list[_Track], found: Detections, among: npt.NDArray[np.int64], limit: float, *, with_score: bool
) -> dict[int, _Track]:
    """The tracks that go on with some of the detections ``among``, by the detection's number."""
    if not tracks or len(among) == 0:
        return {}
    here = cxcywh_to_xyxy(np.array([track.motion.state for track in tracks]))
    similarity = pairwise_iou(here, found.boxes[among].astype(np.float64))
    if with_score:
        similarity = similarity * found.scores[among]
    other_class = np.array([track.class_id for track in tracks])[:, None] != found.class_ids[among]
    pairs = assign(np.where(other_class, np.inf, 1 - similarity), limit)
    return {int(among[column]): tracks[row] for row, column in pairs}


def _sides(boxes_cxcywh: Floats) -> Floats:
    """The side that each of the four is measured by: width, height, width, height; a pixel at least."""
    return np.maximum(boxes_cxcywh[[2, 3, 2, 3]], 1.0)
