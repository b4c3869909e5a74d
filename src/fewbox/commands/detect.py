"""``fewbox detect``: find objects in photos, in a video, or in millions of photos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fewbox.commands import PHOTOS_HELP, add_agnostic_nms, add_device, add_engine, add_tiles, resumable
from fewbox.commands.detect_video import (
    add_video_options,
    is_for_video,
    refuse_photo_options,
    run_video,
)
from fewbox.config import CLUSTERS
from fewbox.core.files import VIDEO_SUFFIXES
from fewbox.data.remote import is_remote
from fewbox.errors import SettingError

_CPUS, _GPUS = 1, 0
"""Of each worker, where nothing else is said."""


def add_detect(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    detect = commands.add_parser(
        "detect",
        help="find the object in photos or a video",
        description="Find a detector's objects in photos; writes annotated pictures, detections.json, and "
        "counts.csv, which says how many are in each. Or in videos, a stream or a webcam; writes videos with "
        "tracks, and counts. Or in any number of photos, with many workers, into tables.",
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
        help=f"{PHOTOS_HELP}; or videos, the address of a stream, or the number of a webcam",
    )
    detect.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FOLDER",
        help="where results of photos or videos go; for one photo found.jpg or found.png, for its picture "
        f"alone; for one video film{', '.join(VIDEO_SUFFIXES)}, or tracks.csv for the table alone",
    )
    detect.add_argument(
        "--threshold",
        type=float,
        help="report detections with a higher score than this, 0 to 1 (default: the detector's own)",
    )
    detect.add_argument(
        "--gif",
        type=Path,
        metavar="FILE",
        help="also make one animation of all pictures, five a second; not for videos or --engine-cluster",
    )
    detect.add_argument(
        "--no-pictures",
        action="store_true",
        help="write only detections.json and counts.csv, or the tables of videos whose results go to a "
        "folder, which is faster; --engine-cluster draws none anyway",
    )
    detect.add_argument(
        "--base",
        help="the base model, for a detector written with --heads-only whose base is not in the cache",
    )
    add_engine(detect)
    add_device(detect)
    _add_looks(detect)
    add_video_options(detect)
    _add_batch_options(detect)
    detect.set_defaults(run=run_detect)


def _add_looks(detect: argparse.ArgumentParser) -> None:
    """Add the options that say how closely a photo is looked at."""
    detect.add_argument(
        "--mirror",
        action="store_true",
        help="look at each photo mirrored too: finds a little more, takes twice as long; not for videos or "
        "--engine-cluster",
    )
    add_tiles(
        detect,
        ", N (2 to 8) along its longer side, or auto (which --tiles alone means), by its size; takes as many "
        "times as long as there are tiles",
    )
    add_agnostic_nms(detect)


def run_detect(parsed: argparse.Namespace) -> int:
    """``fewbox detect``."""
    if is_for_video(parsed):
        _refuse_batch_options(parsed, "leave it out")
        return run_video(parsed)
    if _is_batch(parsed):
        return _run_batch(parsed)
    from fewbox.detection.export_cache import export_later
    from fewbox.detection.folder import detect_folder
    from fewbox.detection.rows import has_rows

    with resumable(lambda: has_rows(Path(parsed.output))):
        summary = detect_folder(
            parsed.detector,
            parsed.photos,
            parsed.output,
            threshold=parsed.threshold,
            gif=parsed.gif,
            base=parsed.base,
            engine=parsed.engine,
            device=parsed.device,
            mirror=parsed.mirror,
            tiles=parsed.tiles,
            agnostic_nms=parsed.agnostic_nms,
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
        choices=CLUSTERS,
        help="who does it: processes of this machine, or those of a Ray cluster",
    )
    batch.add_argument(
        "--cluster-address",
        metavar="ADDRESS",
        help="the Ray cluster, host:6379 or auto (default: one is started on this machine)",
    )
    batch.add_argument("--workers", type=int, metavar="N", help="how many workers (default: as many as fit)")
    batch.add_argument(
        "--cpus-per-worker", type=int, metavar="N", help=f"cores of each worker (default: {_CPUS})"
    )
    batch.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="X",
        help=f"GPUs of each worker, in a Ray cluster (default: {_GPUS})",
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
        refuse_photo_options(parsed, "not for a run into tables")
        if parsed.engine_cluster != "ray" and (parsed.cluster_address or parsed.gpus_per_worker):
            raise SettingError(
                "--cluster-address and --gpus-per-worker are for a Ray cluster",
                hint="add --engine-cluster ray",
            )
        return True
    _refuse_batch_options(parsed, "add --engine-cluster processes, or ray")
    return False


def _refuse_batch_options(parsed: argparse.Namespace, hint: str) -> None:
    """Refuse what only a run with many workers can be given.

    Raises:
        SettingError: such an option is given, or an address to write to.
    """
    for option in ("cluster_address", "workers", "cpus_per_worker", "gpus_per_worker", "shard_size"):
        if getattr(parsed, option) is not None:
            raise SettingError(f"--{option.replace('_', '-')} is for a run with many workers", hint=hint)
    if parsed.retry_failed or is_remote(parsed.output):
        what = "--retry-failed" if parsed.retry_failed else f"an address as output: {parsed.output}"
        raise SettingError(f"only for a run with many workers: {what}", hint=hint)


def _run_batch(parsed: argparse.Namespace) -> int:
    """Detect with many workers, into tables."""
    from fewbox.apps.batch import detect_batch
    from fewbox.apps.batch.workers import Workers

    with resumable(lambda: True):
        summary = detect_batch(
            parsed.detector,
            parsed.photos,
            parsed.output,
            cluster=parsed.engine_cluster,
            address=parsed.cluster_address,
            workers=Workers(
                parsed.workers,
                _CPUS if parsed.cpus_per_worker is None else parsed.cpus_per_worker,
                parsed.gpus_per_worker or _GPUS,
            ),
            threshold=parsed.threshold,
            shard_size=parsed.shard_size,
            retry_failed=parsed.retry_failed,
            base=parsed.base,
            engine=parsed.engine,
            device=parsed.device,
            tiles=parsed.tiles,
            agnostic_nms=parsed.agnostic_nms,
        )
    print(summary)
    return 2 if summary.failed or summary.missing_shards else 0
