"""What an ONNX file may hold, checked on its bytes before any library parses it.

Only the few protobuf fields that matter are looked at (field numbers of onnx.proto); the weights
are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator

from lohi_edge.errors import ModelFault

# What generators and the networks of the quality check are made of. None of these runs a subgraph,
# reads a file or keeps state.
ALLOWED = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "Relu", "LeakyRelu"}
    | {"PRelu", "Clip", "Tanh", "Sigmoid", "Abs", "Log", "Sqrt", "Add", "Sub", "Mul", "Div"}
    | {"Concat", "Resize", "Pad", "MaxPool", "AveragePool", "GlobalAveragePool", "DepthToSpace"}
    | {"Identity", "Cast", "Constant"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
_INSIDE = 0  # TensorProto.DataLocation; whatever else stands there may be read as EXTERNAL
_MAX_TAG = 1 << 32  # protobuf keeps 32 bits of a tag: a larger one would be another field to it
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Value = int | memoryview


def check_onnx(data: bytes, name: str) -> None:
    """Look through a model.

    Raises:
        ModelFault: not ONNX, an operator that is not allowed, functions, subgraphs, or weights in
            other files.
    """
    try:
        operators = set(_operators(memoryview(data)))
    except (IndexError, ValueError):
        raise ModelFault(f"{name}: not an ONNX model") from None
    except _Refused as refused:
        raise ModelFault(f"{name}: {refused}; this model is not run") from None
    if not operators:
        raise ModelFault(f"{name}: not an ONNX model: it has no operators")
    if odd := sorted(operators - ALLOWED):
        raise ModelFault(f"{name}: operators that a generator does not need: {', '.join(odd)}")


class _Refused(Exception):
    pass


def _operators(model: memoryview) -> Iterator[str]:
    for number, value in _fields(model):
        if number == 25:  # ModelProto.functions
            raise _Refused("it defines functions")
        if number == 7:  # ModelProto.graph
            yield from _graph(_message(value))


def _graph(graph: memoryview) -> Iterator[str]:
    for number, value in _fields(graph):
        if number == 1:  # GraphProto.node
            yield from _node(_message(value))
        elif number == 5:  # GraphProto.initializer
            _tensor(_message(value))
        elif number == 15:  # GraphProto.sparse_initializer
            raise _Refused("it has sparse weights")


def _node(node: memoryview) -> Iterator[str]:
    kind, domain = "", ""
    for number, value in _fields(node):
        if number == 4:
            kind = bytes(_message(value)).decode()
        elif number == 7:
            domain = bytes(_message(value)).decode()
        elif number == 5:
            _attribute(_message(value))
    yield kind if domain in ("", "ai.onnx") else f"{domain}.{kind}"


def _attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (6, 11):  # g, graphs
            raise _Refused("it has subgraphs")
        if number in (5, 10):  # t, tensors
            _tensor(_message(value))
        elif number in (22, 23):  # sparse_tensor, sparse_tensors
            raise _Refused("it has sparse weights")


def _tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == 13 or (number == 14 and value != _INSIDE):
            raise _Refused("its weights lie in another file")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("expected a message, got a number")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) of one protobuf message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag >= _MAX_TAG:
            raise ValueError(f"tag {tag} is too large")
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {kind}")
        if number == 0 or at + size > len(data):
            raise ValueError("a field runs over the end")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
