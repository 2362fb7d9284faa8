"""The trained segmenter -> the ONNX file that ships with the device's package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lohi_edge.errors import BadInput
from lohi_edge.onnx_check import check_onnx
from lohi_edge.quality.features import ATLAS_SHAPE, CLASSES, FIRST, SECOND
from lohi_edge.quality.segmenter_file import ATLAS, ERRORS, INPUTS, OUTPUTS, Errors
from lohi_export.morphometry.networks import SLOPE, Model, Voxels, Window
from lohi_export.onnx_export import IR_VERSION, OPSET


def export(model: Model, errors: Errors) -> bytes:
    """FP32 ONNX: `first` (1, FIRST, n) -> `guess`, `second` (1, SECOND, x, y, z) -> `answer`, and
    `atlas`.

    Answers have CLASSES + 1 channels: what is added to the logits of the classes before, and the
    right side's logit. The metadata hold `errors`: volume error in percent by kind and region.
    """
    graph = _Graph()
    _first(graph, model.first)
    _second(graph, model.second)
    _atlas(graph, model)
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "segmenter",
            [_value(INPUTS[0], (1, FIRST, "n")), _value(INPUTS[1], (1, SECOND, "x", "y", "z"))],
            [_value(OUTPUTS[0], (1, CLASSES + 1, "n")),
             _value(OUTPUTS[1], (1, CLASSES + 1, "x", "y", "z")),
             _value(ATLAS, (CLASSES, *ATLAS_SHAPE))],
            graph.weights,
        ),
        producer_name="lohi-export",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )  # fmt: skip
    proto.metadata_props.add(key=ERRORS, value=json.dumps(errors, sort_keys=True))
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    check_onnx(data, "segmenter.onnx")
    return data


class _Graph:
    """Nodes and weights of a model in the making; each step returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, values: NDArray[np.generic]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, name: str, conv: torch.nn.Conv3d, output: str = "") -> str:
        assert conv.bias is not None
        inputs = [name, *(self.weight(p.detach().numpy()) for p in (conv.weight, conv.bias))]
        pads, strides = [int(p) for p in conv.padding] * 2, list(conv.stride)
        return self.node("Conv", inputs, output, pads=pads, strides=strides)

    def act(self, name: str) -> str:
        return self.node("LeakyRelu", [name], alpha=SLOPE)


def _first(graph: _Graph, stage: Voxels) -> None:
    """Linear layers as convolutions of size 1 over the voxels."""
    name = INPUTS[0]
    layers = [m for m in stage.layers if isinstance(m, torch.nn.Linear)]
    for layer in layers:
        kernel = graph.weight(layer.weight.detach().numpy()[:, :, None])
        inputs = [name, kernel, graph.weight(layer.bias.detach().numpy())]
        last = layer is layers[-1]
        name = graph.node("Conv", inputs, OUTPUTS[0] if last else "")
        if not last:
            name = graph.act(name)


def _second(graph: _Graph, stage: Window) -> None:
    """The steps of `Window.forward`."""

    def act(conv: torch.nn.Module, name: str) -> str:
        assert isinstance(conv, torch.nn.Conv3d)
        return graph.act(graph.conv(name, conv))

    twice = graph.weight(np.array([1, 1, 2, 2, 2], np.float32))
    name, passed = act(stage.stem, act(stage.narrow, INPUTS[1])), []
    for down, deep in zip(stage.down, stage.deep, strict=True):
        passed.append(name)
        name = act(down, name)
        name = graph.node("Add", [name, act(deep, name)])
    for up, join in zip(reversed(stage.up), reversed(stage.join), strict=True):
        name = graph.node(
            "Resize", [act(up, name), "", twice], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        name = graph.node("Add", [name, passed.pop()])
        name = graph.node("Add", [name, act(join, name)])
    graph.conv(name, stage.last, OUTPUTS[1])


def _atlas(graph: _Graph, model: Model) -> None:
    """The atlas as bytes: the root of a share, so that small ones keep their order."""
    roots = graph.weight(np.rint(np.sqrt(model.atlas.numpy()) * 255).astype(np.uint8))
    levels = graph.node("Cast", [roots], to=TensorProto.FLOAT)
    root = graph.node("Mul", [levels, graph.weight(np.float32(1 / 255))])
    graph.node("Mul", [root, root], ATLAS)


def _value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def read_errors(path: Path) -> Errors:
    """Volume errors from the JSON that `morphometry evaluate` printed.

    Raises:
        BadInput: something else.
    """
    try:
        report = json.loads(path.read_text())
        return {
            kind: {name: round(f["volume_error"], 1) for name, f in part["regions"].items()}
            for kind, part in report.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: expected the JSON of `morphometry evaluate`: {error}") from None
