"""``fewbox detect``: find the object in photos; films and millions of photos have files of their own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fewbox.commands.boxes import PHOTOS_HELP
from fewbox.commands.detect_many import add_many_options, is_about_many, run_detect_many
from fewbox.commands.detect_video import add_video_options, is_about_video, run_detect_video
from fewbox.commands.engine import add_engine


def add_detect(commands: Any) -> None:
    """Add the command to the parser's."""
    detect = commands.add_parser(
        "detect",
        help="find the object in photos or a video",
        description="Find a detector's objects in photos; writes annotated pictures and detections.json. "
        "Or in a video, a stream or a webcam, if -o is a video. Or in any number of photos, with many "
        "workers, into tables.",
    )
    detect.add_argument(
        "detector", metavar="DETECTOR", help="a file that 'fewbox finetune' or 'fewbox export' wrote"
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
    detect.add_argument(
        "--mirror",
        action="store_true",
        help="look at each photo mirrored too: finds a little more, takes twice as long",
    )
    add_video_options(detect)
    add_many_options(detect)
    detect.set_defaults(run=run_detect)


def run_detect(parsed: argparse.Namespace) -> int:
    """``fewbox detect``."""
    if is_about_video(parsed):
        return run_detect_video(parsed)
    if is_about_many(parsed):
        return run_detect_many(parsed)
    from fewbox.detect.folder import detect_folder

    summary = detect_folder(
        parsed.detector,
        parsed.photos,
        parsed.output,
        score_threshold=parsed.threshold,
        gif=parsed.gif,
        base=parsed.base,
        engine=parsed.engine,
        mirror=parsed.mirror,
        pictures=not parsed.no_pictures,
    )
    print(summary)
    return 2 if summary.failed else 0
