"""Follow objects from frame to frame, so that each keeps its number.

The order of things is ByteTrack's (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
Detection Box", ECCV 2022): certain detections are matched with the tracks first, then the uncertain
ones with the tracks that are left, since an object that is half hidden is found too, with a low score. A
new track is withheld until it is found a second time. In between, each box moves on at the speed it had (a
Kalman filter of constant velocity).

What differs is that all of it goes by time. ByteTrack's filter counts frames, and it matches by overlap:
at five frames a second, what moves by more than its own size between two frames is lost. Here noise grows
by the second, and a detection is matched by how likely it is where the track is expected, however far that is
from where it was: the filter knows how uncertain it is. Besides, a lost track may go on with an uncertain
detection too, and is given up once it is expected outside the frame; width and height are filtered rather
than aspect and height (Aharon et al., "BoT-SORT", 2022); and only detections of its own class can go on
with a track.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fewbox.config import DEFAULT_CONFIRM
from fewbox.core.arguments import (
    checked_count,
    checked_number,
    checked_threshold,
    former_threshold,
    require_kind,
    takes_score_threshold,
)
from fewbox.core.boxes import clip_boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from fewbox.detection import Detections
from fewbox.errors import SettingError

_LOWEST_SCORE = 0.1
_MOST_S = 1e11  # clocks that count milliseconds are beyond it
DEFAULT_LOST_S = 2.0

Floats = npt.NDArray[np.float64]

# All in parts of a box's side: for its centre (x, y), and for its width and height.
# Chosen by benchmarks/tracking.py, on other films than those it reports.
_MEASURED = np.array([0.07, 0.07, 0.10, 0.10])
"""How far off a box is found (standard deviation)."""
_FIRST_SPEED = np.array([4.5, 4.5, 0.4, 0.4])
"""How fast a new object may be, per second."""
_DRIFT = np.array([0.12, 0.12, 0.08, 0.08])
"""How far it may move besides its speed, per square root of a second."""
_SPEED_DRIFT = np.array([1.0, 1.0, 0.2, 0.2])
"""By how much its speed, per second, may change; per square root of a second."""

# A match may cost so much; see _costs.
_LIMIT_CERTAIN, _LIMIT_UNCERTAIN, _LIMIT_TENTATIVE = 22.0, 18.0, 21.0
_TAIL = 16.0
"""From about this squared distance on, in standard deviations, a surprise costs less than it would: cameras
jump, and boxes shrink where an object is half hidden."""


class TrackedBox(NamedTuple):
    """One object in one frame.

    Examples:
        >>> fewbox.TrackedBox((10, 20, 50, 60), "duck", 0, 0.9, track_id=1).label
        'duck'
    """

    box: tuple[float, float, float, float]
    """``(x1, y1, x2, y2)`` in pixels of the upright frame."""
    label: str
    class_id: int
    score: float | None
    """None where nothing was detected: the box was predicted from the frames before."""
    track_id: int | None
    """The object's number, from 1; None without tracking, and until a new object is confirmed."""
    candidate: int | None = None
    """What tells objects apart that have no number yet: the same from the first frame on."""


class _Step:
    """The time between two frames, and what noise adds in it for a box whose sides are 1."""

    def __init__(self, seconds: float) -> None:
        drift, speed_drift = _DRIFT**2, _SPEED_DRIFT**2
        self.seconds = seconds
        self.variance = drift * seconds + speed_drift * seconds**3 / 3
        self.covariance = speed_drift * seconds**2 / 2
        self.speed_variance = speed_drift * seconds


@dataclass
class _Motion:
    """Centre, width and height of a box and their speeds, per second: four independent Kalman filters.

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
        return cls(measured, np.zeros(4), (_MEASURED * sides) ** 2, np.zeros(4), (_FIRST_SPEED * sides) ** 2)

    def advance(self, step: _Step) -> None:
        """Some time on; twice half as long is the same."""
        sides_squared = _sides(self.state) ** 2
        gained = self.speed_variance * step.seconds
        self.state = self.state + self.speed * step.seconds
        self.variance = (
            self.variance + (2 * self.covariance + gained) * step.seconds + sides_squared * step.variance
        )
        self.covariance = self.covariance + gained + sides_squared * step.covariance
        self.speed_variance = self.speed_variance + sides_squared * step.speed_variance

    def correct(self, measured: Floats) -> None:
        """Correct the state by where the box was found."""
        spread = self.variance + (_MEASURED * _sides(self.state)) ** 2
        gain, speed_gain = self.variance / spread, self.covariance / spread
        error = measured - self.state
        self.state, self.speed = self.state + gain * error, self.speed + speed_gain * error
        self.speed_variance = self.speed_variance - speed_gain * self.covariance
        self.variance, self.covariance = (1 - gain) * self.variance, (1 - gain) * self.covariance


@dataclass
class _Track:
    candidate: int
    class_id: int
    score: float
    motion: _Motion
    track_id: int | None = None
    """None until it is confirmed; a new track that is missed once before was a mistake."""
    times_found: int = 1
    unseen_s: float = 0.0
    lost: bool = False
    """Missed in the last detection: not shown, but known again if it comes back soon."""

    def advance(self, step: _Step) -> None:
        if self.lost:
            self.motion.speed[2:] = 0  # unseen, a box would swell or shrink for ever
        self.motion.advance(step)
        self.unseen_s += step.seconds

    def find(self, measured: Floats, score: float) -> None:
        self.motion.correct(measured)
        self.score, self.unseen_s, self.lost = score, 0.0, False
        self.times_found += 1


class Tracker:
    """Gives the objects of a video their numbers, frame by frame.

    What is new in a frame, but for the first frame, has no number yet: it gets one when it is found in the
    next frame too. So what is seen by mistake, in one frame, takes no number away, and numbers have no gaps.

    Args:
        threshold: an object with a higher score becomes a track; one that is tracked already may
            have as little as ``lowest_score``.
        rate: frames per second, where ``update`` is not told the time.
        confirm: in so many frames in a row an object is found before it gets its number; with 1, at once.
        lost_s: so many seconds an object may be out of sight and keep its number.

    Raises:
        SettingError: one of them is out of its limits.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> tracker = fewbox.Tracker(detector.threshold, rate=5)
        >>> for photo in fewbox.find_photos("ducks/test/duck_0*.jpg"):
        ...     found = detector.detect(photo, threshold=tracker.lowest_score)
        ...     tracked = tracker.update(found)
        >>> {type(each.track_id) for each in tracked} <= {int, type(None)}
        True
    """

    score_threshold = former_threshold()

    @takes_score_threshold
    def __init__(
        self,
        threshold: float,
        *,
        rate: float = 30.0,
        confirm: int = DEFAULT_CONFIRM,
        lost_s: float = DEFAULT_LOST_S,
    ) -> None:
        self._confirm = checked_count(confirm, "confirm", "1 gives numbers at once")
        self._usual_step_s = 1 / checked_number(rate, "rate", "the number of frames per second", above=0)
        self._lost_s = checked_number(lost_s, "lost_s", "it is in seconds", least=0, most=math.inf)
        self.threshold = checked_threshold(threshold)
        self.lowest_score = min(_LOWEST_SCORE, self.threshold)
        self.num_tracks = 0
        self._time_s: float | None = None
        self._num_candidates = 0
        self._tracks: list[_Track] = []
        self._labels: tuple[str, ...] = ()
        self._size_hw = (0, 0)

    def update(self, found: Detections, time_s: float | None = None) -> list[TrackedBox]:
        """The objects of the next frame, the most certain first, given what was detected in it.

        Args:
            found: detections down to ``lowest_score``.
            time_s: when the frame is shown, in seconds, any kind of number: ``frame.pts * stream.time_base``
                of PyAV will do; if not given, ``1 / rate`` after the one before.

        Raises:
            SettingError: these are no detections, or the time is no number of seconds.
        """
        require_kind(found, Detections, "found", SettingError, "it is what detector.detect(frame) gives")
        is_first, self._labels, self._size_hw = not self._labels, found.class_names, found.size_hw
        self._advance(time_s)
        certain = np.flatnonzero(found.scores > self.threshold)
        uncertain = np.flatnonzero(found.scores <= self.threshold)
        old, tentative = _split(self._tracks)
        measured, scores = xyxy_to_cxcywh(found.boxes.astype(np.float64)), found.scores.tolist()
        owner: dict[int, _Track] = {}
        owner |= _match(old, found, measured, certain, _LIMIT_CERTAIN)
        owner |= _match(_without(old, owner), found, measured, uncertain, _LIMIT_UNCERTAIN)
        left = np.array([index for index in certain if index not in owner], dtype=np.int64)
        owner |= _match(tentative, found, measured, left, _LIMIT_TENTATIVE)

        for track in _without(self._tracks, owner):
            track.lost = True
        for index, track in owner.items():
            track.find(measured[index], scores[index])
        for index in map(int, left):
            if index not in owner:
                owner[index] = self._begin(int(found.class_ids[index]), measured[index], scores[index])
        for _, track in sorted(owner.items()):
            if track.track_id is None and (is_first or track.times_found >= self._confirm):
                self.num_tracks += 1
                track.track_id = self.num_tracks
        self._tracks = [
            track
            for track in self._tracks
            if not track.lost or (track.track_id is not None and self._may_return(track))
        ]
        detections = list(found)
        return [
            TrackedBox(
                detections[index].box,
                detections[index].label,
                track.class_id,
                scores[index],
                track.track_id,
                track.candidate,
            )
            for index, track in sorted(owner.items())
        ]

    def predict(self, time_s: float | None = None) -> list[TrackedBox]:
        """The objects of the next frame without detecting in it: each moves on as it did.

        Args:
            time_s: when the frame is shown; if not given, ``1 / rate`` after the one before.
        """
        self._advance(time_s)
        tracks = sorted(self._tracks, key=lambda track: -track.score)
        states = np.array([track.motion.state for track in tracks]).reshape(-1, 4)
        boxes = clip_boxes(cxcywh_to_xyxy(states), self._size_hw).tolist()
        tracked = []
        for track, (x1, y1, x2, y2) in zip(tracks, boxes, strict=True):
            if not track.lost and x1 < x2 and y1 < y2:
                label, box = self._labels[track.class_id], (x1, y1, x2, y2)
                tracked.append(TrackedBox(box, label, track.class_id, None, track.track_id, track.candidate))
        return tracked

    def _advance(self, time_s: float | None) -> None:
        """Move all tracks on to this time; one that does not go on counts as a usual step."""
        before = self._time_s
        if time_s is None:
            time_s = 0.0 if before is None else before + self._usual_step_s
        time_s = checked_number(time_s, "time_s", "when the frame is shown, in seconds", most=_MOST_S)
        seconds = 0.0 if before is None else time_s - before
        step = _Step(seconds if seconds > 0 else self._usual_step_s)
        for track in self._tracks:
            track.advance(step)
        self._time_s = time_s

    def _may_return(self, track: _Track) -> bool:
        """Whether one that is out of sight is waited for: not once it is expected outside the frame."""
        (x, y), (height, width) = track.motion.state[:2], self._size_hw
        return track.unseen_s <= self._lost_s + 1e-9 and 0 <= x <= width and 0 <= y <= height

    def _begin(self, class_id: int, measured: Floats, score: float) -> _Track:
        self._num_candidates += 1
        track = _Track(self._num_candidates, class_id, score, _Motion.begin(measured))
        self._tracks.append(track)
        return track


def _split(tracks: list[_Track]) -> tuple[list[_Track], list[_Track]]:
    confirmed = [track for track in tracks if track.track_id is not None]
    return confirmed, [track for track in tracks if track.track_id is None]


def _without(tracks: list[_Track], owner: dict[int, _Track]) -> list[_Track]:
    taken = {track.candidate for track in owner.values()}
    return [track for track in tracks if track.candidate not in taken]


def _match(
    tracks: list[_Track], found: Detections, measured: Floats, among: npt.NDArray[np.int64], limit: float
) -> dict[int, _Track]:
    """The tracks that go on with some of the detections ``among``, by the detection's number."""
    if not tracks or len(among) == 0:
        return {}
    costs = _costs(tracks, measured[among])
    other_class = np.array([track.class_id for track in tracks])[:, None] != found.class_ids[among]
    pairs = assign(np.where(other_class, np.inf, costs), limit)
    return {int(among[column]): tracks[row] for row, column in pairs}


def _costs(tracks: list[_Track], measured: Floats) -> Floats:
    """How unlikely each box is as the next of each track, ``[T, M]``: 0 is a sure track's very place.

    Twice the negative logarithm of a Student's t distribution around where the track is expected, as wide as
    the filter is uncertain: to be near is worth more to a track that knows its place well.
    """
    state = np.array([track.motion.state for track in tracks])
    sides = np.maximum(state[:, [2, 3, 2, 3]], 1.0)
    noise = (_MEASURED * sides) ** 2
    spread = np.array([track.motion.variance for track in tracks]) + noise
    squared = ((measured[None] - state[:, None]) ** 2 / spread[:, None]).sum(axis=2)
    uncertainty = np.log(spread[:, :2] / noise[:, :2]).sum(axis=1)
    costs: Floats = uncertainty[:, None] + _TAIL * np.log1p(squared / _TAIL)
    return costs


def _sides(boxes_cxcywh: Floats) -> Floats:
    """The side that each of the four is measured by: width, height, width, height; a pixel at least."""
    return np.maximum(boxes_cxcywh[[2, 3, 2, 3]], 1.0)


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
    may = costs < limit
    rows, columns = np.flatnonzero(may.any(axis=1)), np.flatnonzero(may.any(axis=0))
    if may.sum(axis=0).max(initial=0) <= 1 and may.sum(axis=1).max(initial=0) <= 1:
        return [(int(row), int(column)) for row, column in np.argwhere(may)]  # nobody competes
    few = costs[np.ix_(rows, columns)]
    if len(rows) > len(columns):
        return sorted((int(rows[row]), int(columns[column])) for column, row in _assign(few.T, limit))
    return [(int(rows[row]), int(columns[column])) for row, column in _assign(few, limit)]


def _assign(costs: npt.NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """The same for no more rows than columns."""
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
