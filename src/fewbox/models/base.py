"""Base models: pretrained networks that a detector starts from.

An official checkpoint is converted once into a safetensors file in the cache; from then on
it is memory-mapped, which takes milliseconds. The file's header says where the weights came
from and under which licence.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from fewbox.arguments import checked_path
from fewbox.cache import cache_folder
from fewbox.errors import BaseModelError, CheckpointError, SettingError
from fewbox.models.architectures import network_type
from fewbox.models.archive import content_sha256, open_checkpoint
from fewbox.models.cache import cached_base_path
from fewbox.models.configs import Config, config_from_dict
from fewbox.models.download import fetch
from fewbox.models.pickled_weights import read_pickled_weights
from fewbox.models.retinanet_checkpoint import read_retinanet
from fewbox.models.retinanet_config import RETINANET_V1, RETINANET_V2, RetinanetConfig
from fewbox.models.ssd_checkpoint import read_ssd_weights
from fewbox.models.ssd_config import SsdConfig, read_ssd_config
from fewbox.models.tf_checkpoint import TensorBundle
from fewbox.models.weights_file import hash_weights, read_header, read_weights, write_weights
from fewbox.models.yolox_checkpoint import read_yolox
from fewbox.models.zoo import ZOO, ZooEntry
from fewbox.progress import console

BASE_HEADER = "fewbox_base"
"""Under which name a converted file's header says what it is."""
STARTER_PATH = Path(__file__).with_name("starter.safetensors")
"""The base that comes with the package, as ``tools/train_starter.py`` made it."""
_PICKLED_FILES = (".pth", ".pt")
_SINGLE_FILES = (*_PICKLED_FILES, ".onnx")
_NEEDED = "name a .pth file that torchvision publishes for a RetinaNet, or the release of YOLOX"


@dataclass(frozen=True)
class BaseModel:
    """A pretrained network: its settings, its weights by name, and where they came from.

    Examples:
        >>> base = fewbox.load_base("starter")
        >>> round(sum(tensor.numel() for tensor in base.weights.values()) / 1e6, 1)  # millions of numbers
        2.3
    """

    name: str
    config: Config
    weights: dict[str, Tensor]
    weights_sha256: str
    """Identifies the weights, whatever file they are in."""
    source: str
    source_sha256: str
    licence: str

    def origin(self) -> dict[str, str]:
        """What a detector made from this base remembers of it."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "licence": self.licence,
        }


def load_base(base: str | os.PathLike[str], *, batch_norm_eps: float | None = None) -> BaseModel:
    """A base model by name (see ``fewbox bases``) or from a file brought by hand.

    A file is an official ``.tar.gz`` of the TensorFlow zoo, its unpacked folder or a ``ckpt-N``
    prefix; torchvision's ``.pth`` of a RetinaNet; or a YOLOX as ``.pth`` or ``.onnx``; or what
    ``tools/train_starter.py`` exports. What is not in the cache yet is downloaded and converted first.

    Args:
        base: the name or the file.
        batch_norm_eps: what the batch-norms of a ``.pth`` add to the variance, which it does not state;
            without it, what such files usually have, and a remark where that cannot be known.

    Raises:
        BaseModelError: no such base; or its subclasses: it cannot be fetched, read or used.
        SettingError: ``batch_norm_eps`` is no number from 0 to 1, or the base states its own.

    Examples:
        >>> base = fewbox.load_base("starter")  # it is in the package; others are downloaded once
        >>> base.name, base.licence
        ('starter', 'Apache-2.0')
    """
    found = find_or_convert(base, batch_norm_eps)
    if batch_norm_eps is None and _may_have_other_eps(found):
        console.print(_remark_on_eps(base), markup=False)
    return found


def find_or_convert(base: str | os.PathLike[str], batch_norm_eps: float | None = None) -> BaseModel:
    """As :func:`load_base`, without a remark: for those who need only the weights."""
    if batch_norm_eps is not None:
        _check_eps(base, batch_norm_eps)
    path = checked_path(base, "a base model", BaseModelError, f"choose one of: {', '.join(ZOO)}")
    entry = ZOO.get(str(base))
    if entry is not None and entry.url is None:
        return read_base(STARTER_PATH)
    if entry is not None:
        cached = cached_base_path(entry.name)
        if not cached.exists():
            _fetch_and_convert(entry, cached)
        return read_base(cached)
    if path.suffix == ".safetensors" and path.is_file():
        return _read_given(path)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        raise BaseModelError(
            f"{base}: no base model of this name and no such file",
            hint=f"choose one of: {', '.join(ZOO)}; or give the path of an archive",
        )
    sha256 = official_sha256(path)
    own_eps = "" if batch_norm_eps is None else f"-eps-{batch_norm_eps!r}"
    cached = cached_base_path(f"{sha256[:16]}{own_eps}")
    if not cached.exists():
        name = path.name.removesuffix(".tar.gz").removesuffix(path.suffix)
        origin = {"source": path.name, "licence": "not stated: a file given by hand"}
        convert_base(path, cached, name=name, source_sha256=sha256, batch_norm_eps=batch_norm_eps, **origin)
    return read_base(cached)


def _check_eps(base: str | os.PathLike[str], batch_norm_eps: float) -> None:
    is_number = isinstance(batch_norm_eps, int | float) and not isinstance(batch_norm_eps, bool)
    if not is_number or not math.isfinite(batch_norm_eps) or not 0 <= batch_norm_eps <= 1:
        raise SettingError(
            f"batch_norm_eps must be a number from 0 to 1: {batch_norm_eps!r}", hint="for example 1e-5"
        )
    if str(base) in ZOO or Path(base).suffix not in _PICKLED_FILES:
        raise SettingError(f"batch_norm_eps is only for a .pth: {base} states its own", hint="leave it out")


def _may_have_other_eps(base: BaseModel) -> bool:
    """Whether its file may as well be of a network with another epsilon; see ``retinanet_checkpoint.py``."""
    is_assumed = (
        isinstance(base.config, RetinanetConfig) and base.config.norm_epsilon == RETINANET_V1.norm_epsilon
    )
    return is_assumed and base.source_sha256 not in {entry.sha256 for entry in ZOO.values()}


def _remark_on_eps(base: str | os.PathLike[str]) -> str:
    return (
        f"{base}: does not say what its batch-norms add to the variance; read with "
        f"{RETINANET_V1.norm_epsilon:g}, as models are that torchvision's COCO weights were trained on to. "
        f"One trained from an ImageNet backbone has {RETINANET_V2.norm_epsilon:g}: say so with "
        f"--batch-norm-eps {RETINANET_V2.norm_epsilon:g}, in Python load_base(..., batch_norm_eps=...)"
    )


def _fetch_and_convert(entry: ZooEntry, cached: Path) -> None:
    """Put the converted weights of ``entry`` into the cache; the archive is not kept."""
    archive = fetch(entry, cache_folder() / "downloads")
    try:
        sha256 = official_sha256(archive)
        convert_base(
            archive,
            cached,
            name=entry.name,
            source=entry.url or "",
            source_sha256=sha256,
            licence=entry.licence,
        )
    except BaseModelError:
        # Another process may have finished, and removed the archive, in the middle of our reading.
        if not cached.exists():
            archive.unlink(missing_ok=True)  # else a bad file would be found again by every later run
            raise
    archive.unlink(missing_ok=True)


def convert_base(
    path: Path,
    target: Path,
    *,
    name: str,
    source: str,
    source_sha256: str,
    licence: str,
    batch_norm_eps: float | None = None,
) -> None:
    """Read an official checkpoint and write its weights to ``target``.

    Raises:
        CheckpointError: the checkpoint is corrupt or does not fit its network.
        ConfigError: a ``pipeline.config`` asks for what is not computed here.
        OutputError: ``target`` cannot be written.
        SettingError: ``batch_norm_eps`` is given, and the batch-norms are part of the convolutions already.
    """
    config, weights = read_official(path)
    if batch_norm_eps is not None:
        if isinstance(config, SsdConfig) or config.norm_epsilon is None:
            raise SettingError(f"{path}: has no batch-norms left to add to", hint="leave batch_norm_eps out")
        config = replace(config, norm_epsilon=batch_norm_eps)
    header = {
        "name": name,
        "architecture": network_type(config).architecture,
        "config": config.to_dict(),
        "weights_sha256": hash_weights(weights),
        "source": source,
        "source_sha256": source_sha256,
        "licence": licence,
    }
    write_weights(target, weights, BASE_HEADER, header)


def read_official(path: Path) -> tuple[Config, dict[str, Tensor]]:
    """The settings and weights of an official checkpoint of any kind; errors as :func:`convert_base`."""
    if path.suffix in _SINGLE_FILES:
        return read_retinanet(path) if _is_retinanet(path) else read_yolox(path)
    with open_checkpoint(path) as files:
        config = read_ssd_config(files.pipeline_config)
        with TensorBundle.open(files.prefix) as bundle:
            return config, read_ssd_weights(bundle, config)


def _is_retinanet(path: Path) -> bool:
    """Which of the two kinds of PyTorch checkpoint a file is; the readers check everything else."""
    if path.suffix == ".onnx":
        return False
    names = read_pickled_weights(path, needed=_NEEDED, entry="model")
    return any(name.startswith("head.classification_head.") for name in names)


def official_sha256(path: Path) -> str:
    """SHA-256 of what an official checkpoint holds, without unpacking it."""
    if path.suffix not in _SINGLE_FILES:
        return content_sha256(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_base(path: Path) -> BaseModel:
    """A base model from a converted file; the weights are memory-mapped, or widened from float16.

    Raises:
        CheckpointError: the file is damaged or not a converted base model.
    """
    try:
        header, weights = read_weights(path, BASE_HEADER)
        return BaseModel(
            name=header["name"],
            config=config_from_dict(header["architecture"], header["config"]),
            weights={name: w.float() if w.dtype == torch.float16 else w for name, w in weights.items()},
            weights_sha256=header["weights_sha256"],
            source=header["source"],
            source_sha256=header["source_sha256"],
            licence=header["licence"],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a converted base model, or damaged: {error}",
            hint="delete the file; it is made again when the base is used next",
        ) from error


def _read_given(path: Path) -> BaseModel:
    """A base model from a file that a person named, and must not be told to delete."""
    try:
        is_base = bool(read_header(path, BASE_HEADER))
    except (OSError, SafetensorError, ValueError) as error:
        hint = "copy it again from where it came"
        raise CheckpointError(f"{path}: not a safetensors file, or damaged: {error}", hint=hint) from error
    if not is_base:
        hint = f"a detector learns anew from a base: {', '.join(ZOO)}; or from a file that one came in"
        raise BaseModelError(f"{path}: not a base model", hint=hint)
    return read_base(path)


def find_base(weights_sha256: str) -> BaseModel | None:
    """The base with these weights, if it is in the package or the cache."""
    for path in (STARTER_PATH, *sorted((cache_folder() / "bases").glob("*.safetensors"))):
        try:
            found = read_header(path, BASE_HEADER).get("weights_sha256")
        except (OSError, SafetensorError, ValueError):
            continue  # some other file, or a damaged one: it cannot be the one asked for
        if found == weights_sha256:
            return read_base(path)
    return None


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
