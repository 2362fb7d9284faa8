"""INT8 as explicit Q/DQ pairs that TensorRT, OpenVINO and onnxruntime all take.

Symmetric int8 with zero point 0 for activations and weights; weights per output channel; biases
stay real numbers. A Q/DQ pair stands on a tensor, not on a layer: tensors that only copy values
(Concat, nearest Resize) share one scale, so that they stay int8 from one convolution to the next.
Nothing but a convolution, a copy on its way to one, or an Add reads a quantized tensor: what feeds
a norm or an activation is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lohi_calibration.graph import (
    at_opset,
    consumers,
    initializers,
    layer_name,
    layers,
    producers,
)
from lohi_calibration.ranges import INT8_MAX
from lohi_edge.errors import BundleError

# The smallest normal FP16 number: below it a scale loses precision in a typed FP16 graph.
SMALLEST_SCALE = 2.0**-14


def quantizable(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that INT8 may be asked of, in graph order."""
    return [layer_name(node) for node in layers(model)]


def tensors(model: onnx.ModelProto) -> list[str]:
    """Every activation that a quantized layer could read, through copies back to its maker."""
    made_by = producers(model)
    names: dict[str, None] = {}
    for node in layers(model):
        for name in _sources(node.input[0], made_by):
            names[name] = None
    return list(names)


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    skip: Set[str] = frozenset(),
    unsigned: bool = False,
) -> onnx.ModelProto:
    """The FP32 model with Q/DQ pairs around every layer not in `skip`.

    Args:
        ranges: tensor -> largest |x|, for each of `tensors(model)`.
        skip: layers left in the remainder's precision.
        unsigned: write tensors that come from ReLUs alone as uint8 on the same scale, which CPUs
            multiply faster; TensorRT takes int8 alone.

    Raises:
        BundleError: a normalisation that should have been folded, or a layer without a range.
    """
    model = at_opset(model)
    chosen = [node for node in layers(model) if layer_name(node) not in skip]
    made_by, read_by = producers(model), consumers(model)
    for node in layers(model):
        if any(user.op_type == "BatchNormalization" for user in read_by.get(node.output[0], [])):
            raise BundleError("expected BatchNorm folded into its convolution before INT8")
    scales = _scales(chosen, made_by, ranges)
    constants = initializers(model)
    added: list[onnx.NodeProto] = []
    fresh = [_scalar("int8_zero", np.int8(0)), _scalar("uint8_zero", np.uint8(0))]
    positive = _positive(scales, made_by) if unsigned else set()
    for name, scale in scales.items():
        fresh.append(_scalar(f"{name}_scale", np.float32(scale)))
        zero = "uint8_zero" if name in positive else "int8_zero"
        added += _pair(name, f"{name}_scale", zero)
    kept = {layer_name(node) for node in chosen}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            if layer_name(node) not in kept:
                continue
            weights, scale_name = constants[node.input[1]], f"{node.input[1]}_scale"
            axis = 0 if node.op_type == "Conv" else 1
            fresh += _int8_weights(node.input[1], scale_name, weights, axis)
            added.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{node.input[1]}_int8", scale_name, f"{node.input[1]}_zero"],
                    [f"{node.input[1]}_dq"],
                    f"{node.input[1]}_dequantize",
                    axis=axis,
                )
            )
            node.input[0] = _quantized(node.input[0], scales)
            node.input[1] = f"{node.input[1]}_dq"
        elif node.op_type == "Add" or (_copies(node) and node.output[0] in scales):
            for index in range(1 if node.op_type == "Resize" else len(node.input)):
                node.input[index] = _quantized(node.input[index], scales)
    model.graph.initializer.extend(fresh)
    _insert_sorted(model, added)
    _drop_unused(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _quantized(name: str, scales: Mapping[str, float]) -> str:
    return f"{name}_dq" if name in scales else name


def _copies(node: onnx.NodeProto) -> bool:
    """Ops whose output holds only values of their inputs, so that one scale serves both."""
    if node.op_type == "Resize":
        modes = [a.s for a in node.attribute if a.name == "mode"]
        return not modes or modes[0] == b"nearest"
    return node.op_type in ("Concat", "MaxPool", "DepthToSpace")


def _sources(name: str, made_by: Mapping[str, onnx.NodeProto]) -> list[str]:
    """A tensor and, through copying ops, the tensors its values come from."""
    node = made_by.get(name)
    if node is None or not _copies(node):
        return [name]
    inputs = node.input[:1] if node.op_type == "Resize" else node.input
    return [name, *(source for i in inputs for source in _sources(i, made_by))]


def _scales(
    chosen: list[onnx.NodeProto],
    made_by: Mapping[str, onnx.NodeProto],
    ranges: Mapping[str, float],
) -> dict[str, float]:
    """One scale for each group of tensors that copy each other's values."""
    groups: list[set[str]] = []
    for node in chosen:
        group = set(_sources(node.input[0], made_by))
        for other in [g for g in groups if g & group]:
            group |= other
            groups.remove(other)
        groups.append(group)
    scales: dict[str, float] = {}
    for group in groups:
        missing = sorted(group - ranges.keys())
        if missing:
            raise BundleError(f"no calibrated range for {missing[0]}; calibrate this model first")
        scale = fp16_scale(np.float64(max(ranges[name] for name in group)) / INT8_MAX)
        scales.update(dict.fromkeys(sorted(group), float(scale)))
    return scales


def fp16_scale(scale: NDArray[np.float64] | np.float64) -> NDArray[np.float32]:
    """Scales rounded up to FP16 numbers, so that both INT8 files hold exactly the same ones."""
    floor = np.maximum(np.asarray(scale, dtype=np.float64), SMALLEST_SCALE)
    half = floor.astype(np.float16)
    up = np.where(half < floor, np.nextafter(half, np.float16(np.inf)), half)
    return up.astype(np.float32)


def _int8_weights(
    name: str, scale_name: str, weights: NDArray[np.generic], axis: int
) -> list[onnx.TensorProto]:
    values = weights.astype(np.float64)
    others = tuple(a for a in range(values.ndim) if a != axis)
    scale = fp16_scale(np.abs(values).max(axis=others) / INT8_MAX)
    shape = [-1 if a == axis else 1 for a in range(values.ndim)]
    whole = np.rint(values / scale.astype(np.float64).reshape(shape))
    quantized = np.clip(whole, -INT8_MAX, INT8_MAX).astype(np.int8)
    return [
        numpy_helper.from_array(quantized, f"{name}_int8"),
        numpy_helper.from_array(scale, scale_name),
        numpy_helper.from_array(np.zeros(len(scale), dtype=np.int8), f"{name}_zero"),
    ]


def _pair(name: str, scale: str, zero: str) -> list[onnx.NodeProto]:
    q, dq = f"{name}_q", f"{name}_dq"
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [q], f"{name}_quantize"),
        helper.make_node("DequantizeLinear", [q, scale, zero], [dq], f"{name}_dequantize"),
    ]


def _positive(names: Iterable[str], made_by: Mapping[str, onnx.NodeProto]) -> set[str]:
    """Of the tensors, those that hold nothing but the outputs of ReLUs."""

    def rectified(name: str) -> bool:
        sources = [
            s for s in _sources(name, made_by) if s not in made_by or not _copies(made_by[s])
        ]
        return all(s in made_by and made_by[s].op_type == "Relu" for s in sources)

    return {name for name in names if rectified(name)}


def _scalar(name: str, value: np.generic) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value), name)


def _insert_sorted(model: onnx.ModelProto, added: list[onnx.NodeProto]) -> None:
    """Nodes in an order in which every input exists before it is read."""
    known = {i.name for i in model.graph.input} | {i.name for i in model.graph.initializer} | {""}
    waiting, ordered = [*added, *model.graph.node], []
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        if not ready:
            raise BundleError(f"node {waiting[0].name} reads a tensor that nothing makes")
        ordered += ready
        known |= {name for node in ready for name in node.output}
        done = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in done]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove weights, and Q/DQ pairs, that nothing reads any more."""
    outputs = {o.name for o in model.graph.output}
    while True:
        used = {name for node in model.graph.node for name in node.input} | outputs
        idle = [n for n in model.graph.node if not used & set(n.output)]
        if not idle:
            break
        for node in idle:
            model.graph.node.remove(node)
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    del model.graph.value_info[:]
