"""Read the weights of a YOLOX: from a file of the public release, or from its ONNX export.

The release's ``.pth`` holds a state dict under the names that the network has too. An export has
every batch-norm folded into its convolution, and the names are lost with it. What is left is which
convolution reads from which others, and that the graph that is written here tells too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewbox.core import former_name
from fewbox.models.families import weight_shapes
from fewbox.models.protobuf import FaultError, OnnxGraph, OnnxNode, blaming, read_onnx
from fewbox.models.weights import Weight, fit_weights, read_pickled_weights
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.graph import own_graph
from fewbox.models.yolox.onnx_release import check_graph

_STEM = "backbone.backbone.stem.conv.conv"
_CLASS_HEAD = "head.cls_preds.0"
_COUNTER = ".num_batches_tracked"  # how long a batch-norm was trained: of no use once it is frozen

_BY_STEM_CHANNELS = {config.channels(64): config for config in YOLOX_SIZES.values()}

_NEEDED = f"name a file that the public release of YOLOX offers or writes: {', '.join(YOLOX_SIZES)}"
_NO_DETECTOR = "fine-tune again from its base, with all photos; 'fewbox show' names the base"
_NEEDED_EXPORT = f"name an ONNX file that YOLOX's own export script writes: {', '.join(YOLOX_SIZES)}"


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
    tensors = {name: tensor for name, tensor in stored.items() if not name.endswith(_COUNTER)}
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
        if former_name.entry(graph.metadata, former_name.NAME) is not None:
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
