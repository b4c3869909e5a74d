"""Read an ONNX file without the onnx package: its constant tensors, and which node reads what.

Numbers of fields are those of ``onnx/onnx.proto``. What a node computes is not looked into beyond
its kind. See ``protobuf.py`` for how the bytes are guarded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goldeneye.models.protobuf import FaultError, Message, blaming

# Far above any real network of ours; they keep a hostile file from filling the memory.
_MAX_BYTES = 1 << 30  # YOLOX-x: about 400 MB
_MAX_NODES = 1 << 12  # YOLOX-x: about a thousand
_MAX_RANK = 32

_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}  # TensorProto.DataType
_EXPORT_AGAIN = "export the model again, in one file and with float numbers"


@dataclass(frozen=True)
class OnnxNode:
    """One step of the computation; tensors are referred to by name."""

    kind: str
    """What it computes: ``Conv``, ``Add``, ..."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxGraph:
    """A computation: its nodes, in an order in which they can be computed, and its constants."""

    input_shape: tuple[int, ...]
    """Of its first input; 0 where a size is left open."""
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Message]
    """``TensorProto`` by name."""

    def tensor(self, name: str) -> NDArray[Any]:
        """A constant of floating point numbers, as a read-only view of the file.

        Raises:
            FaultError: there is none, or its bytes are not what it says.
        """
        if name not in self.constants:
            raise FaultError(f"no constant named {name!r}", _EXPORT_AGAIN)
        stored = self.constants[name]
        kind, shape = stored.integer(2), tuple(stored.integers(1))
        if kind not in _FLOATS or stored.integer(14):  # 14: the bytes are in another file
            raise FaultError(f"{name}: not floating point numbers inside the file", _EXPORT_AGAIN)
        dtype = np.dtype(_FLOATS[kind])
        # As bytes, or, of a float32, as repeated numbers of fixed size: the same bytes.
        content = b"".join(stored.pieces(9) or (stored.pieces(4) if kind == 1 else []))
        expected = math.prod(shape) * dtype.itemsize
        if len(shape) > _MAX_RANK or not content or len(content) != expected:
            raise FaultError(f"{name}: shape {list(shape[:_MAX_RANK])} does not fit its {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape)


def read_onnx(path: Path) -> OnnxGraph:
    """The graph of an ONNX file.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or is not an ONNX file.
    """
    with blaming(path):
        if path.stat().st_size > _MAX_BYTES:
            raise FaultError(f"too large for an ONNX file: {path.stat().st_size} bytes")
        graph = Message(memoryview(path.read_bytes())).message(7)
        if not (stored := graph.pieces(1)):
            raise FaultError("not an ONNX file: it has no nodes")
        if len(stored) > _MAX_NODES:
            raise FaultError(f"more than {_MAX_NODES} nodes")
        nodes = tuple(
            OnnxNode(node.text(4), tuple(node.texts(1)), tuple(node.texts(2)))
            for node in map(Message, stored)
        )
        constants = {constant.text(8): constant for constant in graph.messages(5)}
        # Files of an early version list their constants among the inputs.
        inputs = [value for value in graph.messages(11) if value.text(1) not in constants]
        shape = inputs[0].message(2).message(1).message(2) if inputs else None  # of its type, of the tensor
        sizes = () if shape is None else tuple(size.integer(1) for size in shape.messages(1))
        return OnnxGraph(sizes, nodes, constants)
