"""A detector in files that other programs run: ONNX."""
