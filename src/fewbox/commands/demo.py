"""``fewbox demo``: the whole way, with nothing to bring. Learns from five photos of ducks, and finds others.

The photos come with the package. They are rendered, so their boxes are known exactly and what is found can be
counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox.core import counted
from fewbox.core.files import is_temporary, output_error, replacing, write_text
from fewbox.core.progress import console
from fewbox.data import DEMO_BOXES_NAME, demo_photos
from fewbox.errors import OutputError
from fewbox.models import default_base

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet

_SHEET_PHOTOS = 20
_WRITTEN = (
    "duck.safetensors",
    "duck_loss.png",
    "ducks.gif",
    "contact_sheet.png",
    "report.html",
    "figures.json",
)
"""Beside the photos and the pictures of what was found in them."""


def add_demo(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    demo = commands.add_parser(
        "demo",
        help="learn rubber ducks from five photos, find the others",
        description="The whole way on photos that come with fewbox: nothing to bring.",
    )
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="where everything goes; an earlier demo there is replaced (default: %(default)s)",
    )
    demo.add_argument("--base", help="a name from 'fewbox bases', or a file (default: the best one at hand)")
    demo.set_defaults(run=run_demo)


def run_demo(parsed: argparse.Namespace) -> int:
    """``fewbox demo``."""
    train, test = demo_photos()
    # Said before the imports that take long.
    console.print(f"{len(train)} photos of rubber ducks to learn from, {len(test)} to look in")
    print(make_demo(parsed.output, parsed.base))
    return 0


@dataclass(frozen=True)
class DemoResult:
    """What was found in the test photos, at the detector's own threshold."""

    output: Path
    ducks: int
    found: int
    false_alarms: int
    false_alarm_kinds: Mapping[str, int]

    def __str__(self) -> str:
        from fewbox.evaluation.error_analysis import alarm_kinds_in_words

        kinds = f": {alarm_kinds_in_words(self.false_alarm_kinds)}" if self.false_alarms else ""
        return (
            f"found {self.found} of {counted(self.ducks, 'duck')}, "
            f"with {counted(self.false_alarms, 'false alarm')}{kinds}\n"
            f"look at {self.output / 'report.html'} and {self.output / 'ducks.gif'}"
        )


def make_demo(output: Path, base: str | None = None) -> DemoResult:
    """Fine-tune on the demo's photos, detect and count; everything goes into ``output``, photos too.

    Args:
        output: a folder that does not exist yet, or that of an earlier demo, which is replaced.
        base: the base model; if not given, the best one at hand, see :func:`default_base`.

    Raises:
        OutputError: ``output`` is something else, or cannot be written.
        BaseModelError: the base cannot be found or used.
    """
    from fewbox.detection.folder import save_found
    from fewbox.evaluation import detect_all, evaluate_detections
    from fewbox.evaluation.report import save_report
    from fewbox.finetuning import finetune
    from fewbox.finetuning.loss_curve import save_loss_curve
    from fewbox.models.base import load_base

    name = base or default_base()
    base_model = load_base(name)
    console.print(f"base model: {base_model.name}" + ("" if base else ", the best one at hand"))
    _make_room(output)
    train, test = (_copy(photos, output / "photos" / photos.source) for photos in demo_photos())
    detector = finetune(train, base_model)
    path = output / "duck.safetensors"
    detector.save(path)
    made = detector.provenance
    save_loss_curve(detector.history, output / "duck_loss.png", made["estimate"], made.get("ap_by_round", ()))
    # Once, for the pictures and for the report, which counts detections below the threshold too.
    test, found, skipped = detect_all(detector, test, show_progress=True)
    save_found(found, path.name, detector.threshold, output / "found", output / "ducks.gif")
    _save_contact_sheet(output, [image.path for image in test])
    evaluation = evaluate_detections(detector, test, found, skipped)
    save_report(evaluation, output / "report.html", title=path.name)
    counts = evaluation.at(detector.threshold)
    wrong = {name: counts[name] for name in ("false_alarms", "false_alarm_kinds")}
    result = DemoResult(output, counts["annotations"], counts["found"], **wrong)
    figures = {"base": base_model.name, "ducks": result.ducks, "found": result.found} | wrong
    write_text(output / "figures.json", json.dumps(figures) + "\n")
    return result


def _copy(annotations: AnnotationSet, folder: Path) -> AnnotationSet:
    """Copy the photos and their boxes to where a person would have them: a folder of their own."""
    from fewbox.data.formats import write_coco

    images = []
    for image in annotations:
        path = folder / image.path.name
        with replacing(path) as temporary:
            shutil.copyfile(image.path, temporary)
        images.append(replace(image, path=path))
    copied = replace(annotations, images=tuple(images))
    write_coco(copied, folder / DEMO_BOXES_NAME)
    return copied


def _save_contact_sheet(output: Path, photos: Sequence[Path]) -> None:
    from PIL import Image

    from fewbox.detection.drawing import contact_sheet, save_picture

    names = [photo.name for photo in photos[:_SHEET_PHOTOS]]
    pictures = (Image.open(output / "found" / name) for name in names)
    save_picture(
        contact_sheet(pictures, columns=5, tile_width=320, captions=names), output / "contact_sheet.png"
    )


def _make_room(output: Path) -> None:
    """Remove an earlier demo; never anything else, and not the folder itself, in which one may be.

    Raises:
        OutputError: ``output`` holds something that no demo writes, or it cannot be removed.
    """
    if not output.exists():
        return
    foreign = None if not output.is_dir() else next(_not_of_a_demo(output), None)
    if not output.is_dir() or foreign is not None:
        beside = "" if foreign is None else f": {foreign.relative_to(output)}"
        message = f"{output}: exists, and is no folder of an earlier demo{beside}"
        raise OutputError(message, hint="name another: -o FOLDER")
    try:
        for path in sorted(output.rglob("*"), reverse=True):  # what is in a folder comes after it
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise output_error(output, error) from error


def _not_of_a_demo(output: Path) -> Iterator[Path]:
    """What lies in a folder and was written by somebody else: other files, and drawn boxes."""
    from fewbox.detection.folder import COUNTS_NAME

    names = {photos.source: {image.path.name for image in photos} for photos in demo_photos()}
    ours = {output / name for name in _WRITTEN}
    ours |= {output / "found" / name for name in ("detections.json", COUNTS_NAME)}
    for part, photos in names.items():
        ours |= {output / "photos" / part / name for name in (*photos, DEMO_BOXES_NAME)}
        ours |= {output / "found" / name for name in photos}
    folders = {parent for path in ours for parent in path.parents}
    for path in sorted(output.rglob("*")):
        is_ours = path in ours or (path in folders and path.is_dir() and not path.is_symlink())
        if not is_ours and not (path.parent in folders and is_temporary(path)):
            yield path
