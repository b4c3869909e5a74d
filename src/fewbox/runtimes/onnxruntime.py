"""Run an exported detector with ONNX Runtime, on the processor or with a provider for a GPU."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.core import num_cores
from fewbox.core.arguments import AUTO, CPU
from fewbox.core.files import cache_folder, write_text
from fewbox.core.progress import console
from fewbox.errors import DetectorFileError, OutputError, SettingError
from fewbox.runtimes import EXPORT_ONE, Outputs, opened_again, read_onnx_header, require_photos

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    CPU: "CPUExecutionProvider",
}
"""What ONNX Runtime calls what it may compute with, by the names of ``--engine onnxruntime:NAME``."""
_OPTIONS: dict[str, dict[str, str]] = {
    "cuda": {"use_tf32": "0"},  # float32 stays float32
    "coreml": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},  # the others round to float16
    "openvino": {"device_type": "CPU", "precision": "FP32"},
}
_OF_DEVICE = {"cuda": "cuda", "mps": "coreml"}
_TRIED_SIZE_HW, _TRIES, _COMPARED = (480, 640), 3, 10
_MAX_SCORE_SHIFT = 1e-3
_SHOWN_REASON = 300


class OnnxRuntimeEngine:
    """An ``.onnx`` file that ``fewbox export`` wrote.

    Where ONNX Runtime has more than one provider for ``device`` the fastest is taken, by a measurement that
    is made once for a file and a machine; those with other scores than the processor's are left out. One
    that cannot start, or fails at a first photo, leaves the work to the processor. Both are said in a line.

    Args:
        path: the file.
        num_threads: how many threads one photo may take on the processor; all cores if not given.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"`` for the fastest.
        provider: one of ``PROVIDERS``, whatever the device.

    Raises:
        SettingError: ONNX Runtime is not installed, or has nothing for the device.
        DetectorFileError: the file is missing, damaged, not an exported detector, or takes no photos.

    Attributes:
        runs_on: what computes: ``cpu``, or such as ``ONNX Runtime with cuda``.
    """

    name = "onnxruntime"
    precision = "float32"

    def __init__(
        self, path: Path, *, num_threads: int | None = None, device: str = CPU, provider: str | None = None
    ) -> None:
        # As a path from here: a process that is handed this one may be in another folder.
        self._opening = partial(
            OnnxRuntimeEngine, path.absolute(), num_threads=num_threads, device=device, provider=provider
        )
        self.header = read_onnx_header(path)
        require_photos(path, self.header)
        candidates = _candidates(path, device, provider)
        if len(candidates) > 1:
            candidates = [_fastest(path, candidates, num_threads)]
        self._session, used = _started(path, candidates[0], num_threads, device)
        self.runs_on = CPU if used == CPU else f"ONNX Runtime with {used}"

    def __reduce__(self) -> tuple[Any, ...]:
        return opened_again, (self._opening, self.header)

    def run(self, photos: NDArray[np.uint8], threshold: float) -> Outputs:
        """As :meth:`Engine.run`."""
        return run_session(self._session, photos, threshold)


def open_session(
    model: Path | bytes,
    *,
    num_threads: int | None = None,
    provider: str = CPU,
    device: str = CPU,
    optimizes: bool = True,
) -> Any:
    """An ``onnxruntime.InferenceSession`` of a file or its content; errors as :class:`OnnxRuntimeEngine`."""
    path = model if isinstance(model, Path) else "a graph in memory"
    onnxruntime = _imported(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised too
    if not optimizes:  # which takes longer than a few photos
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = num_threads or num_cores()
    # Its threads would spin while they wait, and on a busy machine keep the others from their work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [PROVIDERS[CPU]]
    if provider != CPU:
        own = dict(_OPTIONS.get(provider, {}))
        if provider == "cuda" and device.startswith("cuda:"):
            own["device_id"] = device.removeprefix("cuda:")
        providers = [(PROVIDERS[provider], own), *providers]
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # its errors have no base of their own
        reason = " ".join(str(error).split())
        raise DetectorFileError(f"{path}: cannot be run, or is damaged: {reason}", hint=EXPORT_ONE) from error


def _imported(path: Path | str) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        hint = "pip install onnxruntime"
        raise SettingError(f"{path}: needs {error.name}, which is not installed", hint=hint) from error
    return onnxruntime


def run_session(session: Any, photos: NDArray[np.uint8], threshold: float) -> Outputs:
    """As :meth:`Engine.run`, of a session of a detector's graph."""
    given = {"photos": photos, "score_threshold": np.array(threshold, np.float32)}
    found = session.run(["boxes", "scores", "class_ids"], given)
    return Outputs(*found)


def _candidates(path: Path, device: str, provider: str | None) -> list[str]:
    """The providers, by name, that may compute.

    Raises:
        SettingError: the one that is needed is not there.
    """
    if provider is None and device == CPU:
        return [CPU]
    installed = _imported(path).get_available_providers()
    here = [name for name, full_name in PROVIDERS.items() if full_name in installed]
    if provider is None and device == AUTO:
        return here or [CPU]
    wanted = provider or _OF_DEVICE[device.partition(":")[0]]
    if wanted not in here:
        raise SettingError(
            f"{path}: the ONNX Runtime installed here has no provider {wanted}; it has: {', '.join(here)}",
            hint="for cuda: pip install onnxruntime-gpu in place of onnxruntime; or --device cpu",
        )
    return [wanted]


def _started(path: Path, provider: str, num_threads: int | None, device: str) -> tuple[Any, str]:
    """A session and what it computes with: the processor, where the provider cannot start, or run it."""
    reason = ""
    if provider != CPU:
        fails = "start"
        try:
            session = open_session(path, num_threads=num_threads, provider=provider, device=device)
            if PROVIDERS[provider] in session.get_providers():
                fails = "compute with"
                run_session(session, _tried_photo(), 0.0)  # some find out only now what they cannot do
                return session, provider
        except DetectorFileError as error:
            reason = f": {error.message}"
        except Exception as error:  # its errors have no base of their own
            reason = f": {' '.join(str(error).split())[:_SHOWN_REASON]}"
        console.print(f"ONNX Runtime cannot {fails} {provider}, so the cpu computes{reason}")
    return open_session(path, num_threads=num_threads), CPU


def _tried_photo() -> NDArray[np.uint8]:
    """``[1, H, W, 3]``: noise, in which a detector asked for every score finds something."""
    return np.random.default_rng(0).integers(0, 256, (1, *_TRIED_SIZE_HW, 3), np.uint8)


def _fastest(path: Path, candidates: list[str], num_threads: int | None) -> str:
    """The provider in which the file runs fastest with the scores of the processor; measured once."""
    known = cache_folder() / "providers" / f"{_identity(path, candidates, num_threads)}.json"
    try:
        remembered = str(json.loads(known.read_text(encoding="utf-8"))["provider"])
        if remembered in candidates:
            return remembered
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or the cache is damaged
    photo = _tried_photo()
    expected = run_session(open_session(path, num_threads=num_threads), photo, 0.0).scores[0, :_COMPARED]
    seconds: dict[str, float] = {}
    for name in candidates:
        session, used = _started(path, name, num_threads, AUTO)
        scores = run_session(session, photo, 0.0).scores[0, :_COMPARED]
        if used == name and len(scores) == len(expected) and _are_close(scores, expected):
            seconds[name] = min(_seconds(session, photo) for _ in range(_TRIES))
    best = min(seconds, key=seconds.__getitem__, default=CPU)
    measured = ", ".join(f"{name} {1000 * each:.0f} ms a photo" for name, each in seconds.items())
    console.print(f"ONNX Runtime computes with {best}: {measured}")
    with contextlib.suppress(OutputError):  # then it is measured again
        write_text(known, json.dumps({"provider": best, "seconds": seconds}) + "\n")
    return best


def _are_close(scores: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return bool(np.abs(scores - expected).max(initial=0) <= _MAX_SCORE_SHIFT)


def _seconds(session: Any, photo: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    run_session(session, photo, 0.5)
    return time.perf_counter() - start


def _identity(path: Path, candidates: list[str], num_threads: int | None) -> str:
    """What names the file, the machine and what is installed."""
    with path.open("rb") as file:
        parts = [hashlib.file_digest(file, "sha256").hexdigest(), *candidates, str(num_threads)]
    parts += [platform.node(), platform.machine(), str(num_cores()), _imported(path).__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
