"""An exported detector in OpenVINO, taken apart: what prepares photos, the network, what selects detections.

Only the network may be rounded: to bfloat16 all of it would be, and boxes in bfloat16 are pixels off. And
the network's input always has one size in most detectors, so OpenVINO lays everything out once, while
photos come in all sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

NETWORK_INPUT = "network/images"
"""The tensor between the first part and the network, in every exported file."""
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


class Parts(NamedTuple):
    """Three models; each takes what the ones before it give, in this order."""

    prepare: Any
    """``photos`` to the network's input."""
    network: Any
    """To the outputs of the last convolutions."""
    select: Any
    """``photos``, ``score_threshold``, the network's input and outputs to detections."""


def split_model(model: Any, input_shape: Sequence[int]) -> Parts:
    """Cut ``model`` before the network and after its last convolutions; ``model`` stays as it is.

    Args:
        model: an ``openvino.Model`` of an exported file.
        input_shape: of the network's input, ``[1, 3, h, w]``; -1 where it depends on the photo.
    """
    import openvino

    one_photo = model.clone()
    one_photo.reshape({"photos": [1, -1, -1, 3]})

    whole = one_photo.clone()
    prepare = openvino.Model(
        [_result(_find(whole, NETWORK_INPUT))], [whole.input("photos").get_node()], "prepare"
    )

    whole = one_photo.clone()
    last = _last_outputs(whole)
    network = openvino.Model(
        [*map(_result, last)], [_cut(_find(whole, NETWORK_INPUT), input_shape)], "network"
    )
    network.validate_nodes_and_infer_types()

    whole = one_photo.clone()
    last = _last_outputs(whole)
    given = [whole.input(name).get_node() for name in ("photos", "score_threshold")]
    results = [whole.output(name).get_node() for name in ("boxes", "scores", "class_ids")]
    images = _cut(_find(whole, NETWORK_INPUT), input_shape)
    select = openvino.Model(results, [*given, images, *map(_cut, last)], "select")
    select.validate_nodes_and_infer_types()
    return Parts(prepare, network, select)


def outside_network(model: Any) -> list[str]:
    """Names of all steps of ``model`` that come before its first convolutions or after its last."""
    before, after = _convolved(model), _to_be_convolved(model)
    return [node.get_friendly_name() for node in model.get_ops() if not _is_in(node, before, after)]


def last_convolutions(model: Any) -> list[str]:
    """Names of the convolutions that none follows: those that give codes and logits."""
    after = _to_be_convolved(model)
    names = [node.get_friendly_name() for node in model.get_ops() if _is_convolution(node)]
    return [name for name in names if name not in after]


def _find(model: Any, tensor: str) -> Any:
    return next(
        output for node in model.get_ops() for output in node.outputs() if tensor in output.get_names()
    )


def _cut(output: Any, shape: Sequence[int] | None = None) -> Any:
    """Feed what reads ``output`` from a new parameter instead, which is returned."""
    import openvino

    known = output.get_partial_shape() if shape is None else openvino.PartialShape(list(shape))
    parameter = openvino.opset13.parameter(known, output.get_element_type(), name=f"{_name(output)}/cut")
    for reader in output.get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    return parameter


def _result(output: Any) -> Any:
    """An end of a model at ``output``, with a name that is the same each time."""
    import openvino

    return openvino.opset13.result(output, name=f"{_name(output)}/result")


def _last_outputs(model: Any) -> list[Any]:
    """What comes out of the network, in the order of names: it is the same each time a file is read."""
    before, after = _convolved(model), _to_be_convolved(model)
    outputs = [
        output
        for node in model.get_ops()
        if _is_in(node, before, after)
        for output in node.outputs()
        if any(not _is_in(reader.get_node(), before, after) for reader in output.get_target_inputs())
    ]
    return sorted(outputs, key=_name)


def _name(output: Any) -> str:
    return f"{output.get_node().get_friendly_name()}/{output.get_index()}"


def _is_in(node: Any, convolved: set[str], to_be_convolved: set[str]) -> bool:
    name = node.get_friendly_name()
    return _is_convolution(node) or (name in convolved and name in to_be_convolved)


def _is_convolution(node: Any) -> bool:
    return node.get_type_name() in _CONVOLUTIONS


def _sources(node: Any) -> Iterator[Any]:
    return (value.get_source_output().get_node() for value in node.inputs())


def _convolved(model: Any) -> set[str]:
    """Names of the steps that a convolution comes before."""
    names: set[str] = set()
    for node in model.get_ordered_ops():
        if any(_is_convolution(source) or source.get_friendly_name() in names for source in _sources(node)):
            names.add(node.get_friendly_name())
    return names


def _to_be_convolved(model: Any) -> set[str]:
    """Names of the steps that a convolution follows."""
    names: set[str] = set()
    for node in reversed(model.get_ordered_ops()):
        if _is_convolution(node) or node.get_friendly_name() in names:
            names.update(source.get_friendly_name() for source in _sources(node))
    return names
