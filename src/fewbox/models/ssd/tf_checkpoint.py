"""Read the checkpoints of TensorFlow 2 (``TensorBundle``) without TensorFlow.

A checkpoint called ``ckpt-0`` is a few files:

``ckpt-0.index``
    a table of blocks, the format of LevelDB: sorted keys, each stored as its difference
    from the key before. The value is a small protobuf: dtype, shape, place, checksum.
``ckpt-0.data-00000-of-00001``
    the tensors' bytes one after another, mapped into memory and never copied.
``_CHECKPOINTABLE_OBJECT_GRAPH``
    one string among the tensors: the Python objects that held the variables. An object
    with two parents is stored under either's name for it; the graph knows the other.

The files come from strangers. Every length is checked against what is really there before
it is used, checksums are compared, and whatever is wrong becomes a
:class:`~fewbox.errors.CheckpointError` that names the file and the tensor.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from fewbox.errors import CheckpointError
from fewbox.models.protobuf import Cursor, FaultError, Message, blaming

# Far above any real checkpoint; they keep a hostile one from filling the memory.
_MAX_INDEX_BYTES = _MAX_GRAPH_BYTES = 16 << 20  # ResNet-50: 31 kB and 107 kB
_MAX_TENSORS = _MAX_OBJECTS = 1 << 17
_MAX_KEY_BYTES = 2048
_MAX_RANK, _MAX_ELEMENTS = 32, 1 << 40  # numpy 1 holds no higher rank

_FOOTER_BYTES, _TABLE_MAGIC = 48, bytes.fromhex("57fb808b247547db")
_TRAILER = struct.Struct("<BI")  # after each block: how it is compressed, and its checksum
_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"

# DataType of tensorflow/core/framework/types.proto; bfloat16 is widened after reading.
_STRING, _BFLOAT16 = 7, 14
_FLOATS = {1: "<f4", 2: "<f8", 19: "<f2", _BFLOAT16: "<u2"}
_INTEGERS = {3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 22: "<u4", 23: "<u8"}
_NUMPY_DTYPES = _FLOATS | _INTEGERS

_DOWNLOAD_AGAIN = "the files are damaged or incomplete; download the archive again"
_USE_TF2 = "use a checkpoint of the TensorFlow 2 Object Detection API, as its model zoo offers them"


@contextmanager
def _blaming(place: object) -> Iterator[None]:
    """As :func:`blaming`, for a file that came in an archive: without it the archive is incomplete."""
    with blaming(place, if_damaged=_DOWNLOAD_AGAIN):
        try:
            yield
        except FileNotFoundError as error:
            raise FaultError("no such file") from error


def _crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """The checksum as it is stored: masked, so that data that holds checksums has a sound one itself."""
    crc = 0
    for start in range(0, len(data), 1 << 20):  # by the megabyte, as a mapped file is copied for it
        crc = google_crc32c.extend(crc, bytes(data[start : start + (1 << 20)]))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _table_items(table: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Every key and value of a table, in order."""
    if len(table) < _FOOTER_BYTES or table[-len(_TABLE_MAGIC) :] != _TABLE_MAGIC:
        raise FaultError("not the index of a TensorFlow checkpoint, or cut short")
    footer = Cursor(table[-_FOOTER_BYTES:])
    # Two places: of a block of statistics, which TensorFlow leaves empty, and of the list of blocks.
    _, _, offset, size = (footer.number() for _ in range(4))
    end, last = 0, None
    for _, place in _block_items(_block(table, offset, size)):
        offset, size = (cursor := Cursor(place)).number(), cursor.number()
        # Blocks in order and keys in order: so nothing is read twice, whatever the places say.
        if offset < end:
            raise FaultError(f"its blocks overlap at byte {offset}")
        end = offset + size + _TRAILER.size
        for key, value in _block_items(_block(table, offset, size)):
            if last is not None and key <= last:
                raise FaultError(f"its keys are out of order at {key[:80]!r}")
            yield key, value
            last = key


def _block(table: memoryview, offset: int, size: int) -> memoryview:
    """The content of one block, its checksum compared."""
    cursor = Cursor(table[offset:])
    content = cursor.piece(size)
    method, checksum = _TRAILER.unpack(cursor.piece(_TRAILER.size))
    if checksum != _crc32c(bytes(content) + bytes([method])):
        raise FaultError(f"the block at byte {offset} is damaged (CRC32C differs)")
    if method:
        how = "snappy" if method == 1 else f"method {method}"
        raise FaultError(f"the block at byte {offset} is compressed ({how}), which is not read", _USE_TF2)
    return content


def _block_items(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a block, in order."""
    # At the end lies a list of places where a search may start. All is read here: it is cut off.
    restarts = int.from_bytes(block[-4:], "little")
    if len(block) < 4 + 4 * restarts:
        raise FaultError(f"a block of {len(block)} bytes announces {restarts} restarts")
    items, key = Cursor(block[: len(block) - 4 - 4 * restarts]), b""
    while not items.is_at_end():
        shared, added, size = items.number(), items.number(), items.number()
        if shared > len(key) or shared + added > _MAX_KEY_BYTES:
            raise FaultError(f"a key takes {shared} bytes from one of {len(key)} and adds {added}")
        key = key[:shared] + items.piece(added)
        yield key, items.piece(size)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the index says of one tensor (``BundleEntryProto``)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_partitioned: bool

    @classmethod
    def parse(cls, data: memoryview) -> Self:
        message = Message(data)
        shape = tuple(side.integer(1) for shape in message.messages(2) for side in shape.messages(2))
        if len(shape) > _MAX_RANK or math.prod(max(side, 1) for side in shape) > _MAX_ELEMENTS:
            raise FaultError(f"absurd shape: {list(shape[:_MAX_RANK])}")
        dtype, shard, offset, size = (message.integer(number) for number in (1, 3, 4, 5))
        checksum = int.from_bytes(b"".join(message.pieces(6)[-1:]), "little")
        return cls(dtype, shape, shard, offset, size, checksum, is_partitioned=bool(message.pieces(7)))

    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the stored bytes, which must be as many as the shape asks for."""
        if self.is_partitioned:
            raise FaultError("a partitioned variable, whose parts are not joined here", _USE_TF2)
        if self.dtype not in _NUMPY_DTYPES:
            name = "strings" if self.dtype == _STRING else f"TensorFlow's type number {self.dtype}"
            raise FaultError(f"holds {name}, not plain numbers", _USE_TF2)
        dtype = np.dtype(_NUMPY_DTYPES[self.dtype])
        if math.prod(self.shape) * dtype.itemsize != self.size:
            raise FaultError(f"shape {list(self.shape)} does not fit its {self.size} bytes")
        return dtype


class TensorBundle:
    """An open checkpoint: the index in memory, the tensors read when asked for.

    As a context manager it lets go of its files at the end of the block. Arrays it has
    given stay valid: a file is unmapped with the last of them.

    Every method raises CheckpointError for files missing, damaged or of a kind not read here.
    """

    def __init__(self, prefix: Path, num_shards: int) -> None:
        self.prefix = prefix
        self._num_shards = num_shards
        self._entries: dict[str, _Entry] = {}
        self._shards: dict[int, NDArray[np.uint8]] = {}

    @classmethod
    def open(cls, prefix: Path) -> Self:
        """Read the index of the checkpoint ``prefix`` (``.../ckpt-0``); no tensor is read yet."""
        path = Path(f"{prefix}.index")
        with _blaming(path):
            if path.stat().st_size > _MAX_INDEX_BYTES:
                raise FaultError(f"too large for an index: {path.stat().st_size} bytes")
            items = _table_items(memoryview(path.read_bytes()))
            key, value = next(items, (b"no first key", memoryview(b"")))
            if key:
                raise FaultError("the index has no header")
            header = Message(value)  # BundleHeaderProto
            if header.integer(2):
                raise FaultError("its numbers are stored big-endian, which is not read", _USE_TF2)
            bundle = cls(prefix, header.integer(1))
            for key, value in items:
                if len(bundle._entries) == _MAX_TENSORS:
                    raise FaultError(f"more than {_MAX_TENSORS} tensors")
                # After a zero byte: a part of a partitioned variable, which is refused by its own name.
                if not key.startswith(b"\0"):
                    bundle._entries[key.decode()] = _Entry.parse(value)
        bundle._check_places()
        return bundle

    def _check_places(self) -> None:
        """See that every tensor lies inside its data file: a cut download is noticed at once."""
        sizes: dict[int, int] = {}
        for key, entry in self._entries.items():
            path, end = self._shard_path(entry), entry.offset + entry.size
            with _blaming(path):
                size = sizes[entry.shard] = sizes.get(entry.shard) or path.stat().st_size
                if end > size:
                    raise FaultError(f"{key} ends at byte {end}, the file already at byte {size}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shards.clear()

    def keys(self) -> list[str]:
        """The key of every tensor, sorted; the object graph is not one of them."""
        return sorted(self._entries.keys() - {_GRAPH_KEY})

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, known from the index alone."""
        return self._entry(key).shape

    def read(self, key: str) -> NDArray[Any]:
        """A tensor as a read-only view of the file, its checksum compared; bfloat16 becomes float32.

        The view may be unaligned, as a writer packs tensors of different dtypes tightly.
        """
        entry = self._entry(key)
        with _blaming(f"{self._shard_path(entry)}: {key}"):
            dtype = entry.numpy_dtype()
            stored = self._stored(entry)
            if _crc32c(stored) != entry.checksum:
                raise FaultError("its bytes are damaged (CRC32C differs)")
        values = stored.view(dtype).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
            values.flags.writeable = False
        return values

    def key_at(self, path: str) -> str | None:
        """The key of the variable at ``path`` in the tree of objects, wherever it was stored.

        A path is spelled like a key without its ending, for instance
        ``model/_box_predictor/_head_scope_conv_layers/BoxPredictionTower/0/kernel``; there
        is no key when nothing is there.
        """
        node: int | None = 0
        for name in path.split("/"):
            node = None if node is None else self._graph.children[node].get(name)
        return self._graph.variables[node][1] if node in self._graph.variables else None

    @cached_property
    def _graph(self) -> _Graph:
        if _GRAPH_KEY not in self._entries:
            raise CheckpointError(f"{self.prefix}.index: has no object graph", hint=_USE_TF2)
        entry = self._entries[_GRAPH_KEY]
        with _blaming(f"{self._shard_path(entry)}: {_GRAPH_KEY}"):
            if entry.dtype != _STRING or entry.shape != () or entry.size > _MAX_GRAPH_BYTES:
                raise FaultError(f"not one string of at most {_MAX_GRAPH_BYTES} bytes")
            cursor = Cursor(memoryview(self._stored(entry).tobytes()))
            size = cursor.number()
            text = cursor.piece(4 + size)  # after a checksum of the size alone
            # The whole is summed up with the size as four bytes (TensorFlow's tensor_bundle.cc).
            if _crc32c(struct.pack("<I", size) + text) != entry.checksum:
                raise FaultError("its bytes are damaged (CRC32C differs)")
            return _Graph.parse(text[4:])

    def _entry(self, key: str) -> _Entry:
        if key not in self._entries:
            hint = "the checkpoint is of another network than its pipeline.config says"
            raise CheckpointError(f"{self.prefix}.index: no tensor named {key}", hint=hint)
        return self._entries[key]

    def _stored(self, entry: _Entry) -> NDArray[np.uint8]:
        """The bytes of a tensor, in place."""
        if entry.shard not in self._shards:
            with self._shard_path(entry).open("rb") as file:
                # A file without bytes cannot be mapped, yet it may hold empty tensors.
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b""
            self._shards[entry.shard] = np.frombuffer(content, np.uint8)
        stored = self._shards[entry.shard][entry.offset : entry.offset + entry.size]
        if len(stored) != entry.size:
            raise FaultError("the file became shorter while it was in use")
        return stored

    def _shard_path(self, entry: _Entry) -> Path:
        return Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self._num_shards:05d}")


@dataclass(frozen=True, slots=True)
class _Graph:
    """The tree of objects (``TrackableObjectGraph``); object 0 is the root."""

    children: list[dict[str, int]]  # of each object: its attributes that are objects
    variables: dict[int, tuple[str, str]]  # of each object that is one: full name and key

    @classmethod
    def parse(cls, data: memoryview) -> Self:
        stored = Message(data).pieces(1)
        if not 1 <= len(stored) <= _MAX_OBJECTS:
            raise FaultError(f"an object graph of {len(stored)} objects")
        graph = cls([], {})
        for number, node in enumerate(map(Message, stored)):
            # A name is spelled as keys spell it: a slash inside must not part it in two.
            children = {
                child.text(2).replace(".", "..").replace("/", ".S"): child.integer(1)
                for child in node.messages(1)
            }
            if max(children.values(), default=0) >= len(stored):
                raise FaultError(f"an object refers to one beyond the {len(stored)} there are")
            graph.children.append(children)
            for part in node.messages(2):
                if part.text(1) == "VARIABLE_VALUE":
                    graph.variables[number] = (part.text(2), part.text(3))
        return graph
