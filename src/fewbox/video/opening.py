"""Open a film, a stream or a webcam with PyAV, and say in plain words what FFmpeg reports.

And tell when the frames of a camera came: what its own times, if it sends any, do not say.
"""

from __future__ import annotations

import importlib
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fewbox.errors import VideoError

if TYPE_CHECKING:
    import av

TIMEOUT_S = 10.0
"""A stream that sends nothing for so long has stalled."""
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
        elif isinstance(error, av.InvalidDataError):
            what, hint = "not a video, or damaged or cut off", CONVERT
        elif isinstance(error, av.DecoderNotFoundError):
            what, hint = "its codec is not known here", CONVERT
        raise VideoError(f"{source}: {what}", hint=hint) from error


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
