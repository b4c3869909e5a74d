"""Weights on disk: one safetensors file with a JSON header, memory-mapped when read.

Unlike a pickle, such a file cannot run code, whoever made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fewbox import former_name
from fewbox.files import replacing


def write_weights(
    path: Path, weights: Mapping[str, Tensor], header_name: str, header: Mapping[str, Any]
) -> None:
    """Write ``weights`` with ``header``, JSON-ready, under ``header_name`` in the file's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    content = save(dict(weights), metadata={header_name: json.dumps(header)})
    with replacing(path) as temporary:
        # Written here, as the library's own writer tells of a full disk in an error that is no OSError.
        temporary.write_bytes(content)


def read_weights(path: Path, header_name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header, empty if there is none of this name, and the weights, memory-mapped.

    Raises:
        OSError: the file cannot be read.
        SafetensorError: it is not a safetensors file, or cut off.
        ValueError: the header is not JSON.
    """
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return _header(file.metadata(), header_name), {name: file.get_tensor(name) for name in names}


def read_header(path: Path, header_name: str) -> dict[str, Any]:
    """Only the header; errors as :func:`read_weights`."""
    with safe_open(path, framework="np") as file:
        return _header(file.metadata(), header_name)


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, shapes and values of ``weights``, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return digest.hexdigest()


def _header(metadata: Mapping[str, str] | None, header_name: str) -> dict[str, Any]:
    header = json.loads(former_name.entry(metadata or {}, header_name) or "{}")
    if not isinstance(header, dict):
        raise ValueError(f"the header {header_name} is not a JSON object")
    return header
