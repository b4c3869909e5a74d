"""The one thing an engine does: run an exported detector over photos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Outputs(NamedTuple):
    """The detections of N photos, best score first, each photo's filled up to D rows."""

    boxes: NDArray[np.float32]
    """``[N, D, 4]`` in pixels of the photos, clipped to them."""
    scores: NDArray[np.float32]
    """``[N, D]``; 0 where there is no detection."""
    class_ids: NDArray[np.int64]
    """``[N, D]``; -1 where there is no detection."""

    def of_photo(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """The boxes ``[K, 4]``, scores ``[K]`` and class ids ``[K]`` of one of the photos."""
        count = int((self.class_ids[number] >= 0).sum())
        return self.boxes[number, :count], self.scores[number, :count], self.class_ids[number, :count]


class Engine(Protocol):
    """Runs one exported detector; may be used by several threads at once."""

    name: str
    """``"onnxruntime"``, ...: what ``--engine`` calls it."""
    precision: str
    """What the network computes in: ``"float32"``, ``"bfloat16"`` or ``"int8"``."""
    runs_on: str
    """What computes: ``cpu``, or a provider of ONNX Runtime's."""
    header: Mapping[str, Any]
    """What the file says of itself; see ``header.py``."""

    def run(self, photos: NDArray[np.uint8], threshold: float) -> Outputs:
        """The objects in ``photos`` ``[N, H, W, 3]``, upright RGB, whose score is above the threshold."""
        ...
