"""Export a detector to OpenVINO's own files, rounded if wanted, after checking that it still finds the same.

What "the same" means depends on the precision: in float32, every box and score; in bfloat16, boxes within
half a pixel; in int8, where every box moves, average precision on annotated photos.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.core import counted, missing_packages, require_packages
from fewbox.core.files import replacing, require_own_weights, require_writable, sha256_of, temporary_folder
from fewbox.data.annotations import AnnotationSet
from fewbox.data.images import StrPath, find_photos, read_reduced, read_size_hw
from fewbox.detection.detector import Detector
from fewbox.detection.loading import ExportedDetector
from fewbox.detection.precision import MAX_SHIFT_PX, PrecisionCheck, moved_boxes
from fewbox.errors import ExportError, SettingError
from fewbox.evaluation import evaluate
from fewbox.export import Anchors, AnchorsOf, compare_detector, export_detector, make_header, read_photos
from fewbox.export.graph import ANCHORS
from fewbox.models.families import build_network
from fewbox.runtimes import HEADER_KEY, files_of
from fewbox.runtimes.openvino import (
    PRECISIONS,
    OpenVinoEngine,
    last_convolutions,
    openvino_core,
    outside_network,
)

MAX_AP_LOST = 1.0
"""How much average precision, of 100, int8 may cost."""
ACTIVATIONS = ("Sigmoid", "Multiply", "Swish")
"""Not in int8: SiLU multiplies a value with its sigmoid, and both in int8 cost YOLOX-nano a third of its
AP; benchmarks/int8.py."""
_MAX_CALIBRATION_PHOTOS = 300
_NOTHING = "nothing was found"


def export_openvino(
    detector: Detector,
    target: StrPath,
    *,
    precision: str = "float32",
    photos: StrPath | Sequence[StrPath] | None = None,
    annotations: AnnotationSet | None = None,
    force: bool = False,
) -> str:
    """Write a detector for OpenVINO: ``target`` and, beside it, its weights in a file ending in ``.bin``.

    Args:
        detector: a detector.
        target: ends in ``.xml``.
        precision: ``"float32"``, ``"bfloat16"`` or ``"int8"``.
        photos: folders, files or patterns of photos. int8 is fitted to them, so they should be like those
            the detector will see. The others are compared on them, or on some of the demo's if not given;
            what bfloat16 does shows only where something is found.
        annotations: for int8: annotated photos, to measure what it costs.
        force: write the files even if rounding moves boxes, or costs average precision.

    Returns:
        How well the files agree with PyTorch, for people.

    Raises:
        SettingError: a package is missing, or for int8 the photos or their annotations; there is no such
            precision, or this processor does not compute in it.
        ExportError: the exported detector does not find the same; nothing is written.
        AnnotationError: the annotations do not fit the detector.
        PhotoError: a photo cannot be read.
        OutputError: the files cannot be written; or the ``.bin`` is there, and no network that it is of.
    """
    target = Path(target)
    require_writable(target, [".xml"])
    require_own_weights(target)
    _check_settings(target, precision, photos, annotations)
    with temporary_folder() as folder:
        onnx = Path(folder) / "detector.onnx"
        export_detector(detector, onnx, photos=photos)
        model = read_onnx(onnx)
    if precision == "int8":
        assert photos is not None
        model = quantize(model, _calibration_photos(detector, photos))
    architecture = detector.network.architecture
    header = make_header(detector, architecture, raw=False) | {"precision": precision}
    # The .bin is renamed first: there is never a new .xml without its weights.
    with replacing(target) as temporary, replacing(target.with_suffix(".bin")):
        save_model(model, header, temporary)
        words, holds = _compare(detector, temporary, precision, photos, annotations)
        if not holds and (precision == "float32" or not force):
            raise _not_the_same(target, precision, words, photos)
    return words if holds else f"{words}; written all the same, as asked"


def _check_settings(target: Path, precision: str, photos: Any, annotations: AnnotationSet | None) -> None:
    if precision not in PRECISIONS:
        raise SettingError(
            f"unknown precision: {precision!r}", hint=f"choose one of: {', '.join(PRECISIONS)}"
        )
    needed = ("openvino", "nncf") if precision == "int8" else ("openvino",)
    require_packages(needed, f"{target}:", "quantize" if "nncf" in missing_packages(needed) else "openvino")
    if precision == "int8" and (photos is None or annotations is None):
        raise SettingError(
            f"{target}: int8 is fitted to photos, and tried on annotated ones",
            hint="give photos like those the detector will see: --photos FOLDER",
        )


def _calibration_photos(detector: Detector, photos: StrPath | Sequence[StrPath]) -> list[NDArray[np.uint8]]:
    """The photos as large as the detector reads them."""
    paths = find_photos(photos)[:_MAX_CALIBRATION_PHOTOS]
    return [read_reduced(path, detector.enough_hw(read_size_hw(path))).image for path in paths]


def _compare(
    detector: Detector, file: Path, precision: str, photos: Any, annotations: AnnotationSet | None
) -> tuple[str, bool]:
    """How well the file agrees with PyTorch in float32, in words, and whether that is enough."""
    engine = OpenVinoEngine(file)
    if engine.precision != precision:
        raise SettingError(
            f"{precision} cannot be tried here: this processor does not compute in it",
            hint="export on a processor that does, or in float32",
        )
    exact, exported = detector.with_precision("float32"), ExportedDetector(engine, file)
    if precision == "int8":
        assert annotations is not None
        before, after = (
            100 * evaluate(one, annotations, show_progress=False).metrics.ap for one in (exact, exported)
        )
        words = f"AP {before:.1f} before, {after:.1f} after, on {counted(len(annotations), 'photo')}"
        return words, before - after <= MAX_AP_LOST
    images = read_photos(photos, detector.config)
    if precision == "float32":
        network = build_network(detector.config, detector.weights)
        iou_threshold = detector.config.iou_threshold
        agreement = compare_detector(network, engine, anchors_of(file), images, iou_threshold)
        return str(agreement), agreement.holds
    count, furthest = 0, 0.0
    for image in images:
        found, shift_px = moved_boxes(exact, exported, image)
        count += found
        furthest = max(furthest, shift_px)
    moved = "not all were found" if math.isinf(furthest) else f"moved by up to {furthest:.2f} pixels"
    words = f"{counted(count, 'box')} in {counted(len(images), 'photo')}: {moved}"
    if count == 0:
        words = f"{_NOTHING} in {counted(len(images), 'photo')}, so nobody knows by how much it does"
    return words, PrecisionCheck(True, count, furthest).holds


def _not_the_same(target: Path, precision: str, words: str, photos: Any) -> ExportError:
    lacks_objects = photos is None or words.startswith(_NOTHING)
    allowed = {
        "float32": "it does not find the same in OpenVINO as in PyTorch",
        "bfloat16": f"bfloat16 may move boxes by {MAX_SHIFT_PX} pixels",
        "int8": f"int8 costs average precision, and may cost {MAX_AP_LOST:.0f}",
    }
    hints = {
        "float32": "look at other photos with --photos FOLDER; if it stays so, please report it",
        "bfloat16": ("give photos with the objects in them: --photos FOLDER; " if lacks_objects else "")
        + "use --precision float32, or --force if that is good enough",
        "int8": "use --precision float32, give more photos with --photos, or --force if that is good enough",
    }
    return ExportError(f"{target}: not written: {allowed[precision]}: {words}", hint=hints[precision])


def read_onnx(path: Path) -> Any:
    """The ``openvino.Model`` of a file that was exported as ONNX."""
    return openvino_core().read_model(path)


def quantize(model: Any, photos: Sequence[NDArray[np.uint8]]) -> Any:
    """The same model with the network's convolutions in int8.

    The range of every map is taken from ``photos``, so they should be like those the detector will see.
    What prepares photos, what selects detections, activations and the last convolutions stay as they are.

    Args:
        model: of a whole export, not one with ``--raw``.
        photos: each ``[H, W, 3]``.
    """
    with quiet_nncf() as nncf:
        kept = [*outside_network(model), *last_convolutions(model)]
        rows = [{"photos": photo[None], "score_threshold": np.float32(1)} for photo in photos]
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            subset_size=len(rows),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept, types=list(ACTIVATIONS), validate=False),
        )


def save_model(model: Any, header: Mapping[str, Any], target: Path) -> None:
    """Write ``target``, ending in ``.xml``, and the file ``.bin`` beside it."""
    written = target.with_suffix(".xml")  # OpenVINO refuses a name that ends in .XML, as of other systems
    _save(model, written)
    # Again, now that it is known what the header must say of the weights, which stay the same.
    told = {**header, "weights_sha256": sha256_of(files_of(written)[-1])}
    model.set_rt_info(json.dumps(told), [HEADER_KEY])
    _save(model, written)
    written.replace(target)


def _save(model: Any, written: Path) -> None:
    import openvino

    try:
        openvino.save_model(model, written, compress_to_fp16=False)
    except RuntimeError as error:  # which says of a full disk only that a stream is bad
        needed = sum(one.data.nbytes for one in model.get_ops() if one.get_type_name() == "Constant")
        is_full = shutil.disk_usage(written.parent).free < needed
        raise OSError(errno.ENOSPC if is_full else errno.EIO, "OpenVINO could not write it") from error


def anchors_of(path: Path) -> AnchorsOf:
    """What OpenVINO computes in float32 with a file, before anything is suppressed."""
    core = openvino_core()
    model = core.read_model(path)
    model.add_outputs(list(ANCHORS))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: NDArray[np.uint8], _pixels: Any) -> Anchors:
        found = compiled({"photos": image[None], "score_threshold": np.array(1, np.float32)})
        boxes, scores = (found[name][0] for name in ANCHORS)
        return boxes, scores

    return run


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF without its remarks, and without its messages to those who make it."""
    os.environ.setdefault("NNCF_CI", "1")  # read when NNCF is imported: sends nothing
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.ERROR)
        yield nncf
