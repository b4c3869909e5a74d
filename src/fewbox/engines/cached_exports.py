"""Where detectors that were exported only to run faster here are kept between runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fewbox.cache import cache_folder
from fewbox.engines.header import FORMAT_VERSION


def cached_export_path(detector: Path) -> Path:
    """Where the export of the detector file at ``detector`` lies, whether or not it is there.

    It goes by what is in the file, so a copy has the same, and a file that is replaced has another.

    Raises:
        OSError: the file cannot be read.
    """
    with detector.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return cache_folder() / "exports" / f"{sha256[:32]}-{FORMAT_VERSION}.onnx"
