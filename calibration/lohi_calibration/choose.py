"""Which slices to calibrate on: real ones, spread over subjects, positions and brightness."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lohi_calibration.graph import Float32
from lohi_edge.errors import UsageError

AIR_MARGIN = 0.05  # above -1, in [-1, 1]
MIN_HEAD = 0.05  # share of a slice that must show more than air
MIN_SLICES = 16
_GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class Chosen:
    """One calibration slice: which subject, which index in its stack."""

    subject: str
    index: int


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Chosen slices (n, C, H, W) and how they were chosen."""

    slices: Float32
    chosen: tuple[Chosen, ...]
    seed: int

    @property
    def sha256(self) -> str:
        """Of the slices themselves."""
        return hashlib.sha256(np.ascontiguousarray(self.slices).tobytes()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return {
            "count": len(self.chosen),
            "seed": self.seed,
            "sha256": self.sha256,
            "slices": [asdict(one) for one in self.chosen],
        }


def choose(stacks: Mapping[str, Float32], count: int = 64, seed: int = 0) -> CalibrationSet:
    """Choose `count` slices from stacks (N, C, H, W) in [-1, 1], one stack a subject.

    Every subject gives an equal share (as far as it has slices). A subject's slices are cut into
    as many runs from bottom to top as it gives slices; each run gives the slice at another
    quantile of brightness.

    Raises:
        UsageError: fewer than MIN_SLICES asked for, or fewer slices with a head than asked for.
    """
    found = {subject: usable(stack) for subject, stack in sorted(stacks.items())}
    total = sum(len(indices) for indices in found.values())
    if count < MIN_SLICES:
        raise UsageError(f"expected at least {MIN_SLICES} calibration slices, got {count}")
    if total < count:
        raise UsageError(
            f"expected {count} slices that show a head, found {total} in {len(stacks)} subjects; "
            "give more scans or a smaller --slices"
        )
    rng = np.random.default_rng(seed)
    chosen = [
        Chosen(subject, int(index))
        for subject, share in _shares({s: len(i) for s, i in found.items()}, count).items()
        for index in _spread(stacks[subject], found[subject], share, float(rng.random()))
    ]
    slices = np.stack([stacks[one.subject][one.index] for one in chosen]).astype(np.float32)
    return CalibrationSet(slices, tuple(chosen), seed)


def usable(stack: Float32) -> NDArray[np.intp]:
    middle = stack[:, stack.shape[1] // 2]
    if not np.isfinite(middle).all():
        raise UsageError("expected finite slices to calibrate on, got NaN or infinity")
    share = (middle > -1 + AIR_MARGIN).mean(axis=(1, 2))
    varied = middle.max(axis=(1, 2)) > middle.min(axis=(1, 2))
    return np.flatnonzero((share >= MIN_HEAD) & varied)


def _shares(available: dict[str, int], count: int) -> dict[str, int]:
    """Slices to take from each subject: equal, what one lacks is shared among the others."""
    shares = dict.fromkeys(available, 0)
    while (missing := count - sum(shares.values())) > 0:
        open_ = [s for s in available if shares[s] < available[s]]
        for subject in open_[:missing]:
            shares[subject] += 1
    return shares


def _spread(stack: Float32, indices: NDArray[np.intp], share: int, start: float) -> list[np.intp]:
    if share == 0:
        return []
    picked = []
    for number, part in enumerate(np.array_split(indices, share)):
        brightness = stack[part].mean(axis=(1, 2, 3))
        # Steps of the golden ratio visit all quantiles evenly, however many parts there are.
        quantile = (start + number * _GOLDEN_RATIO) % 1
        picked.append(part[np.argsort(brightness, kind="stable")[int(quantile * len(part))]])
    return picked
