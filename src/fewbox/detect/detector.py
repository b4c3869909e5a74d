"""A detector: finds the classes it was taught in any photo, and keeps itself in one file.

The file is safetensors: the weights, or only the tuned heads with the hash of the base they
belong to, and a JSON header with everything else. Nothing in it can run code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from fewbox.arguments import checked_path
from fewbox.data.images import StrPath
from fewbox.detect.photo_detector import FoundArrays, PhotoDetector
from fewbox.engines.header import known_provenance
from fewbox.errors import DetectorFileError, OutputError
from fewbox.models.architectures import build_network, weight_shapes
from fewbox.models.base import BaseModel, find_base, find_or_convert, native_bfloat16
from fewbox.models.configs import Config, config_from_dict
from fewbox.models.network import Network
from fewbox.models.weights_file import read_weights, write_weights

FORMAT_VERSION = 1
SCORE_THRESHOLD = 0.5

_HEADER = "fewbox_detector"
_MAKE_ONE = "make one with: fewbox finetune"


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
    ) -> None:
        if config.num_classes != len(labels):
            raise ValueError(f"{config.num_classes} classes, but {len(labels)} labels")
        self.config = config
        self.weights = dict(weights)
        self.labels = tuple(labels)
        self.base = dict(base)
        self.provenance = dict(provenance)
        self.history = [dict(row) for row in history]
        self.precision = precision
        self.score_threshold = score_threshold

    def __repr__(self) -> str:
        return f"Detector({', '.join(self.labels)}; base {self.base.get('name')})"

    @cached_property
    def network(self) -> Network:
        """The network, built on first use and laid out for speed."""
        dtype = torch.bfloat16 if self.precision == "bfloat16" and native_bfloat16() else torch.float32
        return build_network(self.config, self.weights, dtype)

    def _find(self, image: NDArray[np.uint8], score_threshold: float) -> FoundArrays:
        boxes, scores, class_ids = self.network.find(image, score_threshold)
        return boxes.numpy(), scores.numpy(), class_ids.numpy()

    def with_precision(self, precision: str) -> Detector:
        """The same detector computing in ``"float32"`` or ``"bfloat16"``; the weights are shared."""
        if precision == self.precision:
            return self
        return Detector(
            config=self.config,
            weights=self.weights,
            labels=self.labels,
            base=self.base,
            provenance=self.provenance,
            history=self.history,
            precision=precision,
            score_threshold=self.score_threshold,
        )

    def save(self, path: StrPath, *, heads_only: bool = False) -> None:
        """Write the detector to one file, whole or not at all.

        Args:
            path: ends in ``.safetensors``.
            heads_only: keep only what was tuned, about a third of a megabyte. Loading then needs
                the base model again.

        Raises:
            OutputError: the name ends otherwise, or the file cannot be written.
        """
        path = checked_path(path, "the file to write", OutputError)
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
    def load(cls, path: StrPath, *, base: BaseModel | StrPath | None = None) -> Detector:
        """Read a detector that :meth:`save` wrote.

        Args:
            path: the file.
            base: the base model of a file with only the heads; if not given it is looked for among
                the cached ones.

        Raises:
            DetectorFileError: the file is missing, damaged, from a newer fewbox, or no detector;
                or it holds only the heads and their base is not the one given or not to be found.
        """
        path = checked_path(path, "a detector's file", DetectorFileError, _MAKE_ONE)
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
            )
            assert detector.network  # built now, so that weights that do not fit are found here
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DetectorFileError(f"{path}: its header and its weights do not fit: {error}") from error
        return detector


def _require_safetensors(path: Path) -> None:
    """Tell files by their name that are something else: an exported detector, a folder."""
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
