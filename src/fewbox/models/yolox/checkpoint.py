"""Read the weights of a YOLOX: from a file of the public release, or from its ONNX export.

The release's ``.pth`` holds a state dict under the names that the network has too. An export has
every batch-norm folded into its convolution, and the names are lost with it. What is left is which
convolution reads from which others, and that the graph that is written here tells too.

Weights alone do not make a network: with another activation after each layer, another stride, or pixels
that are scaled first, the same weights find something else. So what an export computes between its
convolutions is held against the graph that is written here. Both graphs are written as expressions over
their convolutions, in words that do not depend on how an exporter spells them, and must be the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewbox.core import NAME, named_entry
from fewbox.models.families import weight_shapes
from fewbox.models.protobuf import FaultError, OnnxGraph, OnnxNode, blaming, read_onnx
from fewbox.models.weights import BATCH_COUNTER, Weight, fit_weights, read_pickled_weights
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.graph import own_graph

_STEM = "backbone.backbone.stem.conv.conv"
_CLASS_HEAD = "head.cls_preds.0"

_BY_STEM_CHANNELS = {config.channels(64): config for config in YOLOX_SIZES.values()}

_NEEDED = f"name a file that the public release of YOLOX offers or writes: {', '.join(YOLOX_SIZES)}"
_NO_DETECTOR = "fine-tune again from its base, with all photos; 'fewbox show' names the base"
_NEEDED_EXPORT = f"name an ONNX file that YOLOX's own export script writes: {', '.join(YOLOX_SIZES)}"

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


def read_yolox(path: Path) -> tuple[YoloxConfig, dict[str, Weight]]:
    """The settings and all weights, under their names in ``state_dict``, of the YOLOX in ``path``.

    Which size it is shows in the stem, and for how many classes in a class head. A file called
    ``.onnx`` has the weights of a folded network, and the settings say so; what its graph computes must be
    what YOLOX does. A ``.pth`` does not tell the activation, which the trainer keeps in a Python file: it is
    taken for SiLU.

    Not told apart are weights of the release's first version, 0.0.1, which expect other pixels.

    Raises:
        CheckpointError: the file cannot be read, is damaged, holds something other than weights,
            or they are not those of a YOLOX; what does not fit is named.
    """
    if path.suffix.lower() == ".onnx":
        return _read_export(path)
    stored = read_pickled_weights(path, needed=_NEEDED, entry="model")
    tensors = {name: tensor for name, tensor in stored.items() if not name.endswith(BATCH_COUNTER)}
    with blaming(path):
        for name in (f"{_STEM}.weight", f"{_CLASS_HEAD}.weight"):
            if name not in tensors or tensors[name].ndim != 4:
                raise FaultError(f"not a YOLOX: no kernel {name}", _NEEDED)
        config = _published(tuple(tensors[f"{_STEM}.weight"].shape), _NEEDED)
    if not any(".bn." in name for name in tensors):
        config = replace(config, norm_epsilon=None)
    config = replace(config, num_classes=max(len(tensors[f"{_CLASS_HEAD}.weight"]), 1))
    return config, fit_weights(path, tensors, weight_shapes(config), needed=_NEEDED)


def _published(stem_shape: tuple[int, ...], needed: str) -> YoloxConfig:
    """The published size with this shape of the stem's kernel: no two have as many channels."""
    channels = stem_shape[0] if stem_shape else 0
    if channels not in _BY_STEM_CHANNELS:
        raise FaultError(f"no size of YOLOX has a stem of {channels} channels", needed)
    return _BY_STEM_CHANNELS[channels]


def _read_export(path: Path) -> tuple[YoloxConfig, dict[str, Weight]]:
    graph = read_onnx(path)
    with blaming(path):
        if named_entry(graph.metadata, NAME) is not None:
            raise FaultError("a detector that fewbox exported: nothing can learn from it", _NO_DETECTOR)
        kernels = [node.inputs[1:2] for node in graph.nodes if node.kind == "Conv"]
        if not kernels or not kernels[0]:
            raise FaultError("not a YOLOX: it begins with no convolution", _NEEDED_EXPORT)
        stem_shape = graph.tensor(*kernels[0]).shape
        config = replace(_published(stem_shape, _NEEDED_EXPORT), norm_epsilon=None)
        weights: dict[str, Weight] = {}
        nodes = _named_convolutions(graph, config)
        for name, node in nodes.items():
            if len(node.inputs) < 3:
                raise FaultError(f"{name}: no bias, so no batch-norm is folded into it", _NEEDED_EXPORT)
            for part, constant in zip(("weight", "bias"), node.inputs[1:], strict=False):
                weights[f"{name}.{part}"] = np.array(graph.tensor(constant), np.float32)
        names = {node.outputs[0]: name for name, node in nodes.items()}
        config = check_graph(graph, names, config, _NEEDED_EXPORT)
        num_classes = weights[f"{_CLASS_HEAD}.bias"].size
        config = replace(config, num_classes=num_classes, size_hw=_input_size_hw(graph, config))
    return config, fit_weights(path, weights, weight_shapes(config), needed=_NEEDED_EXPORT)


def _input_size_hw(graph: OnnxGraph, config: YoloxConfig) -> tuple[int, int]:
    """The size of input the export is for, or the published one if it leaves that open."""
    shape = graph.input_shape
    if len(shape) != 4 or not any(shape[2:]):
        return config.size_hw
    if any(side % 32 or not 32 <= side <= 4096 for side in shape[2:]):
        raise FaultError(f"input of shape {list(shape)}: no size that YOLOX can have", _NEEDED_EXPORT)
    return shape[2], shape[3]


class _Step(NamedTuple):
    """One step of a computation; values are referred to by name."""

    convolution: str | None
    """Its name, if the step is one."""
    inputs: Iterable[str]
    outputs: Iterable[str]


def _named_convolutions(graph: OnnxGraph, config: YoloxConfig) -> dict[str, OnnxNode]:
    """Each convolution of the network, by name, and the node of the graph that computes it.

    That is the one that reads from the same convolutions; of several, their order decides. So a
    graph may differ in the order of its branches, and may not in how they are joined.
    """
    waiting: dict[tuple[str, ...], list[str]] = {}
    own, own_names = own_graph(config)
    for name, sources in _with_sources(_steps(own, own_names)):
        waiting.setdefault(sources, []).append(name)
    nodes = {node.outputs[0]: node for node in graph.nodes if node.kind == "Conv" and node.outputs}
    steps = _steps(graph, {output: output for output in nodes})
    names: dict[str, str] = {}
    for output, sources in _with_sources(steps):
        same = waiting.get(tuple(names[source] for source in sources))
        if not same or output in names:
            raise FaultError(f"convolution {output!r} is none of YOLOX's", _NEEDED_EXPORT)
        names[output] = same.pop(0)
    if missing := [name for rest in waiting.values() for name in rest]:
        raise FaultError(f"convolution missing: {missing[0]}", _NEEDED_EXPORT)
    return {name: nodes[output] for output, name in names.items()}


def _steps(graph: OnnxGraph, names: Mapping[str, str]) -> Iterator[_Step]:
    """What a graph computes; ``names`` are those of its convolutions, by what they give."""
    for node in graph.nodes:
        name = names.get(next(iter(node.outputs), "")) if node.kind == "Conv" else None
        yield _Step(name, node.inputs, node.outputs)


def _with_sources(steps: Iterable[_Step]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each convolution, and the ones whose outputs reach it with no other between, in order."""
    sources_of: dict[str, tuple[str, ...]] = {}
    for step in steps:
        found = (source for name in step.inputs for source in sources_of.get(name, ()))
        sources = tuple(dict.fromkeys(found))
        if step.convolution is not None:
            yield step.convolution, sources
            sources = (step.convolution,)
        sources_of |= dict.fromkeys(step.outputs, sources)


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
