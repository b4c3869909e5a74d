"""A YOLOX in an ONNX file, as its release's own script exports it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from fewbox.models.yolox.network import YoloxDetector


class ByConvolutions(torch.fx.Tracer):
    """Sees convolutions as steps, also where they are not PyTorch's own class but one made of it."""

    def is_leaf_module(self, module: torch.nn.Module, name: str) -> bool:
        return isinstance(module, torch.nn.Conv2d) or super().is_leaf_module(module, name)


def exported(network: YoloxDetector) -> onnx.ModelProto:
    """The network as YOLOX's script exports it; constants other than those of the heads have no name."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    made = {"pixels"}

    def constant(values: np.ndarray, name: str | None = None) -> str:
        numbered = sum(each.name.isdecimal() for each in constants)
        constants.append(numpy_helper.from_array(values, name or str(1000 + numbered)))
        return constants[-1].name

    for step in ByConvolutions().trace(network).nodes:
        inputs = [source.name for source in step.all_input_nodes]
        if step.op != "placeholder" and made.issuperset(inputs):
            new = onnx_nodes(network, step, inputs, constant)
            nodes += new
            made |= {output for node in new for output in node.output}
    for level in range(3):
        parts = [f"head_{part}_preds_{level}" for part in ("reg", "obj", "cls")]
        scored = [parts[0], *(f"{part}_scores" for part in parts[1:])]
        nodes += [helper.make_node("Sigmoid", [part], [f"{part}_scores"]) for part in parts[1:]]
        nodes.append(helper.make_node("Concat", scored, [f"level_{level}"], axis=1))
    height, width = network.config.size_hw
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, (1, 3, height, width))
    outputs = [helper.make_tensor_value_info(f"level_{level}", 1, None) for level in range(3)]
    graph = helper.make_graph(nodes, "yolox", [pixels], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def onnx_nodes(
    network: YoloxDetector,
    step: torch.fx.Node,
    inputs: list[str],
    constant: Callable[..., str],
) -> list[onnx.NodeProto]:
    """One step of the network in the operators of ONNX; none for what comes after the heads."""
    output = [step.name]
    if step.op == "call_module":
        module = network.get_submodule(str(step.target))
        if not isinstance(module, torch.nn.Conv2d):
            return [helper.make_node("Identity", inputs, output)]
        for part in ("weight", "bias"):
            value = network.get_parameter(f"{step.target}.{part}").contiguous().numpy()
            inputs.append(constant(value, f"{step.target}.{part}" if "_preds." in str(step.target) else None))
        over = {"strides": module.stride, "pads": module.padding * 2, "group": module.groups}
        return [helper.make_node("Conv", inputs, output, kernel_shape=module.kernel_size, **over)]
    match getattr(step.target, "__name__", str(step.target)).strip("_"):
        case "silu":
            gate = f"{step.name}_gate"
            return [
                helper.make_node("Sigmoid", inputs, [gate]),
                helper.make_node("Mul", [*inputs, gate], output),
            ]
        case "relu":
            return [helper.make_node("Relu", inputs, output)]
        case "leaky_relu":
            return [helper.make_node("LeakyRelu", inputs, output, alpha=0.1)]
        case "cat" if step.args[1:] == (1,) and len(inputs) < 5 and "flatten" not in inputs[0]:
            return [helper.make_node("Concat", inputs, output, axis=1)]
        case "add":
            return [helper.make_node("Add", inputs, output)]
        case "max_pool2d":
            side = int(str(step.args[1]))
            over = {"kernel_shape": (side, side), "strides": (1, 1), "pads": (side // 2,) * 4}
            return [helper.make_node("MaxPool", inputs, output, **over)]
        case "interpolate":
            scales = constant(np.array([1, 1, 2, 2], np.float32), f"{step.name}_scales")
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return [helper.make_node("Resize", [*inputs, "", scales], output, mode="nearest", **how)]
        case "getitem" if isinstance(step.args[1], tuple):
            rows, columns = step.args[1][1:]
            half, value = f"{step.name}_rows", inputs[0]
            return [
                sliced(value, half, 2, int(str(rows.start)), constant),  # type: ignore[union-attr]
                sliced(half, step.name, 3, int(str(columns.start)), constant),  # type: ignore[union-attr]
            ]
    return []


def sliced(value: str, output: str, axis: int, start: int, constant: Callable[..., str]) -> onnx.NodeProto:
    told = {"start": start, "end": 2**63 - 1, "axis": axis, "step": 2}
    numbers = [constant(np.array([number], np.int64), f"{output}_{name}") for name, number in told.items()]
    return helper.make_node("Slice", [value, *numbers], [output])
