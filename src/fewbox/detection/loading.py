"""Open a detector file of any kind, in the fastest engine there is.

What ``fewbox export`` wrote runs in ONNX Runtime or OpenVINO, and torch is not imported. What ``fewbox
finetune`` wrote runs in PyTorch, or as the export of it that is in the cache: see ``export_cache.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fewbox.core import EXPORTING, importing_torch, is_installed, quoted, require_packages
from fewbox.core.arguments import (
    AUTO,
    CPU,
    checked_count,
    checked_device,
    checked_path,
    kind_of,
    may_have_gpu,
    names_of_classes,
)
from fewbox.core.boxes import FoundArrays
from fewbox.core.progress import console
from fewbox.data.images import StrPath
from fewbox.detection.export_cache import find_export, keep_export
from fewbox.detection.photo_detector import PhotoDetector, TiledDetector
from fewbox.detection.rows import noted
from fewbox.errors import CheckpointError, DetectorFileError, ExportError, OutputError, SettingError
from fewbox.models import BASE_HEADER, ZOO
from fewbox.models.archive import is_of_checkpoint
from fewbox.models.families import config_from_dict
from fewbox.runtimes import EXPORT_ONE, Engine, is_exported_detector, read_onnx_header
from fewbox.runtimes.onnxruntime import PROVIDERS, OnnxRuntimeEngine
from fewbox.runtimes.openvino import OpenVinoEngine

if TYPE_CHECKING:
    from fewbox.detection.detector import Detector
    from fewbox.models.base import BaseModel


class ExportedDetector(PhotoDetector):
    """A detector that was exported: does what :class:`Detector` does, with the same results.

    Args:
        engine: runs the exported network.
        path: its file, for messages.

    Raises:
        DetectorFileError: its header is damaged.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        header = self.header = dict(engine.header)
        try:
            self.config = config_from_dict(header["architecture"], header["config"])
            where = f"{path}: its header is damaged"
            self.labels = names_of_classes(
                header["labels"], where, DetectorFileError, self.config.num_classes
            )
            self.base = dict(header["base"])
            self.provenance = dict(header["provenance"])
            self.threshold = float(header["score_threshold"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
        self.precision = engine.precision
        self.engine = engine

    @property
    def runs_on(self) -> str:
        """What computes: ``cpu``, or a provider of ONNX Runtime's."""
        return self.engine.runs_on

    def save(self, path: StrPath, **_: Any) -> NoReturn:
        """Refused, as only exporting writes such a file.

        Raises:
            OutputError: always; its hint says what to do.
        """
        raise OutputError(
            f"{path}: an exported detector is not written again, with another threshold or labels, say",
            hint="change what it was exported from: fewbox.Detector.load('duck.safetensors'), save that and "
            "export it again; or give detect(..., threshold=)",
        )

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        return noted(self.engine.run(image[None], threshold).of_photo(0), self.config.most_detections)


TORCH = "torch"
OPENVINO = "openvino"
EXPORT_ENGINES = ("onnxruntime", OPENVINO)
"""What runs exported files, by package name, the fastest in float32 first."""
ENGINES = (AUTO, *EXPORT_ENGINES, TORCH)
EXPORT_SUFFIXES = (".onnx", ".xml")
_OPEN_ONE = "open one: fewbox.open_detector('duck.safetensors')"
MANY_PHOTOS = 500
"""From so many photos on a detector is exported first: the seconds it takes are won back."""
FEW_PHOTOS = 4
"""Up to so many the cached export of a detector is run in ONNX Runtime, even if it could compute in bfloat16:
without PyTorch it starts two seconds sooner, and a photo takes up to 0.4 s more (SSD ResNet-50 at 640)."""


def open_detector(
    path: StrPath,
    *,
    engine: str = AUTO,
    base: BaseModel | StrPath | None = None,
    num_photos: int | None = None,
    num_threads: int | None = None,
    device: str = AUTO,
) -> PhotoDetector:
    """A detector from a file of any kind, ready to detect.

    With ``"auto"`` an exported file runs in the fastest engine installed. Any other runs in PyTorch, on a
    GPU if PyTorch has one here; without one, unless an export of it is in the cache already, or
    ``num_photos`` is 500 or more. The export of a detector that computes in bfloat16 is run by OpenVINO
    only, as PyTorch is faster than the others; but for up to four photos ONNX Runtime runs it, in float32,
    as it starts two seconds sooner.

    Args:
        path: a file that ``fewbox finetune`` or ``fewbox export`` wrote; or a base model by its name or its
            official file, which finds the classes it was trained on.
        engine: what computes: ``"auto"``, ``"onnxruntime"``, ``"openvino"`` or ``"torch"``; or ONNX Runtime
            with a provider of its, such as ``"onnxruntime:directml"``, whatever the device.
        base: the base model of a file with only the heads.
        num_photos: how many photos it will look at, if that is known.
        num_threads: how many threads one photo may take, in engines other than PyTorch; all cores if not
            given.
        device: where: ``"auto"``, the GPU if there is one; ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises:
        SettingError: there is no such device or engine, it is not installed, or it does not run this kind of
            file.
        DetectorFileError: the file is missing, damaged, or no detector.

    Examples:
        >>> detector = fewbox.open_detector("duck.onnx")
        >>> len(detector.detect("ducks/test/duck_01.jpg").above(0.5))
        3
    """
    path = checked_path(path, "a detector's file", DetectorFileError)
    name, colon, provider = str(engine).partition(":")
    if name not in ENGINES or (colon and name != EXPORT_ENGINES[0]):
        raise SettingError(f"unknown engine: {engine!r}", hint=f"choose one of: {', '.join(ENGINES)}")
    if colon and provider not in PROVIDERS:
        hint = f"choose one of: {', '.join(PROVIDERS)}"
        raise SettingError(f"unknown provider of ONNX Runtime: {provider!r}", hint=hint)
    device = checked_device(device)
    if num_photos is not None:
        num_photos = checked_count(num_photos, "num_photos", "leave it out if it is not known", 0)
    if num_threads is not None:
        num_threads = checked_count(num_threads, "num_threads", "leave it out for all cores", 0)
    if names_base(path):
        try:
            detector = load_in_torch(path, base, device, engine)
        except CheckpointError as error:
            if path.suffix.lower() != ".onnx":
                raise
            told = f"{path}: not a detector that fewbox exported, and no base model"
            raise DetectorFileError(f"{told}: {error.message}", hint=EXPORT_ONE) from error
        _require_runs_base(path, engine)
        return detector
    if path.suffix.lower() in EXPORT_SUFFIXES:
        if engine == TORCH:
            raise SettingError(
                f"{path}: an exported file does not run in torch",
                hint="give the .safetensors file it was made from, or another --engine",
            )
        return _run_exported(path, engine, num_threads, device)
    in_torch = engine == TORCH or (engine == AUTO and _is_for_torch(device))
    exported = None if in_torch else _export_of(path, engine, base, num_photos)
    if exported is not None:
        try:
            return _run_exported(exported, engine, num_threads, device, num_photos)
        except DetectorFileError:
            if engine != AUTO:
                raise  # else it can be done without
    return load_in_torch(path, base, device, engine)


def _require_runs_base(path: Path, engine: str) -> None:
    """Refuse an engine that a base model does not run in."""
    if engine in (AUTO, TORCH) or _runs_graphs(engine):
        return
    exported = f"{path.name.partition('.')[0]}_exported.onnx"
    raise SettingError(
        f"{path}: a base model runs in torch, not in {engine}",
        hint=f"leave --engine out, or run its export: fewbox export {quoted(path)} {quoted(exported)}",
    )


def _runs_graphs(engine: str) -> bool:
    """Whether what a family writes as a graph runs in ``engine`` as it is: it does without PyTorch."""
    return engine == EXPORT_ENGINES[0] and not is_installed(TORCH)


def names_base(path: Path) -> bool:
    """Whether ``path`` is a base model, by its name or its official file, and no detector."""
    if is_of_checkpoint(path):
        return True
    if not path.exists():
        return str(path) in ZOO
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return not is_exported_detector(path)
    if suffix == ".safetensors" and path.is_file():
        # Exported detectors run without that package.
        from safetensors import SafetensorError

        from fewbox.models.weights import read_header

        try:
            return bool(read_header(path, BASE_HEADER))
        except (OSError, SafetensorError, ValueError):
            return False  # who reads it as a detector says what is wrong
    return path.is_dir() or suffix in (".pth", ".pt", ".gz", ".tgz", ".tar")


def load_in_torch(
    path: Path, base: BaseModel | StrPath | None = None, device: str = AUTO, engine: str = AUTO
) -> Detector:
    """The detector in a ``.safetensors`` file, or a base model, run by PyTorch.

    Where that is not installed, a network that its family writes as a graph runs in ONNX Runtime, unless
    ``engine`` is ``"torch"``.

    Raises:
        SettingError: torch is needed, or asked for, and not installed.
        DetectorFileError: as for :meth:`Detector.load`.
        BaseModelError: as for :func:`fewbox.load_base`.
    """
    is_base = names_base(path)
    if not path.suffix and not is_base:
        known = f"the bases: {', '.join(ZOO)}; a detector's file is made with: fewbox finetune"
        raise DetectorFileError(f"{path}: no such file, and no base model of this name", hint=known)
    if not path.exists() and not is_base:
        raise DetectorFileError(f"{path}: no such file", hint="check the spelling")
    if engine == TORCH:
        require_packages([TORCH], f"{path}: --engine torch")
    if is_installed(TORCH):
        with importing_torch():
            import torch  # noqa: F401 - then the network itself computes, whatever its family
    try:
        return _loaded(path, base, device, is_base=is_base)
    except ModuleNotFoundError as error:
        if error.name != TORCH:
            raise
        exported = path.with_suffix(".onnx").name
        command = f"fewbox export {quoted(path.name)} {quoted(exported)}"
        either = "" if is_base else f"; or export it where torch is: {command}"
        require_packages([TORCH], f"{path}: a base model" if is_base else f"{path}:", hint=either)
        raise


def _loaded(path: Path, base: BaseModel | StrPath | None, device: str, *, is_base: bool) -> Detector:
    from fewbox.detection.detector import Detector

    if not is_base:
        return Detector.load(path, base=base, device=device)
    from fewbox.models.base import load_base
    from fewbox.models.device import choose_processor_or

    model = load_base(path)
    detector = Detector(
        config=model.config,
        weights=model.weights,
        labels=model.class_labels(),
        base=model.origin(),
        provenance={},
        device=choose_processor_or(device),
    )
    assert detector.is_graph or detector.network
    return detector


def say_what_computes(detector: PhotoDetector) -> None:
    """Say in a line what a detector computes with."""
    console.print(f"computing on: {detector.runs_on}")


def remark_on_tiles(detector: PhotoDetector, sizes_hw: Iterable[tuple[int, int]], what: str = "photo") -> str:
    """A line if tiles are asked for, and no photo has any, by the sizes of the photos; else nothing."""
    asked = detector
    while not isinstance(asked, TiledDetector):
        if not hasattr(asked, "detector"):
            return ""
        asked = asked.detector
    if any(len(asked.tiles_of(size_hw)) for size_hw in sizes_hw):
        return ""
    return f"no {what} is so large that the detector looks at tiles of it: all is as without --tiles"


def _is_for_torch(device: str) -> bool:
    """Whether PyTorch computes, as it has a GPU for it; it is imported only if it may have one."""
    if device == CPU or not is_installed(TORCH) or (device == AUTO and not may_have_gpu()):
        return False
    from fewbox.models.device import choose_device

    return choose_device(device).type != CPU


def opened_detector(given: PhotoDetector | StrPath, device: str = AUTO) -> PhotoDetector:
    """A detector as it is, or opened from its file to compute on ``device``.

    Raises:
        DetectorFileError: it is neither, or it cannot be opened, as for :func:`open_detector`.
    """
    if isinstance(given, str | os.PathLike):
        return open_detector(given, device=device)
    if not callable(getattr(given, "detect", None)) or isinstance(given, type):
        raise DetectorFileError(f"nothing that can detect: {kind_of(given)}", hint=_OPEN_ONE)
    return given


def _run_exported(
    path: Path, engine: str, num_threads: int | None, device: str, num_photos: int | None = None
) -> ExportedDetector:
    if device not in (AUTO, CPU) and (engine == OPENVINO or path.suffix.lower() == ".xml"):
        raise SettingError(
            f"{path}: OpenVINO computes on the processor here, not on {device}",
            hint="leave --device out, or run an .onnx file with --engine onnxruntime",
        )
    if path.suffix.lower() == ".xml":
        if engine not in (AUTO, OPENVINO):
            raise SettingError(f"{path}: runs in OpenVINO only, not in {engine}", hint="leave --engine out")
        engine = OPENVINO
    elif engine == AUTO and device not in (AUTO, CPU):
        engine = EXPORT_ENGINES[0]
    elif engine == AUTO:
        rounds = _is_rounded(path) and not _are_few(num_photos) and _is_installed(OPENVINO)
        engine = OPENVINO if rounds else _installed() or EXPORT_ENGINES[0]
    return ExportedDetector(_start_engine(engine, path, num_threads, device), path)


def _start_engine(engine: str, path: Path, num_threads: int | None, device: str) -> Engine:
    """The engine that runs the exported file at ``path``."""
    if engine == OPENVINO:
        return OpenVinoEngine(path, num_threads=num_threads)
    provider = engine.partition(":")[2] or None
    return OnnxRuntimeEngine(path, num_threads=num_threads, device=device, provider=provider)


def _installed() -> str | None:
    """The fastest engine for exported files in float32 that is installed."""
    return next(filter(_is_installed, EXPORT_ENGINES), None)


def _is_installed(engine: str) -> bool:
    return engine in EXPORT_ENGINES and is_installed(engine)


def _is_rounded(exported: Path) -> bool:
    """Whether the detector may compute in less than float32."""
    return read_onnx_header(exported).get("precision") != "float32"


def _are_few(num_photos: int | None) -> bool:
    """Whether starting takes longer than all else."""
    return num_photos is not None and num_photos <= FEW_PHOTOS


def _export_of(
    path: Path, engine: str, base: BaseModel | StrPath | None, num_photos: int | None
) -> Path | None:
    """The cached export to run instead of ``path``, made now if need be; None to run ``path`` in PyTorch."""
    if engine == TORCH or not path.is_file() or (engine == AUTO and _installed() is None):
        return None
    cached = find_export(path)
    rounds = _is_installed(OPENVINO)
    if cached is not None and (engine != AUTO or rounds or _are_few(num_photos) or not _is_rounded(cached)):
        return cached
    if engine == AUTO and (cached is not None or num_photos is None or num_photos < MANY_PHOTOS):
        return None
    if _runs_graphs(engine):
        return None
    detector = load_in_torch(path, base, CPU)
    from fewbox.export import can_export

    if engine != AUTO:
        require_packages(EXPORTING, f"{path}: exporting it for {engine}")
    if engine == AUTO and not (can_export() and (rounds or detector.precision == "float32")):
        return None
    try:
        return keep_export(path, detector)
    except (ExportError, OutputError):
        if engine != AUTO:
            raise
        return None  # nobody asked for it, and it can be done without
