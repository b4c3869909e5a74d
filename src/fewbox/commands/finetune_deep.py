"""``fewbox finetune-deep``: train the layers of a base model on many photos, with many processes."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from fewbox.commands.boxes import LABEL_HELP, add_photos_with_boxes, annotations_of
from fewbox.commands.settings import add_batch_norm_eps, add_settings
from fewbox.config import DeepConfig
from fewbox.files import require_writable


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
    deep.add_argument("--base", required=True, help="a YOLOX: a name from 'fewbox bases', or a file")
    add_batch_norm_eps(deep)
    deep.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="the detector to write"
    )
    deep.add_argument("--label", default="object", help=LABEL_HELP)
    deep.add_argument(
        "--reviewed-only", action="store_true", help="leave out photos that nobody has looked at"
    )
    deep.add_argument(
        "--negatives", nargs="+", default=[], metavar="PHOTOS", help="photos with none of the objects"
    )
    deep.add_argument(
        "--held-out",
        nargs="+",
        metavar="PHOTOS",
        help="other photos, to measure AP on after every epoch, and to choose the score threshold",
    )
    deep.add_argument("--held-out-boxes", metavar="BOXES", help="their boxes (default: those drawn in them)")
    add_settings(deep, DeepConfig)
    deep.set_defaults(run=run_finetune_deep)


def run_finetune_deep(parsed: argparse.Namespace) -> int:
    """``fewbox finetune-deep``, or one of its processes."""
    config = DeepConfig(**{spec.name: getattr(parsed, spec.name) for spec in dataclasses.fields(DeepConfig)})
    annotations = annotations_of(parsed.boxes, parsed.photos, parsed.label, parsed.strict)
    if parsed.reviewed_only:
        annotations = annotations.reviewed_only()
    held_out = None
    if parsed.held_out:
        held_out = annotations_of(parsed.held_out_boxes, parsed.held_out, parsed.label, parsed.strict)
    require_writable(parsed.output, [".safetensors"])
    from fewbox.data.images import find_photos
    from fewbox.finetuning.deep import finetune_deep
    from fewbox.finetuning.loss_curve import save_loss_curve
    from fewbox.finetuning.team import joined
    from fewbox.finetuning.trainer import with_fastest_precision
    from fewbox.models.base import load_base

    if parsed.negatives:
        annotations = annotations.with_negatives(find_photos(parsed.negatives))
    checkpoint = parsed.output.with_name(f"{parsed.output.stem}_checkpoint.pt")
    with joined() as team:
        base = load_base(parsed.base, batch_norm_eps=parsed.batch_norm_eps)
        detector = finetune_deep(annotations, base, checkpoint, team, config=config, held_out=held_out)
        if not team.writes:
            return 0
        with_fastest_precision(detector, annotations, show_progress=True).save(parsed.output)
    curve = parsed.output.with_name(f"{parsed.output.stem}_loss.png")
    save_loss_curve(detector.history, curve)
    checkpoint.unlink()
    print(f"wrote {parsed.output} ({parsed.output.stat().st_size / 1e6:.1f} MB) and {curve}")
    return 0
