"""What an exported YOLOX computes between its convolutions, held against the graph that is written here.

Weights alone do not make a network: with another activation after each layer, another stride, or pixels
that are scaled first, the same weights find something else. Both graphs are written as expressions over
their convolutions, in words that do not depend on how an exporter spells them, and must be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbox.models.protobuf import FaultError, OnnxGraph, OnnxNode
from fewbox.models.yolox import YoloxConfig
from fewbox.models.yolox.graph import own_graph

_PIXELS = "pixels"
_ACTIVATIONS = ("silu", "relu", "lrelu")  # in the words of a config, which are those of expressions too
_SAME = ("Identity", "Cast", "Dropout")
_NO_SCORES = frozenset(
    ("Softmax", "LogSoftmax", "HardSigmoid", "HardSwish", "Tanh", "Relu", "LeakyRelu", "Clip", "Exp")
)
"""What makes no scores and no codes as YOLOX does, if it is done to what a head gives."""
# How nearest neighbours may be chosen so that every pixel is doubled; the last two are what is left unsaid.
_DOUBLING = (
    ("asymmetric", "floor"),
    ("asymmetric", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("half_pixel", "round_prefer_floor"),
)


class _Expressions:
    """Expressions by number; equal ones have one number, so comparing them is cheap however deep they are."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        self._parts: list[tuple[str, tuple[int, ...]]] = []

    def number(self, word: str, *children: int) -> int:
        """The number of the expression that does ``word`` to ``children``."""
        # A sum is one, in whichever order it is written.
        key = (word, tuple(sorted(children)) if word == "Add" else children)
        if key not in self._numbers:
            self._numbers[key] = len(self._parts)
            self._parts.append(key)
        return self._numbers[key]

    def parts(self, number: int) -> tuple[str, tuple[int, ...]]:
        """The word of an expression, and the expressions it is done to."""
        return self._parts[number]

    def words(self, number: int) -> set[str]:
        """All words in an expression."""
        waiting, seen = [number], {number}
        while waiting:
            new = set(self._parts[waiting.pop()][1]) - seen
            seen |= new
            waiting.extend(new)
        return {self._parts[each][0] for each in seen}


def check_graph(graph: OnnxGraph, names: Mapping[str, str], config: YoloxConfig, needed: str) -> YoloxConfig:
    """``config`` with the activation that ``graph`` computes.

    Args:
        graph: an export.
        names: of the network's convolutions, by the output of the node that computes each.
        config: all settings but the activation.
        needed: the hint of an error.

    Raises:
        FaultError: the graph computes something else than a YOLOX; what, is named.
    """
    table = _Expressions()
    theirs = _graph_inputs(graph, names, table)
    _, second, *_ = own_graph(config)[1].values()
    found = table.parts(theirs[second])[0]  # what becomes of the first convolution
    if found in _ACTIVATIONS:
        # Of its values a Literal's names, which mypy cannot see.
        config = replace(config, activation=found)  # type: ignore[arg-type]
    own, own_names = own_graph(config)
    convolutions = {own_names[node.outputs[0]]: node for node in own.nodes if node.kind == "Conv"}
    for name, expected in _graph_inputs(own, own_names, table).items():
        if theirs[name] != expected:
            raise FaultError(f"before {name}: {_difference(table, theirs[name], expected)}", needed)
    for node in graph.nodes:
        if node.kind == "Conv":
            name = names[node.outputs[0]]
            _check_convolution(node, name, convolutions[name], needed)
    _check_scores(graph, names, needed)
    return config


def _difference(table: _Expressions, found: int, expected: int) -> str:
    words, own_words = table.words(found), table.words(expected)
    extra, missing = sorted(words - own_words), sorted(own_words - words)
    return f"{', '.join(extra) or 'another order'} where YOLOX has {', '.join(missing) or 'none of it'}"


def _graph_inputs(graph: OnnxGraph, names: Mapping[str, str], table: _Expressions) -> dict[str, int]:
    """What each of the convolutions ``names`` reads in the graph, by its name."""
    known: dict[str, int] = {}
    inputs: dict[str, int] = {}
    for node in graph.nodes:
        if node.kind == "Constant" or not node.outputs:
            continue
        children = [
            known.get(name, table.number(_PIXELS))
            for name in node.inputs
            if name and name not in graph.constants
        ]
        output = node.outputs[0]
        if node.kind == "Conv" and children:
            inputs[names[output]] = children[0]
            known[output] = table.number(names[output])
        elif node.kind in _SAME and children:
            known[output] = children[0]
        else:
            known[output] = _expression(graph, node, children, table)
    return inputs


def _expression(graph: OnnxGraph, node: OnnxNode, children: list[int], table: _Expressions) -> int:
    """What one node makes of its inputs, in the words of the network where it has one."""
    match node.kind, children:
        case "Mul", [first, second]:
            for x, factor in ((first, second), (second, first)):
                if table.parts(factor) == ("Sigmoid", (x,)):
                    return table.number("silu", x)
        case "Swish" | "Silu", [x] if node.attributes.get("alpha", 1.0) == 1:
            return table.number("silu", x)
        case "Relu", [x]:
            return table.number("relu", x)
        case "LeakyRelu", [x]:
            slope = float(str(node.attributes.get("alpha", 0.01)))
            return table.number("lrelu" if abs(slope - 0.1) < 1e-6 else f"LeakyRelu of {slope:.3g}", x)
        case "MaxPool", [x]:
            return table.number(_pool_word(node), x)
        case (("Resize" | "Upsample"), [x, *_]):
            return table.number(_resize_word(graph, node), x)
        case "Slice", [x, *_]:
            return _sliced(graph, node, x, table)
        case "Concat", _ if node.attributes.get("axis") not in (1, -3):
            return table.number(f"Concat along {node.attributes.get('axis')}", *children)
    return table.number(node.kind, *children)


def _pool_word(node: OnnxNode) -> str:
    side, *_ = kernel = node.whole_numbers("kernel_shape", (0, 0))
    usual = {"kernel_shape": (side,) * 2, "strides": (1, 1), "pads": (side // 2,) * 4, "dilations": (1, 1)}
    unpadded = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}
    is_usual = all(
        node.whole_numbers(name, unpadded.get(name, kernel)) == value for name, value in usual.items()
    )
    return f"MaxPool {side}" if is_usual and _pads_as_told(node) else f"another MaxPool of {kernel}"


def _pads_as_told(node: OnnxNode) -> bool:
    return node.attributes.get("auto_pad", "NOTSET") == "NOTSET"


def _resize_word(graph: OnnxGraph, node: OnnxNode) -> str:
    """``Resize`` where every pixel is doubled; how, as far as the file says it."""
    at = 1 if node.kind == "Upsample" or len(node.inputs) == 2 else 2
    scales = node.inputs[at] if len(node.inputs) > at else ""
    if scales in graph.constants and (values := graph.tensor(scales).tolist()) != [1, 1, 2, 2]:
        return f"Resize by {values}"
    mode = node.attributes.get("mode", "nearest")
    if node.kind == "Resize" and at == 2:
        how = node.attributes.get("coordinate_transformation_mode", "half_pixel")
        nearest = node.attributes.get("nearest_mode", "round_prefer_floor")
        if (str(how).removeprefix("pytorch_"), nearest) not in _DOUBLING:
            mode = f"{mode}, {how}, {nearest}"
    return "Resize" if mode == "nearest" else f"Resize {mode}"


def _sliced(graph: OnnxGraph, node: OnnxNode, x: int, table: _Expressions) -> int:
    """Every second row or column, from the first or the second; two such slices are one of both."""
    lists = [graph.whole_numbers(name) if name else None for name in node.inputs[1:]]
    starts, ends, axes, steps = (*lists, *[None] * 4)[:4]
    if starts is None or ends is None:
        return table.number("Slice", x)
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    word, children = table.parts(x)
    of_axes = {}
    if word.startswith("Slice of "):
        of_axes, (x,) = dict(zip((2, 3), word.removeprefix("Slice of ").split(), strict=True)), children
    for start, axis, step, end in zip(starts, axes, steps, ends, strict=False):
        axis %= 4
        if (start, step) == (0, 1) and end >= 1 << 30:
            continue
        if step != 2 or axis not in (2, 3) or of_axes.get(axis, "-") != "-":
            return table.number(f"Slice by {step} along {axis}", x)
        of_axes[axis] = str(start)
    return table.number(_slice_word(of_axes), x) if of_axes else x


def _slice_word(starts: Mapping[int, object]) -> str:
    return f"Slice of {starts.get(2, '-')} {starts.get(3, '-')}"


def _check_convolution(node: OnnxNode, name: str, own: OnnxNode, needed: str) -> None:
    """Whether a convolution goes over its input as our ``own`` does."""
    for what, unsaid in (("strides", (1, 1)), ("pads", (0,) * 4), ("dilations", (1, 1))):
        wanted = own.whole_numbers(what, unsaid)
        if (found := node.whole_numbers(what, unsaid)) != wanted:
            raise FaultError(f"{name}: {what} {list(found)}, YOLOX has {list(wanted)}", needed)
    if node.attributes.get("group", 1) != own.attributes.get("group", 1) or not _pads_as_told(node):
        raise FaultError(f"{name}: another kind of convolution than YOLOX's", needed)


def _check_scores(graph: OnnxGraph, names: Mapping[str, str], needed: str) -> None:
    """Whether what heads give is used as YOLOX does; that an export may leave all of it out is no fault."""
    for node in graph.nodes:
        for head in (names[name] for name in node.inputs if "_preds." in names.get(name, "")):
            if node.kind in _NO_SCORES or (node.kind == "Sigmoid" and "reg_preds" in head):
                raise FaultError(f"after {head}: {node.kind}, which YOLOX does not have there", needed)
