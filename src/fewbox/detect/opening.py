"""Open a detector file of any kind with the fastest engine there is.

What ``fewbox export`` wrote is run by an engine made for that. What ``fewbox finetune`` wrote is run
by PyTorch, or exported into the cache first, which takes seconds once and then pays with every photo.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fewbox.arguments import checked_path, kind_of
from fewbox.data.images import StrPath
from fewbox.detect.exported_detector import ExportedDetector
from fewbox.detect.photo_detector import PhotoDetector
from fewbox.engines.cached_exports import cached_export_path
from fewbox.engines.engine import Engine
from fewbox.engines.header import read_onnx_header
from fewbox.engines.onnxruntime_engine import OnnxRuntimeEngine
from fewbox.engines.openvino_engine import OpenVinoEngine
from fewbox.errors import DetectorFileError, ExportError, OutputError, SettingError

if TYPE_CHECKING:
    from fewbox.models.base import BaseModel

AUTO, TORCH = "auto", "torch"
OPENVINO = "openvino"
EXPORT_ENGINES = ("onnxruntime", OPENVINO)
"""What runs exported files, by the names of their packages, the fastest in float32 first."""
ENGINES = (AUTO, *EXPORT_ENGINES, TORCH)
EXPORT_SUFFIXES = (".onnx", ".xml")
_OPEN_ONE = "open one: fewbox.open_detector('duck.safetensors')"
MANY_PHOTOS = 500
"""For so many photos a detector is exported first: the seconds it takes come back."""


def open_detector(
    path: StrPath,
    *,
    engine: str = AUTO,
    base: BaseModel | StrPath | None = None,
    num_photos: int = 1,
    num_threads: int | None = None,
) -> PhotoDetector:
    """A detector from a file of any kind, ready to detect.

    With ``"auto"`` an exported file runs in the fastest engine installed. Any other runs in PyTorch,
    unless an export of it is in the cache already, or ``num_photos`` is 500 or more. Of a
    detector that computes in bfloat16 only OpenVINO runs an export, as PyTorch is faster than the rest.

    Args:
        path: a file that ``fewbox finetune`` or ``fewbox export`` wrote.
        engine: what computes: ``"auto"``, ``"onnxruntime"``, ``"openvino"`` or ``"torch"``.
        base: the base model of a file with only the heads.
        num_photos: how many photos it will look at, as far as is known.
        num_threads: how many threads one photo may take, of those that PyTorch does not run; all cores
            if not given.

    Raises:
        SettingError: there is no such engine, it is not installed, or does not run this kind of file.
        DetectorFileError: the file is missing, damaged, or no detector.

    Examples:
        >>> detector = fewbox.open_detector("duck.onnx")
        >>> len(detector.detect("ducks/test/duck_01.jpg").above(0.5))
        3
    """
    path = checked_path(path, "a detector's file", DetectorFileError)
    if engine not in ENGINES:
        raise SettingError(f"unknown engine: {engine!r}", hint=f"choose one of: {', '.join(ENGINES)}")
    if path.suffix.lower() in EXPORT_SUFFIXES:
        if engine == TORCH:
            raise SettingError(
                f"{path}: an exported file does not run in torch",
                hint="give the .safetensors file it was made from, or another --engine",
            )
        return _run_exported(path, engine, num_threads)
    exported = _export_of(path, engine, base, num_photos)
    if exported is not None:
        return _run_exported(exported, engine, num_threads)
    from fewbox.detect.detector import Detector

    return Detector.load(path, base=base)


def opened_detector(given: PhotoDetector | StrPath) -> PhotoDetector:
    """A detector as it is, or opened from its file.

    Raises:
        DetectorFileError: it is neither, or as for :func:`open_detector`.
    """
    if isinstance(given, str | os.PathLike):
        return open_detector(given)
    if not callable(getattr(given, "detect", None)) or isinstance(given, type):
        raise DetectorFileError(f"nothing that can detect: {kind_of(given)}", hint=_OPEN_ONE)
    return given


def _run_exported(path: Path, engine: str, num_threads: int | None) -> ExportedDetector:
    if path.suffix.lower() == ".xml":
        if engine not in (AUTO, OPENVINO):
            raise SettingError(f"{path}: runs in OpenVINO only, not in {engine}", hint="leave --engine out")
        engine = OPENVINO
    elif engine == AUTO:
        is_rounded = read_onnx_header(path).get("precision") != "float32"
        engine = OPENVINO if is_rounded and _is_installed(OPENVINO) else _installed() or EXPORT_ENGINES[0]
    return ExportedDetector(_start(engine, path, num_threads), path)


def _start(engine: str, path: Path, num_threads: int | None) -> Engine:
    """The engine that runs the exported file at ``path``."""
    if engine == OPENVINO:
        return OpenVinoEngine(path, num_threads=num_threads)
    return OnnxRuntimeEngine(path, num_threads=num_threads)


def _installed() -> str | None:
    """The fastest engine for exported files in float32 that is installed."""
    return next(filter(_is_installed, EXPORT_ENGINES), None)


def _is_installed(engine: str) -> bool:
    return engine in EXPORT_ENGINES and importlib.util.find_spec(engine) is not None


def _export_of(path: Path, engine: str, base: BaseModel | StrPath | None, num_photos: int) -> Path | None:
    """The export in the cache to run in place of ``path``, made now if need be; None to run it in PyTorch."""
    if engine == TORCH or not path.is_file() or (engine == AUTO and _installed() is None):
        return None
    cached = cached_export_path(path)
    rounds = _is_installed(OPENVINO)
    if cached.exists() and (
        engine != AUTO or rounds or read_onnx_header(cached).get("precision") == "float32"
    ):
        return cached
    if engine == AUTO and (cached.exists() or num_photos < MANY_PHOTOS):
        return None
    from fewbox.detect.detector import Detector
    from fewbox.exporting.exporter import can_export, export_detector

    detector = Detector.load(path, base=base)
    if engine == AUTO and not (can_export() and (rounds or detector.precision == "float32")):
        return None
    try:
        export_detector(detector, cached)
    except (ExportError, OutputError):
        if engine != AUTO:
            raise
        return None  # nobody asked for it, and it can be done without
    return cached
