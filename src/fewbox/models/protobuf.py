"""Protobuf messages, in bytes and in text, and ONNX files: read without the packages protobuf and onnx.

Of messages in bytes there are fields by number, of those in text fields by name; their meaning is known to
the caller. The bytes come from strangers. Every length is checked against what is really there before it is
used, and whatever is wrong is a :class:`FaultError`.

Of an ONNX file there are its constant tensors, its nodes, and which reads what. Numbers of fields are those
of ``onnx/onnx.proto``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbox.errors import CheckpointError, ConfigError

# Far above any real message; it keeps one of empty fields from filling the memory.
_MAX_FIELDS = 1 << 17

DOWNLOAD_AGAIN = "the file is damaged or incomplete; download it again"


class FaultError(Exception):
    """What is wrong with some bytes; whoever knows the file makes a CheckpointError of it.

    Without a hint of its own it means that the bytes are damaged.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def blaming(place: object, *, if_damaged: str = DOWNLOAD_AGAIN) -> Iterator[None]:
    """Raise what goes wrong in the block as a CheckpointError that begins with ``place``.

    ``if_damaged`` is the hint where the bytes are not what they should be.
    """
    try:
        yield
    except FaultError as fault:
        raise CheckpointError(f"{place}: {fault}", hint=fault.hint or if_damaged) from fault
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{place}: a name is not UTF-8", hint=if_damaged) from error
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read: {error.strerror or error}") from error


class Cursor:
    """Takes numbers and pieces from some bytes in a row, and never more than there are."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def is_at_end(self) -> bool:
        """Whether everything has been taken."""
        return self._position == len(self._data)

    def piece(self, size: int) -> memoryview:
        """The next ``size`` bytes, in place."""
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise FaultError(f"{size} bytes are announced at byte {start} of {len(self._data)}")
        return self._data[start : self._position]

    def number(self) -> int:
        """The next number of variable length, taken as unsigned.

        Where none may be negative, a negative number read so fails every check.
        """
        value = 0
        for step, byte in enumerate(self._data[self._position : self._position + 10]):
            value |= (byte & 0x7F) << (7 * step)
            if byte < 0x80:
                self._position += step + 1
                return value
        raise FaultError("a number has no end")


class Message:
    """The fields of one message, by number; a field may repeat. Pieces are views of its bytes."""

    def __init__(self, data: memoryview) -> None:
        self._fields: dict[int, list[int | memoryview]] = {}
        cursor = Cursor(data)
        for _ in range(_MAX_FIELDS):
            if cursor.is_at_end():
                return
            number, kind = divmod(cursor.number(), 8)
            if kind not in (0, 1, 2, 5):
                raise FaultError("not a protobuf message")
            value = {1: 8, 5: 4}.get(kind) or cursor.number()  # itself, or the size of what follows
            self._fields.setdefault(number, []).append(cursor.piece(value) if kind else value)
        raise FaultError(f"a protobuf message of more than {_MAX_FIELDS} fields")

    def integer(self, number: int) -> int:
        """The last value of a field, as protobuf has it; 0 when it is absent."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise FaultError(f"field {number} of a protobuf message is not a number")
        return value

    def integers(self, number: int) -> list[int]:
        """All values of a field, each stored alone or many in one piece."""
        values = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                values.append(value)
                continue
            packed = Cursor(value)
            while not packed.is_at_end():
                values.append(packed.number())
        return values

    def pieces(self, number: int) -> list[memoryview]:
        """Every value of a field that is text, a message, or a number of fixed size."""
        return [value for value in self._fields.get(number, []) if isinstance(value, memoryview)]

    def texts(self, number: int) -> list[str]:
        """Every value of a field that is text."""
        return [str(piece, "utf-8") for piece in self.pieces(number)]

    def text(self, number: int) -> str:
        """The last value of a field that is text; empty when it is absent."""
        return "".join(self.texts(number)[-1:])

    def messages(self, number: int) -> Iterator[Message]:
        """Every value of a field that is a message."""
        return map(Message, self.pieces(number))

    def message(self, number: int) -> Message:
        """The last value of a field that is a message; one without fields when it is absent."""
        return Message((self.pieces(number) or [memoryview(b"")])[-1])


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
    metadata: Mapping[str, str]
    """Who wrote it, and what else it says of itself."""

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


def onnx_metadata(data: memoryview) -> dict[str, str]:
    """The texts of ``ModelProto.metadata_props`` of an ONNX file, by key; the network is not read.

    Raises:
        FaultError: the file is damaged, or of another kind.
    """
    model = Message(data)
    if not model.pieces(7):  # numbers of fields are those of onnx.proto
        raise FaultError("it has no graph")
    return {entry.text(1): entry.text(2) for entry in model.messages(14)}


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
        return onnx_graph(path.read_bytes())


def onnx_graph(content: bytes) -> OnnxGraph:
    """The graph of an ONNX file's content.

    Raises:
        FaultError: it is damaged, or no such content.
    """
    model = Message(memoryview(content))
    graph = model.message(7)
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
    metadata = {entry.text(1): entry.text(2) for entry in model.messages(14)}
    return OnnxGraph(sizes, nodes, constants, metadata)


Fields = dict[str, list["str | Fields"]]

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>[{}<>\[\]:])
      | (?P<word>[-+]?[\w.+-]+)""",
    re.VERBOSE,
)
_MAX_DEPTH = 50  # real files nest about eight deep; the limit keeps a hostile one from exhausting the stack


def parse_text_protobuf(text: str, where: str) -> Fields:
    """Turn a text protobuf into ``{field name: [values]}``, every field a list as it may repeat.

    Raises:
        ConfigError: the text is not a text protobuf; ``where`` and the line are named.
    """
    return _Parser(text, where).message(closing=None, depth=0)


class _Parser:
    """A cursor over the tokens of one text protobuf."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, line
        self.position = 0
        self._tokenize(text)

    def _tokenize(self, text: str) -> None:
        start = line = 0
        while start < len(text):
            match = _TOKEN.match(text, start)
            if match is None:
                raise ConfigError(f"{self.where}: line {line + 1}: unexpected character: {text[start]!r}")
            if match.lastgroup != "space":
                self.tokens.append((str(match.lastgroup), match.group(), line + 1))
            line += match.group().count("\n")
            start = match.end()

    def message(self, closing: str | None, depth: int) -> Fields:
        fields: Fields = {}
        if depth > _MAX_DEPTH:
            raise self.error("messages nested too deep")
        while self.position < len(self.tokens):
            kind, name, _ = self.take()
            if name == closing:
                return fields
            if kind != "word":
                raise self.error(f"expected the name of a field, found {name!r}")
            fields.setdefault(name, []).extend(self.values(depth))
        if closing is not None:
            raise self.error(f"the file ends before a closing {closing!r}")
        return fields

    def values(self, depth: int) -> list[str | Fields]:
        kind, token, _ = self.take()
        if token == ":":
            kind, token, _ = self.take()
        if kind == "mark" and token in "{<":
            return [self.message("}" if token == "{" else ">", depth + 1)]
        if kind == "mark" and token == "[":
            return self.list_of_values(depth)
        if kind == "mark":
            raise self.error(f"expected a value, found {token!r}")
        return [token[1:-1] if kind == "string" else token]

    def list_of_values(self, depth: int) -> list[str | Fields]:
        values: list[str | Fields] = []
        while self.position < len(self.tokens) and self.tokens[self.position][1] != "]":
            values.extend(self.values(depth))
        self.take()
        return values

    def take(self) -> tuple[str, str, int]:
        if self.position >= len(self.tokens):
            raise self.error("the file ends in the middle of a field")
        token = self.tokens[self.position]
        self.position += 1
        return token

    def error(self, problem: str) -> ConfigError:
        line = self.tokens[self.position - 1][2] if self.tokens else 1
        return ConfigError(f"{self.where}: line {line}: {problem}")
