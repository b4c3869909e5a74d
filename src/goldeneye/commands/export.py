"""``goldeneye export``: a detector as a file that other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from goldeneye.files import require_writable


def add_export(commands: Any) -> None:
    """Add the command to the parser's."""
    export = commands.add_parser(
        "export",
        help="write a detector as ONNX, for other programs",
        description="Write a detector as an ONNX file: photos in, boxes out.",
    )
    export.add_argument("detector", metavar="DETECTOR", help="a file that 'goldeneye finetune' wrote")
    export.add_argument("output", type=Path, metavar="FILE", help="what to write: duck.onnx")
    export.add_argument(
        "--raw",
        action="store_true",
        help="only the network: it takes its own input, and gives the boxes of all anchors",
    )
    export.add_argument(
        "--photos",
        nargs="+",
        metavar="PHOTOS",
        help="photos to compare on, best with the objects in them (default: rendered ones)",
    )
    export.add_argument("--base", help="the base model, for a detector written with --heads-only")
    export.set_defaults(run=run_export)


def run_export(parsed: argparse.Namespace) -> int:
    """``goldeneye export``."""
    require_writable(parsed.output, [".onnx"])
    from goldeneye.detect.detector import Detector
    from goldeneye.exporting.exporter import export_detector

    detector = Detector.load(parsed.detector, base=parsed.base)
    agreement = export_detector(detector, parsed.output, raw=parsed.raw, photos=parsed.photos)
    print(f"finds the same: {agreement}")
    print(f"wrote {parsed.output} ({parsed.output.stat().st_size / 1e6:.1f} MB)")
    return 0
