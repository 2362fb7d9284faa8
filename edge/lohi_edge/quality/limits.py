"""Set limits from clean scans: just outside of what they show, further out for a hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lohi_edge.quality.faultbench import Row
from lohi_edge.quality.fitness import METRICS

WARN_MARGIN = 0.3  # beyond the extreme clean scan, in distances from extreme to median
HOLD_MARGIN = 1.0
# Metrics that describe but do not judge: they repeat another, or depend on what was masked.
INFORMATION = {"masked", "snr_tissue", "head_share", "sharp_through", "cnr", "turned", "fber"}
NEVER_HOLD = {"efc", "jump", "side_cut", "contrast", "qi1", "head_litres", "displaced"}
# Set by what a head or a 64 mT protocol is, not by how the simulator draws them.
FIXED: dict[str, dict[str, list[float | None]]] = {
    "in_plane_mm": {"warn": [0.9, 2.2], "hold": [0.5, 4.0]},
    "slice_mm": {"warn": [0.9, 6.5], "hold": [0.5, 10.0]},
    "slices": {"warn": [20, 260], "hold": [10, 600]},
    "head_height": {"warn": [130, 240], "hold": [112, 300]},
    "head_width": {"warn": [115, 195], "hold": [95, 230]},
    "head_length": {"warn": [145, 235], "hold": [120, 260]},
    "head_litres": {"warn": [1.5, 4.8], "hold": [0.8, None]},
    "contrast": {"warn": [0.4, 1.9], "hold": [0.2, None]},
    "head_like": {"warn": [0.05, None], "hold": [-0.2, None]},
    "contrast_margin": {"warn": [-20.0, None], "hold": [-120.0, None]},
    "crown_cut": {"warn": [None, 0.42], "hold": [None, 0.58]},
    "high_field": {"warn": [None, 0.40], "hold": [None, 0.44]},
    "spike": {"warn": [None, 6.2], "hold": [None, 12.0]},
    "zipper": {"warn": [None, 50.0], "hold": [None, 150.0]},
    "repeated": {"warn": [0.1, None], "hold": [0.02, None]},
    "clipped": {"warn": [None, 0.02], "hold": [None, 0.15]},
    "swapped": {"warn": [None, 0.97], "hold": [None, 1.2]},
    "blank": {"warn": [0.72, None], "hold": [0.3, None]},
}


def from_clean(rows: Iterable[Row], contrast: str) -> dict[str, dict[str, list[float | None]]]:
    """Limits of the scan's metrics for a contrast, from its clean rows."""
    clean = [row.values for row in rows if not row.fault and row.contrast == contrast]
    limits = dict(FIXED)
    for name, (_, better, _) in METRICS.items():
        values = np.array([v[name] for v in clean if v[name] is not None], dtype=float)
        if name in FIXED or name in INFORMATION or len(values) < 5:
            continue
        limits[name] = _beyond(values, better, name not in NEVER_HOLD)
    return limits


def _beyond(values: Any, better: str, hold: bool) -> dict[str, list[float | None]]:
    middle, low, high = (float(f(values)) for f in (np.median, np.min, np.max))
    levels = {"warn": WARN_MARGIN, **({"hold": HOLD_MARGIN} if hold else {})}
    return {
        level: [
            None if better == "low" else round(low - margin * (middle - low), 4),
            None if better == "high" else round(high + margin * (high - middle), 4),
        ]
        for level, margin in levels.items()
    }
