"""ONNX files built node by node, which says more plainly than tracing what the device runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lohi_edge.onnx_check import check_onnx
from lohi_export.onnx_export import IR_VERSION, OPSET

Shapes = Mapping[str, tuple[int | str, ...]]


class Graph:
    """Nodes and weights of a model in the making; each step returns its output's name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, values: NDArray[Any]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, name: str, conv: torch.nn.Conv3d, output: str = "") -> str:
        assert conv.bias is not None
        inputs = [name, *(self.weight(p.detach().numpy()) for p in (conv.weight, conv.bias))]
        pads, strides = [int(p) for p in conv.padding] * 2, list(conv.stride)
        return self.node("Conv", inputs, output, pads=pads, strides=strides)

    def file(
        self, name: str, inputs: Shapes, outputs: Shapes, metadata: Mapping[str, str]
    ) -> bytes:
        """The model as bytes that the device accepts, FP32.

        Raises:
            BundleError: it has operators that the device refuses.
        """
        takes, gives = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in of.items()]
            for of in (inputs, outputs)
        )
        proto = helper.make_model(
            helper.make_graph(self._nodes, name, takes, gives, self._weights),
            producer_name="lohi-export",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        for key, value in metadata.items():
            proto.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(proto, full_check=True)
        data: bytes = proto.SerializeToString(deterministic=True)
        check_onnx(data, f"{name}.onnx")
        return data
