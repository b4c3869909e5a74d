"""Read weights that PyTorch saved, without PyTorch and without pickle.

Such a file is a pickle, and a pickle is a program: whoever wrote it says what is called with what. Here
nothing is called. The steps are read one by one, only those are understood that build plain values and
describe tensors, and of what a step would call the name alone is looked at: of those that it may have, what
they stand for is known, and any other is refused.

Of a tensor the pickle says where its numbers are; they are read once they are asked for. A file of 2020 and
later is a zip archive in which each storage is a member; one from before has them one after the other.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

_LENGTHS_AT = 26  # in what stands before each member of a zip archive: how long its name and more of it are
_BEGIN = b"\x80"  # of every pickle that PyTorch wrote
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the form before 2020
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # the upper half of a float32
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_BFLOAT16 = "BFloat16Storage"
_WIDENED = (_BFLOAT16, "HalfStorage")  # to float32, which numpy computes with
# Trainers keep the accuracy reached beside the weights, as a number of numpy, and what their schedule and
# their optimizer know; nothing of it is needed.
_UNREAD = (
    "__builtin__ bytearray",
    "__builtin__ complex",
    "__builtin__ set",
    "collections Counter",
    "numpy dtype",
    "numpy.dtypes Float32DType",
    "numpy.dtypes Float64DType",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "_codecs encode",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    "torch._utils _rebuild_sparse_tensor",
)
_UNREAD_OBJECTS = ("argparse Namespace",)  # the options that a script was given, as torchvision's own keeps


class UnknownStepError(Exception):
    """The file holds, or would do, something else than weights need."""


class _Name(str):
    """Of something that a pickle asks for: its module and its name in it."""

    __slots__ = ()


class _Unread:
    """What was not read."""


_KEYS = (str, int, float, bool, type(None), _Name, _Unread)  # of a dict; to look up a tuple may take for ever


class _Mark:
    """Where a list of values on the stack begins."""


class _Storage(NamedTuple):
    """Numbers of one type."""

    kind: str
    """A name in ``_TYPES``."""
    key: str
    """Under which the file has them."""
    length: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, its numbers not read yet."""

    shape: tuple[int, ...]
    _storage: _Storage
    _offset: int
    _strides: tuple[int, ...]
    _read: Callable[[_Storage], bytes] = field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """How many numbers it says it has."""
        return math.prod(self.shape)

    @property
    def claims_too_much(self) -> bool:
        """Whether it has more numbers than its storage, as one made of repeated ones has."""
        return self.count > self._storage.length

    def array(self) -> Numbers:
        """Its numbers; those of bfloat16 and halves become float32, which numpy computes with.

        Raises:
            ValueError: the file has fewer numbers than it says.
            OSError: it cannot be read.
        """
        dtype = np.dtype(_TYPES[self._storage.kind])
        if self.count == 0:
            return np.zeros(self.shape, np.float32 if self._storage.kind in _WIDENED else dtype)
        flat = np.frombuffer(self._read(self._storage), dtype, self._storage.length)
        reach = sum((side - 1) * stride for side, stride in zip(self.shape, self._strides, strict=True))
        if min(self._offset, *self.shape, *self._strides, 0) < 0 or self._offset + reach >= len(flat):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [stride * dtype.itemsize for stride in self._strides]
        values = np.lib.stride_tricks.as_strided(
            flat[self._offset :], self.shape, strides, writeable=False
        ).copy()
        if self._storage.kind == _BFLOAT16:
            return np.asarray(values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32) if self._storage.kind in _WIDENED else values


def read_saved(path: Path) -> Any:
    """What a file holds: dicts, lists, plain values, and each tensor as a :class:`StoredTensor`.

    Raises:
        UnknownStepError: there is something else in it, or it is no such file.
        ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile: it is damaged.
        OSError: it cannot be read.
    """
    if zipfile.is_zipfile(path):
        return _read_archive(path)
    with path.open("rb") as file:
        begin = file.read(2)
    if begin == b"PK" or not begin:
        raise EOFError("its end is missing" if begin else "it is empty")
    if begin[:1] != _BEGIN:
        raise UnknownStepError("no pickle")
    return _read_in_a_row(path)


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        described = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(described) != 1:
            raise UnknownStepError("an archive of something else")
        folder = described[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder").strip() != b"little":
            raise UnknownStepError("numbers whose first byte is the highest")
        content = archive.read(described[0])

    @lru_cache(maxsize=1)  # many tensors may be parts of one storage
    def read(storage: _Storage) -> bytes:
        member = archive.getinfo(f"{folder}data/{storage.key}")  # which a closed one knows too
        if member.compress_type != zipfile.ZIP_STORED:
            raise UnknownStepError("packed numbers")
        # A ZipFile would read the list of all members again for each; one kept open would keep the file.
        with path.open("rb") as file:
            file.seek(member.header_offset + _LENGTHS_AT)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            file.seek(name_length + extra_length, io.SEEK_CUR)
            return file.read(member.file_size)

    return _value(io.BytesIO(content), read)


def _read_in_a_row(path: Path) -> Any:
    """Four pickles, the keys of all storages, and the storages in that order."""
    places: dict[str, tuple[int, int]] = {}

    @lru_cache(maxsize=1)  # many tensors may be parts of one storage
    def read(storage: _Storage) -> bytes:
        begin, length = places[storage.key]
        if storage.length != length:
            raise ValueError("a storage is said to be of two lengths")
        with path.open("rb") as file:
            file.seek(begin)
            return file.read(length * np.dtype(_TYPES[storage.kind]).itemsize)

    with path.open("rb") as file:
        if _value(file, read) != _MAGIC or _value(file, read) != _VERSION:
            raise UnknownStepError("not a file of weights")
        if not _value(file, read)["little_endian"]:
            raise UnknownStepError("numbers whose first byte is the highest")
        sizes: dict[str, int] = {}
        content = _value(file, read, sizes)
        for key in _value(file, read):
            length = int.from_bytes(file.read(8), "little", signed=True)
            places[key] = file.tell(), length
            end = file.tell() + length * sizes[key]
            if not file.tell() <= end <= path.stat().st_size:
                raise EOFError("a storage is longer than the file")
            file.seek(end)
    return content


def _value(file: IO[bytes], read: Callable[[_Storage], bytes], sizes: dict[str, int] | None = None) -> Any:
    """The value of the pickle at which ``file`` is; of each storage ``sizes`` gets the bytes of a number."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, given, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (value,) = stack
                return value
            case "MARK":
                stack.append(_Mark)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(given)
            case "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(given)
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append({} if opcode.name == "EMPTY_DICT" else [])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(_since_mark(stack)))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack[-int(opcode.name[-1]) :] = [tuple(stack[-int(opcode.name[-1]) :])]
            case "BINPUT" | "LONG_BINPUT":
                memo[given] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[given])
            case "APPEND" | "APPENDS":
                values = [stack.pop()] if opcode.name == "APPEND" else _since_mark(stack)
                _put(stack[-1], list, enumerate(values))
            case "SETITEM" | "SETITEMS":
                values = _since_mark(stack) if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                _put(stack[-1], dict, zip(values[::2], values[1::2], strict=True))
            case "BUILD":
                stack.pop()  # what else is known of an object: of weights, nothing that is needed
            case "GLOBAL":
                stack.append(_Name(given))
            case "STACK_GLOBAL":
                stack[-2:] = [_Name(" ".join(stack[-2:]))]
            case "BINPERSID":
                stack.append(_storage(stack.pop(), {} if sizes is None else sizes))
            case "NEWOBJ" if stack[-2] in _UNREAD_OBJECTS:
                stack[-2:] = [_Unread()]
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_reduced(stack.pop(), arguments, read))
            case other:
                raise UnknownStepError(f"a step {other}")
    raise EOFError("cut off")


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take what came after the last mark, and the mark."""
    at = next(number for number in reversed(range(len(stack))) if stack[number] is _Mark)
    values = stack[at + 1 :]
    del stack[at:]
    return values


def _put(target: Any, kind: type[list[Any] | dict[Any, Any]], items: Iterable[tuple[Any, Any]]) -> None:
    if type(target) is not kind:
        raise UnknownStepError(f"values put into: {type(target).__name__}")
    for key, value in items:
        if type(key) not in _KEYS:
            raise UnknownStepError(f"a key: {type(key).__name__}")
        if isinstance(target, list):
            target.append(value)
        else:
            target[key] = value


def _storage(described: Any, sizes: dict[str, int]) -> _Storage:
    """Of ``("storage", type, key, device, length)``; before 2020 with what it is a view of."""
    if not isinstance(described, tuple) or len(described) not in (5, 6):  # a module's source, for one
        raise UnknownStepError("something that is stored otherwise")
    word, kind, key, _, length, *view = described
    module, _, name = kind.partition(" ") if isinstance(kind, _Name) else ("", "", "")
    is_plain = word == "storage" and module == "torch" and name in _TYPES and not any(view)
    if not is_plain or not isinstance(key, str) or not isinstance(length, int):
        raise UnknownStepError("numbers of an unknown type")
    sizes[key] = np.dtype(_TYPES[name]).itemsize
    return _Storage(name, key, length)


def _reduced(name: Any, arguments: Any, read: Callable[[_Storage], bytes]) -> Any:
    """What something that is called stands for."""
    if not isinstance(name, _Name):
        raise UnknownStepError(f"a call of: {type(name).__name__}")
    match name:
        case "collections OrderedDict" if arguments == ():
            return {}
        case "torch._utils _rebuild_tensor_v2":
            storage, offset, shape, strides, *_ = arguments
            whole = (offset, *shape, *strides)
            if not isinstance(storage, _Storage) or not all(isinstance(number, int) for number in whole):
                raise UnknownStepError("a tensor without numbers")
            return StoredTensor(tuple(shape), storage, offset, tuple(strides), read)
        case "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state":
            return arguments[0]
        case "torch._tensor _rebuild_from_type_v2":  # something more was noted at a tensor
            return _reduced(arguments[0], arguments[2], read)
        case _ if name in _UNREAD:
            return _Unread()
    raise UnknownStepError(f"a call of: {name}")


def kind_of(value: object) -> str:
    """The type of a value, for a message."""
    if isinstance(value, StoredTensor):
        return "Tensor"
    return "something else" if isinstance(value, _Unread | _Name | _Storage) else type(value).__name__
