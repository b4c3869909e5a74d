"""Open a film, a stream or a webcam with PyAV, and say in plain words what FFmpeg reports.

And tell when the frames of a camera came: what its own times, if it sends any, do not say. And let the times
in a film go on where one of them is damaged, or where they begin anew. And show frames as they are shown.
"""

from __future__ import annotations

import importlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewbox.core.files import MARK, VIDEO_SUFFIXES
from fewbox.data.images import StretchedImage
from fewbox.errors import VideoError

if TYPE_CHECKING:
    import av

TABLE_NAME, TABLE_SUFFIX = "_tracks", ".csv"
"""What is added to the name of a film for that of its table."""
TIMEOUT_S = 10.0
"""A stream that sends nothing for so long has stalled."""
BACK_S = 1
"""Times that fall back by more are damaged, or begin anew, as where transport streams are joined."""
_MAX_STRETCH = Fraction(4)  # no film has wider pixels: they are a mistake
UNREADABLE = "not a video, or damaged or cut off"
CONVERT = "play it, and if it plays, convert it to H.264 first: ffmpeg -i IN -c:v libx264 OUT.mp4"


def require_pyav() -> None:
    """Refuse to begin without PyAV.

    Raises:
        VideoError: it is not installed.
    """
    try:
        importlib.import_module("av")
    except ImportError as error:
        hint = "install it: pip install '.[video]'"
        raise VideoError("videos need PyAV, which is not installed", hint=hint) from error


def open_source(source: str) -> av.container.InputContainer:
    """A file, an address, or the number of a webcam, opened."""
    import av

    if source.isdecimal() and not Path(source).exists():
        device, driver = webcam(int(source), sys.platform)
        return av.open(device, format=driver, timeout=TIMEOUT_S, metadata_errors="replace")
    # Over UDP, the default, a busy network tears frames apart.
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    # Titles in old films are in whatever code their program had, and nobody here reads them.
    return av.open(source, options=options, timeout=TIMEOUT_S, metadata_errors="replace")


def webcam(number: int, platform: str) -> tuple[str, str]:
    """The name of a webcam and of its driver, as FFmpeg wants them.

    Raises:
        VideoError: there is no such webcam.
    """
    if platform == "linux":
        return f"/dev/video{number}", "v4l2"
    if platform == "darwin":
        return str(number), "avfoundation"
    import av

    cameras = [device for device in av.enumerate_input_devices("dshow") if "video" in device.media_types]
    if number >= len(cameras):
        raise VideoError(f"webcam {number}: there are {len(cameras)} webcams, counted from 0")
    return f"video={cameras[number].name}", "dshow"


@contextmanager
def as_video_error(source: str) -> Iterator[None]:
    """Turn FFmpeg's errors into ones that a user understands."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        what, hint = str(error.strerror or error), "is the address or the path right?"
        if isinstance(error, FileNotFoundError) and source.isdecimal():
            what, hint = "no such webcam", "the first one is 0; is it connected, and free?"
        elif isinstance(error, FileNotFoundError):
            what = "no such file or device"
        elif isinstance(error, av.ExitError | TimeoutError):
            what, hint = f"sent nothing for {TIMEOUT_S:.0f} s", "check the camera and the network"
        elif isinstance(error, av.DecoderNotFoundError):
            what, hint = "its codec is not known here", CONVERT
        elif isinstance(error, av.InvalidDataError) or (
            Path(source).is_file() and not isinstance(error, PermissionError)
        ):
            # What it meets in what is left of a file, FFmpeg calls anything: no memory, the end, bad input.
            what, hint = UNREADABLE, CONVERT
        raise VideoError(f"{source}: {what}", hint=hint) from error


def is_own(film: Path) -> bool:
    """Whether a ``VideoWriter`` has written a film.

    Raises:
        VideoError: PyAV is not installed.
    """
    require_pyav()
    import av

    try:
        with av.open(str(film), metadata_errors="replace") as container:
            said = {name.lower(): text for name, text in container.metadata.items()}  # Matroska: COMMENT
    except (OSError, av.FFmpegError):
        return False
    return said.get("comment") == MARK


def drawn_before(written: Sequence[Path], source: str) -> list[tuple[Path, Path]]:
    """Films of earlier runs that lie beside what one has written, each with the new table called as its own.

    Args:
        written: what the run has written.
        source: what it has read, which is no such film.

    Returns:
        None without PyAV, of which a table of photos in a row has no need: nobody knows whose a film is.
    """
    tables = [path for path in written if path.name.endswith(TABLE_NAME + TABLE_SUFFIX)]
    films = [
        (table.with_name(table.name.removesuffix(TABLE_NAME + TABLE_SUFFIX) + suffix), table)
        for table in tables
        for suffix in VIDEO_SUFFIXES
    ]
    known = {path.resolve() for path in (*written, Path(source))}
    others = [pair for pair in films if pair[0].resolve() not in known and pair[0].is_file()]
    with suppress(VideoError):
        return [pair for pair in others if is_own(pair[0])]
    return []


_WAITED = 0.25
"""Of the usual time between two frames: what took longer to come did not lie there yet."""
_NUM_INTERVALS = 8


class Arrivals:
    """Tells which packets of a live source had to be waited for, and when the others came, probably.

    Where frames are worked on more slowly than they come, they lie in buffers that nobody can look into.
    Behind one that had to be waited for there is none.

    Args:
        rate: frames per second, as the source says.
    """

    def __init__(self, rate: Fraction) -> None:
        self.came_at = 0.0
        """When the last one came, on the clock of :meth:`note`."""
        self._usual_s = 1 / float(rate)
        self._intervals: deque[float] = deque(maxlen=_NUM_INTERVALS)
        self._num, self._waited = 0, False

    def note(self, asked_at: float, now: float) -> bool:
        """Whether one that was asked for at a time, and is here now, had to be waited for."""
        waited_before, self._waited = self._waited, now - asked_at > _WAITED * self._usual_s
        if self._waited and waited_before:
            self._intervals.append(now - self.came_at)
        if self._waited or not self._num:
            self.came_at = now
        else:
            # The shortest of the last intervals: rather too late for a while than later and later.
            self.came_at = min(self.came_at + min(self._intervals, default=self._usual_s), now)
        self._num += 1
        return self._waited


_AHEAD_S = 10
_BROADCAST = ("flv", "hls", "live_flv", "mpeg", "mpegts")
"""Where each packet states its time. One that is ahead by more than that is damaged, unless the next one says
the same; elsewhere a picture may stay for so long."""
_STEADY_TYPES = ("audio", "video")  # between two subtitles any time may pass


@dataclass
class _Track:
    """Where the times of one stream are, as they were mended."""

    last_s: Fraction
    before_s: Fraction
    """Of the last packet but one."""
    shift_s: Fraction = Fraction(0)
    """To be added to what packets state."""
    doubted_s: Fraction | None = None
    """What the last packet stated, if that was not believed."""


class PacketTimes:
    """Lets the times of packets go on where a film was joined of several, and where one time is damaged.

    Args:
        form: the name of the film's format, as FFmpeg has it.
        rate: frames per second.
        live: whether it is no file; there each frame is looked at before the next one comes, whose time may
            belie it.
    """

    def __init__(self, form: str, rate: Fraction, *, live: bool) -> None:
        self._is_broadcast, self._live = form in _BROADCAST, live
        self._rate = rate
        self._shift_s = Fraction(0)
        self._tracks: dict[int, _Track] = {}

    def mend(self, packet: av.Packet[Any]) -> None:
        """Let the times of the next packet of any stream follow those before it."""
        if packet.dts is None:
            return
        unit = packet.time_base
        stated_s = packet.dts * unit
        track = self._tracks.setdefault(packet.stream.index, _Track(stated_s, stated_s))
        time_s = stated_s + track.shift_s
        follows_s = track.last_s + (packet.duration * unit if packet.duration else 1 / self._rate)
        fell_back = time_s < track.last_s - BACK_S
        if fell_back and track.before_s < time_s:
            fell_back = False  # the last one was ahead, and alone
        is_far = fell_back or (self._is_broadcast and time_s - track.last_s > _AHEAD_S)
        goes_on = track.doubted_s is not None and time_s >= track.doubted_s
        is_doubted = is_far and not goes_on and packet.stream.type in _STEADY_TYPES
        track.doubted_s = time_s if is_doubted else None
        if fell_back:
            # Sound and picture begin anew one after the other, and are moved by the same time.
            needed_s = follows_s - stated_s
            if self._shift_s == track.shift_s or abs(self._shift_s - needed_s) > BACK_S:
                self._shift_s = needed_s
            time_s = stated_s + self._shift_s
            track.shift_s = track.shift_s if is_doubted else self._shift_s
        elif is_doubted:
            time_s = follows_s
        track.before_s, track.last_s = track.last_s, time_s
        self._move(packet, round((time_s - stated_s) / unit), round(track.shift_s / unit))

    def _move(self, packet: av.Packet[Any], moved: int, usual: int) -> None:
        """Move a packet's times, in its unit; ``usual`` is how far others of its stream are moved."""
        stated, most = packet.dts, _AHEAD_S / packet.time_base
        assert stated is not None
        packet.dts = stated + moved
        if packet.pts is None:
            return
        if moved != usual and abs(packet.pts - stated) > most:
            moved = usual  # only one of the two may be damaged
        packet.pts += moved
        if (moved != usual or self._doubts_shown(packet)) and abs(packet.pts - packet.dts) > most:
            packet.pts = packet.dts

    def _doubts_shown(self, packet: av.Packet[Any]) -> bool:
        """Whether what is decoded in time, but shown far from it, is damaged; a pause may be between."""
        return self._is_broadcast and (self._live or packet.stream.type != "video")


_YCGCO = 8
_RARE_COLORS = {_YCGCO: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
"""By the numbers of ITU-T H.273."""


def require_known_colors(name: str, color_space: int) -> None:
    """Refuse colours that FFmpeg's libswscale cannot make RGB."""
    if coded := _RARE_COLORS.get(color_space):
        # Only the first is a matrix and no more; of the others the film has to state primaries and transfer.
        to = "zscale=m=709" if color_space == _YCGCO else "zscale=m=709:t=709:p=709"
        raise VideoError(
            f"{name}: its colours are coded as {coded}, which cannot be read here",
            hint=f"convert it first: ffmpeg -i IN -vf {to} -c:v libx264 OUT.mp4",
        )


def display_matrix(decoded: av.VideoFrame) -> npt.NDArray[np.int32]:
    """Where a player shows a frame: (x, y) goes to (ax + cy, bx + dy); ``[2, 2]``, (a, b) above (c, d).

    As in ISO/IEC 14496-12, 8.3.2; what falls below 0 is moved back into the picture.
    """
    from av.sidedata.sidedata import Type

    side_data: Any = decoded.side_data  # whose stub knows names, not types, as keys
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return np.eye(2, dtype=np.int32)
    return np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]


def as_shown(image: npt.NDArray[np.uint8], pixel_aspect: Fraction) -> StretchedImage:
    """The frame ``[H, W, 3]`` as a player shows it: detectors have learnt from photos with square pixels.

    No array, of which a detector that finds nothing would doubt that it is RGB.
    """
    height, width = image.shape[:2]
    if pixel_aspect == 1:
        return StretchedImage(image, (height, width))
    size_hw = shown_size_hw((height, width), pixel_aspect)
    shown = Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return StretchedImage(np.array(shown), (height, width))


def shown_size_hw(size_hw: tuple[int, int], pixel_aspect: Fraction) -> tuple[int, int]:
    """Height and width of a frame as a player shows it, with pixels that are square."""
    stretch = float(min(max(pixel_aspect, 1 / _MAX_STRETCH), _MAX_STRETCH))
    height, width = size_hw
    return round(height * max(1 / stretch, 1)), round(width * max(stretch, 1))
