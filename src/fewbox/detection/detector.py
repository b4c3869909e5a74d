"""A fine-tuned detector: the network at work, its file, and the precision it computes in.

The file is safetensors: the weights, or only the tuned heads with the hash of the base they belong to, and
a JSON header with everything else. Nothing in it can run code.

In bfloat16 a detector is three to four times faster, but bfloat16 keeps only eight bits of a number. Whether
that moves the boxes depends on the weights, so it is tried on photos rather than assumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from fewbox.core import counted
from fewbox.core.arguments import checked_path
from fewbox.core.device import AUTO
from fewbox.data.images import StrPath, read_reduced, read_size_hw
from fewbox.detection.batching import Batcher
from fewbox.detection.detections import Detections
from fewbox.detection.parallel import run_each
from fewbox.detection.photo_detector import FoundArrays, Photo, PhotoDetector
from fewbox.errors import DetectorFileError, OutputError
from fewbox.models.base import BaseModel, find_base, find_or_convert, native_bfloat16
from fewbox.models.device import (
    CPU,
    batch_for,
    choose_device,
    device_in_words,
    gpu_has_bfloat16,
    synchronize,
)
from fewbox.models.families import Config, build_network, config_from_dict, weight_shapes
from fewbox.models.network import Network
from fewbox.models.weights import read_weights, write_weights
from fewbox.runtimes.header import known_provenance

FORMAT_VERSION = 1
MOST_AT_ONCE = 32
"""Photos that a GPU is given at once; as many threads rarely wait."""
SCORE_THRESHOLD = 0.5

_HEADER = "fewbox_detector"
_MAKE_ONE = "make one with: fewbox finetune"
DEEPER_RECIPES = ("adapt", "deep")
"""By which more than the heads learns; where another recipe has chosen to adapt, ``provenance`` says so."""


class Detector(PhotoDetector):
    """A network with its weights, and the labels of the classes it finds.

    Args:
        config: what the weights fit; ``config.num_classes`` is ``len(labels)``.
        weights: all of the network's, by name.
        labels: the name of each class.
        base: where the weights that were not tuned came from, as :meth:`BaseModel.origin` says.
        provenance: how the detector was made; JSON-ready.
        history: the losses of every step, if it was just fine-tuned; not kept in the file.
        precision: ``"float32"``, or ``"bfloat16"`` where the boxes were found to stay the same; used
            only on processors that compute in it.
        score_threshold: :meth:`detect` returns detections with a higher score.
        device: where the network computes; ``weights`` stay in the memory of the processor.

    Examples:
        >>> detector = fewbox.Detector.load("duck.safetensors")
        >>> len(detector.detect("ducks/test/duck_01.jpg", score_threshold=0.5))
        3
        >>> [found.photo_name for found in detector.detect(fewbox.find_photos("ducks/test"))][:2]
        ['duck_01.jpg', 'duck_02.jpg']
    """

    def __init__(
        self,
        *,
        config: Config,
        weights: Mapping[str, Tensor],
        labels: Sequence[str],
        base: Mapping[str, str],
        provenance: Mapping[str, Any],
        history: Sequence[Mapping[str, float]] = (),
        precision: str = "float32",
        score_threshold: float = SCORE_THRESHOLD,
        device: torch.device = CPU,
    ) -> None:
        if config.num_classes != len(labels):
            raise ValueError(f"{counted(config.num_classes, 'class')}, but {counted(len(labels), 'label')}")
        self.config = config
        self.weights = {name: weight.cpu() for name, weight in weights.items()}
        self.labels = tuple(labels)
        self.base = dict(base)
        self.provenance = dict(provenance)
        self.history = [dict(row) for row in history]
        self.precision = precision
        self.score_threshold = score_threshold
        self.device = device

    def __repr__(self) -> str:
        return f"Detector({', '.join(self.labels)}; base {self.base.get('name')})"

    @cached_property
    def network(self) -> Network:
        """The network, built on first use and laid out for speed."""
        rounds = self.precision == "bfloat16" and _has_bfloat16(self.device)
        dtype = torch.bfloat16 if rounds else torch.float32
        return build_network(self.config, self.weights, dtype, self.device)

    @property
    def runs_on(self) -> str:
        """What computes, such as ``cpu`` or ``cuda:0, NVIDIA L4``."""
        return device_in_words(self.device)

    @cached_property
    def _batcher(self) -> Batcher[tuple[Tensor, Tensor]]:
        return Batcher(self._outputs, MOST_AT_ONCE)

    @torch.inference_mode()
    def _outputs(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Codes and logits of prepared photos, computed when this returns."""
        network = self.network
        codes, logits = network.forward(batch_for(next(network.parameters()), inputs))
        synchronize(self.device)
        return list(zip(codes, logits, strict=True))

    def _find(self, image: NDArray[np.uint8], score_threshold: float) -> FoundArrays:
        network = self.network
        if self.device.type == "cpu":
            boxes, scores, class_ids = network.find(image, score_threshold)
        else:
            codes, logits = self._batcher.run(network.prepare(image))
            size_hw = (image.shape[0], image.shape[1])
            with torch.inference_mode():
                boxes, scores, class_ids = network.found(codes, logits, size_hw, score_threshold)
        return boxes.numpy(), scores.numpy(), class_ids.numpy()

    def _detect_each(self, photos: Iterable[Any], score_threshold: float) -> list[Detections]:
        def detect(numbered: tuple[int, Any]) -> Detections:
            return self._detect_one(numbered[1], score_threshold, f"photos[{numbered[0]}]")

        is_gpu = self.device.type != "cpu"
        return [done.result() for done in run_each(detect, enumerate(photos), beside=is_gpu)]

    def with_precision(self, precision: str) -> Detector:
        """The same detector computing in ``"float32"`` or ``"bfloat16"``; the weights are shared."""
        return self if precision == self.precision else self._like(precision, self.device)

    def on(self, device: str | torch.device) -> Detector:
        """The same detector computing on another device; the weights are shared.

        Raises:
            SettingError: there is no such device here.
        """
        chosen = choose_device(device)
        return self if chosen == self.device else self._like(self.precision, chosen)

    def _like(self, precision: str, device: torch.device) -> Detector:
        return Detector(
            config=self.config,
            weights=self.weights,
            labels=self.labels,
            base=self.base,
            provenance=self.provenance,
            history=self.history,
            precision=precision,
            score_threshold=self.score_threshold,
            device=device,
        )

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
            hint = f"name it {path.stem}.safetensors; for other programs: fewbox.export_detector"
            raise OutputError(f"{path}: a detector cannot be written as {path.suffix!r}", hint=hint)
        weights = (
            {name: self.weights[name] for name in self.network.head_names} if heads_only else self.weights
        )
        header = {
            "format_version": FORMAT_VERSION,
            "architecture": self.network.architecture,
            "config": self.config.to_dict(),
            "labels": self.labels,
            "score_threshold": self.score_threshold,
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
        chosen = choose_device(device)
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
        try:
            config = config_from_dict(header["architecture"], header["config"])
            if header["heads_only"]:
                of_base = _weights_of_base(path, header["base"], base)
                # The base's own class head has no place beside a novel one.
                weights = {name: of_base[name] for name in weight_shapes(config) if name in of_base} | weights
            detector = cls(
                config=config,
                weights=weights,
                labels=header["labels"],
                base=header["base"],
                provenance=known_provenance(header["provenance"]),
                precision=header["precision"],
                score_threshold=header["score_threshold"],
                device=chosen,
            )
            assert detector.network  # built now, so that weights that do not fit are found here
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
) -> dict[str, Tensor]:
    """The base's weights for a file that holds only the heads; they must be the very same ones."""
    wanted = origin["weights_sha256"]
    if isinstance(base, BaseModel):
        found: BaseModel | None = base
    else:
        found = find_base(wanted) if base is None else find_or_convert(base)
    if found is None:
        raise DetectorFileError(
            f"{path}: holds only the tuned heads, and their base model is not in the cache: {origin['name']}",
            hint=f"give the base: --base {origin['name']}, or the path of {origin['source']}",
        )
    if found.weights_sha256 != wanted:
        raise DetectorFileError(
            f"{path}: made from another base model than the one given: {origin['name']}, not {found.name}",
            hint=f"give the base with weights {wanted[:16]}..., from {origin['source']}",
        )
    return found.weights


def _not_a_detector(path: Path, header: Mapping[str, Any]) -> DetectorFileError:
    version = header.get("format_version")
    if version is None:
        return DetectorFileError(f"{path}: not a fewbox detector", hint=_MAKE_ONE)
    return DetectorFileError(
        f"{path}: written in format {version}, this fewbox reads format {FORMAT_VERSION}",
        hint="install a newer fewbox: git pull && pip install .",
    )


MAX_SHIFT_PX = 0.5
"""How far an edge of a box may move, in pixels of the photo."""
MIN_SCORE = 0.05
"""Detections below it are not compared: nobody would look at them."""
_MIN_SCORE_AFTER = 0.03  # a score may move too; a box is not lost because it fell just below the line


@dataclass(frozen=True)
class PrecisionCheck:
    """What bfloat16 did to the boxes of some photos."""

    tried: bool
    """False where the device does not compute in bfloat16: then nothing would be gained."""
    num_boxes: int
    max_shift_px: float
    """The furthest any edge moved; infinite if a box vanished or changed its class."""

    @property
    def holds(self) -> bool:
        """Whether bfloat16 may be used: some boxes were compared, and none moved too far."""
        return self.tried and self.num_boxes > 0 and self.max_shift_px <= MAX_SHIFT_PX

    def __str__(self) -> str:
        if not self.tried:
            return "detecting in float32: this processor does not compute in bfloat16"
        if self.num_boxes == 0:
            return "detecting in float32: nothing was found, so nobody knows what bfloat16 does to boxes"
        chosen = "bfloat16" if self.holds else "float32"
        return (
            f"detecting in {chosen}: bfloat16 moves {counted(self.num_boxes, 'box')} by up to "
            f"{self.max_shift_px:.2f} pixels (allowed: {MAX_SHIFT_PX})"
        )


def _has_bfloat16(device: torch.device) -> bool:
    return native_bfloat16() if device.type == "cpu" else gpu_has_bfloat16(device)


def check_bfloat16(detector: Detector, photos: Sequence[Photo]) -> PrecisionCheck:
    """Detect in ``photos`` in float32 and in bfloat16 and compare.

    Raises:
        PhotoError: a photo cannot be read.
    """
    if not _has_bfloat16(detector.device):
        return PrecisionCheck(False, 0, 0.0)
    exact, rounded = detector.with_precision("float32"), detector.with_precision("bfloat16")
    num_boxes, furthest = 0, 0.0
    for photo in photos:
        if isinstance(photo, str | os.PathLike):  # read once, not by each of the two
            photo = read_reduced(photo, exact.enough_hw(read_size_hw(photo)))
        count, shift_px = moved_boxes(exact, rounded, photo)
        num_boxes += count
        furthest = max(furthest, shift_px)
        if furthest > MAX_SHIFT_PX:
            break
    return PrecisionCheck(True, num_boxes, furthest)


def moved_boxes(exact: PhotoDetector, rounded: PhotoDetector, photo: Photo) -> tuple[int, float]:
    """How many boxes ``exact`` finds in a photo, and the furthest an edge moves in ``rounded``, in pixels."""
    # Both with the lower threshold: a box is the mean of those around it that are above the threshold.
    before, after = (one.detect(photo, score_threshold=_MIN_SCORE_AFTER) for one in (exact, rounded))
    compared = before.above(MIN_SCORE)
    return len(compared), max_shift_px(compared, after)


def max_shift_px(before: Detections, after: Detections) -> float:
    """The furthest an edge moved between ``before`` and the nearest box of the class in ``after``.

    0 where there is nothing to compare, infinite where a box has no counterpart.
    """
    return max(shifts_px(before, after), default=0.0)


def shifts_px(before: Detections, after: Detections) -> list[float]:
    """How far an edge of each box of ``before`` moved, as :func:`max_shift_px` says of the furthest."""
    shifts = []
    for box, class_id in zip(before.boxes, before.class_ids, strict=True):
        candidates = after.boxes[after.class_ids == class_id]
        shifts.append(float(np.abs(candidates - box).max(1).min()) if len(candidates) else float("inf"))
    return shifts
