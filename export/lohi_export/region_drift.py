"""How far a precision moves the volumes of brain regions, against the FP32 model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lohi_edge.runtime import Runtime
from lohi_edge.slices import to_intensity
from lohi_edge.volume import Volume
from lohi_export.dataset import SlicePair

Volumes = Callable[[Volume], dict[str, float]]  # an image -> millilitres by region
SMALLEST_ML = 0.1  # a region that is hardly there has no meaningful percentage
MEAN_DRIFT = 2.0  # percent; more than that, over regions and heads, fails the report


def measure(
    runtime: Runtime, pairs: Sequence[SlicePair], channels: int, volumes: Volumes
) -> list[dict[str, float]]:
    """Region volumes of each head, enhanced from end to end (ml)."""
    found = []
    for pair in pairs:
        source, _ = pair.batch(np.arange(*pair.head), channels)
        image = to_intensity(runtime.run(source)[:, 0].transpose(1, 2, 0))
        found.append(volumes(Volume(image, np.eye(4))))  # axial slices of 1 mm, RAS+
    return found


def drift(found: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, Any]:
    """|change| of each region against `base`, percent, means over heads.

    Returns:
        `mean_percent` over regions, `worst_percent` and `worst_region`.
    """
    changes: dict[str, list[float]] = {}
    for got, wanted in zip(found, base, strict=True):
        for region, volume in wanted.items():
            if volume >= SMALLEST_ML:
                change = 100 * abs(got.get(region, 0.0) - volume) / volume
                changes.setdefault(region, []).append(change)
    means = {region: float(np.mean(values)) for region, values in changes.items()}
    worst = max(means, key=lambda region: means[region])
    return {
        "mean_percent": round(float(np.mean(list(means.values()))), 3),
        "worst_percent": round(means[worst], 3),
        "worst_region": worst,
    }
