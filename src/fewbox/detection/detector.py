"""A fine-tuned detector: the network at work, and its file.

The file is safetensors: the weights, or only the tuned heads with the hash of the base they belong to, and
a JSON header with everything else. Nothing in it can run code.

Where PyTorch is not loaded, a network that its family writes as a graph runs in ONNX Runtime, on the
processor.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from fewbox.core.arguments import AUTO, CPU, checked_path, names_of_classes, takes_score_threshold
from fewbox.core.boxes import FoundArrays
from fewbox.data.images import StrPath
from fewbox.detection import Detections
from fewbox.detection.parallel import Batcher, run_each
from fewbox.detection.photo_detector import PhotoDetector
from fewbox.detection.rows import noted
from fewbox.errors import DetectorFileError, OutputError, SettingError
from fewbox.export.graph import core_of_weights, detector_content
from fewbox.models.base import BaseModel, find_base, find_or_convert
from fewbox.models.device import (
    batch_for,
    choose_processor_or,
    device_in_words,
    gpu_has_bfloat16,
    is_processor,
    native_bfloat16,
    synchronize,
)
from fewbox.models.families import (
    Config,
    Family,
    build_network,
    config_from_dict,
    family_of,
    weight_shapes,
)
from fewbox.models.weights import Weight, read_weights, write_weights
from fewbox.runtimes import known_provenance, known_threshold
from fewbox.runtimes.onnxruntime import open_session, run_session

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fewbox.models.network import Network

FORMAT_VERSION = 1
MOST_AT_ONCE = 32
"""Photos that a GPU is given at once; as many threads rarely wait."""
SCORE_THRESHOLD = 0.5

_HEADER = "fewbox_detector"
_MAKE_ONE = "make one with: fewbox finetune"
_ONE_BUILDS = threading.RLock()
"""Threads that begin together would each build the network: cached properties do, from Python 3.12 on."""
DEEPER_RECIPES = ("adapt", "deep")
"""By which more than the heads learns; where another recipe has chosen to adapt, ``provenance`` says so."""


class Detector(PhotoDetector):
    """A network with its weights, and the labels of the classes it finds.

    Args:
        config: what the weights fit; ``config.num_classes`` is ``len(labels)``.
        weights: all of the network's, as arrays by name; tensors on the processor will do.
        labels: the name of each class.
        base: where the weights that were not tuned came from, as :meth:`BaseModel.origin` says.
        provenance: how the detector was made; JSON-ready.
        history: the losses of every step, if it was just fine-tuned; not kept in the file.
        precision: ``"float32"``, or ``"bfloat16"`` where the boxes were found to stay the same; used
            only on processors that compute in it.
        threshold: :meth:`detect` returns detections with a higher score.
        device: where the network computes; on the processor if not given.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> len(detector.detect("ducks/test/duck_01.jpg", threshold=0.5))
        3
        >>> [found.photo_name for found in detector.detect(fewbox.find_photos("ducks/test/duck_0*.jpg"))][:2]
        ['duck_01.jpg', 'duck_02.jpg']
    """

    @takes_score_threshold
    def __init__(
        self,
        *,
        config: Config,
        weights: Mapping[str, Weight],
        labels: Sequence[str],
        base: Mapping[str, str],
        provenance: Mapping[str, Any],
        history: Sequence[Mapping[str, float]] = (),
        precision: str = "float32",
        threshold: float = SCORE_THRESHOLD,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self.weights = {name: np.asarray(weight) for name, weight in weights.items()}
        self.labels = names_of_classes(labels, type(self).__name__, SettingError)
        self.base = dict(base)
        self.provenance = dict(provenance)
        self.history = [dict(row) for row in history]
        self.precision = precision
        self.threshold = threshold
        self._device = device

    @property
    def _family(self) -> Family:
        return family_of(self.config)

    def __repr__(self) -> str:
        return f"Detector({', '.join(self.labels)}; base {self.base.get('name')})"

    def __getstate__(self) -> dict[str, Any]:
        """All but what computes, which a copy, or another process, makes anew when it first needs it."""
        made = ("network", "_session", "_batcher")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        import torch

        return torch.device(CPU) if self._device is None else self._device

    @cached_property
    def network(self) -> Network:
        """The network in PyTorch, built on first use and laid out for speed."""
        import torch

        rounds = self.precision == "bfloat16" and self.has_bfloat16()
        dtype = torch.bfloat16 if rounds else torch.float32
        return build_network(self.config, self.weights, dtype, self._device)

    @property
    def is_graph(self) -> bool:
        """Whether it runs as a graph: where its family writes one, and PyTorch is not loaded anyway."""
        if "_session" in self.__dict__:
            return self._session is not None
        return "torch" not in sys.modules and is_processor(self._device) and self._family.writes_graphs

    @cached_property
    def _session(self) -> Any:
        """What runs the graph, made on first use; None where a network in PyTorch computes."""
        return self._as_graph() if self.is_graph else None

    def _as_graph(self, *, rounds: bool = False, optimizes: bool = True) -> Any:
        core = core_of_weights(self.config, self.weights, rounds=rounds)
        return open_session(detector_content(core, self.config, {}), optimizes=optimizes)

    def tried_in(self, precision: str) -> Detector:
        """The same detector computing in ``precision``, for a few photos; a graph has its numbers rounded."""
        tried = self._like(precision, self._device)
        if self.is_graph:
            tried._session = self._as_graph(rounds=precision == "bfloat16", optimizes=False)
        return tried

    def has_bfloat16(self) -> bool:
        """Whether the device multiplies bfloat16 itself; elsewhere it is slower than float32."""
        return native_bfloat16() if is_processor(self._device) else gpu_has_bfloat16(self.device)

    @property
    def runs_on(self) -> str:
        """What computes, such as ``cpu`` or ``cuda:0, NVIDIA L4``."""
        return device_in_words(self._device)

    @cached_property
    def _batcher(self) -> Batcher[tuple[Tensor, Tensor]]:
        return Batcher(self._outputs, MOST_AT_ONCE)

    def _outputs(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Codes and logits of prepared photos, computed when this returns."""
        import torch

        network = self.network
        with torch.inference_mode():
            codes, logits = network.forward(batch_for(next(network.parameters()), inputs))
            synchronize(self.device)
            return list(zip(codes, logits, strict=True))

    def _find(self, image: NDArray[np.uint8], threshold: float) -> FoundArrays:
        with _ONE_BUILDS:
            session = self._session
            network = self.network if session is None else None
            batcher = None if is_processor(self._device) else self._batcher
        if network is None:
            found = run_session(session, image[None], threshold).of_photo(0)
            return noted(found, self.config.most_detections)
        if batcher is None:
            boxes, scores, class_ids = network.find(image, threshold)
        else:
            import torch

            codes, logits = batcher.run(network.prepare(image))
            size_hw = (image.shape[0], image.shape[1])
            with torch.inference_mode():
                boxes, scores, class_ids = network.found(codes, logits, size_hw, threshold)
        return noted((boxes.numpy(), scores.numpy(), class_ids.numpy()), self.config.most_detections)

    def _detect_each(self, photos: Iterable[Any], threshold: float) -> list[Detections]:
        def detect(numbered: tuple[int, Any]) -> Detections:
            return self._detect_one(numbered[1], threshold, f"photos[{numbered[0]}]")

        is_gpu = not is_processor(self._device)
        return [done.result() for done in run_each(detect, enumerate(photos), beside=is_gpu)]

    def with_precision(self, precision: str) -> Detector:
        """The same detector computing in ``"float32"`` or ``"bfloat16"``; the weights are shared."""
        return self if precision == self.precision else self._like(precision, self._device)

    def on(self, device: str | torch.device) -> Detector:
        """The same detector computing on another device; the weights are shared.

        Raises:
            SettingError: there is no such device here.
        """
        chosen = choose_processor_or(device)
        stays = is_processor(chosen) if is_processor(self._device) else chosen == self._device
        return self if stays else self._like(self.precision, chosen)

    def _like(self, precision: str, device: torch.device | None) -> Detector:
        like = Detector(
            config=self.config,
            weights=self.weights,
            labels=self.labels,
            base=self.base,
            provenance=self.provenance,
            history=self.history,
            precision=precision,
            threshold=self.threshold,
            device=device,
        )
        if "_session" in self.__dict__ and is_processor(device):
            like._session = self._session  # which computes in float32, whatever the precision
        return like

    def save(self, path: StrPath, *, heads_only: bool = False) -> None:
        """Write the detector to one file, whole or not at all.

        Args:
            path: ends in ``.safetensors``.
            heads_only: keep only what was tuned, about a third of a megabyte. The base model is then needed
                for loading.

        Raises:
            OutputError: the name ends otherwise, the file cannot be written, or more than heads was tuned.
        """
        path = checked_path(path, "the file to write", OutputError)
        made = self.provenance
        if heads_only and (made.get("recipe") in DEEPER_RECIPES or made.get("adapted")):
            raise OutputError(
                f"{path}: more than the heads has learnt, so the base cannot stand in for the rest",
                hint="leave --heads-only out, in Python heads_only",
            )
        if path.suffix.lower() != ".safetensors":
            hint = f"name it {path.stem or 'duck'}.safetensors; for other programs: fewbox.export_detector"
            raise OutputError(f"{path}: a detector cannot be written as {path.suffix!r}", hint=hint)
        weights = self.weights
        if heads_only:
            weights = {name: weights[name] for name in self._family.head_names(self.config)}
        header = {
            "format_version": FORMAT_VERSION,
            "architecture": self._family.architecture,
            "config": self.config.to_dict(),
            "labels": self.labels,
            "score_threshold": self.threshold,
            "precision": self.precision,
            "base": self.base,
            "heads_only": heads_only,
            "provenance": self.provenance,
        }
        write_weights(path, weights, _HEADER, header)

    @classmethod
    def load(
        cls, path: StrPath, *, base: BaseModel | StrPath | None = None, device: str | torch.device = AUTO
    ) -> Detector:
        """Read a detector that :meth:`save` wrote.

        Args:
            path: the file.
            base: the base model of a file with only the heads; if not given it is looked for among
                the cached ones.
            device: where it computes: ``"auto"``, the GPU if there is one; ``"cpu"``, ``"cuda"``,
                ``"cuda:1"``, ``"mps"``.

        Raises:
            SettingError: there is no such device here.
            DetectorFileError: the file is missing, damaged, from a newer fewbox, or no detector;
                or it holds only the heads, and ``base`` is another one, or their base cannot be found.
        """
        path = checked_path(path, "a detector's file", DetectorFileError, _MAKE_ONE)
        chosen = choose_processor_or(device)
        _require_safetensors(path)
        try:
            header, weights = read_weights(path, _HEADER)
        except FileNotFoundError:
            raise DetectorFileError(f"{path}: no such file", hint=_MAKE_ONE) from None
        except (OSError, SafetensorError, ValueError) as error:
            hint = "give a file that 'fewbox finetune' wrote; if it is one, make or copy it again"
            raise DetectorFileError(
                f"{path}: not a safetensors file, or damaged: {error}", hint=hint
            ) from error
        if header.get("format_version") != FORMAT_VERSION:
            raise _not_a_detector(path, header)
        threshold = known_threshold(path, header, _MAKE_ONE)
        try:
            config = config_from_dict(header["architecture"], header["config"])
            if header["heads_only"]:
                of_base = _weights_of_base(path, header["base"], base)
                # The base's own class head has no place beside a novel one.
                weights = {name: of_base[name] for name in weight_shapes(config) if name in of_base} | weights
            _require_fitting(config, weights)
            detector = cls(
                config=config,
                weights=weights,
                labels=names_of_classes(header["labels"], str(path), DetectorFileError, config.num_classes),
                base=header["base"],
                provenance=known_provenance(header["provenance"]),
                precision=header["precision"],
                threshold=threshold,
                device=chosen,
            )
            if not detector.is_graph:
                assert detector.network  # built now, so that the first photo waits no longer than others
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DetectorFileError(f"{path}: its header and its weights do not fit: {error}") from error
        return detector


def _require_safetensors(path: Path) -> None:
    """Refuse what cannot be a detector's file by its name: an exported detector, a folder."""
    if path.suffix.lower() in (".onnx", ".xml", ".bin"):
        exported = path.with_suffix(".xml") if path.suffix.lower() == ".bin" else path
        raise DetectorFileError(
            f"{path}: an exported detector, which PyTorch does not run",
            hint=f"open it with the engine it is for: fewbox.open_detector({str(exported)!r})",
        )
    if path.is_dir():
        raise DetectorFileError(f"{path}: a folder, not a detector's file", hint=_MAKE_ONE)


def _weights_of_base(
    path: Path, origin: Mapping[str, str], base: BaseModel | StrPath | None
) -> dict[str, Weight]:
    """The base's weights for a file that holds only the heads; they must be the very same ones."""
    wanted = origin["weights_sha256"]
    if isinstance(base, BaseModel):
        found: BaseModel | None = base
    else:
        found = find_base(wanted) if base is None else find_or_convert(base)
    if found is None:
        raise DetectorFileError(
            f"{path}: holds only the tuned heads, and their base model is not in the cache: {origin['name']}",
            hint=f"give the base, --base {origin['name']} (base= in Python), or the file {origin['source']}",
        )
    if found.weights_sha256 != wanted:
        raise DetectorFileError(
            f"{path}: made from another base model than the one given: {origin['name']}, not {found.name}",
            hint=f"give the base with weights {wanted[:16]}..., from {origin['source']}",
        )
    return found.weights


def _require_fitting(config: Config, weights: Mapping[str, Weight]) -> None:
    """Refuse weights that are not those of a network as ``config`` says.

    Raises:
        ValueError: one is missing, too much, or of another shape.
    """
    wanted, found = weight_shapes(config), {name: weight.shape for name, weight in weights.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(f"{name}: shape {found.get(name)}, expected {wanted.get(name)}")


def _not_a_detector(path: Path, header: Mapping[str, Any]) -> DetectorFileError:
    version = header.get("format_version")
    if version is None:
        return DetectorFileError(f"{path}: not a fewbox detector", hint=_MAKE_ONE)
    return DetectorFileError(
        f"{path}: written in format {version}, this fewbox reads format {FORMAT_VERSION}",
        hint="install a newer fewbox: git pull && pip install .",
    )
