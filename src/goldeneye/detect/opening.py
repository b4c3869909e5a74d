"""Open a detector file of any kind with the fastest engine there is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from goldeneye.data.images import StrPath
from goldeneye.detect.exported_detector import ExportedDetector
from goldeneye.detect.photo_detector import PhotoDetector
from goldeneye.engines.onnxruntime_engine import OnnxRuntimeEngine
from goldeneye.errors import SettingError

ENGINES = ("openvino", "onnxruntime", "torch")
"""By the names that ``--engine`` takes, the fastest first."""
EXPORTED = (".onnx",)


def open_detector(
    path: StrPath, *, engine: str | None = None, base: StrPath | None = None, num_threads: int | None = None
) -> PhotoDetector:
    """A detector from a file of any kind, ready to detect.

    Args:
        path: a file that ``goldeneye finetune`` or ``goldeneye export`` wrote.
        engine: what computes, one of ``ENGINES``; the fastest one installed if not given.
        base: the base model of a file with only the heads.
        num_threads: how many threads one photo may take; all cores if not given.

    Raises:
        SettingError: there is no such engine, it is not installed, or does not run this kind of file.
        DetectorFileError: the file is missing, damaged, or no detector.
    """
    path = Path(path)
    if engine is not None and engine not in ENGINES:
        raise SettingError(f"unknown engine: {engine!r}", hint=f"choose one of: {', '.join(ENGINES)}")
    if path.suffix.lower() not in EXPORTED:
        from goldeneye.detect.detector import Detector

        return Detector.load(path, base=base)
    chosen = engine or _fastest_for_exported()
    if chosen == "torch":
        raise SettingError(
            f"{path}: an exported file does not run in torch",
            hint="give the .safetensors file it was made from, or another --engine",
        )
    return ExportedDetector(OnnxRuntimeEngine(path, num_threads=num_threads), path)


def _fastest_for_exported() -> str:
    return next((name for name in ENGINES if importlib.util.find_spec(name)), "onnxruntime")
