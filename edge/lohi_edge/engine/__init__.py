"""TensorRT engines: ONNX -> plan for this machine's GPU, built in a child, accepted, cached."""
