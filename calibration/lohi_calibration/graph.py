"""Small questions about an ONNX graph, and a CPU session on a model in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

from lohi_calibration.overflow import overflows
from lohi_edge.errors import BundleError

Float32 = NDArray[np.float32]
FP32, FP16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
QDQ_OPSET = 19  # the first in which Q/DQ scales may be FP16


def load(data: bytes) -> onnx.ModelProto:
    """A checked model whose Constant nodes have become initializers.

    Raises:
        BundleError: not ONNX, or not a valid graph.
    """
    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker share no narrower public base
        raise BundleError(f"expected an ONNX model, got: {error}") from error
    for node in [n for n in model.graph.node if n.op_type == "Constant"]:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if value is not None:
            value.name = node.output[0]
            model.graph.initializer.append(value)
            model.graph.node.remove(node)
    return model


def at_opset(model: onnx.ModelProto, opset: int = QDQ_OPSET) -> onnx.ModelProto:
    """A copy of the model at `opset` or later."""
    version = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if version < opset:
        return onnx.version_converter.convert_version(model, opset)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def initializers(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor name -> the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name -> the nodes that read it."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The layers that can be quantized: convolutions with constant weights, in graph order."""
    constants = {i.name for i in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in constants
    ]


def layer_name(node: onnx.NodeProto) -> str:
    """What a layer is called: its weights' name, or its output's where the node has none."""
    return node.name or node.output[0]


def macs(model: onnx.ModelProto) -> int:
    """Multiplications with a weight that the convolutions of one slice need (H and W static)."""
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    weights = {i.name: list(i.dims) for i in model.graph.initializer}
    total = 0
    for node in layers(model):
        # Every weight is used once at each place: of the output, or of a transposed one's input.
        end = node.output[0] if node.op_type == "Conv" else node.input[0]
        total += math.prod(weights[node.input[1]]) * math.prod(shapes[end][2:])
    return total


def session(
    model: onnx.ModelProto | bytes, threads: int = 0, literal: bool = False, timed: bool = False
) -> ort.InferenceSession:
    """A CPU session. INT8 is computed in FP32 where this processor's own sums overflow.

    Args:
        threads: 0 is one per core.
        literal: compute the graph as it is written. INT8 with an FP16 remainder needs that: on one
            onnxruntime 1.32 rewrites, and the answer is 5 dB further from FP32.
        timed: as this processor does it, whatever comes out.
    """
    options = ort.SessionOptions()
    if literal:
        model = _quantized_from_fp32(model)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif not timed and overflows():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _quantized_from_fp32(model: onnx.ModelProto | bytes) -> onnx.ModelProto:
    """A copy whose FP16 values become FP32 on their way into QuantizeLinear, which changes none.

    The QuantizeLinear of FP16 in onnxruntime 1.23, the last for Python 3.10, computes something
    else: the answer is 15 dB further from FP32.
    """
    read = onnx.load_from_string(model) if isinstance(model, bytes) else model
    copy = onnx.ModelProto()
    copy.CopyFrom(read)
    half = {i.name for i in read.graph.initializer if i.data_type == FP16}
    del copy.graph.node[:]
    for node in read.graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        if node.op_type == "QuantizeLinear" and node.input[1] in half:
            for n in range(2):  # the values and their scale
                kept.input[n] = f"{node.output[0]}_fp32_{n}"
                cast = onnx.helper.make_node("Cast", [node.input[n]], [kept.input[n]], to=FP32)
                copy.graph.node.append(cast)
        copy.graph.node.append(kept)
    return copy


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that also returns the FP32 tensors `names`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {o.name for o in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, FP32, None) for name in names if name not in have
    )
    return copy


def run(
    model: onnx.ModelProto | bytes, stack: Float32, threads: int = 0, literal: bool = False
) -> Float32:
    """(N, C, H, W) -> (N, 1, H, W) through onnxruntime, slice by slice; see `session`."""
    running = session(model, threads, literal)
    name = running.get_inputs()[0].name
    return np.concatenate(
        [running.run(None, {name: stack[n : n + 1]})[0] for n in range(len(stack))]
    )
