"""Ranges of activations: how far each tensor reaches on calibration slices.

Three estimates come from the same slices, to be compared:
  minmax      mean over slices of each slice's largest |x| (moving average)
  percentile  99.999th percentile of |x|
  mse         the clip at which 8-bit rounding and clipping together cost least
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from lohi_calibration.graph import Float32, session, with_outputs
from lohi_edge.errors import UsageError

METHODS = ("minmax", "percentile", "mse")
BINS = 4096
PERCENTILE = 99.999
INT8_MAX = 127
_TINY = float(np.finfo(np.float32).tiny)  # below it there is no room for BINS bins
Progress = Callable[[int, int], None]


@dataclass
class Histogram:
    """|x| of one tensor, counted in BINS bins over [0, top]; `top` doubles when it is passed."""

    top: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    slice_tops: list[float] = field(default_factory=list)

    def add(self, values: Float32) -> None:
        size = np.abs(values).ravel()
        reach = float(size.max(initial=0))
        self.slice_tops.append(reach)
        if self.top == 0 < reach:
            self.top = max(reach, _TINY)
        while reach > self.top > 0:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, dtype=np.int64)]
            )
            self.top *= 2
        if self.top > 0:
            self.counts += np.histogram(size, BINS, (0, self.top))[0]

    def reach(self, method: str) -> float:
        """Largest |x| that int8 must be able to say, by one of METHODS."""
        if method not in METHODS:
            raise UsageError(f"expected a range method of {', '.join(METHODS)}, got {method!r}")
        if self.top == 0:
            return 0.0
        if method == "minmax":
            return float(np.mean(self.slice_tops))
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            return self.top * (int(np.searchsorted(share, PERCENTILE / 100)) + 1) / BINS
        return self._least_mse()

    def _least_mse(self) -> float:
        centres = (np.arange(BINS) + 0.5) * self.top / BINS
        clips = self.top * np.linspace(0.02, 1, 99)
        costs = []
        for clip in clips:
            step = clip / INT8_MAX
            rounded = np.minimum(np.round(centres / step), INT8_MAX) * step
            costs.append(float(np.sum(self.counts * (centres - rounded) ** 2)))
        return float(clips[int(np.argmin(costs))])


def collect(
    model: onnx.ModelProto,
    tensors: list[str],
    slices: Float32,
    threads: int = 0,
    progress: Progress | None = None,
) -> dict[str, Histogram]:
    """Histograms of `tensors` while the FP32 model runs over slices (N, C, H, W)."""
    found = {name: Histogram() for name in tensors}
    for done, values in enumerate(_activations(model, tensors, slices, threads), start=1):
        for name, array in values.items():
            found[name].add(array)
        if progress:
            progress(done, len(slices))
    return found


def largest(model: onnx.ModelProto, slices: Float32, threads: int = 0) -> dict[str, float]:
    """Largest |x| of every tensor of the FP32 model on slices; NaN where any value is NaN."""
    names = [name for node in model.graph.node for name in node.output]
    reached = dict.fromkeys([model.graph.input[0].name, *names], 0.0)
    for values in _activations(model, list(reached), slices, threads):
        for name, array in values.items():
            reached[name] = float(np.maximum(reached[name], np.abs(array).max(initial=0)))
    return reached


def _activations(
    model: onnx.ModelProto, tensors: list[str], slices: Float32, threads: int
) -> Iterator[dict[str, Float32]]:
    source = model.graph.input[0].name
    inner = [name for name in tensors if name != source]
    running = session(with_outputs(model, inner), threads)
    for n in range(len(slices)):
        one = slices[n : n + 1]
        values = dict(zip(inner, running.run(inner, {source: one}), strict=True)) if inner else {}
        yield {**values, **({source: one} if source in tensors else {})}
