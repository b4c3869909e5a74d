"""Read the weights of a RetinaNet from a state dict that torchvision published, or in its form.

Such a file is a pickle, and a pickle can run code when it is read. It is only ever read by the
unpickler that knows nothing but tensors, and refused if it holds anything else.

Two spellings are about. Since its second version torchvision wraps every convolution of the pyramid
and of the towers: ``conv.1.0.weight`` is what ``conv.2.weight`` was, as the ReLUs between were
counted too. The network has the later names; the file of the first version has the earlier ones.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goldeneye.errors import CheckpointError
from goldeneye.models.retinanet import RetinanetDetector
from goldeneye.models.retinanet_config import RETINANET_V1, RETINANET_V2, RetinanetConfig

_COUNTER = ".num_batches_tracked"  # how long a batch-norm was trained: of no use once it is frozen
_GROUP_NORM = "head.classification_head.conv.0.1.weight"
_CLASS_KERNEL = "head.classification_head.cls_logits.weight"
_EARLIER_TOWER = re.compile(r"(head\.\w+_head\.conv\.)(\d*[02468])(\.(?:weight|bias))")
_EARLIER_PYRAMID = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)(\.(?:weight|bias))")

_WHAT_IS_NEEDED = (
    "name a file of weights that torchvision published for retinanet_resnet50_fpn or "
    "retinanet_resnet50_fpn_v2, or the saved state dict of such a model"
)
_DOWNLOAD_AGAIN = "download the file again, and compare its size with the original's"


def read_retinanet(path: Path) -> tuple[RetinanetConfig, dict[str, Tensor]]:
    """The settings and all weights, under their names in ``state_dict``, of the RetinaNet in ``path``.

    Which version it is shows in the names, and for how many classes in the class head.

    Raises:
        CheckpointError: the file cannot be read, is damaged, holds something other than tensors,
            or they are not those of a RetinaNet; what does not fit is named.
    """
    stored = _load_tensors(path)
    tensors = {_later_name(name): tensor for name, tensor in stored.items() if not name.endswith(_COUNTER)}
    config = _describe(tensors, counted=any(name.endswith(_COUNTER) for name in stored))
    with torch.device("meta"):
        expected = {name: list(w.shape) for name, w in RetinanetDetector(config).state_dict().items()}
    for name, wanted in expected.items():
        if name not in tensors:
            raise _misfit(path, f"tensor missing: {name}")
        if (found := list(tensors[name].shape)) != wanted:
            raise _misfit(path, f"{name}: shape {found}, expected {wanted}")
        if not tensors[name].is_floating_point():
            raise _misfit(path, f"{name}: numbers of type {tensors[name].dtype}, expected floating point")
    if surplus := sorted(tensors.keys() - expected.keys()):
        raise _misfit(path, f"tensor that no part of the network takes: {surplus[0]}")
    return config, {name: tensors[name].detach().float().contiguous() for name in expected}


def _describe(tensors: Mapping[str, Tensor], *, counted: bool) -> RetinanetConfig:
    """The version with these names, for as many classes as the class head has columns.

    Only the frozen batch-norm of the first version's weights adds nothing to the variance, and only
    a frozen one does not count batches. A model of that version that somebody built without
    pretrained weights has an ordinary batch-norm, which does both.
    """
    config = RETINANET_V2 if _GROUP_NORM in tensors else RETINANET_V1
    if counted:
        config = replace(config, norm_epsilon=RETINANET_V2.norm_epsilon)
    columns = tensors[_CLASS_KERNEL].shape[:1].numel() if _CLASS_KERNEL in tensors else 0
    return replace(config, num_classes=max(columns // config.anchors_per_cell, 1))


def _later_name(name: str) -> str:
    """A name in the spelling of torchvision's second version, whichever it came in."""
    if match := _EARLIER_TOWER.fullmatch(name):
        return f"{match[1]}{int(match[2]) // 2}.0{match[3]}"
    return _EARLIER_PYRAMID.sub(r"\1.0\2", name)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        if zipfile.is_zipfile(path):  # the form since 2020; the one before it has no checksums
            _check_members(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # Its own message recommends to read the file unsafely.
        raise CheckpointError(
            f"{path}: not a file of weights, damaged, or with more in it than weights, which is not run",
            hint=_WHAT_IS_NEEDED,
        ) from error
    except Exception as error:  # where a file is cut off decides what fails: any line of the reader's may
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: damaged or cut off: {reason}", hint=_DOWNLOAD_AGAIN) from error
    return _require_tensors(path, loaded)


def _check_members(path: Path) -> None:
    """Compare every part of the archive with its checksum, which torch does not.

    Raises:
        CheckpointError: a part differs, or is packed, which torch never does and a trap may be.
    """
    with zipfile.ZipFile(path) as archive:
        packed = [m.filename for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED]
        damaged = packed[0] if packed else archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: {damaged}", hint=_DOWNLOAD_AGAIN)


def _require_tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping) or not loaded:
        raise _misfit(path, f"not a state dict but: {type(loaded).__name__}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise _misfit(path, f"not a state dict: {name!r} is no plain tensor but: {type(value).__name__}")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise _misfit(path, f"{name}: claims more numbers than the file holds")  # would fill the memory
    return dict(loaded)


def _misfit(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path}: {problem}", hint=_WHAT_IS_NEEDED)
