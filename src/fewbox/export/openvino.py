"""A detector as an OpenVINO model: what ``onnx.py`` makes, and its network in int8 if wanted."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.export import Anchors, AnchorsOf
from fewbox.export.graph import ANCHORS
from fewbox.runtimes.header import HEADER_KEY
from fewbox.runtimes.openvino import last_convolutions, outside_network

ACTIVATIONS = ("Sigmoid", "Multiply", "Swish")
"""Not in int8: SiLU multiplies a value with its sigmoid, and both in int8 cost YOLOX-nano a third of its
AP; benchmarks/int8.py."""


def read_onnx(path: Path) -> Any:
    """The ``openvino.Model`` of a file that was exported as ONNX."""
    import openvino

    return openvino.Core().read_model(path)


def quantize(model: Any, photos: Sequence[NDArray[np.uint8]]) -> Any:
    """The same model with the network's convolutions in int8.

    The range of every map is taken from ``photos``, so they should be like those the detector will see.
    What prepares photos, what selects detections, activations and the last convolutions stay as they are.

    Args:
        model: of a whole export, not one with ``--raw``.
        photos: each ``[H, W, 3]``.
    """
    with quiet_nncf() as nncf:
        kept = [*outside_network(model), *last_convolutions(model)]
        rows = [{"photos": photo[None], "score_threshold": np.float32(1)} for photo in photos]
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            subset_size=len(rows),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept, types=list(ACTIVATIONS), validate=False),
        )


def save_model(model: Any, header: Mapping[str, Any], target: Path) -> None:
    """Write ``target``, ending in ``.xml``, and the file ``.bin`` beside it."""
    import openvino

    model.set_rt_info(json.dumps(header), [HEADER_KEY])
    openvino.save_model(model, target, compress_to_fp16=False)


def anchors_of(path: Path) -> AnchorsOf:
    """What OpenVINO computes in float32 with a file, before anything is suppressed."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.add_outputs(list(ANCHORS))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: NDArray[np.uint8], _pixels: Any) -> Anchors:
        found = compiled({"photos": image[None], "score_threshold": np.array(1, np.float32)})
        boxes, scores = (found[name][0] for name in ANCHORS)
        return boxes, scores

    return run


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF without its remarks, and without its messages to those who make it."""
    os.environ.setdefault("NNCF_CI", "1")  # read when NNCF is imported: sends nothing
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.ERROR)
        yield nncf
