"""Weights on disk: our own safetensors files, and what PyTorch saved.

Ours are one safetensors file with a JSON header, memory-mapped when read. Unlike a pickle, such a file cannot
run code, whoever made it. What PyTorch saved is a pickle; it is read by ``pickled.py``, which runs nothing,
and refused if it holds anything but tensors.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from fewbox.core import named_entry
from fewbox.core.files import replacing
from fewbox.errors import CheckpointError
from fewbox.models.pickled import StoredTensor, UnknownStepError, kind_of, read_saved

Weight = NDArray[Any]
"""An array of floating point numbers."""
BATCH_COUNTER = ".num_batches_tracked"
"""How the name ends of how long PyTorch trained a batch-norm, which is of no use once that is frozen."""


def write_weights(
    path: Path, weights: Mapping[str, Weight], header_name: str, header: Mapping[str, Any]
) -> None:
    """Write ``weights`` with ``header``, JSON-ready, under ``header_name`` in the file's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    plain = {name: np.ascontiguousarray(weight) for name, weight in weights.items()}
    content = save(plain, metadata={header_name: json.dumps(header)})
    with replacing(path) as temporary:
        # Written here, as the library's own writer tells of a full disk in an error that is no OSError.
        temporary.write_bytes(content)


def read_weights(path: Path, header_name: str) -> tuple[dict[str, Any], dict[str, Weight]]:
    """The header, empty if there is none of this name, and the weights.

    Raises:
        OSError: the file cannot be read.
        SafetensorError: it is not a safetensors file, or cut off.
        ValueError: the header is not JSON.
    """
    with safe_open(path, framework="np") as file:
        names = file.keys()
        return _header(file.metadata(), header_name), {name: file.get_tensor(name) for name in names}


def read_header(path: Path, header_name: str) -> dict[str, Any]:
    """Only the header; errors as :func:`read_weights`."""
    with safe_open(path, framework="np") as file:
        return _header(file.metadata(), header_name)


def hash_weights(weights: Mapping[str, Weight]) -> str:
    """SHA-256 over the names, shapes and values of ``weights``, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = np.ascontiguousarray(weights[name])
        # As PyTorch calls the type: so are the weights known that were published.
        digest.update(f"{name} torch.{weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(memoryview(weight.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return digest.hexdigest()


def _header(metadata: Mapping[str, str] | None, header_name: str) -> dict[str, Any]:
    header = json.loads(named_entry(metadata or {}, header_name) or "{}")
    if not isinstance(header, dict):
        raise ValueError(f"the header {header_name} is not a JSON object")
    return header


_MOST_SHARING = 4
"""Numbers of all tensors together for each byte of the file: those that share a storage are read each."""
_DOWNLOAD_AGAIN = "download the file again, and compare its size with the original's"


def read_pickled_weights(path: Path, *, needed: str, entry: str | None = None) -> dict[str, Weight]:
    """The tensors of a saved state dict, by name.

    Args:
        path: the file.
        needed: what to tell a user whose file is another one: the hint of the error.
        entry: under which name a trainer's file keeps the state dict among other things.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds something other than tensors.
    """
    with _blaming(path, needed):
        return {name: tensor.array() for name, tensor in _stored_tensors(path, needed, entry).items()}


def pickled_names(path: Path, *, needed: str, entry: str | None = None) -> list[str]:
    """Only the names; arguments and errors as of :func:`read_pickled_weights`."""
    with _blaming(path, needed):
        return list(_stored_tensors(path, needed, entry))


@contextmanager
def _blaming(path: Path, needed: str) -> Iterator[None]:
    """Raise what goes wrong with a file as a CheckpointError that names it."""
    try:
        yield
    except CheckpointError:
        raise
    except UnknownStepError as error:
        raise CheckpointError(
            f"{path}: not a file of weights, damaged, or with more in it than weights, which is not run",
            hint=needed,
        ) from error
    except Exception as error:  # where a file is cut off decides what fails: any line of the reader's may
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: damaged or cut off: {reason}", hint=_DOWNLOAD_AGAIN) from error


def _stored_tensors(path: Path, needed: str, entry: str | None) -> dict[str, StoredTensor]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    if zipfile.is_zipfile(path):  # the form since 2020; the one before it has no checksums
        _check_members(path, needed)
    loaded = read_saved(path)
    if isinstance(loaded, dict) and isinstance(loaded.get(entry), dict):
        loaded = loaded[entry]
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(f"{path}: not a state dict but: {kind_of(loaded)}", hint=needed)
    room = _MOST_SHARING * path.stat().st_size
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            problem = f"not a state dict: {name!r} is no plain tensor but: {kind_of(value)}"
            raise CheckpointError(f"{path}: {problem}", hint=needed)
        room -= value.count
        if value.claims_too_much or room < 0:  # would fill the memory
            raise CheckpointError(f"{path}: {name}: claims more numbers than the file holds", hint=needed)
    return loaded


def fit_weights(
    path: Path, tensors: Mapping[str, Weight], shapes: Mapping[str, tuple[int, ...]], *, needed: str
) -> dict[str, Weight]:
    """Exactly the weights that ``shapes`` lists, in its order, as float32.

    Raises:
        CheckpointError: one is missing, has another shape, is of whole numbers or not finite, or there is
            one too many. It is named.
    """
    for name, wanted in shapes.items():
        if name not in tensors:
            raise CheckpointError(f"{path}: tensor missing: {name}", hint=needed)
        if (found := tuple(tensors[name].shape)) != wanted:
            problem = f"{name}: shape {list(found)}, expected {list(wanted)}"
            raise CheckpointError(f"{path}: {problem}", hint=needed)
        if not np.issubdtype(tensors[name].dtype, np.floating):
            problem = f"{name}: numbers of type {tensors[name].dtype}, expected floating point"
            raise CheckpointError(f"{path}: {problem}", hint=needed)
    if surplus := sorted(tensors.keys() - shapes.keys()):
        raise CheckpointError(f"{path}: tensor that no part of the network takes: {surplus[0]}", hint=needed)
    fitted = {name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes}
    require_finite(path, fitted)
    return fitted


def require_finite(path: Path, weights: Mapping[str, Weight]) -> None:
    """Refuse what training leaves that went wrong: whatever learnt from it would find nothing, in silence.

    Raises:
        CheckpointError: a weight has a number that is not finite. It is named.
    """
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise CheckpointError(
                f"{path}: {name}: not all of its numbers are finite",
                hint="take a checkpoint from before its training went wrong; a published one, download again",
            )


def _check_members(path: Path, needed: str) -> None:
    """Compare every part of the archive with its checksum.

    Raises:
        CheckpointError: a part differs, or is packed, which PyTorch never does to weights and a trap may be.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                problem = f"not a file of weights that PyTorch saved: packed: {part.filename}"
                raise CheckpointError(f"{path}: {problem}", hint=needed)
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path}: damaged: {damaged}", hint=_DOWNLOAD_AGAIN)
