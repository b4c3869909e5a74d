"""Write an ONNX file without the package onnx: nodes, constants and what holds them, each as bytes.

Numbers of fields are those of ``onnx/onnx.proto``; ``protobuf.py`` reads what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 18
IR_VERSION = 10  # what ONNX Runtime 1.18, of 2024, reads already
FLOAT, UINT8, INT64, BFLOAT16 = 1, 2, 7, 16
"""Of ``TensorProto.DataType``."""
_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int64): INT64}


def _number(value: int) -> bytes:
    """A number of variable length; one below 0 in two's complement of 64 bits."""
    value &= (1 << 64) - 1
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)


def _whole(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value)


def _piece(field: int, content: bytes | str) -> bytes:
    """A message or a text."""
    content = content.encode() if isinstance(content, str) else content
    return _number(field << 3 | 2) + _number(len(content)) + content


def node(kind: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Mapping[str, Any]) -> bytes:
    """One step, named after its first output."""
    outputs = list(outputs)
    parts = [*(_piece(1, name) for name in inputs), *(_piece(2, name) for name in outputs)]
    parts += [_piece(3, outputs[0]), _piece(4, kind)]
    parts += [_piece(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts)


def _attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    if isinstance(value, float):
        stored, kind = _number(2 << 3 | 5) + struct.pack("<f", value), 1
    elif isinstance(value, int):
        stored, kind = _whole(3, value), 2
    elif isinstance(value, str):
        stored, kind = _piece(4, value), 3
    else:
        stored, kind = b"".join(_whole(8, each) for each in value), 7
    return _piece(1, name) + stored + _whole(20, kind)


def constant(name: str, values: NDArray[Any]) -> bytes:
    """A tensor of float32, int64 or uint8."""
    shape = b"".join(_whole(1, side) for side in values.shape)
    return shape + _whole(2, _TYPES[values.dtype]) + _piece(8, name) + _piece(9, values.tobytes())


def tensor_info(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """What an input or output is: its type, and its shape, of which a length may be a word."""
    sides = (_whole(1, side) if isinstance(side, int) else _piece(2, side) for side in shape)
    of_tensor = _whole(1, kind) + _piece(2, b"".join(_piece(1, side) for side in sides))
    return _piece(1, name) + _piece(2, _piece(1, of_tensor))


def model(
    nodes: Iterable[bytes],
    constants: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    *,
    version: str,
    metadata: Mapping[str, str],
) -> bytes:
    """The content of a file.

    Args:
        nodes: as of :func:`node`, in an order in which they can be computed.
        constants: as of :func:`constant`.
        inputs: as of :func:`tensor_info`.
        outputs: likewise.
        version: of fewbox.
        metadata: what the file says of itself.
    """
    graph = [_piece(2, "fewbox")]
    for field, messages in ((1, nodes), (5, constants), (11, inputs), (12, outputs)):
        for content in messages:  # not joined yet: weights may be hundreds of megabytes
            graph += [_number(field << 3 | 2), _number(len(content)), content]
    head = [_whole(1, IR_VERSION), _piece(2, "fewbox"), _piece(3, version)]
    opset = _piece(8, _piece(1, "") + _whole(2, OPSET))
    said = [_piece(14, _piece(1, name) + _piece(2, text)) for name, text in metadata.items()]
    of_graph = [_number(7 << 3 | 2), _number(sum(map(len, graph)))]
    return b"".join([*head, *of_graph, *graph, opset, *said])
