"""Read a video, a stream, a webcam or photos as frames, and sound and subtitles as they are.

Frames are upright: a phone notes how it was held, and whether it mirrors, and the frame is turned
accordingly. Pixels are those of the film, which need not be square. Times count from the beginning of the
video; each frame keeps its time there, however irregular.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, ImageSequence

from fewbox.core import counted
from fewbox.core.progress import console
from fewbox.data.images import read_image, read_size_hw, upright_array
from fewbox.data.photo_file import opened
from fewbox.data.remote import short_names
from fewbox.detection.drawing import contained
from fewbox.errors import PhotoError, VideoError
from fewbox.video.opening import (
    BACK_S,
    CONVERT,
    UNREADABLE,
    Arrivals,
    PacketTimes,
    as_video_error,
    display_matrix,
    open_source,
    require_known_colors,
    require_pyav,
)

if TYPE_CHECKING:
    import av

    Packet: TypeAlias = av.Packet[Any]

_MAX_PACKETS_BEFORE_FRAMES = 5000  # of sound and the like; they are held until the first frame comes
_MISSING_PART = 0.9  # a video that ends before this part of the length it states was cut off
_USUAL_RATE, _HIGHEST_RATE = Fraction(25), 1000  # what is above is the rate of a stream's clock
_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # such as 00:01:23.040000000
_UNKNOWN_COLOR = (2, 2, 2)
_KEPT_TYPES = ("audio", "subtitle")
_SHORTEST_IN_GIF, _USUAL_IN_GIF = 20, 100  # milliseconds
_UNTIMED = "mpjpeg"
"""JPEGs as parts of one answer: FFmpeg gives them times as of 25 a second, however fast they come."""
_MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video."""

    image: npt.NDArray[np.uint8]
    """``[H, W, 3]`` RGB, upright."""
    pts: int
    """When it is shown, in units of the video's ``time_base``."""
    time_s: float
    came_at: float | None = None
    """By ``time.monotonic``, of a camera's frame that had to be waited for: no other one waits behind it."""


class FrameSource(Protocol):
    """Where frames come from. It can be gone through once, and yields frames and the packets of ``kept``."""

    name: str
    size_hw: tuple[int, int]
    """Of every frame, upright."""
    time_base: Fraction
    """The unit of time, in seconds."""
    rate: Fraction
    """Frames per second; a usual number where the source does not say."""
    total: int | None
    """How many frames there will be; None if nobody can know."""
    live: bool
    """Whether frames come at their own speed and do not wait."""
    kept: tuple[Any, ...]
    """Streams of sound and subtitles."""
    color: tuple[int, int, int]
    """Colour space, primaries and transfer, as ITU-T H.273 numbers them."""
    pixel_aspect: Fraction
    """How many times wider than high a pixel of the upright frame is shown."""

    def __iter__(self) -> Iterator[Frame | Packet]: ...


class PhotoFrames:
    """Photos as the frames of a video, one after the other; those of another size are fitted to the first.

    ``failed`` are the names of those that could not be read, once all were gone through.

    Raises:
        PhotoError: none of the photos can be read.
    """

    live = False
    kept = ()
    color = _UNKNOWN_COLOR
    pixel_aspect = Fraction(1)

    def __init__(self, paths: Sequence[Path], frames_per_second: float) -> None:
        self.name = counted(len(paths), "photo")
        self.rate = Fraction(frames_per_second).limit_denominator(1001)
        self.time_base = 1 / self.rate
        self.total: int | None = len(paths)
        self.failed: list[str] = []
        self._paths = paths
        self.size_hw = _first_size_hw(paths)

    def __iter__(self) -> Iterator[Frame]:
        """The frames; a photo that cannot be read is reported and left out."""
        self.failed.clear()
        (height, width), pts, num_fitted = self.size_hw, 0, 0
        for path, name in zip(self._paths, short_names(self._paths), strict=True):
            try:
                image = read_image(path)
            except PhotoError as error:
                console.print(f"skipped: {error.message}")
                self.failed.append(name)
                continue
            if image.shape[:2] != self.size_hw:
                fitting = contained(Image.fromarray(image), (width, height))
                image = np.array(ImageOps.pad(fitting, (width, height)))
                num_fitted += 1
            yield Frame(image, pts, float(pts * self.time_base))
            pts += 1
        if num_fitted:
            has, is_ = ("has", "is") if num_fitted == 1 else ("have", "are")
            console.print(
                f"{num_fitted} of {self.name} {has} another size than the first ({width} x {height}), "
                f"and {is_} fitted to it: boxes are in pixels of the film"
            )


class GifFrames:
    """The pictures of a GIF file, by Pillow: FFmpeg takes several that state no time for one.

    Raises:
        VideoError: it cannot be read.
    """

    live, kept, color, pixel_aspect = False, (), _UNKNOWN_COLOR, Fraction(1)
    time_base = _MILLISECOND

    def __init__(self, path: Path) -> None:
        self.name, self._path, self._cut_off = str(path), path, False
        looked = [(image.height, image.width, shown_ms) for image, shown_ms in self._pictures()]
        self.size_hw, shown_ms = looked[0][:2], [milliseconds for *_, milliseconds in looked]
        self.total: int | None = len(shown_ms)
        self.rate = Fraction(1000 * len(shown_ms), sum(shown_ms))

    def __iter__(self) -> Iterator[Frame]:
        """As :meth:`VideoReader.__iter__`."""
        pts = 0
        for image, shown_ms in self._pictures():
            yield Frame(upright_array(image), pts, float(pts * self.time_base))
            pts += shown_ms
        if self._cut_off:
            console.print(f"{self.name}: ends after {pts / 1000:.1f} s: it was cut off")

    def _pictures(self) -> Iterator[tuple[Image.Image, int]]:
        """Each with its milliseconds; where it states none or hardly any, those that players take."""
        picture = None
        try:
            with opened(self._path) as image:
                for frame in ImageSequence.Iterator(image):
                    stated = int(frame.info.get("duration", 0))
                    picture = frame.convert("RGBA")  # no animation any more, of which the first would be read
                    yield picture, stated if stated >= _SHORTEST_IN_GIF else _USUAL_IN_GIF
        except PhotoError as error:
            if picture is None:
                raise VideoError(f"{self.name}: {UNREADABLE}", hint=CONVERT) from error
            self._cut_off = True


def _first_size_hw(paths: Sequence[Path]) -> tuple[int, int]:
    """The size of the first photo that can be read."""
    for path in paths[:-1]:
        try:
            return read_size_hw(path)
        except PhotoError:  # reported when its turn comes
            continue
    return read_size_hw(paths[-1])


class VideoReader:
    """A video file, stream or webcam. It is closed once nobody holds it: until then a thread may be reading.

    Args:
        source: a path, an address such as ``rtsp://...``, or the number of a webcam.

    Raises:
        VideoError: it cannot be opened, shows nothing, or needs a codec that is not there.
    """

    def __init__(self, source: str) -> None:
        require_pyav()
        source = self.name = re.sub("^file:(//)?", "", source)  # so that it is not replaced by its drawing
        with as_video_error(source):
            self._container = open_source(source)
        self._stream = self._video_stream()
        self.kept = tuple(stream for stream in self._container.streams if stream.type in _KEPT_TYPES)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = rate if rate and rate <= _HIGHEST_RATE else _USUAL_RATE
        self.time_base = self._stream.time_base or 1 / self.rate
        self.live = self._container.duration is None and not Path(source).is_file()
        self._untimed = self.live and self._container.format.name == _UNTIMED
        if self._untimed:
            self.time_base = _MILLISECOND
        self._came_at: float | None = None
        self.total = self._count()
        self.size_hw = (0, 0)
        self.color = _UNKNOWN_COLOR
        self.pixel_aspect = Fraction(1)
        self._begin_s = Fraction(max(self._container.start_time or 0, 0), 1_000_000)
        self._num_damaged = self._num_fitted = 0
        self._last_pts = -1
        self._times = PacketTimes(self._container.format.name, self.rate, live=self.live)
        self._waiting: list[av.VideoFrame] = []
        self._items = self._read()
        self._before = self._until_first_frame()

    def __iter__(self) -> Iterator[Frame | Packet]:
        """Frames, and the packets of ``kept``, as they come.

        Raises:
            VideoError: the stream stalls or breaks off.
        """
        while self._before:
            yield self._before.pop(0)
        yield from self._items

    def _video_stream(self) -> av.VideoStream:
        from av.stream import Disposition

        for stream in self._container.streams.video:
            if not stream.disposition & Disposition.attached_pic:
                if stream.codec_context is None:
                    raise VideoError(f"{self.name}: its codec is not known here", hint=CONVERT)
                stream.thread_type = "AUTO"
                return stream
        contents = sorted({stream.type for stream in self._container.streams})
        if contents in ([], ["data"]):  # of a film without its beginning or end often no more is known
            raise VideoError(f"{self.name}: {UNREADABLE}", hint=CONVERT)
        raise VideoError(f"{self.name}: has no video, only {', '.join(contents)}", hint="choose another file")

    def _count(self) -> int | None:
        duration = self._container.duration
        if self._stream.frames or duration is None:
            return self._stream.frames or None
        return max(1, round(duration / 1_000_000 * self.rate))

    def _until_first_frame(self) -> list[Frame | Packet]:
        """Everything up to the first frame, which tells the size, and that there is something to see."""
        before: list[Frame | Packet] = []
        for item in self._items:
            before.append(item)
            if isinstance(item, Frame):
                return before
            if len(before) > _MAX_PACKETS_BEFORE_FRAMES:
                break
        raise VideoError(f"{self.name}: not one frame of it can be read", hint=CONVERT)

    def _read(self) -> Iterator[Frame | Packet]:
        import av

        with as_video_error(self.name):
            try:
                for packet in self._packets():
                    self._times.mend(packet)
                    if packet.stream is self._stream:
                        yield from map(self._frame, self._decode(packet))
                    elif packet.dts is not None:  # the last one of each stream is empty
                        if self._is_due(packet.dts * packet.time_base):
                            yield from self._let_go()
                        yield self._from_begin(packet)
            except av.FFmpegError:  # the film breaks off; what came until then is whole
                yield from self._let_go()
                raise
        self._report_faults(float(self._last_pts * self.time_base))

    def _packets(self) -> Iterator[Packet]:
        """All there are; of a live source it is noted when one had to be waited for."""
        packets = self._container.demux([self._stream, *self.kept])
        if not self.live:
            yield from packets
            return
        arrivals, began_at, asked_at = Arrivals(self.rate), None, time.monotonic()
        for packet in packets:
            if arrivals.note(asked_at, time.monotonic()):
                self._came_at = arrivals.came_at
            if self._untimed and packet.dts is not None:
                began_at = arrivals.came_at if began_at is None else began_at
                packet.pts = packet.dts = round((arrivals.came_at - began_at) / _MILLISECOND)
                packet.time_base = _MILLISECOND
            yield packet
            asked_at = time.monotonic()

    def _decode(self, packet: Packet) -> list[av.VideoFrame]:
        """The frames of a packet; of a file each waits for what comes next, which may belie its time."""
        import av

        decoded: list[Any] = self._waiting
        try:
            decoded = decoded + packet.decode()
        except av.InvalidDataError:
            self._num_damaged += 1
        for frame, following in pairwise(decoded):
            if None not in (frame.pts, following.pts):
                fell_back = (frame.pts - following.pts) * self.time_base > BACK_S
                frame.pts = None if fell_back else frame.pts
        # The last packet is empty, and who looks at a camera does not want to wait.
        self._waiting = decoded[-1:] if packet.size and not self.live else []
        return decoded[: len(decoded) - len(self._waiting)]

    def _is_due(self, come_s: Fraction) -> bool:
        """Whether sound has come as far as the frame that waits: its time is right, the next may be far."""
        return any(frame.pts is None or frame.pts * self.time_base <= come_s for frame in self._waiting)

    def _let_go(self) -> Iterator[Frame]:
        waiting, self._waiting = self._waiting, []
        return map(self._frame, waiting)

    def _frame(self, decoded: av.VideoFrame) -> Frame:
        """The frame upright, in the size of the first one, and later than the one before."""
        (a, b), (c, d) = display_matrix(decoded)
        sideways = abs(b) > abs(a)
        if self.size_hw == (0, 0):
            size_wh = decoded.width, decoded.height
            self.size_hw = size_wh if sideways else size_wh[::-1]
            self.color = decoded.colorspace, decoded.color_primaries, decoded.color_trc
            aspect = self._stream.sample_aspect_ratio or Fraction(1)
            self.pixel_aspect = 1 / aspect if sideways else aspect
        height, width = self.size_hw[::-1] if sideways else self.size_hw
        self._num_fitted += (decoded.width, decoded.height) != (width, height)
        require_known_colors(self.name, decoded.colorspace)
        image = decoded.to_ndarray(
            format="rgb24", width=width, height=height, src_color_range=decoded.color_range
        )
        if sideways:
            image = image.swapaxes(0, 1)
        if (c if sideways else a) < 0:
            image = image[:, ::-1]
        if (b if sideways else d) < 0:
            image = image[::-1]
        pts = self._last_pts + 1
        if decoded.pts is not None:
            pts = max(pts, decoded.pts - round(self._begin_s / self.time_base))
        elif self._last_pts >= 0:
            pts = self._last_pts + max(1, round(1 / (self.rate * self.time_base)))
        self._last_pts = pts
        came_at, self._came_at = self._came_at, None
        return Frame(np.ascontiguousarray(image), pts, float(pts * self.time_base), came_at)

    def _from_begin(self, packet: Packet) -> Packet:
        begin = round(self._begin_s / packet.time_base)
        if begin and packet.pts is not None:
            packet.pts -= begin
        if begin and packet.dts is not None:
            packet.dts -= begin
        return packet

    def _report_faults(self, time_s: float) -> None:
        if self._num_damaged:
            console.print(f"{self.name}: {self._num_damaged} damaged packets left out")
        if self._num_fitted:
            size = "{1} x {0}".format(*self.size_hw)
            frames = counted(self._num_fitted, "frame")
            console.print(f"{self.name}: {frames} of another size, made as large as the first: {size}")
        stated_s = self._stated_s()
        if time_s + float(1 / self.rate) < _MISSING_PART * stated_s:
            console.print(
                f"{self.name}: ends after {time_s:.1f} s, but says it has {stated_s:.1f} s: it was cut off"
            )

    def _stated_s(self) -> float:
        """How long the film says it is; 0 if it does not. Matroska says it of each track in a tag."""
        if tag := _DURATION.fullmatch(self._stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds - float(self._begin_s)
        return float(self._stream.duration * self.time_base) if self._stream.duration else 0.0


def open_film(source: str) -> FrameSource:
    """What reads a film, a stream, a webcam or a GIF file; errors as of :class:`VideoReader`."""
    path = Path(source)
    return GifFrames(path) if path.suffix.lower() == ".gif" and path.is_file() else VideoReader(source)
