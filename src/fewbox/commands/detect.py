"""``fewbox detect``: find objects in photos, in a video, or in millions of photos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fewbox.commands import PHOTOS_HELP, add_device, add_engine, add_tiles
from fewbox.data.remote import is_remote
from fewbox.errors import OutputError, SettingError

_CLUSTERS = ("processes", "ray")
_WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".csv")
FILM_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv"),
    *(".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".mjpeg", ".m3u8"),
)
_STREAMED = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp")
_DEFAULT_FPS = 25.0


def add_detect(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    detect = commands.add_parser(
        "detect",
        help="find the object in photos or a video",
        description="Find a detector's objects in photos; writes annotated pictures and detections.json. "
        "Or in a video, a stream or a webcam, if -o is a video. Or in any number of photos, with many "
        "workers, into tables.",
    )
    detect.add_argument(
        "detector",
        metavar="DETECTOR",
        help="a file that 'fewbox finetune' or 'fewbox export' wrote, or a base model by name or file",
    )
    detect.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTOS",
        help=f"{PHOTOS_HELP}; or a video, the address of a stream, or the number of a webcam",
    )
    detect.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="where results go; for one photo found.jpg or found.png, for its picture alone; for a video "
        "film.mp4, .m4v, .mov or .mkv, or tracks.csv for the table alone",
    )
    detect.add_argument(
        "--threshold",
        type=float,
        help="report detections with a higher score than this, 0 to 1 (default: the detector's own)",
    )
    detect.add_argument(
        "--gif", type=Path, metavar="FILE", help="also make one animation of all pictures, five a second"
    )
    detect.add_argument(
        "--no-pictures", action="store_true", help="write only detections.json, which is faster"
    )
    detect.add_argument(
        "--base",
        help="the base model, for a detector written with --heads-only whose base is not in the cache",
    )
    add_engine(detect)
    add_device(detect)
    detect.add_argument(
        "--mirror",
        action="store_true",
        help="look at each photo mirrored too: finds a little more, takes twice as long",
    )
    add_tiles(
        detect,
        ", N (2 to 8) along its longer side, or auto (which --tiles alone means), by its size; takes as many "
        "times as long as there are tiles",
    )
    _add_video_options(detect)
    _add_batch_options(detect)
    detect.set_defaults(run=run_detect)


def run_detect(parsed: argparse.Namespace) -> int:
    """``fewbox detect``."""
    if _is_for_video(parsed):
        return _run_video(parsed)
    if _is_batch(parsed):
        return _run_batch(parsed)
    from fewbox.detection.export_cache import export_later
    from fewbox.detection.folder import detect_folder

    summary = detect_folder(
        parsed.detector,
        parsed.photos,
        parsed.output,
        score_threshold=parsed.threshold,
        gif=parsed.gif,
        base=parsed.base,
        engine=parsed.engine,
        device=parsed.device,
        mirror=parsed.mirror,
        tiles=parsed.tiles,
        pictures=not parsed.no_pictures,
    )
    print(summary)
    if parsed.engine == "auto":
        export_later(parsed.detector, base=parsed.base)
    return 2 if summary.failed else 0


def _add_batch_options(detect: argparse.ArgumentParser) -> None:
    """Add the options that only a run with many workers has."""
    batch = detect.add_argument_group(
        "for any number of photos: tables in place of pictures, and a run that can be resumed"
    )
    batch.add_argument(
        "--engine-cluster",
        choices=_CLUSTERS,
        help="who does it: processes of this machine, or those of a Ray cluster",
    )
    batch.add_argument(
        "--cluster-address",
        metavar="ADDRESS",
        help="the Ray cluster, host:6379 or auto (default: one is started on this machine)",
    )
    batch.add_argument("--workers", type=int, metavar="N", help="how many workers (default: as many as fit)")
    batch.add_argument("--cpus-per-worker", type=int, metavar="N", help="cores of each worker (default: 1)")
    batch.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help="GPUs of each worker, in a Ray cluster (default: 0)",
    )
    batch.add_argument(
        "--shard-size",
        type=int,
        metavar="N",
        help="photos that are done and written at once (default: up to 1000)",
    )
    batch.add_argument(
        "--retry-failed",
        action="store_true",
        help="do the shards again that have photos which could not be read",
    )


def _is_batch(parsed: argparse.Namespace) -> bool:
    """Whether many workers are to do it.

    Raises:
        SettingError: the options do not go together.
    """
    if parsed.engine_cluster is not None:
        _refuse_photo_options(parsed, "not for a run into tables")
        if parsed.engine_cluster != "ray" and (parsed.cluster_address or parsed.gpus_per_worker):
            raise SettingError(
                "--cluster-address and --gpus-per-worker are for a Ray cluster",
                hint="add --engine-cluster ray",
            )
        return True
    for option in ("cluster_address", "workers", "cpus_per_worker", "gpus_per_worker", "shard_size"):
        if getattr(parsed, option) is not None:
            raise SettingError(
                f"--{option.replace('_', '-')} is for a run with many workers",
                hint="add --engine-cluster processes, or ray",
            )
    if parsed.retry_failed or is_remote(parsed.output):
        what = "--retry-failed" if parsed.retry_failed else f"an address as output: {parsed.output}"
        raise SettingError(
            f"only for a run with many workers: {what}", hint="add --engine-cluster processes, or ray"
        )
    return False


def _run_batch(parsed: argparse.Namespace) -> int:
    """Detect with many workers, into tables."""
    from fewbox.apps.batch import detect_batch
    from fewbox.apps.batch.workers import Workers

    try:
        summary = detect_batch(
            parsed.detector,
            parsed.photos,
            parsed.output,
            cluster=parsed.engine_cluster,
            address=parsed.cluster_address,
            workers=Workers(
                parsed.workers,
                1 if parsed.cpus_per_worker is None else parsed.cpus_per_worker,
                parsed.gpus_per_worker or 0.0,
            ),
            score_threshold=parsed.threshold,
            shard_size=parsed.shard_size,
            retry_failed=parsed.retry_failed,
            base=parsed.base,
            engine=parsed.engine,
            device=parsed.device,
            tiles=parsed.tiles,
        )
    except KeyboardInterrupt:
        print("what is done is kept; the same command goes on from there", file=sys.stderr)
        raise
    print(summary)
    return 2 if summary.failed or summary.missing_shards else 0


def _add_video_options(detect: argparse.ArgumentParser) -> None:
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


def _refuse_photo_options(parsed: argparse.Namespace, why: str) -> None:
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


def _is_for_video(parsed: argparse.Namespace) -> bool:
    """Whether a video is to be written.

    Raises:
        SettingError: a video was given but a folder is to be written, or the options do not go together.
        OutputError: a video is to be written in a format that can only be read.
    """
    if Path(parsed.output).suffix.lower() in _WRITTEN:
        _refuse_photo_options(parsed, f"not for {parsed.output}")
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


def _run_video(parsed: argparse.Namespace) -> int:
    """Detect in a video, a stream, a webcam, or photos in a row."""
    fps = _DEFAULT_FPS if parsed.fps is None else parsed.fps
    if not 0.01 <= fps <= 1000:
        raise SettingError(f"--fps must be a number from 0.01 to 1000: {fps}")
    videos = [source for source in parsed.photos if _is_video(source, read_as_photo=False)]
    if videos and len(parsed.photos) > 1:
        raise SettingError(
            f"one video at a time: {', '.join(parsed.photos)}", hint="run the command for each"
        )
    from fewbox.core.tiles import checked_tiles
    from fewbox.data.images import find_photos
    from fewbox.detection.export_cache import export_later
    from fewbox.detection.loading import open_detector, say_what_computes
    from fewbox.video import detect_video
    from fewbox.video.reader import PhotoFrames, VideoReader

    tiles = None if parsed.tiles is None else checked_tiles(parsed.tiles)
    source = VideoReader(videos[0]) if videos else PhotoFrames(find_photos(parsed.photos), fps)
    detector = open_detector(
        parsed.detector,
        engine=parsed.engine,
        base=parsed.base,
        num_photos=source.total or None,
        device=parsed.device,
    )
    say_what_computes(detector)
    summary = detect_video(
        detector.with_tiles(tiles),
        source,
        Path(parsed.output),
        score_threshold=parsed.threshold,
        every=1 if parsed.every is None else parsed.every,
        tracking=not parsed.no_tracking,
    )
    print(summary)
    if parsed.engine == "auto" and not summary.interrupted:
        export_later(parsed.detector, base=parsed.base)
    return 130 if summary.interrupted else 0


def _is_video(source: str, *, read_as_photo: bool) -> bool:
    """Whether ``source`` can only be a video; without ``read_as_photo``, whether it may be one."""
    scheme, is_address, _ = source.partition("://")
    if is_address and scheme in _STREAMED:
        return True
    if source.isdecimal():
        return not Path(source).exists()
    if not read_as_photo and (is_address or source.lower().endswith(".gif")):
        return True
    return source.lower().endswith(FILM_SUFFIXES)
