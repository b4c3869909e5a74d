"""The command line: one subcommand is one public function; parse, call, print.

Nothing heavy is imported before a command has been chosen and its arguments are in order,
so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goldeneye import __version__
from goldeneye.commands.annotate import add_annotate
from goldeneye.commands.bases import add_bases
from goldeneye.commands.boxes import annotations_of
from goldeneye.commands.check import add_check
from goldeneye.commands.convert import add_convert
from goldeneye.commands.detect_many import add_many_options, is_about_many, run_detect_many
from goldeneye.commands.detect_video import add_video_options, is_about_video, run_detect_video
from goldeneye.commands.engine import add_engine
from goldeneye.commands.evaluate import add_evaluate
from goldeneye.commands.export import add_export
from goldeneye.commands.finetune_deep import add_finetune_deep
from goldeneye.commands.serve import add_serve
from goldeneye.commands.settings import add_settings
from goldeneye.commands.show import add_show
from goldeneye.config import FinetuneConfig
from goldeneye.errors import GoldeneyeError
from goldeneye.files import require_writable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all went well, 2 for an error the user can cure, 130 after Ctrl-C."""
    parsed = build_parser().parse_args(arguments)
    try:
        exit_code: int = parsed.run(parsed)
    except GoldeneyeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing half-written is left behind", file=sys.stderr)
        return 130
    return exit_code


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="goldeneye", description="Teach a 2D object detector a new object from a handful of photos."
    )
    parser.add_argument("--version", action="version", version=f"goldeneye {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_finetune(commands)
    add_finetune_deep(commands)
    _add_detect(commands)
    add_evaluate(commands)
    add_export(commands)
    add_annotate(commands)
    add_convert(commands)
    add_show(commands)
    _add_demo(commands)
    add_check(commands)
    add_serve(commands)
    add_bases(commands)
    return parser


def _add_finetune(commands: Any) -> None:
    finetune = commands.add_parser(
        "finetune",
        help="teach a base model a new object",
        description="Teach a base model the objects in annotated photos; writes one detector file.",
    )
    finetune.add_argument("photos", nargs="+", metavar="PHOTOS", help="folders, files or patterns")
    finetune.add_argument(
        "--boxes",
        metavar="BOXES",
        help="a file of boxes, or a folder of them (default: those drawn with 'goldeneye annotate PHOTOS')",
    )
    finetune.add_argument(
        "--base",
        help="a name from 'goldeneye bases', or a file (default: the best one at hand)",
    )
    finetune.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="the detector to write"
    )
    finetune.add_argument("--label", default="object", help="name of the class where --boxes has none")
    finetune.add_argument(
        "--reviewed-only", action="store_true", help="leave out photos that nobody has looked at"
    )
    finetune.add_argument(
        "--negatives",
        nargs="+",
        default=[],
        metavar="PHOTOS",
        help="folders, files or patterns of photos with none of the objects",
    )
    finetune.add_argument("--keep-classes", action="store_true", help="find the base's own classes too")
    finetune.add_argument("--heads-only", action="store_true", help="write only what was tuned, not the base")
    finetune.add_argument(
        "--recipe", choices=["best", "seed"], default="best", help="how to learn (default: %(default)s)"
    )
    add_settings(finetune, FinetuneConfig)
    finetune.set_defaults(run=run_finetune)


def _add_detect(commands: Any) -> None:
    detect = commands.add_parser(
        "detect",
        help="find the object in photos or a video",
        description="Find a detector's objects in photos; writes annotated pictures and detections.json. "
        "Or in a video, a stream or a webcam, if -o is a video. Or in any number of photos, with many "
        "workers, into tables.",
    )
    detect.add_argument(
        "detector", metavar="DETECTOR", help="a file that 'goldeneye finetune' or 'goldeneye export' wrote"
    )
    detect.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTOS",
        help="folders, files or patterns; or a video, the address of a stream, the number of a webcam",
    )
    detect.add_argument(
        "-o", "--output", required=True, metavar="FOLDER", help="where results go; or film.mp4"
    )
    detect.add_argument(
        "--threshold", type=float, help="report higher scores only, 0 to 1 (default: the detector's)"
    )
    detect.add_argument("--gif", type=Path, metavar="FILE", help="also make one animation of all pictures")
    detect.add_argument(
        "--no-pictures", action="store_true", help="write only detections.json, which is faster"
    )
    detect.add_argument("--base", help="the base model, for a detector written with --heads-only")
    add_engine(detect)
    detect.add_argument(
        "--mirror",
        action="store_true",
        help="look at each photo mirrored too: finds a little more, takes twice as long",
    )
    add_video_options(detect)
    add_many_options(detect)
    detect.set_defaults(run=run_detect)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="render rubber ducks, learn five, find the others",
        description="The whole way on rendered photos: nothing to bring.",
    )
    demo.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), metavar="FOLDER", help="where results go"
    )
    demo.add_argument(
        "--base", help="a name from 'goldeneye bases', or a file (default: the best one at hand)"
    )
    demo.set_defaults(run=run_demo)


def run_finetune(parsed: argparse.Namespace) -> int:
    """``goldeneye finetune``."""
    settings = {spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(FinetuneConfig)}
    config = FinetuneConfig.from_dict(settings)
    annotations = annotations_of(parsed.boxes, parsed.photos, parsed.label)
    if parsed.reviewed_only:
        annotations = annotations.reviewed_only()
    annotations.require_reviewed()
    require_writable(parsed.output, [".safetensors"])
    from goldeneye.finetuning.loss_curve import save_loss_curve
    from goldeneye.finetuning.trainer import finetune

    detector = finetune(
        annotations,
        parsed.base or _best_at_hand(),
        recipe=parsed.recipe,
        config=config,
        negatives=parsed.negatives,
        keep_classes=parsed.keep_classes,
    )
    detector.save(parsed.output, heads_only=parsed.heads_only)
    curve = parsed.output.with_name(f"{parsed.output.stem}_loss.png")
    save_loss_curve(detector.history, curve)
    print(f"wrote {parsed.output} ({parsed.output.stat().st_size / 1e6:.1f} MB) and {curve}")
    print(f"next: goldeneye detect {parsed.output} PHOTOS -o found/")
    return 0


def _best_at_hand() -> str:
    """The base to start from if the user names none, and a word about it."""
    from goldeneye.models.cache import STARTER, default_base

    name = default_base()
    better = "; --base yolox_nano is downloaded once, 8 MB, and finds more" if name == STARTER else ""
    print(f"base model: {name}{better}", file=sys.stderr)
    return name


def run_detect(parsed: argparse.Namespace) -> int:
    """``goldeneye detect``."""
    if is_about_video(parsed):
        return run_detect_video(parsed)
    if is_about_many(parsed):
        return run_detect_many(parsed)
    from goldeneye.detect.folder import detect_folder

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


def run_demo(parsed: argparse.Namespace) -> int:
    """``goldeneye demo``."""
    from goldeneye import demo

    print(demo.run_demo(parsed.output, parsed.base))
    return 0


if __name__ == "__main__":
    sys.exit(main())
