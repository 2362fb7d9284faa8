"""Set limits from clean scans: just outside of what they show, further out for a hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lohi_edge.bundle import CONTRASTS
from lohi_edge.quality import fitness, plausibility
from lohi_edge.quality.faultbench import Row

SCHEMA = 1
# Beyond the extreme clean scan, in distances from extreme to median: the least with which the
# heads 01-12, each left out in turn, are warned of in 5 % and held in 1 % of clean scans at most.
WARN_MARGIN, HOLD_MARGIN = 0.35, 0.9
# At least this much of the median for results, whose two heads show too little of how heads differ.
WARN_LEAST, HOLD_LEAST = 0.2, 0.25
# Metrics that describe but do not judge: they repeat another (ghosts: echo), depend on masks, or
# differ from coil to coil (slopes of shading, which a device's own limits judge: own_limits).
INFORMATION = {
    "masked",
    "ghost",
    "snr_tissue",
    "head_share",
    "sharp_through",
    "cnr",
    "turned",
    "fber",
    "shading_right",
    "shading_front",
    "shading_up",
}
# For `snr_dietrich` a hold would lie below 0, which no scan reaches.
NEVER_HOLD = {
    "efc", "jump", "side_cut", "contrast", "qi1", "head_litres", "displaced", "snr_dietrich",
}  # fmt: skip
# Set by what a head or a 64 mT protocol is, not by how the simulator draws them.
FIXED: dict[str, dict[str, list[float | None]]] = {
    "in_plane_mm": {"warn": [0.9, 2.2], "hold": [0.5, 4.0]},
    "slice_mm": {"warn": [0.9, 6.5], "hold": [0.5, 10.0]},
    "slices": {"warn": [20, 260], "hold": [10, 600]},
    # 72 clean scans have 0 to 0.07; nothing in air or bone is as bright as this.
    "offset": {"warn": [-0.1, 0.2], "hold": [-0.3, 0.3]},
    "head_height": {"warn": [130, 240], "hold": [112, 300]},
    "head_width": {"warn": [115, 195], "hold": [95, 230]},
    "head_length": {"warn": [145, 235], "hold": [120, 260]},
    "head_litres": {"warn": [1.5, 4.8], "hold": [0.8, None]},
    "contrast": {"warn": [0.4, 2.3], "hold": [0.2, None]},
    "head_like": {"warn": [0.05, None], "hold": [-0.2, None]},
    "contrast_margin": {"warn": [0.0, None], "hold": [-10.0, None]},  # 0: as like another
    # Two of 252 clean scans lie above 0.038 (0.041, 0.045); the one real scan has 0.028.
    "noise": {"warn": [None, 0.038], "hold": [None, 0.048]},
    "crown_cut": {"warn": [None, 0.42], "hold": [None, 0.58]},
    # Tesla, as the header states it; a model made for 64 mT has no business above.
    "field_strength": {"warn": [None, 0.5]},
    "high_field": {"warn": [None, 0.40], "hold": [None, 0.44]},
    "spike": {"warn": [None, 12.0], "hold": [None, 20.0]},
    "zipper": {"warn": [None, 50.0], "hold": [None, 150.0]},
    "repeated": {"warn": [0.1, None], "hold": [0.02, None]},
    "swapped": {"warn": [None, 0.97], "hold": [None, 1.05]},  # above 1 a swap shortens the way
    "gap": {"warn": [None, 1.5], "hold": [None, 1.55]},  # between 2, a step of two slices, and 1
    "blank": {"warn": [0.68, None], "hold": [0.3, None]},
}


# A generator that writes other than finite numbers, or one brightness, has failed.
FIXED_RESULT: dict[str, dict[str, list[float | None]]] = {
    "finite": {"hold": [1.0, None]},
    "clipped_result": {"warn": [None, 0.05], "hold": [None, 0.3]},
    "checkerboard": {"warn": [None, 0.01], "hold": [None, 0.04]},
    "result_displaced": {"warn": [None, 3.0], "hold": [None, 4.0]},
    # 54 clean results of heads 11-16 came out at 4.0 to 6.5.
    "residual_blob": {"warn": [None, 6.5], "hold": [None, 8.0]},
    # T1w's; of each contrast's 18 clean results of heads 11-16 one lies above the warning.
    "residual_lesion": {"warn": [None, 5.0], "hold": [None, 7.0]},
    # The models are smooth, which PIQE counts as distorted: clean results come out at 78 to 88.
    "piqe_after": {"warn": [None, 90.0]},
    "piqe_change": {"warn": [None, 60.0]},
    # 1: as wide as the scan shows; 96 clean results came out at 0.9 or more.
    "ventricle_rim": {"warn": [0.75, None], "hold": [0.5, None]},
    # Wider than what clean results of these models show: other models may well be sharper.
    "consistency": {"warn": [0.5, None], "hold": [0.2, None]},
    "added_edges": {"warn": [None, 2.2], "hold": [None, 4.0]},
    "statistics_shift": {"warn": [None, 0.15], "hold": [None, 0.3]},
}
# T2w: narrow ventricles and sulci, as in the young, leave less contrast than those two heads show.
# FLAIR: few tissues are bright or dark. Each contrast's forward model gives odds of its own.
FIXED_RESULT_OF: dict[str, dict[str, dict[str, list[float | None]]]] = {
    "T2w": {
        "residual_lesion": {"warn": [None, 5.4], "hold": [None, 7.0]},
        "result_contrast": {"warn": [0.7, None], "hold": [0.3, None]},
    },
    "FLAIR": {
        "residual_lesion": {"warn": [None, 5.0], "hold": [None, 10.0]},
        "result_contrast": {"warn": [0.18, None], "hold": [0.08, None]},
    },
}
INFORMATION_RESULT = {"piqe_before"}
FEWEST = 5  # clean scans that limits can be set on


def document(rows: Iterable[Row]) -> dict[str, Any]:
    """limits.json from rows of the bench: for every contrast that has enough clean ones."""
    rows = list(rows)
    parts: dict[str, dict[str, Any]] = {"scan": {}, "result": {}}
    for part, limits in parts.items():
        for contrast in CONTRASTS:
            clean = [r for r in rows if (r.part, r.contrast, r.fault) == (part, contrast, "")]
            if len(clean) >= FEWEST:
                limits[contrast] = from_clean(clean)
    source = (
        "clean simulated scans of heads 01-12, their results of 11-12: lohi-edge bench --quality"
    )
    return {"schema": SCHEMA, "source": source, **parts}


def from_clean(clean: list[Row]) -> dict[str, dict[str, list[float | None]]]:
    """Limits of one part and contrast from its clean rows, of which there must be some."""
    scan = clean[0].part == "scan"
    limits = dict(FIXED) if scan else FIXED_RESULT | FIXED_RESULT_OF.get(clean[0].contrast, {})
    information = INFORMATION if scan else INFORMATION_RESULT
    metrics = fitness.METRICS if scan else plausibility.METRICS
    for name, (_, better, _) in metrics.items():
        values = np.array([v for r in clean if (v := r.values.get(name)) is not None], dtype=float)
        if name in limits or name in information or len(values) < FEWEST:
            continue
        limits[name] = _beyond(values, better, name not in NEVER_HOLD, not scan)
    return limits


def _beyond(values: Any, better: str, hold: bool, few: bool) -> dict[str, list[float | None]]:
    middle, low, high = (float(f(values)) for f in (np.median, np.min, np.max))
    levels = {"warn": (WARN_MARGIN, WARN_LEAST)}
    if hold:
        levels["hold"] = (HOLD_MARGIN, HOLD_LEAST)
    limits: dict[str, list[float | None]] = {}
    for level, (margin, least) in levels.items():
        spare = abs(middle) * least if few else 0.0
        below = round(low - max(margin * (middle - low), spare), 4)
        above = round(high + max(margin * (high - middle), spare), 4)
        limits[level] = [None if better == "low" else below, None if better == "high" else above]
    return limits
