"""What an exported detector says of itself: JSON under one key of the file's metadata.

format_version      1
goldeneye_version   what wrote it
input               "photos", or "images" of a file written with --raw
architecture, config, labels, score_threshold, base, provenance
                    as in the detector it was made from
detector_sha256     identifies that detector
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldeneye.errors import DetectorFileError

HEADER_KEY = "goldeneye"
FORMAT_VERSION = 1
EXPORT_ONE = "write one with: goldeneye export duck.safetensors duck.onnx"


def parse_header(path: Path, text: str | None) -> Mapping[str, Any]:
    """The header of the exported detector at ``path``.

    Raises:
        DetectorFileError: it is a stranger's, damaged, or from a newer goldeneye.
    """
    if text is None:
        raise DetectorFileError(f"{path}: not a detector that goldeneye exported", hint=EXPORT_ONE)
    try:
        header = json.loads(text)
        version = header["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
    if version != FORMAT_VERSION:
        raise DetectorFileError(
            f"{path}: exported in format {version}, this goldeneye reads format {FORMAT_VERSION}",
            hint="install a newer goldeneye: pip install --upgrade goldeneye",
        )
    return dict(header)
