"""``fewbox finetune`` and ``fewbox finetune-deep``: teach a base model a new object."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox.commands import (
    LABEL_HELP,
    OneOfBoxes,
    add_batch_norm_eps,
    add_device,
    add_photos_with_boxes,
    add_reviewed_only,
    add_settings,
    add_skip_missing,
    annotations_of,
    base_of,
    resumable,
)
from fewbox.config import DeepConfig, FinetuneConfig
from fewbox.core import EXPORTING, is_installed, quoted, require_packages
from fewbox.core.files import (
    DRAWN,
    drawn_beside,
    is_own,
    output_error,
    replacing,
    require_not_read,
    require_writable,
    temporary_folder,
)
from fewbox.core.progress import console
from fewbox.errors import ExportError, OutputError, SettingError

if TYPE_CHECKING:
    from fewbox.data.annotations import AnnotationSet
    from fewbox.detection.detector import Detector

WRITTEN = (".safetensors", ".onnx")
"""What a detector that was learnt is written as."""
_COMPARED_PHOTOS = 3
"""Those with most boxes, on which an exported detector is compared; as many as ``fewbox export`` takes."""
_REPORT_HEAD = r"\s*<!doctype html>(?s:.*) · fewbox</title>"
_OUTPUT_HELP = "the detector to write: duck.safetensors, or duck.onnx, which needs no torch to run"


def add_finetune(commands: Any) -> None:
    """Add the command to the parser's."""
    finetune = commands.add_parser(
        "finetune",
        help="teach a base model a new object",
        description="Teach a base model the objects in annotated photos; writes one detector file.",
    )
    add_photos_with_boxes(finetune)
    add_skip_missing(finetune)
    finetune.add_argument(
        "--base",
        help="a name from 'fewbox bases', or a file: the official .tar.gz of an SSD, its unpacked folder "
        "or a prefix such as checkpoint/ckpt-0, a .pth of a RetinaNet or a YOLOX, or an .onnx of a YOLOX; "
        "or auto: the best one at hand, and if that is the starter, yolox_nano is fetched (default: the best "
        "one at hand)",
    )
    add_batch_norm_eps(finetune)
    finetune.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help=_OUTPUT_HELP)
    _add_what_to_learn_from(finetune)
    finetune.add_argument(
        "--keep-classes",
        action="store_true",
        help="find the base's own classes too, with the very scores they had, unless --input-size is another "
        "than the base's, but from the threshold that is chosen for the new ones; with the recipe best or "
        "probe",
    )
    finetune.add_argument(
        "--heads-only", action="store_true", help="write only the heads, not the base; nothing else learns"
    )
    finetune.add_argument(
        "--recipe",
        choices=["best", "probe", "adapt", "seed"],
        default="best",
        help="how to learn: probe ranks the boxes of the base, in seconds; adapt also teaches the layers "
        "that make the boxes, for objects unlike those of COCO, in about a minute; best does so unless the "
        "first finds more in photos held out, or nearly all (default: %(default)s)",
    )
    finetune.add_argument(
        "--hold-out",
        type=_share,
        metavar="SHARE",
        help="keep so much of the photos apart, such as 20%%, and evaluate on them afterwards; photos that "
        "look alike stay together",
    )
    add_device(finetune)
    add_settings(finetune, FinetuneConfig)
    finetune.set_defaults(run=run_finetune)


def _add_what_to_learn_from(command: argparse.ArgumentParser) -> None:
    """Add the options that say which photos and classes are learnt, for both ways to fine-tune."""
    command.add_argument("--label", default="object", help=LABEL_HELP)
    add_reviewed_only(command)
    command.add_argument(
        "--negatives",
        nargs="+",
        action="extend",
        default=[],
        metavar="PHOTOS",
        help="photos with none of the objects",
    )


def run_finetune(parsed: argparse.Namespace) -> int:
    """``fewbox finetune``."""
    settings = {spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(FinetuneConfig)}
    from fewbox.finetuning import checked_settings, finetune_within

    config = FinetuneConfig.from_dict(settings)
    config = checked_settings(config, None, parsed.recipe, keep_classes=parsed.keep_classes)
    annotations = annotations_of(
        parsed.boxes, parsed.photos, parsed.label, parsed.strict, parsed.skip_missing
    )
    if parsed.reviewed_only:
        annotations = annotations.reviewed_only()
    annotations.require_reviewed()
    _require_output(parsed.output, parsed.base, heads_only=parsed.heads_only)
    kept_apart = None
    if parsed.hold_out is not None:  # which reads every photo
        annotations, kept_apart = _held_out(annotations, parsed.hold_out, parsed.seed)
    recipe = parsed.recipe
    if parsed.heads_only and recipe == "adapt":
        raise SettingError("with --recipe adapt more than the heads learns", hint="leave --heads-only out")
    if parsed.heads_only and recipe == "best":
        recipe = "probe"
    from fewbox.finetuning.resume import UnfinishedRun
    from fewbox.models.base import load_base

    held_out, report = _of_photos_held_out(parsed.output)
    with UnfinishedRun() as run, resumable(run.has_kept), temporary_folder() as folder:
        picture = Path(folder) / held_out.name
        detector = finetune_within(
            run,
            annotations,
            load_base(base_of(parsed.base), batch_norm_eps=parsed.batch_norm_eps),
            config,
            recipe=recipe,
            negatives=parsed.negatives,
            keep_classes=parsed.keep_classes,
            show_progress=True,
            held_out=picture,
            device=parsed.device,
        )
        _write(detector, parsed.output, annotations, heads_only=parsed.heads_only)
        also = [held_out] * picture.exists() + [report] * bool(kept_apart and kept_apart.num_boxes)
        _tell_written(detector, parsed.output, also)
        if picture.exists():
            with _told_if_not_written(held_out):
                with replacing(held_out) as temporary:
                    shutil.copyfile(picture, temporary)
                print(
                    f"held-out photos, beside the boxes drawn in them (dashed: missed, or wrong): {held_out}"
                )
    if kept_apart is not None:
        _evaluate(detector, kept_apart, parsed.output, report)
    print(f"next: fewbox detect {quoted(parsed.output)} PHOTOS -o found/")
    return 0


def _of_photos_held_out(output: Path) -> tuple[Path, Path]:
    """The picture of photos held out, and the report, that lie beside a detector."""
    return drawn_beside(output)[1], output.with_name(f"{output.stem}_report.html")


def _tell_written(detector: Detector, output: Path, also: Sequence[Path] = ()) -> None:
    """Say that a new detector is there, draw its losses, and remove what is beside it of the one before.

    Only now: until it is there, they are of the one that is. What fewbox has not written is not removed, and
    told unless it is replaced: it is among what is written ``also``.
    """
    from fewbox.finetuning.loss_curve import save_loss_curve

    for former, beginning in zip(_of_photos_held_out(output), (DRAWN, _REPORT_HEAD), strict=True):
        with suppress(OSError, OutputError) if former in also else _told_if_not_written(former):
            if not is_own(former, beginning):
                raise OutputError(f"{former}: left as it is: it does not say that fewbox has written it")
            former.unlink(missing_ok=True)
    told = f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)"
    curve, made = drawn_beside(output)[0], detector.provenance
    with _told_if_not_written(curve):
        save_loss_curve(detector.history, curve, made.get("estimate"), made.get("ap_by_round", ()))
        told += f" and {curve}"
    print(told)


@contextmanager
def _told_if_not_written(target: Path) -> Iterator[None]:
    """Let a file that cannot be written beside a detector be a remark: the detector itself is there."""
    try:
        yield
    except OSError as error:
        console.print(output_error(target, error).message)
    except OutputError as error:
        console.print(error.message)


def _share(text: str) -> float:
    """A part of a whole, as ``20%`` or ``0.2``."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"a share between 0% and 100%, such as 20%: {text!r}")
    return share


def _held_out(photos: AnnotationSet, share: float, seed: int) -> tuple[AnnotationSet, AnnotationSet]:
    """The photos to learn from, and those kept apart; what may surprise of these is told."""
    from fewbox.core import counted, some_of

    taught, apart = photos.split(1 - share, seed=seed)
    if abs(len(apart) - share * len(photos)) > max(1, 0.1 * len(photos)):
        console.print(
            f"held out: {len(apart)} of {counted(len(photos), 'photo')}, not {share:.0%}: photos that look "
            "alike stay together"
        )
    if not apart.num_boxes:
        console.print(f"held out: {counted(len(apart), 'photo')} without a box: nothing to evaluate on")
    learnt, others = ({box.label for image in part for box in image.objects} for part in (taught, apart))
    if lost := [label for label in photos.labels if label in others - learnt]:
        console.print(
            f"held out: all photos with {some_of(lost)}: nothing is learnt of it; add photos of it that "
            "look different, or hold out fewer"
        )
    return taught, apart


def _evaluate(detector: Detector, photos: AnnotationSet, output: Path, report: Path) -> None:
    """Say how good the detector is on photos that it has not learnt from, and write the report."""
    if not photos.num_boxes:
        print("not evaluated: no box in the photos held out; draw boxes in more photos")
        return
    from fewbox.evaluation import evaluate
    from fewbox.evaluation.report import save_report

    evaluation = evaluate(detector, photos)
    print(f"not learnt from: {evaluation}")
    with _told_if_not_written(report):
        save_report(evaluation, report, title=output.name)
        print(f"wrote {report}: open it in a browser")


def _require_output(output: Path, base: str | None, *, heads_only: bool = False) -> None:
    """Refuse, before anything is learnt, a detector's file that could not be written.

    Raises:
        OutputError: it has another suffix, is the file of the base, or its folder cannot be written.
        SettingError: an ``.onnx`` file is to have the heads only, or a package to write it is missing.
    """
    require_writable(output, WRITTEN)
    require_not_read(output, base)
    if output.suffix.lower() == ".onnx":
        if heads_only:
            hint = f"leave --heads-only out, or write {output.with_suffix('.safetensors')}"
            raise SettingError(f"{output}: an ONNX file holds the whole network", hint=hint)
        if is_installed("torch"):  # else what can be learnt is a graph already
            require_packages(EXPORTING, f"{output}: learning and exporting")


def _write(detector: Detector, output: Path, annotations: AnnotationSet, *, heads_only: bool = False) -> None:
    """Write the detector; as ``fewbox export`` does, if it is to be an ``.onnx`` file.

    One that runs as a graph is in that file as it is, so there is nothing to compare.

    Raises:
        ExportError: the export does not find the same; the detector is in a ``.safetensors`` file then.
        OutputError: the file cannot be written.
    """
    if output.suffix.lower() != ".onnx":
        detector.save(output, heads_only=heads_only)
        return
    from fewbox.export import export_detector, write_graph

    if detector.is_graph:
        write_graph(detector, output)
        return
    photos = sorted(annotations, key=lambda image: -len(image.boxes))[:_COMPARED_PHOTOS]
    try:
        agreement = export_detector(detector, output, photos=[image.path for image in photos])
    except ExportError as error:
        kept = output.with_name(f"{output.stem}_not_exported.safetensors")
        detector.save(kept)
        raise ExportError(error.message, hint=f"the detector itself is in {kept}") from error
    print(f"finds the same: {agreement}")


def add_finetune_deep(commands: Any) -> None:
    """Add the command to the parser's."""
    deep = commands.add_parser(
        "finetune-deep",
        help="train the layers of a base model on hundreds of photos or more",
        description="Train the layers of a YOLOX on hundreds or thousands of annotated photos; writes one "
        "detector file. On N GPUs, or in N processes: "
        "torchrun --nproc-per-node N --no-python fewbox finetune-deep ...",
    )
    add_photos_with_boxes(deep)
    add_skip_missing(deep)
    deep.add_argument("--base", required=True, help="a YOLOX: a name from 'fewbox bases', or a file")
    add_batch_norm_eps(deep)
    deep.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help=_OUTPUT_HELP)
    _add_what_to_learn_from(deep)
    deep.add_argument(
        "--held-out",
        nargs="+",
        action="extend",
        metavar="PHOTOS",
        help="other photos, to measure AP on after every epoch, and to choose the score threshold",
    )
    deep.add_argument(
        "--held-out-boxes",
        action=OneOfBoxes,
        metavar="BOXES",
        help="their boxes (default: those drawn in them)",
    )
    add_device(deep)
    add_settings(deep, DeepConfig)
    deep.set_defaults(run=run_finetune_deep)


def run_finetune_deep(parsed: argparse.Namespace) -> int:
    """``fewbox finetune-deep``, or one of its processes."""
    if parsed.held_out_boxes is not None and not parsed.held_out:
        raise SettingError(
            "--held-out-boxes are those of --held-out", hint="give that too: --held-out PHOTOS"
        )
    config = DeepConfig(**{spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(DeepConfig)})
    annotations = annotations_of(
        parsed.boxes, parsed.photos, parsed.label, parsed.strict, parsed.skip_missing
    )
    if parsed.reviewed_only:
        annotations = annotations.reviewed_only()
    held_out = None
    if parsed.held_out:
        held_out = annotations_of(
            parsed.held_out_boxes, parsed.held_out, parsed.label, parsed.strict, parsed.skip_missing
        )
        if parsed.reviewed_only:
            held_out = held_out.reviewed_only()
    _require_output(parsed.output, parsed.base)
    require_packages(["torch"], "fine-tuning")
    from fewbox.finetuning import with_fastest_precision
    from fewbox.finetuning.deep import finetune_deep
    from fewbox.models.base import load_base
    from fewbox.models.device import device_in_words, process_group

    if parsed.negatives:
        annotations = annotations.with_negatives(parsed.negatives)
    checkpoint = parsed.output.with_name(f"{parsed.output.stem}_checkpoint.pt")
    with process_group(parsed.device) as group:
        if group.is_main:
            console.print(f"computing on: {device_in_words(group.device)}")
        base = load_base(parsed.base, batch_norm_eps=parsed.batch_norm_eps)
        with resumable(checkpoint.exists):
            detector = finetune_deep(annotations, base, checkpoint, group, config=config, held_out=held_out)
        if not group.is_main:
            return 0
        detector = with_fastest_precision(detector, annotations, show_progress=True)
        _write(detector, parsed.output, annotations)
    checkpoint.unlink()
    _tell_written(detector, parsed.output)
    return 0
