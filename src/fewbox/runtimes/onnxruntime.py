"""Run an exported detector with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.core import num_cores
from fewbox.errors import DetectorFileError, SettingError
from fewbox.runtimes import Outputs
from fewbox.runtimes.header import EXPORT_ONE, read_onnx_header


class OnnxRuntimeEngine:
    """An ``.onnx`` file that ``fewbox export`` wrote, on the CPU.

    Args:
        path: the file.
        num_threads: how many threads one photo may take; all cores if not given.

    Raises:
        SettingError: ONNX Runtime is not installed.
        DetectorFileError: the file is missing, damaged, or not an exported detector.
    """

    name = "onnxruntime"
    precision = "float32"

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        self.header = read_onnx_header(path)
        self._session = open_session(path, num_threads=num_threads)

    def run(self, photos: NDArray[np.uint8], score_threshold: float) -> Outputs:
        """As :meth:`Engine.run`."""
        threshold = np.array(score_threshold, np.float32)
        found = self._session.run(
            ["boxes", "scores", "class_ids"], {"photos": photos, "score_threshold": threshold}
        )
        return Outputs(*found)


def open_session(path: Path, *, num_threads: int | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` of the file; errors as :class:`OnnxRuntimeEngine`."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        hint = "pip install onnxruntime"
        raise SettingError(f"{path}: needs {error.name}, which is not installed", hint=hint) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    options.intra_op_num_threads = num_threads or num_cores()
    # Its threads would spin while they wait, and on a busy machine keep the others from their work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        reason = " ".join(str(error).split())
        raise DetectorFileError(f"{path}: cannot be run, or is damaged: {reason}", hint=EXPORT_ONE) from error
