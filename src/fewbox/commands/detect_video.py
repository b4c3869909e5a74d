"""``fewbox detect`` for videos: its options, and what is read from where and written to where."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fewbox.config import DEFAULT_CONFIRM
from fewbox.core import quoted
from fewbox.core.files import VIDEO_SUFFIXES
from fewbox.core.progress import console
from fewbox.data.remote import is_film, path_in, place_here
from fewbox.errors import OutputError, SettingError, VideoError

if TYPE_CHECKING:
    from fewbox.detection.photo_detector import PhotoDetector
    from fewbox.video import VideoSummary
    from fewbox.video.counting import PassCounter
    from fewbox.video.reader import FrameSource

_WRITTEN = (*VIDEO_SUFFIXES, ".csv")
FILM_SUFFIXES = (
    *(*VIDEO_SUFFIXES, ".webm", ".avi", ".wmv", ".flv"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".mjpeg", ".mjpg", ".m3u8"),
)
_STREAMED = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp")
_WEBCAM = re.compile(r"^/dev/video([0-9]+)$")
"""What Linux calls a webcam, by its number."""
_DEFAULT_FPS, _DEFAULT_EVERY = 25.0, 1
_LINE, _ZONE = "--count-line", "--count-zone"


def add_video_options(detect: argparse.ArgumentParser) -> None:
    """Add the options that only a video has."""
    video = detect.add_argument_group(
        f"for a video, that is if -o ends in {', '.join(VIDEO_SUFFIXES)} or .csv, or if PHOTOS are videos"
    )
    video.add_argument(
        "--every",
        type=int,
        metavar="N",
        help=f"look at every N-th frame; in between, boxes move on (default: {_DEFAULT_EVERY})",
    )
    video.add_argument("--no-tracking", action="store_true", help="do not number the objects")
    video.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="number an object once it is found in N frames in a row; 1 is at once "
        f"(default: {DEFAULT_CONFIRM})",
    )
    for option, metavar, what in (
        (_LINE, "X1,Y1,X2,Y2", "count what crosses this line, by direction"),
        (_ZONE, "X1,Y1,X2,Y2,...", "count what goes into the zone with these corners, and out of it"),
    ):
        video.add_argument(
            option,
            action="append",
            metavar=metavar,
            help=f"{what}; in pixels, or in parts of the frame if no number is above 1; may be given again",
        )
    video.add_argument(
        "--fps", type=float, help=f"frames per second, for photos in a row (default: {_DEFAULT_FPS:g})"
    )


def refuse_photo_options(parsed: argparse.Namespace, why: str) -> None:
    """Refuse what only photos in a folder can be given.

    Raises:
        SettingError: such an option is given.
    """
    for option in ("gif", "mirror", "no_pictures"):
        if getattr(parsed, option):
            name = option.replace("_", "-")
            raise SettingError(f"--{name} is for photos in a folder, {why}", hint="leave it out")


def is_for_video(parsed: argparse.Namespace) -> bool:
    """Whether videos are read, or a video is to be written.

    Raises:
        SettingError: the options do not go together, or photos and videos are given.
        OutputError: a video is to be written in a format that can only be read.
    """
    parsed.photos = [place_here(_WEBCAM.sub(r"\1", source)) for source in parsed.photos]
    if Path(parsed.output).suffix.lower() in _WRITTEN:
        refuse_photo_options(parsed, f"not for {parsed.output}")
        if parsed.engine_cluster is not None:
            hint = "leave it out, or name a folder with -o"
            raise SettingError(
                f"--engine-cluster is for a run into tables, not for {parsed.output}", hint=hint
            )
        return True
    from_video = [source for source in parsed.photos if _is_video(source, read_as_photo=True)]
    if parsed.output.lower().endswith((*FILM_SUFFIXES, ".gif") if from_video else FILM_SUFFIXES):
        hint = f"use a name that ends in one of: {', '.join(_WRITTEN)}"
        raise OutputError(f"{parsed.output}: a video cannot be written in this format", hint=hint)
    if from_video:
        _require_folder_of_videos(parsed, from_video[0])
        return True
    for option, is_given in (
        ("--every", parsed.every),
        ("--no-tracking", parsed.no_tracking),
        ("--confirm", parsed.confirm is not None),
        (_LINE, parsed.count_line),
        (_ZONE, parsed.count_zone),
        ("--fps", parsed.fps),
    ):
        if is_given:
            raise SettingError(f"{option} is for videos", hint="to make a video of photos: -o boxes.mp4")
    return False


def _require_folder_of_videos(parsed: argparse.Namespace, video: str) -> None:
    """Refuse what does not go together with videos and a folder for their results.

    Raises:
        SettingError: photos too are given, an option that is for photos, or a file that is no video.
    """
    from fewbox.detection.folder import names_a_file

    if names_a_file(Path(parsed.output)):
        raise SettingError(
            f"{video}: the result of a video is a video, a table or a folder: {parsed.output}",
            hint="for example -o boxes.mp4, or -o tracks.csv for only the table, or -o found",
        )
    photos = [source for source in parsed.photos if not _is_video(source, read_as_photo=False)]
    if photos:
        raise SettingError(
            f"photos and videos in one run: {photos[0]}, {video}", hint="run the command for each kind"
        )
    for option in ("gif", "mirror", "engine_cluster"):
        if getattr(parsed, option):
            name = option.replace("_", "-")
            raise SettingError(f"--{name} is for photos, not for {video}", hint="leave it out")


def run_video(parsed: argparse.Namespace) -> int:
    """Detect in videos, a stream, a webcam, or photos in a row."""
    fps = _DEFAULT_FPS if parsed.fps is None else parsed.fps
    if not 0.01 <= fps <= 1000:
        raise SettingError(f"--fps must be a number from 0.01 to 1000: {fps}")
    videos = [source for source in parsed.photos if _is_video(source, read_as_photo=False)]
    if videos and parsed.fps is not None:
        raise SettingError(f"--fps is for photos in a row, not for {videos[0]}", hint="leave it out")
    if parsed.no_tracking and parsed.confirm is not None:
        raise SettingError("--confirm numbers objects, and --no-tracking does not", hint="leave one out")
    if parsed.no_tracking and (parsed.count_line or parsed.count_zone):
        option = _LINE if parsed.count_line else _ZONE
        raise SettingError(f"{option} counts objects by their numbers", hint="leave --no-tracking out")
    _require_lines_and_zones(parsed)
    into_folder = Path(parsed.output).suffix.lower() not in _WRITTEN
    if into_folder:
        targets = _targets(videos, Path(parsed.output), "_tracks.csv" if parsed.no_pictures else "")
        return _run_videos(parsed, targets)
    if videos and len(parsed.photos) > 1:
        raise SettingError(
            f"one video at a time: {', '.join(parsed.photos)}",
            hint="name a folder, and the result of each goes there: -o found",
        )
    from fewbox.data.images import find_photos
    from fewbox.video.reader import PhotoFrames, open_film

    source = open_film(videos[0]) if videos else PhotoFrames(find_photos(parsed.photos), fps)
    if not videos and parsed.fps is None and parsed.output.lower().endswith(".csv"):
        # Who wants to know how many there are in each photo would get objects tracked through all of them.
        folder = quoted(Path(parsed.output).with_suffix(""))
        console.print(
            f"the photos are taken for the frames of one film, {fps:g} a second (--fps); to count in each by "
            f"itself, name a folder: -o {folder}, and see counts.csv in it"
        )
    counters = _counters(parsed, source)
    _require_own([Path(parsed.output)], source.name)
    summary = _detect(parsed, _open_detector(parsed, source), source, Path(parsed.output), counters)
    print(summary)
    failed = source.failed if isinstance(source, PhotoFrames) else []
    if failed:
        print(f"{len(failed)} of {source.name} could not be read: {', '.join(failed)}")
    return _ended(parsed, interrupted=summary.interrupted, num_failed=len(failed))


def _run_videos(parsed: argparse.Namespace, targets: dict[str, Path]) -> int:
    """Detect in one video after the other; of several, one that cannot be read does not stop the others."""
    from fewbox.video.reader import open_film

    _require_own(list(targets.values()))
    detector, num_failed = None, 0
    if parsed.count_line or parsed.count_zone:
        _require_countable(parsed, list(targets))
    for video, target in targets.items():
        try:
            source = open_film(video)
            counters = _counters_of_film(parsed, source)
            detector = detector or _open_detector(parsed, source)
            summary = _detect(parsed, detector, source, target, counters, summary_json=True)
        except VideoError as error:
            if len(targets) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            num_failed += 1
            continue
        print(summary)
        if summary.interrupted:
            return _ended(parsed, interrupted=True, num_failed=num_failed)
    if num_failed:
        print(f"{num_failed} of {len(targets)} videos could not be read to their end")
    return _ended(parsed, interrupted=False, num_failed=num_failed)


def _require_own(targets: list[Path], source: str = "") -> None:
    """Refuse, before work begins on the first film, to replace what fewbox has not written.

    Raises:
        OutputError: a result would.
    """
    from fewbox.video import require_own_results

    for target in targets:
        if target.resolve() != Path(source).resolve():  # which is refused in other words
            require_own_results(target)


def _require_lines_and_zones(parsed: argparse.Namespace) -> None:
    """Refuse, before any film or stream is opened, what is no line or zone in any of them.

    Raises:
        SettingError: the numbers are malformed.
    """
    given = [(_LINE, text) for text in parsed.count_line or ()]
    given += [(_ZONE, text) for text in parsed.count_zone or ()]
    if given:
        from fewbox.video.counting import require_well_formed

        for option, text in given:
            require_well_formed(option, text)


def _require_countable(parsed: argparse.Namespace, videos: list[str]) -> None:
    """Refuse, before work begins on the first film, lines and zones that do not fit into one of them.

    Raises:
        VideoError: they do not.
    """
    from fewbox.video.reader import open_film

    for video in videos:
        if Path(video).is_file():  # a stream is opened once, when its turn comes
            try:
                source = open_film(video)
            except VideoError:  # which is told when its turn comes
                continue
            _counters_of_film(parsed, source)


def _counters_of_film(parsed: argparse.Namespace, source: FrameSource) -> list[PassCounter]:
    """As :func:`_counters`, but what does not fit is a fault of this film, and does not stop the others.

    Raises:
        VideoError: a line or zone does not fit; which film it is, is said.
    """
    try:
        return _counters(parsed, source)
    except SettingError as error:
        raise VideoError(f"{source.name}: {error.message}", hint=error.hint) from error


def _targets(videos: list[str], folder: Path, table_only: str) -> dict[str, Path]:
    """Where the result of each video goes: under its name, as ``.mp4`` if its kind is only read.

    Raises:
        OutputError: two would go to one place, or the result would lie beside its video.
    """
    targets: dict[str, Path] = {}
    for video in videos:
        path = Path(video)
        if path.exists() and path.resolve().parent == folder.resolve():
            raise OutputError(
                f"{folder}: the results would lie among the videos", hint="choose another folder with -o"
            )
        suffix = path.suffix.lower() if path.suffix.lower() in VIDEO_SUFFIXES else ".mp4"
        target = folder / f"{_stem(video)}{table_only or suffix}"
        for other, taken in targets.items():
            if taken.stem == target.stem:
                raise OutputError(
                    f"two videos have one name: {other} and {video}",
                    hint="rename one of them, or run the command for each, with other folders",
                )
        targets[video] = target
    return targets


def _stem(video: str) -> str:
    """What the results of a video are called: as its file, or after the webcam's number or the address."""
    if video.isdecimal() and not Path(video).exists():
        return f"webcam_{video}"
    _, is_address, place = video.partition("://")
    if is_address:
        place = place.partition("?")[0].rpartition("@")[2]  # no passwords in names of files
        named = str(Path(place).with_suffix("")) if "/" in place.strip("/") else place
        return re.sub(r"[^\w.-]+", "_", named).strip("._") or "stream"
    return Path(video).stem


def _open_detector(parsed: argparse.Namespace, source: FrameSource) -> PhotoDetector:
    from fewbox.core.boxes import checked_tiles
    from fewbox.detection.loading import open_detector, say_what_computes

    tiles = None if parsed.tiles is None else checked_tiles(parsed.tiles)
    detector = open_detector(
        parsed.detector,
        engine=parsed.engine,
        base=parsed.base,
        num_photos=source.total or None,
        device=parsed.device,
    )
    say_what_computes(detector)
    return detector.with_tiles(tiles).with_agnostic_nms(parsed.agnostic_nms)


def _counters(parsed: argparse.Namespace, source: FrameSource) -> list[PassCounter]:
    """The lines and zones that are to count."""
    if not parsed.count_line and not parsed.count_zone:
        return []
    from fewbox.video.counting import LineCounter, ZoneCounter, read_points

    return [
        *(LineCounter(read_points(_LINE, text, source.size_hw)) for text in parsed.count_line or ()),
        *(ZoneCounter(read_points(_ZONE, text, source.size_hw)) for text in parsed.count_zone or ()),
    ]


def _detect(
    parsed: argparse.Namespace,
    detector: PhotoDetector,
    source: FrameSource,
    output: Path,
    counters: list[PassCounter],
    *,
    summary_json: bool = False,
) -> VideoSummary:
    from fewbox.detection.loading import remark_on_tiles
    from fewbox.video import detect_video
    from fewbox.video.opening import drawn_before, shown_size_hw

    shown_hw = shown_size_hw(source.size_hw, source.pixel_aspect)
    if remark := remark_on_tiles(detector, [shown_hw], "frame"):
        console.print(remark)
    summary = detect_video(
        detector,
        source,
        output,
        threshold=parsed.threshold,
        every=_DEFAULT_EVERY if parsed.every is None else parsed.every,
        tracking=not parsed.no_tracking,
        confirm=DEFAULT_CONFIRM if parsed.confirm is None else parsed.confirm,
        counters=counters,
        summary_json=summary_json,
    )
    for film, table in drawn_before(summary.outputs, source.name):
        console.print(
            f"{film}: of an earlier run, and still there; its boxes may be others than those of {table.name}"
        )
    return summary


def _ended(parsed: argparse.Namespace, *, interrupted: bool, num_failed: int) -> int:
    """The exit code; a detector that was used well is exported for the next time."""
    from fewbox.detection.export_cache import export_later

    if interrupted:
        return 130
    if parsed.engine == "auto":
        export_later(parsed.detector, base=parsed.base)
    return 2 if num_failed else 0


def _is_video(source: str, *, read_as_photo: bool) -> bool:
    """Whether ``source`` can only be a video; without ``read_as_photo``, whether it may be one."""
    scheme, is_address, _ = source.partition("://")
    if is_address and scheme in _STREAMED:
        return True
    if source.isdecimal():
        return not Path(source).exists()
    if not read_as_photo and (is_address or source.lower().endswith(".gif")):
        return True
    if source.lower().endswith(FILM_SUFFIXES):
        return True
    return bool(is_address) and _may_be_a_camera(source) and is_film(source)


def _may_be_a_camera(address: str) -> bool:
    """Whether an address names neither photos nor a folder of them, as http://camera.local/stream."""
    from fewbox.data.images import PHOTO_SUFFIXES

    suffix = path_in(address).suffix.lower()
    return suffix not in PHOTO_SUFFIXES and not address.endswith("/") and "*" not in address
