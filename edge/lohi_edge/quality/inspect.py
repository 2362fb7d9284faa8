"""The whole check of one scan: fitness before, plausibility after, and the verdict on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.quality import fitness, plausibility, verdict
from lohi_edge.quality.consistency import CELL_MM
from lohi_edge.quality.verdict import Judged
from lohi_edge.volume import Float32, Volume


@dataclass(frozen=True, eq=False)
class Inspection:
    """`metrics` by part ("scan", "result"), and `residual` (x, y, z) on 4 mm cells or None."""

    verdict: verdict.Verdict
    reasons: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    residual: Float32 | None = None


def inspect(
    volume: Volume,
    fine: Volume,
    contrast: str,
    result: Volume | None = None,
    bundle_metrics: Mapping[str, Any] | None = None,
    override: Path | Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Inspection:
    """Judge a scan and, where there is one, the result made of it.

    Args:
        volume: the scan on its own grid.
        fine: the same at 1 mm.
        contrast: what it is taken for.
        result: on the grid of `fine`, 0 to 1000.
        bundle_metrics: `metrics` of the bundle's manifest.
        override: limits that go before all others, or a file of them.
        threads: of the CPU; None for one per core.

    Raises:
        BundleError, UsageError: unusable limits.
    """
    limits = verdict.limits_for(contrast, bundle_metrics or {}, override)
    fit = fitness.assess(volume, fine, contrast)
    parts: dict[str, Judged] = {
        "scan": verdict.judge(fit.measures, limits["scan"], fit.words(contrast))
    }
    residual = None
    if result is not None:
        reference = limits["reference"]
        seen = plausibility.assess(fit.scan, fine.data, result.data, contrast, reference, threads)
        parts["result"] = verdict.judge(seen.measures, limits["result"], seen.words)
        residual = seen.residual
        for reason in parts["result"].reasons:
            if reason["name"] in seen.places:
                reason["at_mm"] = _centre(seen.places[reason["name"]], fine)
    reasons = [reason for judged in parts.values() for reason in judged.reasons]
    reasons.sort(key=lambda reason: reason["level"] != "hold")
    return Inspection(
        verdict=verdict.worst([judged.verdict for judged in parts.values()]),
        reasons=verdict.telling(reasons, fit.measures),
        metrics={name: judged.metrics for name, judged in parts.items()},
        residual=residual,
    )


def _centre(cell: tuple[int, int, int], fine: Volume) -> list[float]:
    """The middle (3,) of a cell of CELL_MM, mm in the scan's RAS+ world, to 0.1 mm."""
    voxel = CELL_MM * np.array(cell) + (CELL_MM - 1) / 2
    at: list[float] = (fine.affine[:3, :3] @ voxel + fine.affine[:3, 3]).round(1).tolist()
    return at
