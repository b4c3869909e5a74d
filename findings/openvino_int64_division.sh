#!/bin/bash
# openvino 2026.4.1, CPU: Divide and Mod of int64 tensors are not exact once an operand passes 2^24.
#
# Both inputs and the output are int64, there is no constant to fold, and f32 inference precision is asked for.
# Python, numpy and ONNX Runtime 1.32.0 give the exact quotient. Who moves arithmetic to integers because the
# float one is rounded (resizing positions, say) has to keep operands below 2^24, or divide digit by digit.
#
# Seen (20,000 random quotients each, seed 0):
#   below 2^22: 0 of 20000 quotients and 0 of 20000 remainders differ
#   below 2^26: 38 of 20000 quotients and 10708 of 20000 remainders differ
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$tmp/lib" \
  openvino==2026.4.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
PYTHONPATH="$tmp/lib" python3 - <<'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

print("openvino", openvino.__version__.split("-")[0], "onnxruntime", onnxruntime.__version__)
info = [helper.make_tensor_value_info(name, TensorProto.INT64, [20000]) for name in ("a", "b", "q", "r")]
nodes = [helper.make_node("Div", ["a", "b"], ["q"]), helper.make_node("Mod", ["a", "b"], ["r"])]
graph = helper.make_graph(nodes, "division", info[:2], info[2:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
onnx.checker.check_model(model)
core = openvino.Core()
text = model.SerializeToString()
compiled = core.compile_model(core.read_model(text), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
session = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
random = np.random.default_rng(0)
wrong = {}
for bits in (22, 26):
    a = random.integers(1, 2**bits, 20000)
    b = random.integers(1, 4096, 20000)
    ours = session.run(None, {"a": a, "b": b})
    assert (ours[0] == a // b).all() and (ours[1] == a % b).all(), "onnxruntime is exact"
    theirs = list(compiled([a, b]).values())
    wrong[bits] = [int((got != exact).sum()) for got, exact in zip(theirs, (a // b, a % b))]
    print(f"below 2^{bits}: {wrong[bits][0]} of 20000 quotients and {wrong[bits][1]} of 20000 remainders differ")
assert wrong[22] == [0, 0], "exact below 2^24"
assert min(wrong[26]) > 0, "the behaviour has changed: int64 division is exact now"
PY
