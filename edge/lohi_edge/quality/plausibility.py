"""Is this result believable? Every metric of the output, held against the scan it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from lohi_edge.quality import consistency, forward, signal, slicewise, ventricles
from lohi_edge.quality.consistency import Consistency
from lohi_edge.quality.forward import Spot
from lohi_edge.quality.measure import Better, Measure, NotApplicable, take
from lohi_edge.quality.piqe import piqe
from lohi_edge.quality.scan import Scan, block_mean
from lohi_edge.slices import INTENSITY_MAX
from lohi_edge.volume import Float32

DARK = 0.5  # of the inner head's median
PIQE_SLICES = 3
DECILES = np.linspace(5, 95, 10)
_CHECKER_CELL = 8
# Metrics of `forward.strongest_spots` in its order, and the words for their places.
_OF_SPOTS = (("residual_blob", "blob_place"), ("residual_lesion", "lesion_place"))


@dataclass(frozen=True, eq=False)
class Plausibility:
    """Metrics of a result.

    Attributes:
        residual: (x, y, z) on cells of 4 mm, where it could be computed.
        words: for the sentences of advice.
        places: metric -> the cell (3,) that it is about.
    """

    measures: dict[str, Measure]
    residual: Float32 | None = None
    words: dict[str, str] = field(default_factory=dict)
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def assess(
    scan: Scan,
    fine: Float32,
    result: Float32,
    contrast: str,
    reference: Any = None,
    threads: int | None = None,
) -> Plausibility:
    """All metrics of a result.

    Args:
        scan: the input, laid out.
        fine: the input at 1 mm (X, Y, Z).
        result: the output on that grid, 0 to INTENSITY_MAX.
        contrast: of the scan.
        reference: deciles (10,) of what the model was trained to produce, 0 to 1; None where
            nobody recorded them.
        threads: of the CPU; None for one per core.
    """
    finite = take("ratio", "high", lambda: float(np.isfinite(result).mean()))
    if finite.value != 1.0:
        return Plausibility({"finite": finite})
    scene = _Scene(scan, fine, result, contrast, reference, threads)
    measures = {
        name: take(unit, better, partial(compute, scene))
        for name, (unit, better, compute) in METRICS.items()
    }
    words, places = {}, {}
    if measures["residual_blob"].value is not None:
        for (metric, word), spot in zip(_OF_SPOTS, scene.spots, strict=True):
            words[word], places[metric] = scene.place(spot), spot.where
    residual = None if measures["consistency"].failed else scene.compared.residual
    return Plausibility({"finite": finite, **measures}, residual, words, places)


@dataclass(eq=False)
class _Scene:
    """What several metrics share, computed once when first asked for."""

    scan: Scan
    fine: Float32
    result: Float32
    contrast: str
    reference: Any
    threads: int | None

    @cached_property
    def work(self) -> Float32:
        return block_mean(self.result, 2)

    @cached_property
    def spots(self) -> tuple[Spot, Spot]:
        return forward.strongest_spots(self.scan, self.work, self.contrast, self.threads)

    @cached_property
    def compared(self) -> Consistency:
        shading = signal.shading_field(self.scan.work, self.scan.inner)
        return consistency.compare(self.scan.work, self.work, self.scan.inner, shading)

    @cached_property
    def level(self) -> float:
        return max(float(np.median(self.work[self.scan.inner])), 1e-6)

    @cached_property
    def table(self) -> Float32:
        table = slicewise.slice_table(self.result, (1.0, 1.0, 1.0), self.level)
        if len(table) < 6:
            raise NotApplicable(f"only {len(table)} slices show the head")
        return table

    @cached_property
    def piqe(self) -> tuple[float, float]:
        rows = np.flatnonzero(self.scan.head.any(axis=(0, 1)))
        at = 2 * np.quantile(rows, np.linspace(0.35, 0.75, PIQE_SLICES)).astype(int)
        scores = []
        for data in (self.fine, self.result):
            thin = data[::2, ::2, ::2]
            low, high = float(thin.min()), float(np.percentile(thin, 99.5))
            slices = (np.clip(data[:, :, k], low, high) for k in at)
            scores.append(float(np.mean([piqe(one, low, high) for one in slices])))
        return scores[0], scores[1]

    def place(self, spot: Spot) -> str:
        """Where it lies, from the middle of the head, in words."""
        inside = np.argwhere(block_mean(self.scan.inner.astype(np.float32), 2) > 0.9)
        offset = (np.array(spot.where) - inside.mean(axis=0)) * consistency.CELL_MM
        names = (("left", "right"), ("back", "front"), ("bottom", "top"))
        parts = [
            f"{abs(mm):.0f} mm to the {pair[int(mm > 0)]}"
            for mm, pair in zip(offset, names, strict=True)
            if abs(mm) >= consistency.CELL_MM
        ]
        return (", ".join(parts) + " of the middle of the head") if parts else "the middle"


def saturated(result: Float32, inside: Any) -> float:
    """Share of the head at the very top of the range; lower is better.

    Args:
        result: (x, y, z), every second voxel, 0 to INTENSITY_MAX.
        inside: the same shape.
    """
    return float(np.mean(result[inside] >= INTENSITY_MAX * 0.9999))


def tissue_contrast(result: Float32, level: float, inside: Any) -> float:
    """Spread of tissue brightness, (P90 - P10) / median of what is no darker than half of `level`.

    What is darker is air, bone and, in T1w and FLAIR, fluid: they stay dark in a result whose
    tissues cannot be told apart.
    """
    tissue = inside & (result > DARK * level)
    if not tissue.any():
        return 0.0  # all is black
    return signal.contrast(result, np.full(result.shape, level, np.float32), tissue)


def added_edges(scan: Float32, result: Float32, inside: Any) -> float:
    """Edge energy of the result over that of the scan at the scan's resolution; 1 is the same.

    Root mean squared gradient on 4 mm cells, each image relative to its own spread.

    Args:
        scan, result: (x, y, z) on the 2 mm grid.
        inside: where they are compared.

    Raises:
        ValueError: too little of a head to compare.
    """
    mask = block_mean(inside.astype(np.float32), 2) > 0.9
    if not mask.any():
        raise ValueError("too little of a head to compare")
    energies = []
    for data in (scan, result):
        cells = block_mean(data, 2)
        squares = sum(np.square(g) for g in np.gradient(cells))
        energies.append(
            float(np.sqrt(np.mean(squares[mask]))) / max(float(cells[mask].std()), 1e-9)
        )
    return energies[1] / max(energies[0], 1e-9)


def checkerboard(result: Float32, level: float) -> float:
    """Strength of a pattern of period 2 in the slices' plane, relative to tissue; lower is better.

    Transposed convolutions leave it (Odena et al., Distill 2016). The alternating sum of 2 x 2
    voxels keeps its sign over a checkerboard, so it is averaged over 16 x 16 mm; noise and edges
    average out.

    Args:
        result: (X, Y, S).
    """
    x, y = (n // 2 * 2 for n in result.shape[:2])
    part = result[:x, :y]
    even, odd = part[::2], part[1::2]
    sums = (even[:, ::2] - even[:, 1::2] - odd[:, ::2] + odd[:, 1::2]) / np.float32(4)
    cell = _CHECKER_CELL
    rows, columns = (n // cell * cell for n in sums.shape[:2])
    tiles = sums[:rows, :columns].reshape(rows // cell, cell, columns // cell, cell, -1)
    return float(np.percentile(np.abs(tiles.mean(axis=(1, 3))), 95)) / level


def displaced(table: Float32) -> float:
    """How much one slice, or a piece of several, lies aside of the slices about it; about 1.5 is
    even, lower is better.

    A single slice shows in `slicewise.displaced`, whose 1 is as odd as 2 of `slicewise.gap`, which
    shows where a piece begins or ends.
    """
    return max(2 * slicewise.displaced(table), slicewise.gap(table))


def statistics_shift(work: Float32, inside: Any, reference: Any) -> float:
    """Distance of the result's brightness from training's, 0 to 1; lower is better.

    Mean absolute difference of deciles (the Wasserstein-1 distance of the two distributions).

    Args:
        work: (x, y, z) on the 2 mm grid, 0 to INTENSITY_MAX.
        reference: deciles (10,), 0 to 1, or None.
    """
    if reference is None:
        raise NotApplicable("no statistics of the training were recorded")
    deciles = np.percentile(work[inside], DECILES) / INTENSITY_MAX
    return float(np.mean(np.abs(deciles - np.asarray(reference, dtype=float))))


METRICS: Mapping[str, tuple[str, Better, Any]] = {
    "clipped_result": (
        "ratio",
        "low",
        lambda s: saturated(
            s.result[::2, ::2, ::2][tuple(slice(0, n) for n in s.scan.inner.shape)], s.scan.inner
        ),
    ),
    "consistency": ("ratio", "high", lambda s: s.compared.explained),
    "ventricle_rim": (
        "ratio",
        "high",
        lambda s: ventricles.rim_support(s.scan.work, s.work, s.scan.inner),
    ),
    "added_edges": ("ratio", "low", lambda s: added_edges(s.scan.work, s.work, s.scan.inner)),
    "checkerboard": ("ratio", "low", lambda s: checkerboard(s.result[:, :, ::8], s.level)),
    "result_contrast": (
        "ratio",
        "high",
        lambda s: tissue_contrast(s.work, s.level, s.scan.inner),
    ),
    "result_displaced": ("ratio", "low", lambda s: displaced(s.table)),
    "piqe_before": ("score", "low", lambda s: s.piqe[0]),
    "piqe_after": ("score", "low", lambda s: s.piqe[1]),
    "piqe_change": ("score", "low", lambda s: s.piqe[1] - s.piqe[0]),
    "statistics_shift": (
        "ratio",
        "low",
        lambda s: statistics_shift(s.work, s.scan.inner, s.reference),
    ),
    "residual_blob": ("robust sd", "low", lambda s: s.spots[0].height),
    "residual_lesion": ("log odds", "low", lambda s: s.spots[1].height),
}
