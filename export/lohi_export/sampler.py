"""Batches of slices: which slices, which cut, which augmentation, all decided by (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lohi_edge.volume import Float32
from lohi_export.dataset import SlicePair

ORDER, AUGMENT = 1, 2  # streams of random numbers


class Sampler:
    """Training batches that are pure functions of (seed, step).

    Args:
        pairs: slices to draw from; only those that show a head are drawn.
        channels: neighbouring slices in the source.
        batch: slices a step.
        crop: side of a random square cut from each slice; 0 for the whole slice.
        gamma: see `augment`.
        hold: share of samples whose neighbours repeat the slice itself, as they do where a scan
            is one slice, or thick ones.
    """

    def __init__(
        self,
        pairs: Sequence[SlicePair],
        channels: int,
        batch: int,
        crop: int,
        gamma: float,
        seed: int,
        hold: float = 0.0,
    ) -> None:
        self.pairs = pairs
        self.channels, self.batch, self.crop = channels, batch, crop
        self.gamma, self.seed, self.hold = gamma, seed, hold
        self.index = [(n, z) for n, pair in enumerate(pairs) for z in range(*pair.head)]

    def __len__(self) -> int:
        """Number of slices in an epoch."""
        return len(self.index)

    def drawn(self, step: int) -> list[tuple[int, int]]:
        """(pair, slice) of every sample of a step: without replacement within an epoch."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        orders = {epoch: self._order(epoch) for epoch in {p // len(self) for p in positions}}
        return [self.index[orders[p // len(self)][p % len(self)]] for p in positions]

    def __call__(self, step: int) -> tuple[Float32, Float32]:
        """Source (batch, C, h, w) and target (batch, 1, h, w) of a step."""
        rng = np.random.default_rng([self.seed, AUGMENT, step])
        samples = []
        for n, z in self.drawn(step):
            source, target = self.pairs[n].batch(np.array([z]), self.channels)
            cut = augment(source[0], target[0], self.crop, self.gamma, rng)
            if rng.random() < self.hold:
                cut[0][:] = cut[0][self.channels // 2].copy()
            samples.append(cut)
        sources, targets = zip(*samples, strict=True)
        return np.stack(sources), np.stack(targets)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, ORDER, epoch]).permutation(len(self))


def augment(
    source: Float32, target: Float32, crop: int, gamma: float, rng: np.random.Generator
) -> tuple[Float32, Float32]:
    """Cut, flip and brighten one sample, (C, H, W) and (1, H, W).

    A random square of side `crop` (0: all), left and right swapped half of the time, and the
    source's grey values in [0, 1] raised to a power drawn from exp(-gamma) to exp(gamma): contrast
    differs between scanners while the target's stays the wanted one.
    """
    height, width = source.shape[1:]
    x = int(rng.integers(height - crop + 1)) if crop else 0
    y = int(rng.integers(width - crop + 1)) if crop else 0
    flip = rng.random() < 0.5
    power = np.float32(np.exp(rng.uniform(-gamma, gamma)))
    window = (slice(None), slice(x, x + (crop or height)), slice(y, y + (crop or width)))
    source, target = source[window], target[window]
    if flip:
        source, target = source[:, ::-1], target[:, ::-1]
    return 2 * ((source + 1) / 2) ** power - 1, target
