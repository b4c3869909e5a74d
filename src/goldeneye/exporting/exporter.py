"""Export a detector: write it for other programs, once it is seen that it finds the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

from goldeneye import __version__
from goldeneye.engines.header import FORMAT_VERSION
from goldeneye.exporting.onnx_model import make_model
from goldeneye.files import replacing, require_writable
from goldeneye.models.architectures import build_network
from goldeneye.models.configs import Config
from goldeneye.models.weights_file import hash_weights


class Exportable(Protocol):
    """What is needed of a detector; ``detect.Detector`` has it."""

    config: Config
    weights: dict[str, Any]
    labels: tuple[str, ...]
    base: dict[str, str]
    provenance: dict[str, Any]
    score_threshold: float


def export_detector(detector: Exportable, target: Path, *, raw: bool = False) -> None:
    """Write ``detector`` to an ``.onnx`` file.

    Raises:
        OutputError: the file cannot be written.
    """
    require_writable(target, [".onnx"])
    network = build_network(detector.config, detector.weights)
    header = make_header(detector, network.architecture, raw=raw)
    model = make_model(network, detector.config, header, raw=raw)
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())


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
        "goldeneye_version": __version__,
        "input": "images" if raw else "photos",
        **identity,
        "base": detector.base,
        "provenance": detector.provenance,
        "detector_sha256": digest.hexdigest(),
    }
