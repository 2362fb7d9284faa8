"""Whether this machine can tell what an INT8 model computes elsewhere."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

SIZE = 64  # products in a sum
UINT8, INT8 = 255, 127  # the largest values


@functools.cache
def overflows() -> bool:
    """Whether onnxruntime's INT8 sums overflow on this processor, as on x86 without VNNI.

    There two products of 8 bits are added in 16, which do not hold the largest
    (onnxruntime.ai, "Quantize ONNX Models", on U8S8).
    """
    running = ort.InferenceSession(_largest_sum(), providers=["CPUExecutionProvider"])
    answer = running.run(None, {"x": np.ones((1, SIZE, 1, 1), np.float32)})[0]
    return bool(answer.min() < 0.9 * SIZE)


def _largest_sum() -> bytes:
    """A quantized convolution of (1, SIZE, 1, 1): sums of SIZE largest products, together SIZE."""
    constants = {
        "x_scale": np.float32(1 / UINT8),
        "w_scale": np.float32(1 / INT8),
        "y_scale": np.float32(SIZE / UINT8),
        "uint8_zero": np.uint8(0),
        "int8_zero": np.int8(0),
        "w": np.full((SIZE, SIZE, 1, 1), INT8, np.int8),
    }
    node = onnx.helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "uint8_zero"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_scale", "uint8_zero"], ["x_dq"]),
        node("DequantizeLinear", ["w", "w_scale", "int8_zero"], ["w_dq"]),
        node("Conv", ["x_dq", "w_dq"], ["sum"]),
        node("QuantizeLinear", ["sum", "y_scale", "uint8_zero"], ["y_q"]),
        node("DequantizeLinear", ["y_q", "y_scale", "uint8_zero"], ["y"]),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, SIZE, 1, 1))
        for name in ("x", "y")
    ]
    values = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = onnx.helper.make_graph(nodes, "sum", ends[:1], ends[1:], values)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())
