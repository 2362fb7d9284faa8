"""Drift: do this device's latest scans still look like those before them?"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import finished, nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory, is_file
from lohi_edge.quality import robust

WATCHED = ("noise", "shading", "sharp_in_plane", "sharp_through", "contrast", "head_like")
LATEST = 10
MIN_BEFORE = 10
ALARM = 3.0  # robust standard errors by which the latest scans' median may lie off


def receipts(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Receipts in folders and below, oldest first by file time; of a scan sent again the first.

    Folders with a dot are passed over: there lies what a daemon is still writing.

    Raises:
        BadInput: a folder that is none.
    """
    times: dict[Path, float] = {}
    for folder in folders:
        if not is_directory(folder):
            raise BadInput(f"{folder}: expected a folder with receipts; check the path")
        for path in _below(folder):
            with contextlib.suppress(OSError):
                times[path] = path.stat().st_mtime
    found = (finished.read_receipt(path) for path in sorted(times, key=lambda path: times[path]))
    return [one for one in found if one is not None and not _repeats(one)]


def _below(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in fnmatch.filter(names, f"*{nifti.RESULT}*.json"):
            if is_file(path := Path(base) / name):
                yield path


def _repeats(record: dict[str, Any]) -> bool:
    watch = record.get("watch")
    return isinstance(watch, dict) and "repeats" in watch


def drift(records: list[dict[str, Any]], count: int = 200, contrast: str = "T1w") -> dict[str, Any]:
    """Compare the latest scans with those before them, metric by metric.

    Args:
        records: receipts, oldest first.
        count: how many of the last scans to look at.
        contrast: only scans of this one are compared.

    Returns:
        `scans`, `metrics` (name -> medians `before` and `latest`, `shift` in robust standard errors
        of the latest median), `verdict` "pass", "warn" or "too few", `reasons`.

    Raises:
        UsageError: an unknown contrast.
    """
    if contrast not in CONTRASTS:
        raise UsageError(f"expected --contrast to be one of {', '.join(CONTRASTS)}, got {contrast}")
    of_one = [r for r in records if r["contrast"]["name"] == contrast][-count:]
    before, latest = of_one[:-LATEST], of_one[-LATEST:]
    if len(before) < MIN_BEFORE:
        need = LATEST + MIN_BEFORE
        reason = f"{len(of_one)} scans, at least {need} are needed to see a change"
        return {"scans": len(of_one), "metrics": {}, "verdict": "too few", "reasons": [reason]}
    metrics, reasons = {}, []
    for name in WATCHED:
        old, new = _values(before, name), _values(latest, name)
        if len(old) < MIN_BEFORE or len(new) < LATEST // 2:
            continue
        middle = float(np.median(old))
        spread = max(robust.deviation(old, middle), 0.01 * abs(middle), 1e-9)
        # 1.25 sd / sqrt(n) is the standard error of a median of n normal values.
        shift = (float(np.median(new)) - middle) / (1.25 * spread / np.sqrt(len(new)))
        metrics[name] = {"before": middle, "latest": float(np.median(new)), "shift": float(shift)}
        if abs(shift) > ALARM:
            reasons.append(
                f"{name} changed from {middle:.3g} to {np.median(new):.3g}: check scanner and coil"
            )
    verdict = "warn" if reasons else "pass"
    return {"scans": len(of_one), "metrics": metrics, "verdict": verdict, "reasons": reasons}


def _values(records: list[dict[str, Any]], name: str) -> Any:
    entries = (r["metrics"].get("scan", {}).get(name) for r in records)
    found = (entry.get("value") for entry in entries if isinstance(entry, dict))
    return np.array([v for v in found if isinstance(v, int | float)], dtype=float)
