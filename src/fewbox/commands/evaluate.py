"""``fewbox evaluate``: how good a detector is on annotated photos."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fewbox.commands import (
    add_agnostic_nms,
    add_device,
    add_engine,
    add_photos_with_boxes,
    add_reviewed_only,
    add_skip_missing,
    add_tiles,
    annotations_of,
)
from fewbox.core import quoted
from fewbox.core.files import require_writable, write_text
from fewbox.core.progress import console
from fewbox.errors import OutputError, SettingError

_REPORT_NAME = "report.html"
_NUMBERS_NAME = "evaluation.json"


def add_evaluate(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="say how good a detector is on annotated photos",
        description="Compare what a detector finds with what you annotated; prints what it is worth, and "
        "writes a report to look at.",
    )
    evaluate.add_argument(
        "detector",
        metavar="DETECTOR",
        help="a file that 'fewbox finetune' or 'fewbox export' wrote, or a base model by name or file",
    )
    add_photos_with_boxes(evaluate)
    add_skip_missing(evaluate)
    evaluate.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help=f"write {_REPORT_NAME} and {_NUMBERS_NAME} there"
    )
    evaluate.add_argument("--json", action="store_true", help="print the numbers as JSON instead of words")
    add_reviewed_only(evaluate)
    evaluate.add_argument(
        "--base",
        help="the base model, for a detector written with --heads-only whose base is not in the cache",
    )
    add_engine(evaluate)
    add_device(evaluate)
    evaluate.add_argument(
        "--mirror", action="store_true", help="look at each photo mirrored too, as detect does"
    )
    add_tiles(evaluate, ", as detect does")
    add_agnostic_nms(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(parsed: argparse.Namespace) -> int:
    """``fewbox evaluate``; 2 if a photo could not be read."""
    if also := [photo for photo in parsed.photos if photo.lower().endswith((".safetensors", ".onnx"))]:
        hint = "evaluate each on the same photos, and compare what is printed"
        raise SettingError(f"one detector at a time, not {also[0]} too", hint=hint)
    if parsed.output is not None:
        _require_folder(parsed.output)
    from fewbox.core.boxes import checked_tiles
    from fewbox.detection.export_cache import export_later
    from fewbox.detection.loading import open_detector, remark_on_tiles, say_what_computes
    from fewbox.detection.photo_detector import TtaDetector
    from fewbox.evaluation import evaluate
    from fewbox.evaluation.report import save_report

    tiles = None if parsed.tiles is None else checked_tiles(parsed.tiles)
    detector = open_detector(parsed.detector, engine=parsed.engine, base=parsed.base, device=parsed.device)
    say_what_computes(detector)
    if parsed.mirror:
        detector = TtaDetector(detector)
    detector = detector.with_tiles(tiles).with_agnostic_nms(parsed.agnostic_nms)
    # Boxes without a label can only be of the one class there is.
    label = detector.labels[0] if len(detector.labels) == 1 else "object"
    annotations = annotations_of(parsed.boxes, parsed.photos, label, parsed.strict, parsed.skip_missing)
    if parsed.reviewed_only:
        annotations = annotations.reviewed_only()
    evaluation = evaluate(detector, annotations)
    about = {"detector": Path(parsed.detector).name, **detector.options}
    numbers = json.dumps(about | evaluation.to_dict(), indent=1)
    print(numbers if parsed.json else evaluation)
    if remark := remark_on_tiles(detector, (image.size_hw for image in annotations)):
        console.print(remark)
    if parsed.output is not None:
        report = parsed.output / _REPORT_NAME
        write_text(parsed.output / _NUMBERS_NAME, numbers + "\n")  # the report reads every photo once more
        save_report(evaluation, report, title=Path(parsed.detector).name)
        if not parsed.json:
            print(f"wrote {report}: open it in a browser")
    if parsed.engine == "auto":
        export_later(parsed.detector, base=parsed.base)
    return 2 if evaluation.skipped else 0


def _require_folder(output: Path) -> None:
    """Refuse what is no folder for the results.

    Raises:
        OutputError: it is the name of a file, or cannot be written.
    """
    if output.suffix.lower() in (".html", ".json") and not output.is_dir():
        folder = output.parent if output.parent.name else output.with_suffix("")
        raise OutputError(
            f"{output}: {_REPORT_NAME} and {_NUMBERS_NAME} go into a folder",
            hint=f"name one: -o {quoted(folder)}",
        )
    require_writable(output / _REPORT_NAME, [".html"])
