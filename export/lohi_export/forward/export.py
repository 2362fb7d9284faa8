"""The forward model and its detector as the one file that the device runs."""

from __future__ import annotations

import numpy as np
import torch

from lohi_edge.quality.forward import INPUTS, OUTPUTS
from lohi_edge.volume import Float32
from lohi_export.forward.detector import ABOUT, NEAR, Detector
from lohi_export.forward.network import MIDDLE, TRUST, ForwardModel
from lohi_export.onnx_graph import Graph


def to_onnx(model: ForwardModel, filters: Float32, detector: Detector) -> bytes:
    """FP32 ONNX: where scan and result do not share a lesion, by the model and its detector.

    Inputs: `scan` (1, 1, x, y, z), `result` (1, 1, 2x, 2y, 2z), `place` (1, 3, x, y, z), `inside`
    (1, 1, x, y, z); outputs, each (1, 1, x, y, z): `departures`, filtered for spots; `odds`, their
    logarithm; `brain`, its chance.
    """
    return _Writer(model, filters, detector).file()


class _Writer:
    """The steps of `detector.look` and of the detector as nodes."""

    def __init__(self, model: ForwardModel, filters: Float32, detector: Detector) -> None:
        self.model, self.filters, self.detector = model, filters, detector
        self.graph = Graph()

    def file(self) -> bytes:
        node, (scan, result, place, inside) = self.graph.node, INPUTS
        departures, odds, brain = OUTPUTS
        cells = node("AveragePool", [result], kernel_shape=[2] * 3, strides=[2] * 3)
        around = self.model.around.numpy()
        both = [self._filtered(image, around) for image in (scan, cells)]
        context = node("Sub", [self._joined(both), self._number(MIDDLE)])
        seen = self._seen(result, context, place)
        mean, trust, chance = self._told(seen, context)
        chance = node("Identity", [chance], brain)

        departs = node("Mul", [node("Mul", [trust, inside]), node("Sub", [scan, mean])])
        found = self._filtered(departs, self.filters[:, None])
        first = self._first_of(found, len(self.filters), departures)
        near = self._mean_about(node("Abs", [departs]), [NEAR] * 3)
        about = node("Mul", [departs, departs])
        for axis in range(3):  # one after the other: onnxruntime is slow at wide cubes
            about = self._mean_about(about, [ABOUT if a == axis else 1 for a in range(3)])
        about = node("Sqrt", [about])

        weight = node("Mul", [chance, inside])
        usual = self._mean(node("Abs", [first]), weight)
        measured = node("Div", [self._joined([found, departs, near, about]), usual])
        certain = node("Log", [trust])
        surely = node("Sub", [certain, self._mean(certain, weight)])
        self._odds(self._joined([seen, context, place, measured, surely, scan, cells]), odds)

        one = (1, 1, "x", "y", "z")
        inputs = {scan: one, result: (1, 1, "x2", "y2", "z2"), place: (1, 3, "x", "y", "z")}
        return self.graph.file("forward", {**inputs, inside: one}, dict.fromkeys(OUTPUTS, one), {})

    def _seen(self, result: str, context: str, place: str) -> str:
        node, model = self.graph.node, self.model
        grey = node("Sub", [node("Mul", [result, self._number(2)]), self._number(MIDDLE)])
        name = self._act(model.fine, grey)
        for layer in model.deep:
            name = node("Add", [name, self._act(layer, name)])
        name = self._act(model.mix[0], self._joined([name, context, place]))
        return node("Add", [name, self._act(model.mix[1], name)])

    def _told(self, seen: str, context: str) -> tuple[str, str, str]:
        """The prediction, trust in it, and the chance of brain."""
        node = self.graph.node
        mean, trust, brain = (self._last(seen, channel) for channel in range(3))
        # Of the surroundings the first is what the prediction is told from, without its shift.
        level = self._first_of(context, 2 * len(self.model.around))
        level = node("Add", [level, self._number(MIDDLE)])
        certain = node("Sigmoid", [node("Sub", [trust, self._number(1)])])
        trusted = node("Mul", [certain, self._number(TRUST)])
        return node("Add", [level, mean]), trusted, node("Sigmoid", [brain])

    def _odds(self, features: str, output: str) -> None:
        layers = self.detector.folded()
        for number, (weight, bias) in enumerate(layers):
            parts = [self.graph.weight(np.ascontiguousarray(weight)[..., None, None, None])]
            parts.append(self.graph.weight(bias))
            last = number == len(layers) - 1
            features = self.graph.node("Conv", [features, *parts], output if last else "")
            if not last:
                features = self.graph.node("Relu", [features])

    def _number(self, value: float) -> str:
        return self.graph.weight(np.float32(value))

    def _joined(self, names: list[str]) -> str:
        return self.graph.node("Concat", names, axis=1)

    def _filtered(self, name: str, weights: Float32, output: str = "") -> str:
        pads = [n // 2 for n in weights.shape[2:]] * 2
        return self.graph.node("Conv", [name, self.graph.weight(weights)], output, pads=pads)

    def _mean_about(self, name: str, across: list[int]) -> str:
        """Means over boxes that reach beyond the edge, where all is 0.

        A convolution: AveragePool divides by too little at the far edges in onnxruntime 1.23, the
        last for Python 3.10, which puts a Pad before it into it (mended by its pull request 27375).
        """
        box = np.full((1, 1, *across), 1 / np.prod(across), np.float32)
        return self._filtered(name, box)

    def _first_of(self, name: str, count: int, output: str = "") -> str:
        """The first of several channels."""
        first = np.zeros((1, count, 1, 1, 1), np.float32)
        first[0, 0] = 1
        return self._filtered(name, first, output)

    def _mean(self, name: str, weight: str) -> str:
        """Over the whole box, weighted."""
        node = self.graph.node
        sums = [node("GlobalAveragePool", [n]) for n in (node("Mul", [name, weight]), weight)]
        return node("Div", sums)

    def _act(self, conv: torch.nn.Module, name: str) -> str:
        assert isinstance(conv, torch.nn.Conv3d)
        return self.graph.node("Relu", [self.graph.conv(name, conv)])

    def _last(self, name: str, channel: int) -> str:
        """One channel of the last convolution by itself."""
        conv = self.model.last
        assert conv.bias is not None
        part = slice(channel, channel + 1)
        weights = [p.detach().numpy()[part] for p in (conv.weight, conv.bias)]
        return self.graph.node("Conv", [name, *(self.graph.weight(w) for w in weights)])
