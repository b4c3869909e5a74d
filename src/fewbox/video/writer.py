"""Write a video frame by frame, with sound and subtitles copied as they are, and the table of tracks.

Writing can end at any moment, even on a full disk, and what was written until then is whole: the video is
made of fragments that can be played on their own, the table of whole lines. What is known at the end only,
how long each object was there and what passed where, goes into a JSON file.

Of a film that is to be annotated single frames are written: the sharpest, and those that differ most. It is
read twice, first to choose and then to write, so that only a few numbers of each frame are kept.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core import escaped, files
from fewbox.core.files import TABLE_HEAD, output_error, write_text
from fewbox.core.progress import console, progress_bar
from fewbox.data.similar import NEARLY_SAME, SAME, PerceptualHash, perceptual_hash
from fewbox.errors import OutputError, VideoError
from fewbox.video.counting import PassCounter
from fewbox.video.opening import as_shown, require_pyav
from fewbox.video.reader import Frame, VideoReader
from fewbox.video.tracking import TrackedBox

if TYPE_CHECKING:
    import av
    from av.bitstream import BitStreamFilterContext

    from fewbox.video.reader import FrameSource, Packet

_RGB, _BT709 = 0, 1  # as ITU-T H.273 numbers matrices
_H264 = {"preset": "veryfast", "crf": "20", "bf": "0"}
_LONGEST_SIDE = 16384
"""The encoder, x264, takes no longer one."""
_SECONDS_PER_FRAGMENT = 2
# Written to the disk at once, not to a buffer that dies with the process.
_FORMAT = {"flush_packets": "1"}
# As fragments while it is written, as one piece when it is closed.
_MP4 = _FORMAT | {"movflags": "hybrid_fragmented+delay_moov"}


class VideoWriter:
    """A video in H.264, with the times of its source.

    Args:
        path: the file to write; its suffix is one of ``files.VIDEO_SUFFIXES``.
        target: its name in messages.
        source: where the frames come from.

    Raises:
        VideoError: PyAV is not installed, or the frames are too large for a video.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, target: Path, source: FrameSource) -> None:
        require_pyav()
        import av

        height, width = source.size_hw
        if max(height, width) > _LONGEST_SIDE:  # of one film among several, which does not stop the others
            raise VideoError(
                f"{source.name}: {width} x {height} pixels; a video has at most {_LONGEST_SIDE} a side",
                hint="write only the table, -o tracks.csv, or for photos a picture of each: -o found",
            )
        self._target = target
        self._time_base = source.time_base
        # A recording of a screen may be in RGB. What is written is not; players would show it green and pink.
        self._color_space = _BT709 if source.color[0] == _RGB else source.color[0]
        options = _FORMAT if path.suffix.lower() == ".mkv" else _MP4
        with _as_output_error(target):
            self._container = av.open(str(path), "w", options=options)
            self._container.metadata["comment"] = files.MARK
            self._stream = self._add_video(source)
        self._copies: dict[int, av.stream.Stream] = {}
        self._filters: dict[int, BitStreamFilterContext] = {}
        for stream in source.kept:
            self._add_copy(stream, source.name)

    def _add_video(self, source: FrameSource) -> av.VideoStream:
        height, width = source.size_hw
        options = _H264 | {"g": str(max(1, round(_SECONDS_PER_FRAGMENT * source.rate)))}
        stream = self._container.add_stream("libx264", rate=source.rate, options=options)
        stream.width, stream.height = width + width % 2, height + height % 2  # one colour per 2 x 2 pixels
        stream.pix_fmt = "yuv420p"
        stream.time_base = source.time_base
        context = stream.codec_context
        context.sample_aspect_ratio = source.pixel_aspect
        context.time_base = source.time_base
        context.colorspace = self._color_space
        _, context.color_primaries, context.color_trc = source.color
        return stream

    def _add_copy(self, stream: av.stream.Stream, name: str) -> None:
        import av
        from av.bitstream import BitStreamFilterContext

        try:
            # Some kinds are refused only when the header is written, and then the film with them.
            with av.open(io.BytesIO(), "w", format=self._container.format.name) as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
            self._copies[stream.index] = self._container.add_stream_from_template(stream)
        except (ValueError, av.FFmpegError):
            console.print(
                f"{name}: its {stream.type} does not fit in {self._target.suffix} and is left out; "
                ".mkv takes most kinds"
            )
            return
        if stream.codec_context.name == "aac":  # whose packets have heads in a .ts, which no .mp4 takes
            self._filters[stream.index] = BitStreamFilterContext("aac_adtstoasc", stream)

    def write(self, picture: Image.Image, pts: int) -> None:
        """Add a frame, shown from ``pts`` on."""
        import av

        image = np.asarray(picture)
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._color_space)
        frame.pts, frame.time_base = pts, self._time_base
        with _as_output_error(self._target):
            self._container.mux(self._stream.encode(frame))

    def copy(self, packet: Packet) -> None:
        """Add a packet of sound or subtitles as it is; one whose time runs backwards is left out.

        So is one that is damaged.
        """
        import av

        index = packet.stream.index
        copy, stripped = self._copies.get(index), self._filters.get(index)
        if copy is None:
            return
        with _as_output_error(self._target), contextlib.suppress(av.ArgumentError, av.InvalidDataError):
            for part in stripped.filter(packet) if stripped else [packet]:
                part.stream = copy
                self._container.mux(part)

    def close(self) -> None:
        """Write the frames that the encoder still holds and end the file."""
        with _as_output_error(self._target):
            try:
                self._container.mux(self._stream.encode(None))
            finally:
                self._container.close()


class TrackTable:
    """Where every object was in every frame, as CSV: a row per tracked box.

    Args:
        file: open for writing, without a buffer.
        target: its name in messages.
    """

    def __init__(self, file: BinaryIO, target: Path) -> None:
        self._file = file
        self._target = target
        self._append([TABLE_HEAD.split(",")])

    def write(self, frame_number: int, time_s: float, tracked: Sequence[TrackedBox]) -> None:
        """Add the rows of a frame, with as many digits as can be measured.

        Raises:
            OutputError: they cannot be written; the rows before them are.
        """
        self._append(
            [
                (
                    frame_number,
                    f"{time_s:.6f}",
                    "" if each.track_id is None else each.track_id,
                    *(f"{edge:.2f}" for edge in each.box),
                    "" if each.score is None else f"{each.score:.4f}",
                    each.label,
                )
                for each in tracked
            ]
        )

    def _append(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        data, whole = text.getvalue().encode(), self._file.tell()
        with _as_output_error(self._target):
            try:
                while data:  # a disk that is almost full takes a part
                    data = data[self._file.write(data) :]
            except OSError:
                self._file.truncate(whole)
                raise


@dataclass
class _Stay:
    """When an object was in sight."""

    label: str
    first_s: float
    last_s: float
    num_frames: int
    score: float


class TrackSummary:
    """How long every object was there, and what passed, as JSON.

    Args:
        target: the file to write.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._stays: dict[int, _Stay] = {}

    def add(self, time_s: float, tracked: Sequence[TrackedBox]) -> None:
        """Take in the objects of a frame; those without a number are in the table only."""
        for each in tracked:
            if each.track_id is None:
                continue
            score = each.score or 0.0
            stay = self._stays.setdefault(each.track_id, _Stay(each.label, time_s, time_s, 0, score))
            stay.last_s, stay.score = time_s, max(stay.score, score)
            stay.num_frames += 1

    def write(self, about: dict[str, Any], counters: Sequence[PassCounter]) -> None:
        """Write the file.

        Args:
            about: what is said of the video first.
            counters: the lines and zones that counted.

        Raises:
            OutputError: it cannot be written.
        """
        objects = [
            {
                "track": number,
                "label": stay.label,
                "first_s": round(stay.first_s, 6),
                "last_s": round(stay.last_s, 6),
                "frames": stay.num_frames,
                "best_score": round(stay.score, 4),
            }
            for number, stay in sorted(self._stays.items())
        ]
        said = {**about, "objects": objects, "counted": [counter.to_dict() for counter in counters]}
        text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
        write_text(self._target, escaped(text))  # the name of a film; such an escape is one of JSON's too


@contextlib.contextmanager
def _as_output_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # those of FFmpeg that are about files are OSErrors too
        raise output_error(target, error) from error
    except Exception as error:
        import av

        if not isinstance(error, av.FFmpegError):
            raise
        said = f"{target}: cannot be written: {error.strerror}"
        raise OutputError(said, hint="write only the table: -o tracks.csv") from error


CANDIDATES = 8
"""Of so many stretches of the film for each frame that is wanted, the sharpest frame may be picked."""
_LOOKED_AT_SIDE = 320  # pixels: blur that matters is seen, and the grain of the film is not
_QUALITY = 95


@dataclass(frozen=True)
class _Look:
    """What is kept of a frame."""

    number: int
    sharpness: float
    perceptual_hash: PerceptualHash


def write_frames(film: Path, folder: Path, count: int) -> int:
    """Write frames of a film as JPEGs into a new folder; ``film_000123.jpg`` is frame 123, counted from 0.

    Args:
        film: a film, read with PyAV.
        folder: is not there yet, or empty.
        count: how many frames at most; fewer if more would show the same.

    Returns:
        How many were written.

    Raises:
        VideoError: the film cannot be read, or shows nothing.
        OutputError: the folder is not empty, or cannot be written.
    """
    chosen = set(_choose(_looks(film), count))
    if not chosen:
        raise VideoError(f"{film}: no frame shows anything", hint="choose another film")
    with files.new_folder(folder) as place:
        for number, frame in _frames(film, "writing frames"):
            if number in chosen:
                path = place / f"{film.stem}_{number:06d}.jpg"
                Image.fromarray(frame).save(path, quality=_QUALITY)
    return len(chosen)


def _frames(film: Path, title: str) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """The frames of a film as they are shown, ``[H, W, 3]``, with their numbers."""
    reader = VideoReader(str(film))
    number = 0
    with progress_bar(title, reader.total) as advance:
        for item in reader:
            if isinstance(item, Frame):
                yield number, as_shown(item.image, reader.pixel_aspect).image
                number += 1
                advance("")


def _looks(film: Path) -> list[_Look]:
    """Every frame that shows something."""
    looks = []
    for number, image in _frames(film, "looking for the sharpest frames"):
        small = Image.fromarray(image)
        small.thumbnail((_LOOKED_AT_SIDE, _LOOKED_AT_SIDE), Image.Resampling.BILINEAR)
        bits = perceptual_hash(np.asarray(small))
        if bits is not None:
            looks.append(_Look(number, sharpness(np.asarray(small.convert("L"))), bits))
    return looks


def sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """The variance of the Laplacian of an image ``[H, W]``: the usual measure of focus, lower with blur."""
    pixels = grey.astype(np.float32)
    middle = 4 * pixels[1:-1, 1:-1]
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return float((middle - around).var())


def _choose(looks: Sequence[_Look], count: int) -> list[int]:
    """The numbers of the frames to take.

    The sharpest frame of each stretch of the film is a candidate. The sharpest of all is taken; then, again
    and again, the one that differs most from those taken before, or a sharper one that shows nearly the same
    as this one, until the rest shows what has been taken.
    """
    if not looks:
        return []
    stretches = np.array_split(np.arange(len(looks)), min(len(looks), CANDIDATES * count))
    candidates = [max((looks[i] for i in part), key=lambda look: look.sharpness) for part in stretches]
    bits = np.array([look.perceptual_hash for look in candidates])  # [n, 512]
    sharp = np.array([look.sharpness for look in candidates])
    taken = [int(sharp.argmax())]
    nearest = _distances(bits, taken[0])
    while len(taken) < count and nearest.max() > SAME:
        alike = _distances(bits, int(nearest.argmax())) <= NEARLY_SAME
        taken.append(int(np.where(alike & (nearest > SAME), sharp, -1).argmax()))
        nearest = np.minimum(nearest, _distances(bits, taken[-1]))
    return [candidates[i].number for i in taken]


def _distances(bits: npt.NDArray[np.bool_], number: int) -> npt.NDArray[np.float64]:
    """How far each hash is from one of them, 0 to 1."""
    far: npt.NDArray[np.float64] = (bits != bits[number]).mean(axis=1)
    return far
