"""Write a piece of an ONNX graph step by step.

What a step gives is called by its name, a string; constants are made where they are used. Only operators
that ONNX Runtime, its build for browsers and OpenVINO all have are used, and no numbers of 64-bit
floating point, which some of them round to 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

OPSET = 18


class GraphBuilder:
    """Nodes and constants in the order in which they were asked for; their names begin with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One step with one output; the output's name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """One step with several outputs; their names."""
        base = f"{self.prefix}/{len(self.nodes)}_{kind}"
        names = [base if number == 0 else f"{base}_{number}" for number in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), names, name=base, **attributes))
        return names

    def rename(self, name: str, output: str) -> None:
        """Give ``name`` as the graph's ``output``."""
        self.nodes.append(onnx.helper.make_node("Identity", [name], [output], name=f"{self.prefix}/{output}"))

    def constant(self, values: NDArray[Any]) -> str:
        """An array as it is."""
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

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
        return self.op("Cast", name, to=onnx.TensorProto.FLOAT)

    def to_int(self, name: str) -> str:
        """The same numbers as int64, cut to whole ones."""
        return self.op("Cast", name, to=onnx.TensorProto.INT64)

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
    covered_hw: tuple[str, str]
    """What of the input the photos cover, int64 without a shape."""
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
