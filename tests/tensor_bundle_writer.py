"""Write a TensorFlow checkpoint (``TensorBundle``) as small as a test needs, well-formed or not.

    write_bundle(folder / "ckpt-0", {"model/kernel": array}, full_names={"model/kernel": "conv/kernel"})

Names are paths in the tree of objects; a key is a path with ``VARIABLE`` after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
STRING, BFLOAT16 = 7, 14
DTYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}


@dataclass(frozen=True)
class Stored:
    """A tensor as the files hold it; each part may be made wrong."""

    dtype: int
    shape: tuple[int, ...]
    data: bytes
    checksum: int
    slices: tuple[bytes, ...] = ()


def plain(array: np.ndarray[Any, Any]) -> Stored:
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return Stored(DTYPES[array.dtype.name], array.shape, data, masked(google_crc32c.value(data)))


def bfloat16(array: np.ndarray[Any, Any]) -> Stored:
    """The upper halves of float32 numbers."""
    data = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return Stored(BFLOAT16, array.shape, data, masked(google_crc32c.value(data)))


def string(text: bytes) -> Stored:
    size = struct.pack("<I", len(text))
    size_checksum = struct.pack("<I", masked(google_crc32c.value(size)))
    checksum = masked(google_crc32c.value(size + size_checksum + text))
    return Stored(STRING, (), varint(len(text)) + size_checksum + text, checksum)


def write_bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray[Any, Any] | Stored],
    *,
    full_names: Mapping[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
    graph: bytes | None = None,
    num_shards: int = 1,
    block_bytes: int = 4096,
    compression: int = 0,
    header: bytes | None = None,
) -> None:
    """Write the index and the data files; tensors go to the data files in turn.

    Args:
        prefix: the path without ``.index``.
        tensors: by path; an array is stored as it is.
        full_names: the Keras names, by path; without them and ``graph`` there is no object graph.
        aliases: further paths and the paths in ``tensors`` that they lead to.
        graph: an object graph to take as it is.
        num_shards: how many data files.
        block_bytes: a block of the index is closed when it has reached this size.
        compression: the compression that every block claims.
        header: a header to take as it is.
    """
    stored = {f"{path}{VARIABLE}": t if isinstance(t, Stored) else plain(t) for path, t in tensors.items()}
    if full_names is not None:
        graph = object_graph(full_names, aliases or {})
    if graph is not None:
        stored[GRAPH] = string(graph)
    shards = [bytearray() for _ in range(num_shards)]
    items = {b"": field(1, num_shards) + field(3, field(1, 1)) if header is None else header}
    for number, (key, tensor) in enumerate(stored.items()):
        shard = shards[number % num_shards]
        items[key.encode()] = entry(tensor, number % num_shards, len(shard))
        shard += tensor.data
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(table(sorted(items.items()), block_bytes, compression))
    for number, shard in enumerate(shards):
        Path(f"{prefix}.data-{number:05d}-of-{num_shards:05d}").write_bytes(shard)


def entry(tensor: Stored, shard: int, offset: int) -> bytes:
    shape = b"".join(field(2, field(1, side)) for side in tensor.shape)
    numbers = field(3, shard) + field(4, offset) + field(5, len(tensor.data))
    checksum = varint(6 << 3 | 5) + struct.pack("<I", tensor.checksum)
    return (
        field(1, tensor.dtype)
        + field(2, shape)
        + numbers
        + checksum
        + b"".join(field(7, s) for s in tensor.slices)
    )


def object_graph(full_names: Mapping[str, str], aliases: Mapping[str, str]) -> bytes:
    """A ``TrackableObjectGraph`` with a node for every part of every path."""
    nodes: dict[str, int] = {"": 0}
    children: dict[int, list[tuple[str, int]]] = {0: []}

    def add(path: str, target: int | None = None) -> None:
        parent, _, name = path.rpartition("/")
        if parent not in nodes:
            add(parent)
        if path not in nodes:
            nodes[path] = len(nodes) if target is None else target
            children.setdefault(nodes[path], [])
            children[nodes[parent]].append((name, nodes[path]))

    for path in full_names:
        add(path)
    variables = {nodes[path]: (full_name, f"{path}{VARIABLE}") for path, full_name in full_names.items()}
    for path, stored_path in aliases.items():
        add(path, nodes[stored_path])
    graph = b""
    for number, links in children.items():
        node = b"".join(field(1, field(1, child) + field(2, name)) for name, child in links)
        if number in variables:
            full_name, key = variables[number]
            node += field(2, field(1, "VARIABLE_VALUE") + field(2, full_name) + field(3, key))
        graph += field(1, node)
    return graph


def table(items: Iterable[tuple[bytes, bytes]], block_bytes: int, compression: int = 0) -> bytes:
    """Sorted items as a table of blocks with its footer."""
    file, places, block, last = b"", [], [], b""
    for key, value in items:
        block.append((key, value))
        last = key
        if sum(len(k) + len(v) for k, v in block) >= block_bytes:
            file, place = add_block(file, block, compression)
            places.append((last, place))
            block = []
    if block:
        file, place = add_block(file, block, compression)
        places.append((last, place))
    file, statistics = add_block(file, [], compression)
    file, block_list = add_block(file, places, compression)
    footer = (statistics + block_list).ljust(40, b"\0")
    return file + footer + MAGIC


def table_of_block(content: bytes) -> bytes:
    """A table whose only block has this content, which may be malformed, and right checksums."""
    place = varint(0) + varint(len(content))
    block_list = varint(0) + varint(1) + varint(len(place)) + b"z" + place + struct.pack("<II", 0, 1)
    return table_of_list(content + trailer(content), block_list)


def table_of_list(file: bytes, block_list: bytes) -> bytes:
    """A table of the blocks in ``file``, which need not be where the list says."""
    footer = varint(0) * 2 + varint(len(file)) + varint(len(block_list))
    return file + block_list + trailer(block_list) + footer.ljust(40, b"\0") + MAGIC


def add_block(file: bytes, items: list[tuple[bytes, bytes]], compression: int) -> tuple[bytes, bytes]:
    """The file with one more block, and the place of the block."""
    content, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % 16 == 0:  # here a search may start, so the key is whole
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    content += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    return file + content + trailer(content, compression), varint(len(file)) + varint(len(content))


def trailer(content: bytes, compression: int = 0) -> bytes:
    method = bytes([compression])
    return method + struct.pack("<I", masked(google_crc32c.value(content + method)))


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # as protobuf stores negative numbers
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
