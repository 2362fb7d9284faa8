"""Batches of slices: which slices, which cut, which augmentation, all decided by (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lohi_edge.errors import UsageError
from lohi_edge.volume import Float32
from lohi_export import models
from lohi_export.augment import Change, draw
from lohi_export.config import TrainConfig
from lohi_export.dataset import SlicePair

ORDER, AUGMENT, TARGET_ORDER, TARGET_AUGMENT, STEP = 1, 2, 3, 4, 5  # streams of random numbers


class Sampler:
    """Training batches that are pure functions of (seed, step).

    A model that learns without pairs gets, beside each source, the target of another draw, cut and
    changed on its own.

    Args:
        pairs: slices to draw from; only those that show a head are drawn.
        config: batch, crop, augmentation and seed.
        rank, size: which of how many equal shares of each batch to give.

    Raises:
        UsageError: a batch that cannot be shared out.
    """

    def __init__(
        self, pairs: Sequence[SlicePair], config: TrainConfig, rank: int = 0, size: int = 1
    ) -> None:
        if config.batch % size:
            raise UsageError(
                f"expected a batch that {size} processes can share, got {config.batch}; "
                f"use --batch {size * -(-config.batch // size)}"
            )
        self.pairs, self.config = pairs, config
        self.paired = models.find(config.model).paired
        self.share = slice(rank * config.batch // size, (rank + 1) * config.batch // size)
        self.index = [(n, z) for n, pair in enumerate(pairs) for z in range(*pair.head)]

    def __len__(self) -> int:
        """Number of slices in an epoch."""
        return len(self.index)

    def drawn(self, step: int, stream: int = ORDER) -> list[tuple[int, int]]:
        """(pair, slice) of every sample of a step: without replacement within an epoch."""
        batch = self.config.batch
        positions = range(step * batch, (step + 1) * batch)
        orders = {
            epoch: self._order(epoch, stream) for epoch in {p // len(self) for p in positions}
        }
        return [self.index[orders[p // len(self)][p % len(self)]] for p in positions]

    def __call__(self, step: int) -> tuple[Float32, Float32]:
        """Source (n, C, h, w) and target (n, 1, h, w) of this share of a step."""
        config = self.config
        drawn, changes = self.drawn(step), self._changes(step, AUGMENT)
        if self.paired:
            drawn_targets, target_changes = drawn, changes
        else:
            drawn_targets = self.drawn(step, TARGET_ORDER)
            target_changes = self._changes(step, TARGET_AUGMENT)
        sources, targets = [], []
        chosen = zip(drawn, changes, drawn_targets, target_changes, strict=True)
        for (n, z), change, (m, at), target_change in list(chosen)[self.share]:
            source = self.pairs[n].batch(np.array([z]), config.channels)[0][0]
            target = self.pairs[m].batch(np.array([at]), 1)[1][0]
            sources.append(change.of_source(source))
            targets.append(target_change.of_target(target))
        return np.stack(sources), np.stack(targets)

    def random(self, step: int) -> np.random.Generator:
        """Random numbers of what else happens in a step, alike in all shares."""
        return np.random.default_rng([self.config.seed, STEP, step])

    def _changes(self, step: int, stream: int) -> list[Change]:
        rng = np.random.default_rng([self.config.seed, stream, step])
        config, shape = self.config, self.pairs[0].source.shape[1:]
        return [draw((shape[0], shape[1]), config, rng) for _ in range(config.batch)]

    def _order(self, epoch: int, stream: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.config.seed, stream, epoch]).permutation(len(self))
