"""Read an ONNX file without the onnx package: its constant tensors, its nodes, and which reads what.

Numbers of fields are those of ``onnx/onnx.proto``. See ``protobuf.py`` for how the bytes are guarded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.models.protobuf import FaultError, Message, blaming

# Far above any real network of ours; they keep a hostile file from filling the memory.
_MAX_BYTES = 1 << 30  # YOLOX-x: about 400 MB
_MAX_NODES = 1 << 12  # YOLOX-x: about a thousand
_MAX_RANK = 32

_FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}  # TensorProto.DataType
_WHOLE = {6: ("<i4", 5), 7: ("<i8", 7)}  # and the field of numbers that are not in one piece
_EXPORT_AGAIN = "export the model again, in one file and with float numbers"


@dataclass(frozen=True)
class OnnxNode:
    """One step of the computation; tensors are referred to by name."""

    kind: str
    """What it computes: ``Conv``, ``Add``, ..."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, float | str | tuple[int, ...]] = field(default_factory=dict)
    """Its settings that are a number, a text, or whole numbers."""

    def whole_numbers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, tuple) else default


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

    def whole_numbers(self, name: str) -> tuple[int, ...] | None:
        """A constant of whole numbers, such as the axes of a slice; none if there is no such constant."""
        stored = self.constants.get(name)
        if stored is None or stored.integer(2) not in _WHOLE:
            return None
        dtype, field_number = _WHOLE[stored.integer(2)]
        content = b"".join(stored.pieces(9))
        if len(content) % np.dtype(dtype).itemsize:
            raise FaultError(f"{name}: {len(content)} bytes are no list of whole numbers")
        if content:
            return tuple(np.frombuffer(content, dtype).tolist())
        return tuple(map(_signed, stored.integers(field_number)))


def _signed(number: int) -> int:
    """A number as protobuf means it: below 0 in two's complement of 64 bits."""
    return number - (1 << 64) if number >> 63 else number


def _node(message: Message) -> OnnxNode:
    kind, inputs, outputs = message.text(4), tuple(message.texts(1)), tuple(message.texts(2))
    return OnnxNode(kind, inputs, outputs, dict(map(_attribute, message.messages(5))))


def _attribute(message: Message) -> tuple[str, float | str | tuple[int, ...]]:
    match message.integer(20):  # AttributeProto.AttributeType
        case 1:
            piece = bytes((message.pieces(2) or [memoryview(b"")])[-1][:4]).ljust(4, b"\0")
            return message.text(1), float(np.frombuffer(piece, "<f4")[0])
        case 2:
            return message.text(1), _signed(message.integer(3))
        case 3:
            return message.text(1), message.text(4)
        case _:
            return message.text(1), tuple(map(_signed, message.integers(8)))


def _constant_nodes(nodes: Iterable[Message]) -> Iterator[tuple[str, Message]]:
    """Constants that are nodes of their own instead of being listed."""
    for node in nodes:
        if node.text(4) == "Constant":
            for attribute in node.messages(5):
                if attribute.text(1) == "value":
                    yield node.text(2), attribute.message(5)


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
        messages = list(map(Message, stored))
        nodes = tuple(map(_node, messages))
        constants = {constant.text(8): constant for constant in graph.messages(5)}
        constants |= dict(_constant_nodes(messages))
        # Files of an early version list their constants among the inputs.
        inputs = [value for value in graph.messages(11) if value.text(1) not in constants]
        shape = inputs[0].message(2).message(1).message(2) if inputs else None  # of its type, of the tensor
        sizes = () if shape is None else tuple(size.integer(1) for size in shape.messages(1))
        return OnnxGraph(sizes, nodes, constants)
