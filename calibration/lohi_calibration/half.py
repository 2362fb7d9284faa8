"""Typed FP16: an ONNX file whose tensors are FP16 and whose input and output stay FP32.

TensorRT networks are strongly typed, so the precision of every layer is written in the file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lohi_calibration.graph import Float32, at_opset, initializers
from lohi_calibration.ranges import largest
from lohi_edge.errors import BundleError

FP16_MAX = 65504.0
HEADROOM = 4.0  # slices not seen may reach further than those that were
# Inputs that must stay FP32 whatever the data is (ONNX operator specification).
_FP32_INPUTS = {"Resize": {1, 2}}
# Ops the generator may have whose FP16 form means the same; anything else is refused.
_KNOWN = (
    {"Conv", "ConvTranspose", "Relu", "LeakyRelu", "PRelu", "Clip", "Add", "Sub", "Mul", "Div"}
    | {"Concat", "Resize", "Tanh", "Sigmoid", "Identity", "MaxPool", "AveragePool", "Pad"}
    | {"InstanceNormalization", "BatchNormalization", "DepthToSpace"}
    | {"QuantizeLinear", "DequantizeLinear"}
)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with FP16 weights and activations between a Cast at either end.

    Int8 weights and zero points of Q/DQ pairs stay as they are; their scales become FP16, as a
    strongly typed network wants them.

    Raises:
        BundleError: an operator whose types are not known here, or weights beyond FP16.
    """
    model = at_opset(model)
    graph = model.graph
    odd = sorted({node.op_type for node in graph.node} - _KNOWN)
    if odd:
        raise BundleError(f"expected operators that have an FP16 form, got {', '.join(odd)}")
    keep = {
        node.input[index]
        for node in graph.node
        for index in _FP32_INPUTS.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in keep:
            values = numpy_helper.to_array(tensor)
            if np.abs(values).max(initial=0) > FP16_MAX:
                raise BundleError(f"weights {tensor.name} go beyond FP16's {FP16_MAX:.0f}")
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    del graph.value_info[:]
    _cast_ends(graph)
    onnx.checker.check_model(model, full_check=True)
    return model


def _cast_ends(graph: onnx.GraphProto) -> None:
    inside = {graph.input[0].name: "input_fp16", graph.output[0].name: "output_fp16"}
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = inside.get(name, name)
    source, target = graph.input[0].name, graph.output[0].name
    graph.node.insert(
        0, helper.make_node("Cast", [source], ["input_fp16"], "to_fp16", to=TensorProto.FLOAT16)
    )
    graph.node.append(
        helper.make_node("Cast", ["output_fp16"], [target], "to_fp32", to=TensorProto.FLOAT)
    )


def check_overflow(model: onnx.ModelProto, slices: Float32, threads: int = 0) -> float:
    """The largest |value| of any tensor on real slices (N, C, H, W).

    Raises:
        BundleError: one comes within a factor `HEADROOM` of FP16's largest number, or is NaN.
    """
    reached = largest(model, slices, threads)
    weights = {
        name: float(np.abs(values).max(initial=0))
        for name, values in initializers(model).items()
        if values.dtype == np.float32
    }
    name, value = max({**weights, **reached}.items(), key=lambda item: _rank(item[1]))
    if not value <= FP16_MAX / HEADROOM:
        raise BundleError(
            f"tensor {name} reaches {value:.3g} on real slices, expected at most "
            f"{FP16_MAX / HEADROOM:.0f}; this model cannot be converted to FP16"
        )
    return value


def _rank(value: float) -> float:
    return float("inf") if np.isnan(value) else value
