"""Run an exported detector with ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goldeneye.engines.engine import Outputs
from goldeneye.engines.header import EXPORT_ONE, HEADER_KEY, parse_header
from goldeneye.errors import DetectorFileError, SettingError


class OnnxRuntimeEngine:
    """An ``.onnx`` file that ``goldeneye export`` wrote, on the CPU.

    Args:
        path: the file.
        num_threads: how many threads one photo may take; all cores if not given.

    Raises:
        SettingError: ONNX Runtime is not installed.
        DetectorFileError: the file is missing, damaged, or not an exported detector.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            hint = "pip install 'goldeneye[onnxruntime]'"
            raise SettingError(f"{path}: needs onnxruntime, which is not installed", hint=hint) from error
        if not path.is_file():
            raise DetectorFileError(f"{path}: no such file", hint=EXPORT_ONE)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised too
        options.intra_op_num_threads = num_threads or len(os.sched_getaffinity(0))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base
            raise DetectorFileError(
                f"{path}: not an ONNX file, or damaged: {error}", hint=EXPORT_ONE
            ) from error
        stored = self._session.get_modelmeta().custom_metadata_map
        self.header: Mapping[str, Any] = parse_header(path, stored.get(HEADER_KEY))

    def run(self, photos: NDArray[np.uint8], score_threshold: float) -> Outputs:
        """As :meth:`Engine.run`."""
        threshold = np.array(score_threshold, np.float32)
        found = self._session.run(
            ["boxes", "scores", "class_ids"], {"photos": photos, "score_threshold": threshold}
        )
        return Outputs(*found)
