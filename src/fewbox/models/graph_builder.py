"""Write an ONNX graph step by step, without the package onnx; and the pieces that families have in common.

What a step gives is called by its name, a string; constants are made where they are used. Only operators
that ONNX Runtime, its build for browsers and OpenVINO all have are used, and no numbers of 64-bit
floating point, which some of them round to 32 bits.

After the network the boxes and scores of all anchors become the detections of each photo, the same as
``find`` of each network, for many photos at once. Detections are rows: the photo they are of, the anchor,
the class. One row too many, of score -1, goes along, since steps over no rows at all are where runtimes
differ.

In a file all is messages of protobuf, whose fields have the numbers of ``onnx/onnx.proto``; ``protobuf.py``
reads what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbox import __version__
from fewbox.models.families import Config

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 10  # what ONNX Runtime 1.18, of 2024, reads already
FLOAT, UINT8, INT64, BFLOAT16 = 1, 2, 7, 16
"""Of ``TensorProto.DataType``."""
_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int64): INT64}

Shape = Sequence[int | str]
"""Of a tensor; a length that is not known has a name."""


class GraphBuilder:
    """Nodes and constants in the order in which they were asked for; their names begin with ``prefix``.

    Attributes:
        node_bytes: the nodes as a file holds them.
        constant_bytes: the constants, likewise.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.node_bytes: list[bytes] = []
        self.constant_bytes: list[bytes] = []

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, for the package onnx."""
        import onnx

        return [onnx.NodeProto.FromString(content) for content in self.node_bytes]

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """The constants, for the package onnx."""
        import onnx

        return [onnx.TensorProto.FromString(content) for content in self.constant_bytes]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One step with one output; the output's name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """One step with several outputs; their names."""
        base = f"{self.prefix}/{len(self.node_bytes)}_{kind}"
        names = [base if number == 0 else f"{base}_{number}" for number in range(outputs)]
        self.node_bytes.append(node_message(kind, inputs, names, attributes))
        return names

    def rename(self, name: str, output: str) -> None:
        """Give ``name`` as the graph's ``output``."""
        self.node_bytes.append(node_message("Identity", [name], [output], {}))

    def constant(self, values: NDArray[Any], name: str | None = None) -> str:
        """An array as it is, under a name of its own if it has one."""
        name = name or f"{self.prefix}/constant_{len(self.constant_bytes)}"
        self.constant_bytes.append(constant_message(name, values))
        return name

    def model(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> bytes:
        """The content of a file with all that was asked for; what goes in and comes out is float32."""
        described = (
            [value_message(name, FLOAT, shape) for name, shape in some.items()] for some in (inputs, outputs)
        )
        return model_message(
            self.node_bytes, self.constant_bytes, *described, version=__version__, metadata={}
        )

    def numbers(self, *values: int) -> str:
        """``[len(values)]`` int64."""
        return self.constant(np.array(values, np.int64))

    def number_row(self, *values: int) -> str:
        """``[1, len(values)]`` int64."""
        return self.constant(np.array([values], np.int64))

    def number(self, value: int) -> str:
        """One int64 without a shape."""
        return self.constant(np.array(value, np.int64))

    def real(self, value: float) -> str:
        """One float32 without a shape."""
        return self.constant(np.array(value, np.float32))

    def to_float(self, name: str) -> str:
        """The same numbers as float32."""
        return self.op("Cast", name, to=FLOAT)

    def to_int(self, name: str) -> str:
        """The same numbers as int64, cut to whole ones."""
        return self.op("Cast", name, to=INT64)

    def rounded(self, name: str) -> str:
        """The same float32 numbers rounded to bfloat16."""
        return self.to_float(self.op("Cast", name, to=BFLOAT16))

    def divide(self, numerator: str, denominator: str) -> tuple[str, str]:
        """Quotient and remainder of int64, rounded down; numbers up to 2**31, quotients up to 2**24.

        OpenVINO divides whole numbers as float32, and a quotient of large ones may come out one off: what
        is left over shows it.
        """
        rough = self.op("Div", numerator, denominator)
        left = self.op("Sub", numerator, self.op("Mul", rough, denominator))
        is_low = self.to_int(self.op("GreaterOrEqual", left, denominator))
        is_high = self.to_int(self.op("Less", left, self.number(0)))
        by = self.op("Sub", is_low, is_high)
        return self.op("Add", rough, by), self.op("Sub", left, self.op("Mul", by, denominator))

    def size(self, name: str, axis: int) -> str:
        """The length of an axis, without a shape."""
        return self.op("Gather", self.op("Shape", name), self.number(axis))

    def row(self, scalars: Sequence[str]) -> str:
        """Numbers without a shape as one list ``[len(scalars)]``."""
        axis = self.numbers(0)
        return self.op("Concat", *(self.op("Unsqueeze", scalar, axis) for scalar in scalars), axis=0)

    def cells(self, maps: str) -> str:
        """Maps ``[N, D, h, w]`` as one row for each cell, ``[N, h * w, D]``."""
        flat = self.op("Reshape", maps, self.numbers(0, 0, -1))
        return self.op("Transpose", flat, perm=[0, 2, 1])

    def count_up(self, length: str) -> str:
        """0, 1, ... up to, and without, ``length``: int64."""
        return self.op("Range", self.number(0), length, self.number(1))


@dataclass(frozen=True)
class Prepared:
    """Names of what the last part of the graph needs of the first."""

    images: str
    """``[N, 3, h, w]``: the network's input."""
    photo_hw: tuple[str, str]
    """Height and width of the photos, int64 without a shape."""
    covered_hw: tuple[str, str] | None
    """What of the input the photos cover, int64 without a shape; None where that is always all."""
    photo_per_input: str
    """``[4]``: boxes in pixels of the input times this are in pixels of the photos."""


@dataclass(frozen=True)
class Rows:
    """Names of the detections' columns, the best first."""

    photo_ids: str
    """``[K]`` int64."""
    class_ids: str
    """``[K]`` int64."""
    scores: str
    """``[K]`` float32."""
    boxes: str
    """``[K, 4]``."""
    ranks: str
    """``[K]`` int64: how many of its photo are better; -1 of the row that is none."""


def touching(
    g: GraphBuilder, photo_hw: tuple[str, str], within_hw: tuple[int, int] | tuple[str, str]
) -> tuple[str, str]:
    """The size that photos have inside a frame that they touch on one side, cut to whole pixels."""
    h, w = (g.number(side) if isinstance(side, int) else side for side in within_hw)
    height, width = photo_hw
    is_tall = g.op("LessOrEqual", g.op("Mul", h, width), g.op("Mul", w, height))
    one = g.number(1)
    low = g.op("Max", g.divide(g.op("Mul", height, w), width)[0], one)
    thin = g.op("Max", g.divide(g.op("Mul", width, h), height)[0], one)
    return g.op("Where", is_tall, h, low), g.op("Where", is_tall, thin, w)


def neighbours_within(g: GraphBuilder, first: str, length: str) -> list[str]:
    """Positions and those after them; beyond the border the last pixel is repeated."""
    last = g.op("Sub", length, g.number(1))
    return [
        g.op("Max", g.op("Min", position, last), g.number(0))
        for position in (first, g.op("Add", first, g.number(1)))
    ]


def classes_first(g: GraphBuilder, scores: str) -> str:
    """Scores ``[N, A, C]`` as ``[N, C, A]``, which ``NonMaxSuppression`` takes."""
    return g.op("Transpose", scores, perm=[0, 2, 1])


def nms_steps(
    g: GraphBuilder, boxes: str, class_scores: str, threshold: str, config: Config, max_per_class: int
) -> Rows:
    """What is left of candidates ``[N, M, 4]``, ``[N, C, M]``: not more than ``max_detections`` a photo."""
    chosen = g.op(
        "NonMaxSuppression",
        boxes,
        class_scores,
        g.numbers(max_per_class),
        g.constant(np.array([config.iou_threshold], np.float32)),
        g.op("Unsqueeze", threshold, g.numbers(0)),
    )  # [K, 3]: photo, class, candidate
    of_chosen = g.op("GatherND", class_scores, chosen)
    unsorted = g.op("Concat", of_chosen, g.constant(np.array([-1], np.float32)), axis=0)
    chosen = g.op("Concat", chosen, g.number_row(0, 0, 0), axis=0)
    scores, order = g.ops("TopK", unsorted, g.op("Shape", unsorted), outputs=2)
    chosen = g.op("Gather", chosen, order, axis=0)
    is_one = g.op("Greater", scores, g.real(0))
    ranks = _ranks(g, g.op("Gather", chosen, g.number(0), axis=1), is_one, g.size(boxes, 0))
    kept = _true_rows(g, g.op("Less", ranks, g.number(config.max_detections)))
    chosen = g.op("Gather", chosen, kept, axis=0)
    return Rows(
        photo_ids=g.op("Gather", chosen, g.number(0), axis=1),
        class_ids=g.op("Gather", chosen, g.number(1), axis=1),
        scores=g.op("Gather", scores, kept),
        boxes=g.op("GatherND", boxes, g.op("Gather", chosen, g.numbers(0, 2), axis=1)),
        ranks=g.op("Gather", ranks, kept),
    )


def _ranks(g: GraphBuilder, photo_ids: str, counted: str, num_photos: str) -> str:
    """How many of the rows before each ``[K]`` that are ``counted`` are of its photo; -1 if it is not."""
    of_photo = g.op("Equal", g.op("Unsqueeze", photo_ids, g.numbers(1)), g.count_up(num_photos))  # [K, N]
    counts = g.to_int(g.op("And", of_photo, g.op("Unsqueeze", counted, g.numbers(1))))
    so_far = g.op("Mul", g.op("CumSum", counts, g.number(0)), counts)
    return g.op("Sub", g.op("ReduceSum", so_far, g.numbers(1), keepdims=0), g.number(1))


def _true_rows(g: GraphBuilder, mask: str) -> str:
    """The numbers of the rows ``[K]`` where ``mask`` is true."""
    return g.op("Squeeze", g.op("NonZero", mask), g.numbers(0))


def clipped(g: GraphBuilder, boxes: str, size_hw: tuple[str, str]) -> str:
    """Boxes ``[..., 4]`` with every edge inside."""
    height, width = map(g.to_float, size_hw)
    return g.op("Min", g.op("Max", boxes, g.real(0)), g.row([width, height, width, height]))


def write_outputs(
    g: GraphBuilder, prepared: Prepared, rows: Rows, num_photos: str, max_detections: int
) -> None:
    """Rows become the graph's outputs; those without an inside, once clipped to the photo, are dropped."""
    in_photo = clipped(g, g.op("Mul", rows.boxes, prepared.photo_per_input), prepared.photo_hw)
    low, high = (
        g.op("Slice", in_photo, g.numbers(start), g.numbers(start + 2), g.numbers(1)) for start in (0, 2)
    )
    spans = g.op("ReduceMin", g.op("Sub", high, low), g.numbers(1), keepdims=0)
    is_kept = g.op("And", g.op("GreaterOrEqual", rows.ranks, g.number(0)), g.op("Greater", spans, g.real(0)))
    ranks = _ranks(g, rows.photo_ids, is_kept, num_photos)
    # What is dropped goes to a place after the last, which is cut off.
    places = g.op("Where", is_kept, ranks, g.number(max_detections))
    index = g.op(
        "Concat", *(g.op("Unsqueeze", ids, g.numbers(1)) for ids in (rows.photo_ids, places)), axis=1
    )
    for output, values, filling, rest in (
        ("boxes", in_photo, np.zeros(1, np.float32), (4,)),
        ("scores", rows.scores, np.zeros(1, np.float32), ()),
        ("class_ids", rows.class_ids, np.full(1, -1, np.int64), ()),
    ):
        shape = g.row([num_photos, g.number(max_detections + 1), *map(g.number, rest)])
        empty = g.op("Expand", g.constant(filling), shape)
        filled = g.op("ScatterND", empty, index, values)
        g.rename(g.op("Slice", filled, g.numbers(0), g.numbers(max_detections), g.numbers(1)), output)


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


def node_message(
    kind: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Mapping[str, Any]
) -> bytes:
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


def constant_message(name: str, values: NDArray[Any]) -> bytes:
    """A tensor of float32, int64 or uint8."""
    shape = b"".join(_whole(1, side) for side in values.shape)
    return shape + _whole(2, _TYPES[values.dtype]) + _piece(8, name) + _piece(9, values.tobytes())


def value_message(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    """What an input or output is: its type, and its shape, of which a length may be a word."""
    sides = (_whole(1, side) if isinstance(side, int) else _piece(2, side) for side in shape)
    of_tensor = _whole(1, kind) + _piece(2, b"".join(_piece(1, side) for side in sides))
    return _piece(1, name) + _piece(2, _piece(1, of_tensor))


def model_message(
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
        nodes: as of :func:`node_message`, in an order in which they can be computed.
        constants: as of :func:`constant_message`.
        inputs: as of :func:`value_message`.
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
