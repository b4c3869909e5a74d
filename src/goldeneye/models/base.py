"""Base models: pretrained networks that a detector starts from.

An official checkpoint is converted once into a safetensors file in the cache; from then on
it is memory-mapped, which takes milliseconds. The file's header says where the weights came
from and under which licence.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from goldeneye.arguments import checked_path
from goldeneye.cache import cache_folder
from goldeneye.errors import BaseModelError, CheckpointError
from goldeneye.models.architectures import network_type
from goldeneye.models.archive import content_sha256, open_checkpoint
from goldeneye.models.cache import cached_base_path
from goldeneye.models.configs import Config, config_from_dict
from goldeneye.models.download import fetch
from goldeneye.models.pickled_weights import read_pickled_weights
from goldeneye.models.retinanet_checkpoint import read_retinanet
from goldeneye.models.ssd_checkpoint import read_ssd_weights
from goldeneye.models.ssd_config import read_ssd_config
from goldeneye.models.tf_checkpoint import TensorBundle
from goldeneye.models.weights_file import hash_weights, read_header, read_weights, write_weights
from goldeneye.models.yolox_checkpoint import read_yolox
from goldeneye.models.zoo import ZOO, ZooEntry

BASE_HEADER = "goldeneye_base"
"""Under which name a converted file's header says what it is."""
STARTER_PATH = Path(__file__).with_name("starter.safetensors")
"""The base that comes with the package, as ``tools/train_starter.py`` made it."""
_SINGLE_FILES = (".pth", ".pt", ".onnx")
_NEEDED = "name a .pth file that torchvision publishes for a RetinaNet, or the release of YOLOX"


@dataclass(frozen=True)
class BaseModel:
    """A pretrained network: its settings, its weights by name, and where they came from."""

    name: str
    config: Config
    weights: dict[str, Tensor]
    weights_sha256: str
    """Identifies the weights, whatever file they are in; see :func:`hash_weights`."""
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


def load_base(base: str | os.PathLike[str]) -> BaseModel:
    """A base model by name (see ``goldeneye bases``) or from a file brought by hand.

    A file is an official ``.tar.gz`` of the TensorFlow zoo, its unpacked folder or a ``ckpt-N``
    prefix; torchvision's ``.pth`` of a RetinaNet; or a YOLOX as ``.pth`` or ``.onnx``; or what
    ``tools/train_starter.py`` exports. What is not in the cache yet is downloaded and converted first.

    Raises:
        BaseModelError: no such base; or its subclasses: it cannot be fetched, read or used.
    """
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
    cached = cached_base_path(sha256[:16])
    if not cached.exists():
        name = path.name.removesuffix(".tar.gz").removesuffix(path.suffix)
        origin = {"source": path.name, "licence": "not stated: a file given by hand"}
        convert_base(path, cached, name=name, source_sha256=sha256, **origin)
    return read_base(cached)


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
    path: Path, target: Path, *, name: str, source: str, source_sha256: str, licence: str
) -> None:
    """Read an official checkpoint and write its weights to ``target``.

    Raises:
        CheckpointError: the checkpoint is corrupt or does not fit its network.
        ConfigError: a ``pipeline.config`` asks for what is not computed here.
        OutputError: ``target`` cannot be written.
    """
    config, weights = read_official(path)
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
