"""``fewbox export``: a detector as a file that other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbox.commands import OneOfBoxes, add_strict, annotations_of
from fewbox.core import EXPORTING, require_packages
from fewbox.core.files import (
    NETWORK_XML,
    require_not_read,
    require_own,
    require_own_weights,
    require_writable,
)
from fewbox.errors import DetectorFileError, SettingError

if TYPE_CHECKING:
    from fewbox.detection.detector import Detector


def add_export(commands: Any) -> None:
    """Add the command to ``commands``, argparse's subparsers."""
    export = commands.add_parser(
        "export",
        help="write a detector as ONNX or for OpenVINO, for other programs",
        description="Write a detector as an ONNX file or as OpenVINO's own: photos in, boxes out. Without "
        "DETECTOR, a base to learn from in a browser: fewbox export --base starter -o base.onnx",
    )
    export.add_argument(
        "detector",
        nargs="?",
        metavar="DETECTOR",
        help="a file that 'fewbox finetune' wrote, or a base model, written as a detector of its own classes",
    )
    written = "what to write: duck.onnx, or duck.xml for OpenVINO"
    export.add_argument("file", type=Path, nargs="?", metavar="FILE", help=written)
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="the same, as in other commands")
    export.add_argument(
        "--raw",
        action="store_true",
        help="only the network: it takes its own input, and gives the boxes of all anchors",
    )
    export.add_argument(
        "--photos",
        nargs="+",
        action="extend",
        metavar="PHOTOS",
        help="photos to compare on, best with the objects in them (default: three of the demo's, "
        "which do as well for float32)",
    )
    export.add_argument(
        "--base",
        help="the base model, for a detector written with --heads-only whose base is not in the cache; "
        "without DETECTOR, the base to write: the starter, or a YOLOX by its name or official file",
    )
    export.add_argument(
        "--precision",
        default="float32",
        metavar="{float32,bfloat16,int8}",
        help="what the network computes in, for duck.xml; int8 is fitted to --photos (default: %(default)s)",
    )
    export.add_argument(
        "--boxes",
        action=OneOfBoxes,
        metavar="BOXES",
        help="for int8, to say what it costs: a file of boxes, or a folder of them (default: those drawn "
        "with 'fewbox annotate PHOTOS')",
    )
    add_strict(export)
    export.add_argument(
        "--force",
        action="store_true",
        help="write duck.xml even if bfloat16 moves boxes too far, or int8 costs more than 1 AP",
    )
    export.set_defaults(run=run_export)


def run_export(parsed: argparse.Namespace) -> int:
    """``fewbox export``."""
    if parsed.detector is None:
        return _run_export_base(parsed)
    if (parsed.file is None) == (parsed.output is None):
        raise SettingError("one file to write is needed", hint="name it once: -o duck.onnx")
    parsed.output = parsed.output or parsed.file
    require_writable(parsed.output, [".onnx", ".xml"])
    require_not_read(parsed.output, parsed.detector, parsed.base)
    is_openvino = parsed.output.suffix.lower() == ".xml"
    if is_openvino:  # which boxes are kept in too, by VOC and CVAT
        require_own(parsed.output, NETWORK_XML)
        require_own_weights(parsed.output)
    if is_openvino and parsed.raw:
        raise SettingError(f"{parsed.output}: --raw is for ONNX", hint="name the file duck.onnx")
    if not is_openvino and parsed.precision != "float32":
        raise SettingError(
            f"{parsed.output}: only OpenVINO's files can be in {parsed.precision}",
            hint="name the file duck.xml",
        )
    _refuse_idle(parsed)
    _require_weights(Path(parsed.detector))
    require_packages(EXPORTING, f"{parsed.output}: exporting")
    from fewbox.detection.loading import load_in_torch
    from fewbox.runtimes import files_of

    detector = load_in_torch(Path(parsed.detector), parsed.base, "cpu")
    words = _write_openvino(detector, parsed) if is_openvino else _write_onnx(detector, parsed)
    size = sum(file.stat().st_size for file in files_of(parsed.output))
    print(words)
    print(f"wrote {' and '.join(map(str, files_of(parsed.output)))} ({size / 1e6:.1f} MB)")
    return 0


def _run_export_base(parsed: argparse.Namespace) -> int:
    """``fewbox export --base starter -o base.onnx``."""
    if parsed.base is None:
        hint = "name a detector, such as duck.safetensors; or a base to learn from: --base starter"
        raise SettingError("there is nothing to export", hint=hint)
    if parsed.output is None:
        raise SettingError("one file to write is needed", hint="name it: -o base.onnx")
    if parsed.raw or parsed.precision != "float32":
        option = "--raw" if parsed.raw else f"--precision {parsed.precision}"
        raise SettingError(f"{option} is for detectors, not for a base to learn from", hint="leave it out")
    _refuse_idle(parsed)
    require_writable(parsed.output, [".onnx"])
    require_not_read(parsed.output, parsed.base)
    require_packages([*EXPORTING, "torch"], f"{parsed.output}: exporting")
    from fewbox.export.onnx import export_base
    from fewbox.models.base import load_base

    agreement = export_base(load_base(parsed.base), parsed.output, photos=parsed.photos)
    print(f"reads the same: {agreement}")
    size = parsed.output.stat().st_size / 1e6
    print(f"wrote {parsed.output} ({size:.1f} MB), a base to learn from in a browser")
    return 0


def _refuse_idle(parsed: argparse.Namespace) -> None:
    """Refuse options that would change nothing, as somebody counts on them.

    Raises:
        SettingError: there is one.
    """
    measured, rounded = ("int8",), ("bfloat16", "int8")
    for option, is_given, precisions in (
        ("--boxes", parsed.boxes is not None, measured),
        ("--strict", parsed.strict, measured),
        ("--force", parsed.force, rounded),
    ):
        if is_given and parsed.precision not in precisions:
            wanted = " or ".join(f"--precision {name}" for name in precisions)
            raise SettingError(f"{option} is for {wanted}", hint="leave it out")


def _require_weights(detector: Path) -> None:
    """Refuse what is an export already: of its weights only the graph is left, folded for its engine."""
    from fewbox.detection.loading import names_base

    if detector.suffix.lower() in (".onnx", ".xml") and not names_base(detector):
        told = "; OpenVINO runs it as it is: --engine openvino" if detector.suffix.lower() == ".onnx" else ""
        raise DetectorFileError(
            f"{detector}: is an export already, which cannot be exported again",
            hint=f"give the .safetensors file it was made from, or fine-tune again into one{told}",
        )


def _write_onnx(detector: Detector, parsed: argparse.Namespace) -> str:
    from fewbox.export import export_detector

    return f"finds the same: {export_detector(detector, parsed.output, raw=parsed.raw, photos=parsed.photos)}"


def _write_openvino(detector: Detector, parsed: argparse.Namespace) -> str:
    from fewbox.apps.openvino_export import export_openvino

    annotations = None
    if parsed.precision == "int8" and parsed.photos is not None:
        label = detector.labels[0] if len(detector.labels) == 1 else "object"
        annotations = annotations_of(parsed.boxes, parsed.photos, label, parsed.strict)
    words = export_openvino(
        detector,
        parsed.output,
        precision=parsed.precision,
        photos=parsed.photos,
        annotations=annotations,
        force=parsed.force,
    )
    return f"compared with PyTorch: {words}"
