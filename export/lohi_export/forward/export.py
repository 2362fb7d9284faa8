"""The forward model and its filter as the one file that the device runs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lohi_edge.quality.forward import INPUTS, OUTPUTS
from lohi_export.forward.network import MIDDLE, TRUST, ForwardModel
from lohi_export.onnx_graph import Graph


def to_onnx(model: ForwardModel, kernel: NDArray[np.float32]) -> bytes:
    """FP32 ONNX: how far a scan departs from what the model predicts of it, filtered by `kernel`.

    Inputs: `scan` (1, 1, x, y, z), `result` (1, 1, 2x, 2y, 2z), `place` (1, 3, x, y, z), `inside`
    (1, 1, x, y, z); outputs: `spots` and `brain`, each (1, 1, x, y, z).
    """
    graph = Graph()
    scan, result, place, inside = INPUTS

    def number(value: float) -> str:
        return graph.weight(np.float32(value))

    def filtered(name: str, weights: NDArray[np.float32], output: str = "") -> str:
        pads = [n // 2 for n in weights.shape[2:]] * 2
        return graph.node("Conv", [name, graph.weight(weights)], output, pads=pads)

    def act(conv: torch.nn.Module, name: str) -> str:
        assert isinstance(conv, torch.nn.Conv3d)
        return graph.node("Relu", [graph.conv(name, conv)])

    cells = graph.node("AveragePool", [result], kernel_shape=[2] * 3, strides=[2] * 3)
    around = model.around.numpy()
    both = [filtered(image, around) for image in (scan, cells)]
    context = graph.node("Sub", [graph.node("Concat", both, axis=1), number(MIDDLE)])

    grey = graph.node("Sub", [graph.node("Mul", [result, number(2)]), number(MIDDLE)])
    name = act(model.fine, grey)
    for layer in model.deep:
        name = graph.node("Add", [name, act(layer, name)])
    name = act(model.mix[0], graph.node("Concat", [name, context, place], axis=1))
    name = graph.node("Add", [name, act(model.mix[1], name)])

    mean, trust, brain = (_one_of(graph, model.last, name, i) for i in range(3))
    first = np.zeros((1, 2 * len(around), 1, 1, 1), np.float32)
    first[0, 0] = 1  # the surroundings that the prediction is told from, without their shift
    level = graph.node("Add", [filtered(context, first), number(MIDDLE)])
    level = graph.node("Add", [level, mean])
    left = graph.node("Sub", [scan, level])
    certain = graph.node("Sigmoid", [graph.node("Sub", [trust, number(1)])])
    weighted = graph.node("Mul", [graph.node("Mul", [certain, number(TRUST)]), inside])
    filtered(graph.node("Mul", [weighted, left]), kernel[None, None], OUTPUTS[0])
    graph.node("Sigmoid", [brain], OUTPUTS[1])

    one = (1, 1, "x", "y", "z")
    inputs = {scan: one, result: (1, 1, "x2", "y2", "z2"), place: (1, 3, "x", "y", "z")}
    return graph.file("forward", {**inputs, inside: one}, dict.fromkeys(OUTPUTS, one), {})


def _one_of(graph: Graph, conv: torch.nn.Conv3d, name: str, channel: int) -> str:
    """One channel of a 1 x 1 x 1 convolution by itself."""
    assert conv.bias is not None
    part = slice(channel, channel + 1)
    weights = [p.detach().numpy()[part] for p in (conv.weight, conv.bias)]
    return graph.node("Conv", [name, *(graph.weight(w) for w in weights)])
