"""Open a film, a stream or a webcam with PyAV, and say in plain words what FFmpeg reports."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
        return av.open(device, format=driver, timeout=TIMEOUT_S)
    # Over UDP, the default, a busy network tears frames apart.
    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    return av.open(source, options=options, timeout=TIMEOUT_S)


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
