"""A detector that ``fewbox export`` wrote, at work: any engine, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewbox.detect.photo_detector import FoundArrays, PhotoDetector
from fewbox.engines.engine import Engine
from fewbox.engines.header import EXPORT_ONE, require_photos
from fewbox.errors import DetectorFileError
from fewbox.models.configs import config_from_dict


class ExportedDetector(PhotoDetector):
    """Does what :class:`Detector` does, with the same results.

    Args:
        engine: runs the exported network.
        path: its file, for messages.

    Raises:
        DetectorFileError: the file was exported with ``--raw``, or its header is damaged.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        header = self.header = dict(engine.header)
        try:
            require_photos(path, header)
            self.config = config_from_dict(header["architecture"], header["config"])
            self.labels = tuple(header["labels"])
            self.base = dict(header["base"])
            self.provenance = dict(header["provenance"])
            self.score_threshold = float(header["score_threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
        self.precision = engine.precision
        self.engine = engine

    def _find(self, image: NDArray[np.uint8], score_threshold: float) -> FoundArrays:
        found = self.engine.run(image[None], score_threshold)
        count = int((found.class_ids[0] >= 0).sum())
        return found.boxes[0, :count], found.scores[0, :count], found.class_ids[0, :count]
