"""The first part of an exported graph: photos of any size become the network's input.

The same as ``batch_of`` of each network, in steps of ONNX: ``photos`` ``[N, H, W, 3]`` uint8, RGB, upright,
to ``[N, 3, h, w]`` float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbox.models.families import Config
from fewbox.models.graph_builder import GraphBuilder
from fewbox.models.letterbox import PADDING_GREY
from fewbox.models.retinanet import RetinanetConfig
from fewbox.models.ssd import SsdConfig
from fewbox.models.yolox import YoloxConfig


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


def prepare(graph: GraphBuilder, photos: str, config: Config) -> Prepared:
    """The steps for the network that ``config`` describes."""
    photo_hw = (graph.size(photos, 1), graph.size(photos, 2))
    if isinstance(config, YoloxConfig):
        return _letterboxed(graph, photos, photo_hw, config.size_hw)
    if isinstance(config, SsdConfig):
        return _stretched(graph, photos, photo_hw, config.size_hw)
    return _scaled(graph, photos, photo_hw, config)


def _letterboxed(
    g: GraphBuilder, photos: str, photo_hw: tuple[str, str], size_hw: tuple[int, int]
) -> Prepared:
    """As ``YoloxDetector.prepare``: see ``models/letterbox.py``."""
    covered_hw = _touching(g, photo_hw, size_hw)
    resized = _resize_fixed_point(g, photos, photo_hw, covered_hw)  # [N, h', w', 3]
    nothing = g.number(0)
    missing = [
        g.op("Sub", g.number(side), covered) for side, covered in zip(size_hw, covered_hw, strict=True)
    ]
    pads = g.row([nothing] * 5 + [*missing, nothing])
    padded = g.op("Pad", resized, pads, g.real(PADDING_GREY))
    blue_first = g.op("Gather", g.op("Transpose", padded, perm=[0, 3, 1, 2]), g.numbers(2, 1, 0), axis=1)
    ratios = [
        g.op("Div", g.real(side), g.to_float(length)) for side, length in zip(size_hw, photo_hw, strict=True)
    ]
    per_input = g.op("Reciprocal", g.op("Min", *ratios))
    return Prepared(blue_first, photo_hw, covered_hw, g.op("Expand", per_input, g.numbers(4)))


def _touching(
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


def _resize_fixed_point(
    g: GraphBuilder, photos: str, photo_hw: tuple[str, str], size_hw: tuple[str, str]
) -> str:
    """As ``resize_bilinear`` of ``models/letterbox.py``, to the last bit: whole numbers, kept as float32."""
    top, bottom, *row_weights = _neighbours(g, photo_hw[0], size_hw[0])
    left, right, *column_weights = _neighbours(g, photo_hw[1], size_hw[1])
    # A row's pixels and channels are one axis below, along which weights lie as the numbers do: fast.
    low_rows, high_rows = (g.op("Unsqueeze", weights, g.numbers(1)) for weights in row_weights)
    low_columns, high_columns = (
        g.op("Reshape", g.op("Expand", g.op("Unsqueeze", part, g.numbers(1)), g.numbers(1, 3)), g.numbers(-1))
        for part in (g.op("Mul", weights, g.real(1 / 16)) for weights in column_weights)
    )

    def across(rows: str) -> str:
        """The given rows, resized along the width, over 16: up to 15 bits, ``[N, h, w * 3]``."""
        chosen = g.op("Gather", photos, rows, axis=1)
        parts = []
        for columns, weights in ((left, low_columns), (right, high_columns)):
            pixels = g.op("Reshape", g.op("Gather", chosen, columns, axis=2), g.numbers(0, 0, -1))
            parts.append(g.op("Mul", g.to_float(pixels), weights))
        return g.op("Floor", g.op("Add", *parts))

    def weighed(values: str, weights: str) -> str:
        """``values * weights >> 16``. The product has 26 bits and float32 only 24, so it is made of two."""
        high = g.op("Floor", g.op("Mul", weights, g.real(1 / 64)))
        low = g.op("Sub", g.op("Mul", weights, g.real(1 / 64)), high)
        carried = g.op("Floor", g.op("Mul", values, low))
        both = g.op("Add", g.op("Mul", values, high), carried)
        return g.op("Floor", g.op("Mul", both, g.real(1 / 1024)))

    both = g.op("Add", weighed(across(top), low_rows), weighed(across(bottom), high_rows))
    rounded = g.op("Floor", g.op("Mul", g.op("Add", both, g.real(2)), g.real(1 / 4)))
    return g.op("Reshape", rounded, g.row([g.size(photos, 0), *size_hw, g.number(3)]))


def _neighbours(g: GraphBuilder, length: str, out: str) -> list[str]:
    """The two pixels each of ``out`` pixels lies between, ``[out]``, and their weights, of 2048 in all."""
    # (i + 0.5) * length / out - 0.5 as one division of whole numbers, rounded once, to a float32.
    doubled = g.op("Add", g.op("Mul", g.count_up(out), g.number(2)), g.number(1))
    numerator = g.op("Sub", g.op("Mul", doubled, length), out)
    denominator = g.op("Mul", out, g.number(2))
    low, fraction = _divided(g, numerator, denominator)
    weights = [
        g.op("Round", g.op("Mul", share, g.real(2048)))
        for share in (g.op("Sub", g.real(1), fraction), fraction)
    ]
    return [*_within(g, low, length), *weights]


def _divided(g: GraphBuilder, numerator: str, denominator: str) -> tuple[str, str]:
    """A quotient of whole numbers, rounded to float32, in two parts: int64, and a float32 from 0 to 1.

    By hand, digit after digit: OpenVINO divides real numbers by multiplying with the reciprocal, which
    is rounded twice, and is off in the last bit for every second quotient. Denominators up to 2**13.
    """
    whole, rest = g.divide(numerator, denominator)
    high, rest = g.divide(g.op("Mul", rest, g.number(1 << 12)), denominator)
    low, rest = g.divide(g.op("Mul", rest, g.number(1 << 11)), denominator)
    # 23 binary digits, and one more that says whether anything is left: enough to round the sum rightly.
    digits = g.op("Add", g.op("Mul", high, g.number(1 << 12)), g.op("Mul", low, g.number(2)))
    digits = g.op("Add", digits, g.to_int(g.op("Greater", rest, g.number(0))))
    fraction = g.op("Mul", g.to_float(digits), g.real(2**-24))
    # A float32 of 2 and more has fewer digits than that after the point. Below, all are kept, which in
    # 2048ths comes to the same.
    beyond = g.to_float(whole)
    rounded = g.op("Sub", g.op("Add", beyond, fraction), beyond)
    return whole, g.op("Where", g.op("Less", whole, g.number(2)), fraction, rounded)


def _within(g: GraphBuilder, first: str, length: str) -> list[str]:
    """Positions and those after them; beyond the border the last pixel is repeated."""
    last = g.op("Sub", length, g.number(1))
    return [
        g.op("Max", g.op("Min", position, last), g.number(0))
        for position in (first, g.op("Add", first, g.number(1)))
    ]


def _stretched(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], size_hw: tuple[int, int]) -> Prepared:
    """As ``SsdDetector.prepare``: see its ``resize_bilinear_legacy``."""
    from fewbox.models.ssd.network import CHANNEL_MEANS

    image = photos
    for axis, (length, out) in enumerate(zip(photo_hw, size_hw, strict=True), start=1):
        counted = g.constant(np.arange(out, dtype=np.float32))
        position = g.op("Mul", counted, g.op("Div", g.to_float(length), g.real(out)))
        low = g.op("Floor", position)
        fraction = g.op("Unsqueeze", g.op("Sub", position, low), g.numbers(*range(1, 4 - axis)))
        first, second = (
            g.to_float(g.op("Gather", image, rows, axis=axis)) for rows in _within(g, g.to_int(low), length)
        )
        image = g.op("Add", first, g.op("Mul", g.op("Sub", second, first), fraction))
    centred = g.op("Sub", image, g.constant(np.array(CHANNEL_MEANS, np.float32)))
    height, width = (
        g.op("Div", g.to_float(length), g.real(side)) for length, side in zip(photo_hw, size_hw, strict=True)
    )
    covered_hw = (g.number(size_hw[0]), g.number(size_hw[1]))
    images = g.op("Transpose", centred, perm=[0, 3, 1, 2])
    return Prepared(images, photo_hw, covered_hw, g.row([width, height, width, height]))


def _scaled(g: GraphBuilder, photos: str, photo_hw: tuple[str, str], config: RetinanetConfig) -> Prepared:
    """As ``RetinanetDetector.prepare``."""
    from fewbox.models.retinanet.network import CHANNEL_MEANS, CHANNEL_STDS

    height, width = photo_hw
    is_low = g.op("LessOrEqual", height, width)
    short, long = g.number(config.min_side), g.number(config.max_side)
    frame_hw = g.op("Where", is_low, short, long), g.op("Where", is_low, long, short)
    covered_hw = _touching(g, photo_hw, frame_hw)
    planes = g.to_float(g.op("Transpose", photos, perm=[0, 3, 1, 2]))
    batch, channels = g.size(photos, 0), g.number(3)
    resized = g.op(
        "Resize",
        planes,
        "",
        "",
        g.row([batch, channels, *covered_hw]),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    means, stds = (np.array(values, np.float32)[:, None, None] for values in (CHANNEL_MEANS, CHANNEL_STDS))
    normalised = g.op("Div", g.op("Sub", resized, g.constant(means * 255)), g.constant(stds * 255))
    nothing, multiple = g.number(0), g.number(config.side_multiple)
    missing = [
        g.op("Mod", g.op("Sub", multiple, g.op("Mod", side, multiple)), multiple) for side in covered_hw
    ]
    images = g.op("Pad", normalised, g.row([nothing] * 6 + missing), g.real(0))
    down, across = (
        g.op("Div", g.to_float(length), g.to_float(side))
        for length, side in zip(photo_hw, covered_hw, strict=True)
    )
    return Prepared(images, photo_hw, covered_hw, g.row([across, down, across, down]))
