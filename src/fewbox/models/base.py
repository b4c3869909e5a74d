"""Base models: pretrained networks that a detector starts from, and what it takes from them.

An official checkpoint is converted once into a safetensors file in the cache; from then on
that is read, which takes milliseconds. The file's header says where the weights came
from and under which licence.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from fewbox.core import quoted, require_packages
from fewbox.core.arguments import checked_path
from fewbox.core.files import cache_folder, cached_files, is_there, sha256_of
from fewbox.core.progress import console
from fewbox.errors import BaseModelError, CheckpointError, DownloadError, OutputError, SettingError
from fewbox.models import (
    BASE_HEADER,
    COCO_LABELS,
    SMALL,
    STARTER,
    ZOO,
    ZooEntry,
    base_labels,
    cached_base_path,
    default_base,
    entry_of_file,
    is_published,
)
from fewbox.models.archive import content_sha256
from fewbox.models.families import Config, config_from_dict, families, family_of, network_type, weight_shapes
from fewbox.models.protobuf import FaultError, onnx_metadata
from fewbox.models.weights import Weight, hash_weights, read_header, read_weights, write_weights

STARTER_PATH = Path(__file__).with_name("starter.safetensors")
"""The base that comes with the package, as ``tools/train_starter.py`` made it."""
_PICKLED_FILES = (".pth", ".pt")
_SINGLE_FILES = (*_PICKLED_FILES, ".onnx")


@dataclass(frozen=True)
class BaseModel:
    """A pretrained network: its settings, its weights by name, and where they came from.

    Examples:
        >>> base = fewbox.load_base("starter")
        >>> round(sum(weight.size for weight in base.weights.values()) / 1e6, 1)  # millions of numbers
        2.3
    """

    name: str
    config: Config
    weights: dict[str, Weight]
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

    def class_labels(self) -> tuple[str, ...]:
        """The names of its classes; where they are COCO's by their number alone, a line says so."""
        labels = base_labels(self.name, self.config.num_classes)
        if COCO_LABELS[0] in labels and not is_published(self.source, self.source_sha256):
            told = "has as many classes as COCO, so they get COCO's names, which may not be theirs"
            console.print(f"{self.source}: {told}")
        return labels


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
    doubt = family_of(found.config).doubt(found.config)
    if doubt is not None and batch_norm_eps is None and entry_of_file(found.source_sha256) is None:
        console.print(f"{base}: {doubt}")
    return found


def best_or_fetched(*, show_progress: bool = True) -> str:
    """The name of the base for ``auto``: the best one at hand, or, if that is the starter, one fetched now.

    The starter has seen rendered scenes alone; the one that is fetched is the smallest that has seen photos.
    Without a network it is the starter all the same.
    """
    name = default_base()
    if name == STARTER:
        try:
            load_base(SMALL)
            name = SMALL
        except (DownloadError, OutputError) as error:  # no network, or a cache that cannot be written
            if show_progress:
                console.print(f"{SMALL} cannot be fetched: {error.message}")
    return name


def require_named(base: str | os.PathLike[str]) -> None:
    """Refuse, before any work, what is neither the name of a base nor the file of one (BaseModelError)."""
    if str(base) in ZOO:
        return
    path = Path(base)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        raise BaseModelError(
            f"{base}: no base model of this name and no such file",
            hint=f"choose one of: {', '.join(ZOO)}; or give the path of an archive",
        )
    if path.suffix.lower() == ".onnx":
        _refuse_prepared(path)


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
        if not is_there(cached):
            return _fetch_and_convert(entry, cached)
        return read_base(cached)
    if path.suffix.lower() == ".safetensors" and path.is_file():
        return _read_given(path)
    require_named(base)
    sha256 = official_sha256(path)
    own_eps = "" if batch_norm_eps is None else f"-eps-{batch_norm_eps!r}"
    cached = cached_base_path(f"{sha256[:16]}{own_eps}")
    if not is_there(cached):
        name = path.name.removesuffix(".tar.gz").removesuffix(path.suffix)
        official = entry_of_file(sha256)
        if official is not None:
            name = official.name
        licence = "not stated: a file given by hand" if official is None else official.licence
        origin = {"source": path.name, "licence": licence}
        return convert_base(
            path, cached, name=name, source_sha256=sha256, batch_norm_eps=batch_norm_eps, **origin
        )
    return read_base(cached)


def _check_eps(base: str | os.PathLike[str], batch_norm_eps: float) -> None:
    is_number = isinstance(batch_norm_eps, int | float) and not isinstance(batch_norm_eps, bool)
    if not is_number or not math.isfinite(batch_norm_eps) or not 0 <= batch_norm_eps <= 1:
        raise SettingError(
            f"batch_norm_eps must be a number from 0 to 1: {batch_norm_eps!r}", hint="for example 1e-5"
        )
    if str(base) in ZOO or Path(base).suffix.lower() not in _PICKLED_FILES:
        raise SettingError(f"batch_norm_eps is only for a .pth: {base} states its own", hint="leave it out")


def _refuse_prepared(path: Path) -> None:
    """Of a base exported to learn from in a browser only what the linear probe reads there is left."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # the network is not read
        header = onnx_metadata(memoryview(content)).get(BASE_HEADER)
        if header is None:
            return
        origin = json.loads(header)["base"]
        name = origin["name"] if origin["name"] in ZOO else origin["source"]
    except (OSError, ValueError, KeyError, TypeError, FaultError):
        return  # whoever reads it as a model says what is wrong
    raise BaseModelError(
        f"{path}: a base prepared to learn from in a browser, no base model to learn from here",
        hint=f"name what it was made from: --base {quoted(name)}",
    )


def _fetch_and_convert(entry: ZooEntry, cached: Path) -> BaseModel:
    """The base of ``entry``, whose converted weights go into the cache; the archive is not kept."""
    from fewbox.models.download import fetch  # which takes long to import

    if entry.needs_torch:
        require_packages(["torch"], f"reading {entry.name}")  # said before it is fetched
    try:
        archive = fetch(entry, cache_folder() / "downloads")
    except OutputError as error:
        hint = "name a folder that can be written, and has room, in the variable FEWBOX_CACHE"
        raise OutputError(error.message, hint=hint) from error
    try:
        sha256 = official_sha256(archive)
        base = convert_base(
            archive,
            cached,
            name=entry.name,
            source=entry.url or "",
            source_sha256=sha256,
            licence=entry.licence,
        )
    except BaseModelError:
        # Another process may have finished, and removed the archive, in the middle of our reading.
        if not is_there(cached):
            archive.unlink(missing_ok=True)  # else a bad file would be found again by every later run
            raise
        base = read_base(cached)
    if is_there(cached):  # else the next run converts it again, without a download
        archive.unlink(missing_ok=True)
    return base


def convert_base(
    path: Path,
    target: Path,
    *,
    name: str,
    source: str,
    source_sha256: str,
    licence: str,
    batch_norm_eps: float | None = None,
) -> BaseModel:
    """Read an official checkpoint and write its weights to ``target``, or say that this cannot be.

    Raises:
        CheckpointError: the checkpoint is corrupt or does not fit its network.
        ConfigError: a ``pipeline.config`` asks for what is not computed here.
        SettingError: ``batch_norm_eps`` is given, and the batch-norms are part of the convolutions already.
    """
    config, weights = read_official(path)
    if batch_norm_eps is not None:
        if getattr(config, "norm_epsilon", None) is None:
            raise SettingError(f"{path}: has no batch-norms left to add to", hint="leave batch_norm_eps out")
        config = config.changed(norm_epsilon=batch_norm_eps)
    base = BaseModel(name, config, weights, hash_weights(weights), source, source_sha256, licence)
    header = {"architecture": family_of(config).architecture, "config": config.to_dict()}
    try:
        write_weights(target, weights, BASE_HEADER, base.origin() | header)
    except OutputError as error:
        cure = "to keep it, name another folder in the variable FEWBOX_CACHE"
        console.print(f"{error.message}; {name} is converted each time it is used: {cure}")
    return base


def read_official(path: Path) -> tuple[Config, dict[str, Weight]]:
    """The settings and weights of an official checkpoint of any kind; errors as :func:`convert_base`."""
    return next(family for family in families() if family.reads(path)).read(path)


def official_sha256(path: Path) -> str:
    """SHA-256 of what an official checkpoint holds, without unpacking it."""
    if path.suffix.lower() not in _SINGLE_FILES:
        return content_sha256(path)
    return sha256_of(path)


def read_base(path: Path) -> BaseModel:
    """A base model from a converted file; weights in float16 are widened.

    Raises:
        CheckpointError: the file is damaged or not a converted base model.
    """
    try:
        header, weights = read_weights(path, BASE_HEADER)
        return BaseModel(
            name=header["name"],
            config=config_from_dict(header["architecture"], header["config"]),
            weights={n: w.astype(np.float32) if w.dtype == np.float16 else w for n, w in weights.items()},
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
    for path in (STARTER_PATH, *cached_files(cache_folder() / "bases", "*.safetensors")):
        try:
            found = read_header(path, BASE_HEADER).get("weights_sha256")
        except (OSError, SafetensorError, ValueError):
            continue  # some other file, or a damaged one: it cannot be the one asked for
        if found == weights_sha256:
            return read_base(path)
    return None


@dataclass(frozen=True)
class RestoreReport:
    """Which weights came from where, by name; every weight of the network is in the first two."""

    base: str
    restored: tuple[str, ...]
    new: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"restored {len(self.restored)} tensors from {self.base}; new, for your classes: "
            f"{_in_short(self.new)}; left over, for the base's own classes: {_in_short(self.left_over)}"
        )


def _in_short(names: tuple[str, ...]) -> str:
    """One or two names; of more, how many and the first and last."""
    if len(names) <= 2:
        return ", ".join(names)
    return f"{len(names)} tensors, {min(names)} to {max(names)}"


def restore(base: BaseModel, num_classes: int, seed: int) -> tuple[Config, dict[str, Weight], RestoreReport]:
    """The settings and weights of a network for ``num_classes`` new classes, and a report.

    The new class head is drawn from ``seed``; all other weights are the base's.

    Raises:
        CheckpointError: the base lacks a weight, has one of another shape, or has one that no part
            of the network takes.
    """
    import torch

    config = base.config.changed(num_classes=num_classes)
    head = network_type(config).new_class_head(config, torch.Generator().manual_seed(seed))
    new = {name: weight.numpy() for name, weight in head.items()}
    weights, report = take_weights(base, config, new)
    return config, weights, report


def take_weights(
    base: BaseModel, config: Config, new: dict[str, Weight]
) -> tuple[dict[str, Weight], RestoreReport]:
    """The weights of a network as ``config`` says: those in ``new``, all others from the base.

    Raises:
        CheckpointError: as for :func:`restore`.
    """
    shapes = weight_shapes(config)
    restored = {name: weight for name, weight in base.weights.items() if name not in new}
    for name in shapes.keys() - new.keys():
        if name not in restored:
            raise CheckpointError(f"base model {base.name}: tensor missing: {name}")
        if tuple(restored[name].shape) != shapes[name]:
            found, wanted = list(restored[name].shape), list(shapes[name])
            raise CheckpointError(f"base model {base.name}: {name} has shape {found}, expected {wanted}")
    if surplus := sorted(restored.keys() - shapes.keys()):
        raise CheckpointError(
            f"base model {base.name}: tensor that no part of the network takes: {surplus[0]}"
        )
    report = RestoreReport(
        base=base.name,
        restored=tuple(restored),
        new=tuple(new),
        left_over=tuple(name for name in base.weights if name in new),
    )
    return restored | new, report
