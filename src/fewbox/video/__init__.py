"""Detect in a video, a stream, a webcam or photos in a row: a video with boxes, a table of tracks, counts.

Three things go on at a time: while the network works on one frame, the next ones are read and those before
it are drawn and written. Only a few frames wait in between, so memory does not grow with the video.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from fewbox.config import DEFAULT_CONFIRM
from fewbox.core import counted
from fewbox.core.arguments import checked_threshold, takes_score_threshold
from fewbox.core.files import TABLE_HEAD, VIDEO_SUFFIXES, not_own, replacing, require_own, require_writable
from fewbox.core.progress import progress_bar
from fewbox.data.images import StrPath
from fewbox.detection import Detections
from fewbox.detection.drawing import draw_boxes, draw_path
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.detection.rows import FullPhotos, limit_of
from fewbox.errors import FewboxError, OutputError, SettingError, VideoError
from fewbox.video.counting import PassCounter
from fewbox.video.opening import TABLE_NAME, TABLE_SUFFIX, as_shown, is_own
from fewbox.video.reader import Frame, FrameSource, VideoReader
from fewbox.video.tracking import TrackedBox, Tracker
from fewbox.video.writer import TrackSummary, TrackTable, VideoWriter

if TYPE_CHECKING:
    from fewbox.video.reader import Packet

MAX_WAITING = 4
"""So many frames, or packets of sound, wait for the network, and as many to be written."""
_MAX_LAG_S = 0.5


@dataclass
class VideoSummary:
    """What came of a run over a video."""

    outputs: tuple[Path, ...]
    num_frames: int = 0
    num_frames_detected: int = 0
    """Frames the network has worked on; in the others boxes were predicted."""
    num_boxes: int = 0
    num_tracks: int = 0
    """0 without tracking."""
    duration_s: float = 0.0
    """The time of the last frame."""
    interrupted: bool = False
    """Ended by Ctrl-C; everything until then is in the outputs."""
    counters: Sequence[PassCounter] = field(default=())
    """The lines and zones, with what they have counted."""
    full: FullPhotos = field(default_factory=FullPhotos)
    """Frames in which there may be more."""

    def __str__(self) -> str:
        what = counted(self.num_tracks, "object") if self.num_tracks else counted(self.num_boxes, "box")
        names = ", ".join(map(str, self.outputs))
        stopped = ", stopped by Ctrl-C" if self.interrupted else ""
        text = f"{what} in {counted(self.num_frames, 'frame')} ({self.duration_s:.1f} s{stopped}): {names}"
        for kind in ("line", "zone"):
            those = [counter for counter in self.counters if counter.kind == kind]
            for number, counter in enumerate(those, start=1):
                text += f"\n{kind}{f' {number}' if len(those) > 1 else ''}: {counter}"
        return text + (f"\n{self.full}" if self.full.count else "")


@takes_score_threshold
def detect_video(
    detector: PhotoDetector,
    source: FrameSource,
    output: StrPath,
    *,
    threshold: float | None = None,
    every: int = 1,
    tracking: bool = True,
    confirm: int = DEFAULT_CONFIRM,
    counters: Sequence[PassCounter] = (),
    summary_json: bool = False,
    show_progress: bool = True,
) -> VideoSummary:
    """Find objects in every frame; write a video with boxes, and where they were when.

    Whatever ends the work early, be it Ctrl-C, a camera that falls silent or a full disk, the frames until
    then are in files that can be played and read.

    Args:
        detector: finds the objects.
        source: a :class:`~fewbox.video.reader.VideoReader` or ``PhotoFrames``.
        output: ends in one of ``VIDEO_SUFFIXES``; the table goes beside it, ``film_tracks.csv`` for
            ``film.mp4``. Or ends in ``.csv``: then only the table is written.
        threshold: lowest score of a new object; the detector's own if not given.
        every: detect in every so many frames; in between, objects move on as they did. So they do in
            frames that a camera sends faster than the network works.
        tracking: give objects numbers.
        confirm: in so many frames in a row, of those that are looked at, an object is found before it gets
            its number; until then its box is shown and written without. 1 gives numbers at once.
        counters: lines and zones that count what passes; drawn into the video.
        summary_json: write ``film_tracks.json`` too, which says when each object was there; in any case with
            ``counters``, and in place of an earlier one, unless that belongs to another table.
        show_progress: show how far the work has come.

    Raises:
        SettingError: the threshold is not from 0 to 1, ``every`` or ``confirm`` is not 1 or more, or
            something is to be counted without tracking.
        VideoError: the stream stalled or broke off.
        OutputError: a result cannot be written.
    """
    threshold = checked_threshold(detector.threshold if threshold is None else threshold)
    if every < 1:
        raise SettingError(f"every must be 1 or more: {every}")
    if counters and not tracking:
        raise SettingError("counting needs tracking", hint="leave --no-tracking out")
    tracker = (
        Tracker(threshold, rate=float(source.rate), confirm=confirm) if tracking else Untracked(threshold)
    )
    scheduler = _FrameScheduler(detector, tracker, every, source, threshold)
    targets = _targets(source, Path(output), summary_json or bool(counters))
    summary = VideoSummary(tuple(path for path in targets if path), counters=counters)
    with ExitStack() as files:
        writer = _ResultWriter(files, source, targets, summary)
        failure = _run(source, scheduler, writer, show_progress)
        if failure is not None and not writer.has_result(failure):
            raise failure
    summary.num_frames_detected, summary.num_tracks = scheduler.num_frames_detected, tracker.num_tracks
    summary.full = scheduler.full
    summary.interrupted = isinstance(failure, KeyboardInterrupt)
    if isinstance(failure, FewboxError):
        kept = f"until then: {summary}"
        raise type(failure)(failure.message, hint=f"{failure.hint}; {kept}" if failure.hint else kept)
    if failure is not None and not summary.interrupted:
        raise failure
    return summary


class _Targets(NamedTuple):
    """What is written."""

    video: Path | None
    table: Path
    summary: Path | None


def _targets(source: FrameSource, output: Path, with_summary: bool) -> _Targets:
    """Where the video goes, if there is to be one, the table, and the JSON.

    Raises:
        OutputError: they could not be written, or would replace the source.
    """
    require_writable(output, [*VIDEO_SUFFIXES, TABLE_SUFFIX])
    if output.resolve() == Path(source.name).resolve():
        raise OutputError(f"{output}: the result would replace the video", hint="choose another name with -o")
    stem = output.stem
    if output.suffix.lower() == TABLE_SUFFIX:
        video, table, stem = None, output, stem.removesuffix(TABLE_NAME)
    else:
        video, table = output, output.with_name(f"{stem}{TABLE_NAME}{TABLE_SUFFIX}")
    summary = output.with_name(f"{stem}_tracks.json")
    owner = summary.with_suffix(TABLE_SUFFIX)
    if owner != table and owner.exists():  # beside k.csv lies what another run has written for k.mp4
        if with_summary:
            raise OutputError(
                f"{summary}: belongs to {owner.name}, and would be replaced",
                hint="choose another name with -o",
            )
        return _Targets(video, table, None)
    # One that an earlier run has left would else stand beside a film that it says nothing of.
    return _Targets(video, table, summary if with_summary or summary.exists() else None)


def require_own_results(output: Path) -> None:
    """Refuse an ``output`` of :func:`detect_video` by which a file would be replaced that is no such result.

    Raises:
        OutputError: it would.
        VideoError: PyAV is not installed.
    """
    stem, table = output.stem, output
    if output.suffix.lower() == TABLE_SUFFIX:
        stem = stem.removesuffix(TABLE_NAME)
    else:
        table = output.with_name(f"{stem}{TABLE_NAME}{TABLE_SUFFIX}")
        if output.is_file() and output.stat().st_size and not is_own(output):
            raise not_own(output)
    require_own(table, TABLE_HEAD)
    require_own(output.with_name(f"{stem}_tracks.json"), r'\s*{\s*"video"\s*:')


def _run(
    source: FrameSource, scheduler: _FrameScheduler, writer: _ResultWriter, show_progress: bool
) -> BaseException | None:
    """Go through the source and close the results; returns what ended it early, whatever that was."""
    failure: BaseException | None = None
    with ThreadPoolExecutor(max_workers=1) as writing:
        try:
            with progress_bar("detecting", source.total, show=show_progress) as advance:
                _detect_in_all(source, scheduler, writer, writing, advance)
        except BaseException as error:
            failure = error
        # In the thread that writes, and so after all writing, even if Ctrl-C comes twice.
        not_ended = writing.submit(writer.close).exception()
    return not_ended or failure


def _detect_in_all(
    source: FrameSource,
    scheduler: _FrameScheduler,
    writer: _ResultWriter,
    writing: ThreadPoolExecutor,
    advance: Callable[[str], None],
) -> None:
    """Detect in each frame, and hand everything that is read on to be written, in order."""
    reading = ThreadPoolExecutor(max_workers=1)
    waiting: deque[Future[None]] = deque()
    try:
        for item in _read_ahead(iter(source), reading):
            if isinstance(item, Frame):
                waiting.append(writing.submit(writer.write, item, scheduler.update(item)))
                advance(scheduler.status)
            else:
                waiting.append(writing.submit(writer.copy, item))
            while len(waiting) > MAX_WAITING:
                waiting.popleft().result()
        for work in waiting:
            work.result()
    finally:
        reading.shutdown(wait=False, cancel_futures=True)  # a silent camera would hold up Ctrl-C


def _read_ahead(items: Iterator[Frame | Packet], reading: ThreadPoolExecutor) -> Iterator[Frame | Packet]:
    """Every item in order; while the caller works on one, the next are read."""
    ahead = deque(reading.submit(next, items, None) for _ in range(MAX_WAITING))
    while (item := ahead.popleft().result()) is not None:
        ahead.append(reading.submit(next, items, None))
        yield item


class Untracked:
    """Stands in for a :class:`Tracker` where no numbers are wanted: each frame is taken by itself."""

    def __init__(self, threshold: float) -> None:
        self.lowest_score = threshold
        self.num_tracks = 0
        self._last: list[TrackedBox] = []

    def update(self, found: Detections, time_s: float | None = None) -> list[TrackedBox]:
        """What was detected in the next frame."""
        tracked = [
            TrackedBox(box, label, int(class_id), score, None)
            for (box, score, label), class_id in zip(found, found.class_ids, strict=True)
        ]
        self._last = [each._replace(score=None) for each in tracked]
        return tracked

    def predict(self, time_s: float | None = None) -> list[TrackedBox]:
        """The last boxes once more, where they were."""
        return self._last


class _FrameScheduler:
    """Decides which frames the network works on; gives the objects of every frame."""

    def __init__(
        self,
        detector: PhotoDetector,
        tracker: Tracker | Untracked,
        every: int,
        source: FrameSource,
        threshold: float,
    ) -> None:
        self.num_frames_detected = 0
        self.full = FullPhotos(limit_of(detector), "frame")
        self._detector = detector
        self._tracker = tracker
        self._every = every
        self._threshold = threshold
        self._live = source.live
        self._pixel_aspect = source.pixel_aspect
        self._num_frames = 0
        self._began = 0.0

    @property
    def status(self) -> str:
        return counted(self._tracker.num_tracks, "object") if self._tracker.num_tracks else ""

    def update(self, frame: Frame) -> list[TrackedBox]:
        """The objects of the next frame."""
        now = time.monotonic()
        if self._num_frames == 0:
            self._began = now - frame.time_s
        elif frame.came_at is not None:
            # A camera's clock need not go as ours does; but nothing waits behind a frame that was waited for.
            self._began = frame.came_at - frame.time_s
        late = self._live and now - self._began - frame.time_s > _MAX_LAG_S
        is_due = self._num_frames % self._every == 0 and (not late or self.num_frames_detected == 0)
        self._num_frames += 1
        if not is_due:
            return self._tracker.predict(frame.time_s)
        self.num_frames_detected += 1
        found = self._detector.detect(
            as_shown(frame.image, self._pixel_aspect), threshold=self._tracker.lowest_score
        )
        # The tracker looks at surer ones first: that doubtful ones are cut off costs no new object.
        if found.full_at > self._threshold:
            self.full.add(f"at {frame.time_s:.2f} s")
        return self._tracker.update(found, frame.time_s)


class _ResultWriter:
    """Draws and writes frames, and counts what was written."""

    def __init__(
        self, files: ExitStack, source: FrameSource, targets: _Targets, summary: VideoSummary
    ) -> None:
        table_file = files.enter_context(replacing(targets.table))
        self._table = TrackTable(files.enter_context(table_file.open("wb", buffering=0)), targets.table)
        self._video_file = files.enter_context(replacing(targets.video)) if targets.video else None
        self._writer = None
        if self._video_file and targets.video:
            self._writer = VideoWriter(self._video_file, targets.video, source)
        self._tracks = TrackSummary(targets.summary) if targets.summary else None
        self._source = source
        self._summary = summary

    def write(self, frame: Frame, tracked: Sequence[TrackedBox]) -> None:
        for counter in self._summary.counters:
            counter.update(tracked)
        if self._writer:
            self._writer.write(_draw(frame, tracked, self._summary.counters), frame.pts)
        self._table.write(self._summary.num_frames, frame.time_s, tracked)
        if self._tracks:
            self._tracks.add(frame.time_s, tracked)
        self._summary.num_frames += 1
        self._summary.num_boxes += len(tracked)
        self._summary.duration_s = frame.time_s

    def copy(self, packet: Packet) -> None:
        if self._writer:
            self._writer.copy(packet)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
        if self._tracks and self._summary.num_frames:
            height, width = self._source.size_hw
            about = {
                "video": Path(self._source.name).name,
                "width": width,
                "height": height,
                "frames": self._summary.num_frames,
                "duration_s": round(self._summary.duration_s, 6),
            }
            self._tracks.write(about, self._summary.counters)

    def has_result(self, failure: BaseException) -> bool:
        """Whether something was written that is worth keeping, though ``failure`` ended it."""
        if isinstance(failure, OutputError) and self._video_file:
            try:
                VideoReader(str(self._video_file))
            except VideoError:
                return False
        return self._summary.num_frames > 0


def _draw(frame: Frame, tracked: Sequence[TrackedBox], counters: Sequence[PassCounter] = ()) -> Image.Image:
    """The frame with its boxes; each object has a colour of its own, without tracking each class.

    One that has no number yet is dashed.
    """
    picture = draw_boxes(
        frame.image,
        np.array([each.box for each in tracked]),
        [_tag(each) for each in tracked],
        [each.class_id if each.track_id is None else each.track_id - 1 for each in tracked],
        dashed=[each.track_id is None and each.candidate is not None for each in tracked],
    )
    for counter in counters:
        draw_path(picture, counter.points, str(counter), closed=counter.kind == "zone")
    return picture


def _tag(tracked: TrackedBox) -> str:
    number = "" if tracked.track_id is None else f" #{tracked.track_id}"
    score = "" if tracked.score is None else f" {tracked.score:.0%}"
    return f"{tracked.label}{number}{score}"
