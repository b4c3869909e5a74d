"""Export a detector: write it for other programs, once it is seen that it finds the same there."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewbox import __version__
from fewbox.arguments import checked_path, kind_of
from fewbox.data.demo_photos import demo_photos
from fewbox.data.images import StrPath, find_photos, read_reduced, read_size_hw
from fewbox.engines.header import FORMAT_VERSION
from fewbox.engines.onnxruntime_engine import OnnxRuntimeEngine
from fewbox.errors import ExportError, OutputError, SettingError
from fewbox.exporting.agreement import Agreement, compare_anchors, compare_detector
from fewbox.files import replacing, require_writable
from fewbox.models.architectures import build_network
from fewbox.models.configs import Config
from fewbox.models.weights_file import hash_weights

if TYPE_CHECKING:
    from torch import Tensor

NUM_PHOTOS = 8
"""So many photos are looked at, to see whether both find the same."""
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_NUM_DEMO_PHOTOS = 3


class Exportable(Protocol):
    """What is needed of a detector; ``detect.Detector`` has it."""

    config: Config
    weights: dict[str, Tensor]
    labels: tuple[str, ...]
    base: dict[str, str]
    provenance: dict[str, Any]
    precision: str
    score_threshold: float


def export_detector(
    detector: Exportable,
    target: StrPath,
    *,
    raw: bool = False,
    photos: StrPath | Sequence[StrPath] | None = None,
) -> Agreement:
    """Write a detector as ONNX: photos in, boxes out. See ``docs/export.md`` for what is in the file.

    It is written only if ONNX Runtime finds with it what PyTorch finds with the detector.

    Args:
        detector: a :class:`Detector`.
        target: ends in ``.onnx``.
        raw: write the network alone: it takes its own input, and gives the boxes of all anchors.
        photos: folders, files or patterns of photos to compare on, best with the objects in them; the
            first eight are taken. Some of the demo's if not given, which do as well: what the two
            compute is compared, found or not.

    Returns:
        How well the two agree.

    Raises:
        SettingError: a package is missing.
        ExportError: they do not find the same; nothing is written.
        PhotoError: a photo cannot be read.
        OutputError: the file cannot be written.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> agreement = fewbox.export_detector(detector, "duck.onnx")
        >>> agreement.lowest_iou > 0.99
        True
    """
    target = checked_path(target, "the file to write", OutputError)
    if not hasattr(detector, "weights"):
        hint = "load one that can: fewbox.Detector.load('duck.safetensors')"
        raise ExportError(f"only a detector with its weights can be exported: {kind_of(detector)}", hint=hint)
    require_writable(target, [".onnx"])
    _require_packages(target)
    from fewbox.exporting.onnx_model import anchors_of, make_model

    images = read_photos(photos, detector.config)
    network = build_network(detector.config, detector.weights)
    header = make_header(detector, network.architecture, raw=raw)
    model = make_model(network, detector.config, header, raw=raw)
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
        if raw:
            agreement = compare_anchors(network, anchors_of(temporary, raw=True), images)
        else:
            agreement = compare_detector(
                network,
                OnnxRuntimeEngine(temporary),
                anchors_of(temporary, raw=False),
                images,
                detector.config.iou_threshold,
            )
        if not agreement.holds:
            raise _not_the_same(target, agreement)
    return agreement


def make_header(detector: Exportable, architecture: str, *, raw: bool) -> dict[str, Any]:
    """What the file will say of itself; see ``engines/header.py``."""
    identity = {
        "architecture": architecture,
        "config": detector.config.to_dict(),
        "labels": detector.labels,
        "score_threshold": detector.score_threshold,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    digest.update(hash_weights(detector.weights).encode())
    return {
        "format_version": FORMAT_VERSION,
        "fewbox_version": __version__,
        "input": "images" if raw else "photos",
        **identity,
        "precision": detector.precision,
        "base": detector.base,
        "provenance": detector.provenance,
        "detector_sha256": digest.hexdigest(),
    }


def can_export() -> bool:
    """Whether all packages are installed that exporting needs."""
    return not _missing_packages()


def _missing_packages() -> list[str]:
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def _require_packages(target: Path) -> None:
    if missing := _missing_packages():
        raise SettingError(
            f"{target}: exporting needs {', '.join(missing)}, not installed",
            hint="pip install '.[export]'",
        )


def read_photos(photos: StrPath | Sequence[StrPath] | None, config: Config) -> list[NDArray[np.uint8]]:
    """The photos to compare on, as large as a detector reads them at least."""
    if photos is not None:
        return [_read_photo(path, config) for path in find_photos(photos)[:NUM_PHOTOS]]
    train, _ = demo_photos()
    return [_read_photo(image.path, config) for image in train.images[:_NUM_DEMO_PHOTOS]]


def _read_photo(path: Path, config: Config) -> NDArray[np.uint8]:
    height, width = config.covered_hw(read_size_hw(path))
    return read_reduced(path, (2 * height, 2 * width)).image


def _not_the_same(target: Path, agreement: Agreement) -> ExportError:
    return ExportError(
        f"{target}: not written: it does not find the same in ONNX Runtime as in PyTorch: {agreement}",
        hint="look at other photos with --photos FOLDER; if it stays so, please report it",
    )
