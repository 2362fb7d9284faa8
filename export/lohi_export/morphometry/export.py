"""The trained segmenter -> the ONNX file that ships with the device's package."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from onnx import TensorProto

from lohi_edge.errors import BadInput, BundleError
from lohi_edge.quality.features import ATLAS_SHAPE, CLASSES, FIRST, SECOND
from lohi_edge.quality.segmenter_file import ATLAS, ERRORS, INPUTS, OUTPUTS, Errors, load
from lohi_export.morphometry.networks import SLOPE, Model, Voxels, Window
from lohi_export.onnx_graph import Graph


def export(model: Model, errors: Errors) -> bytes:
    """FP32 ONNX: `first` (1, FIRST, n) -> `guess`, `second` (1, SECOND, x, y, z) -> `answer`, and
    `atlas`.

    Answers have CLASSES + 1 channels: what is added to the logits of the classes before, and the
    right side's logit. The metadata hold `errors`: volume error in percent by kind and region.
    """
    graph = Graph()
    _first(graph, model.first)
    _second(graph, model.second)
    _atlas(graph, model)
    inputs = {INPUTS[0]: (1, FIRST, "n"), INPUTS[1]: (1, SECOND, "x", "y", "z")}
    outputs = {
        OUTPUTS[0]: (1, CLASSES + 1, "n"),
        OUTPUTS[1]: (1, CLASSES + 1, "x", "y", "z"),
        ATLAS: (CLASSES, *ATLAS_SHAPE),
    }
    return graph.file("segmenter", inputs, outputs, {ERRORS: json.dumps(errors, sort_keys=True)})


def read_model(path: Path) -> Model:
    """The model that `export` wrote; its atlas to within the file's rounding.

    Raises:
        BadInput: no such file.
        BundleError: not a segmenter, or not one of this shape.
    """
    atlas = load(path, 1).atlas
    graph = onnx.load(path).graph
    stored = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    weights = [stored.get(name, np.empty(0)) for node in convs for name in node.input[1:]]
    model = Model(np.array(atlas))
    layers = [*_linear(model.first), *_convolutions(model.second)]
    own = [p for layer in layers for p in layer.parameters()]
    sizes = [p.numel() for p in own]
    if [w.size for w in weights] != sizes:
        raise BundleError(f"{path}: expected a segmenter with layers of {sizes} weights")
    with torch.no_grad():
        for parameter, read in zip(own, weights, strict=True):
            parameter.copy_(torch.from_numpy(np.array(read)).reshape(parameter.shape))
    return model


def _linear(stage: Voxels) -> list[torch.nn.Linear]:
    return [m for m in stage.layers if isinstance(m, torch.nn.Linear)]


def _convolutions(stage: Window) -> list[torch.nn.Module]:
    """In the order in which `_second` writes them."""
    pairs = [*zip(stage.down, stage.deep, strict=True)]
    pairs += zip(reversed(stage.up), reversed(stage.join), strict=True)
    return [stage.narrow, stage.stem, *chain.from_iterable(pairs), stage.last]


def _first(graph: Graph, stage: Voxels) -> None:
    """Linear layers as convolutions of size 1 over the voxels."""
    name = INPUTS[0]
    layers = _linear(stage)
    for layer in layers:
        kernel = graph.weight(layer.weight.detach().numpy()[:, :, None])
        inputs = [name, kernel, graph.weight(layer.bias.detach().numpy())]
        last = layer is layers[-1]
        name = graph.node("Conv", inputs, OUTPUTS[0] if last else "")
        if not last:
            name = _act(graph, name)


def _second(graph: Graph, stage: Window) -> None:
    """The steps of `Window.forward`."""

    def act(conv: torch.nn.Module, name: str) -> str:
        assert isinstance(conv, torch.nn.Conv3d)
        return _act(graph, graph.conv(name, conv))

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


def _act(graph: Graph, name: str) -> str:
    return graph.node("LeakyRelu", [name], alpha=SLOPE)


def _atlas(graph: Graph, model: Model) -> None:
    """The atlas as bytes: the root of a share, so that small ones keep their order."""
    roots = graph.weight(np.rint(np.sqrt(model.atlas.numpy()) * 255).astype(np.uint8))
    levels = graph.node("Cast", [roots], to=TensorProto.FLOAT)
    root = graph.node("Mul", [levels, graph.weight(np.float32(1 / 255))])
    graph.node("Mul", [root, root], ATLAS)


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
