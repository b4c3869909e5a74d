"""``fewbox detect`` with a video: the options it adds, and what it does then."""

from __future__ import annotations

import argparse
from pathlib import Path

from fewbox.errors import OutputError, SettingError

_WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".csv")
_READ = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".mjpeg", ".m3u8"),
)
_STREAMED = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp")
_DEFAULT_FPS = 25.0


def add_video_options(detect: argparse.ArgumentParser) -> None:
    """Add the options that only a video has."""
    video = detect.add_argument_group("for a video, that is if -o ends in .mp4, .m4v, .mov, .mkv or .csv")
    video.add_argument(
        "--every",
        type=int,
        metavar="N",
        help="look at every N-th frame; in between, boxes move on (default: 1)",
    )
    video.add_argument("--no-tracking", action="store_true", help="do not number the objects")
    video.add_argument(
        "--fps", type=float, help=f"frames per second, for photos in a row (default: {_DEFAULT_FPS:g})"
    )


def refuse_photo_options(parsed: argparse.Namespace, why: str) -> None:
    """Refuse what only photos in a folder can be given.

    Raises:
        SettingError: such an option is given.
    """
    for option, is_given in (
        ("--gif", parsed.gif is not None),
        ("--mirror", parsed.mirror),
        ("--no-pictures", parsed.no_pictures),
    ):
        if is_given:
            raise SettingError(f"{option} is for photos in a folder, {why}", hint="leave it out")


def is_about_video(parsed: argparse.Namespace) -> bool:
    """Whether a video is to be written.

    Raises:
        SettingError: a video was given but a folder is to be written, or the options do not go together.
        OutputError: a video is to be written in a format that only can be read.
    """
    if Path(parsed.output).suffix.lower() in _WRITTEN:
        refuse_photo_options(parsed, f"not for {parsed.output}")
        if parsed.engine_cluster is not None:
            hint = "leave it out, or name a folder with -o"
            raise SettingError(
                f"--engine-cluster is for a run into tables, not for {parsed.output}", hint=hint
            )
        return True
    from_video = [source for source in parsed.photos if _is_video(source, read_as_photo=True)]
    if parsed.output.lower().endswith((*_READ, ".gif") if from_video else _READ):
        hint = f"use a name that ends in one of: {', '.join(_WRITTEN)}"
        raise OutputError(f"{parsed.output}: a video cannot be written in this format", hint=hint)
    for source in from_video:
        raise SettingError(
            f"{source}: the result of a video is a video, not a folder: {parsed.output}",
            hint="for example -o boxes.mp4, or -o tracks.csv for only the table",
        )
    for option, is_given in (
        ("--every", parsed.every),
        ("--no-tracking", parsed.no_tracking),
        ("--fps", parsed.fps),
    ):
        if is_given:
            raise SettingError(f"{option} is for videos", hint="to make a video of photos: -o boxes.mp4")
    return False


def run_detect_video(parsed: argparse.Namespace) -> int:
    """Detect in a video, a stream, a webcam, or photos in a row."""
    fps = _DEFAULT_FPS if parsed.fps is None else parsed.fps
    if not 0.01 <= fps <= 1000:
        raise SettingError(f"--fps must be a number from 0.01 to 1000: {fps}")
    videos = [source for source in parsed.photos if _is_video(source, read_as_photo=False)]
    if videos and len(parsed.photos) > 1:
        raise SettingError(
            f"one video at a time: {', '.join(parsed.photos)}", hint="run the command for each"
        )
    from fewbox.data.images import find_photos
    from fewbox.detect.opening import open_detector
    from fewbox.detect.video import detect_video
    from fewbox.detect.video_reader import PhotoFrames, VideoReader

    source = VideoReader(videos[0]) if videos else PhotoFrames(find_photos(parsed.photos), fps)
    summary = detect_video(
        open_detector(parsed.detector, engine=parsed.engine, base=parsed.base, num_photos=source.total or 1),
        source,
        Path(parsed.output),
        score_threshold=parsed.threshold,
        every=1 if parsed.every is None else parsed.every,
        tracking=not parsed.no_tracking,
    )
    print(summary)
    return 130 if summary.interrupted else 0


def _is_video(source: str, *, read_as_photo: bool) -> bool:
    """Whether ``source`` can only be a video; or, without ``read_as_photo``, whether it can be one."""
    scheme, is_address, _ = source.partition("://")
    if is_address and scheme in _STREAMED:
        return True
    if source.isdecimal():
        return not Path(source).exists()
    if not read_as_photo and (is_address or source.lower().endswith(".gif")):
        return True
    return source.lower().endswith(_READ)
