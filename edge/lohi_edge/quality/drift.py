"""Drift: do this device's latest scans still look like those before them?"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import finished, nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory, is_file
from lohi_edge.quality import robust

WATCHED = (
    "noise", "shading", "shading_right", "shading_front", "shading_up", "sharp_in_plane",
    "sharp_through", "contrast", "head_like",
)  # fmt: skip
LATEST = 10
MIN_BEFORE = 10
ALARM = 3.0  # robust standard errors by which the latest scans' median may lie off
RARE = 0.00135  # of a normal value to lie above ALARM standard deviations


def receipts(folders: Iterable[Path], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Receipts in folders and below, oldest first; of a scan that came again the first.

    Those of results that were held back count: a coil that breaks may have every scan held. A
    receipt says when its scan came; where an old one does not, its file's time does. Folders with
    a dot are passed over: there lies what a daemon is still writing.

    Args:
        tell: is told of receipts that a later version of this software wrote, which do not count.

    Raises:
        BadInput: a folder that is none.
    """
    timed: list[tuple[float, dict[str, Any]]] = []
    for folder in folders:
        if not is_directory(folder):
            raise BadInput(f"{folder}: expected a folder with receipts; check the path")
        for path in _below(folder):
            with contextlib.suppress(OSError):
                changed = path.stat().st_mtime
                try:
                    record = finished.read_receipt(path)
                except BadInput as error:
                    tell(f"left out: {error}")
                    continue
                if record:
                    at = came(record)
                    timed.append((changed if at is None else at, record))
    first: dict[Any, dict[str, Any]] = {}
    for number, (_, record) in enumerate(sorted(timed, key=lambda one: one[0])):
        sha256 = record["source"].get("sha256")
        first.setdefault((sha256 or number, record["contrast"]["name"]), record)
    return list(first.values())


def came(record: dict[str, Any]) -> float | None:
    """When a scan came, else when its receipt was made, in seconds since 1970.

    By the clock of the device; None where a receipt says neither, or no time.
    """
    watch = record.get("watch")
    received = watch.get("received") if isinstance(watch, dict) else None
    for said in (received, record.get("made")):
        with contextlib.suppress(ValueError, OverflowError):
            if isinstance(said, str):
                return datetime.fromisoformat(said).timestamp()
    return None


def _below(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(base) / name
            if name.endswith(".json") and nifti.names_result(name) and is_file(path):
                yield path


def drift(records: list[dict[str, Any]], count: int = 200, contrast: str = "T1w") -> dict[str, Any]:
    """Compare the latest scans with those before them, metric by metric.

    Args:
        records: receipts, oldest first.
        count: how many of the last scans to look at.
        contrast: only scans of this one are compared.

    Returns:
        `scans`, `untimed` (those of them that only their files' times put in order), `held` (how
        many results were held back `before` and of the `latest`), `metrics` (name -> medians
        `before` and `latest`, `shift` in robust standard errors of the latest median), `verdict`
        "pass", "warn" or "too few", `reasons`.

    Raises:
        UsageError: an unknown contrast.
    """
    if contrast not in CONTRASTS:
        raise UsageError(f"expected --contrast to be one of {', '.join(CONTRASTS)}, got {contrast}")
    of_one = [r for r in records if r["contrast"]["name"] == contrast][-count:]
    before, latest = of_one[:-LATEST], of_one[-LATEST:]
    held = {"before": _held(before), "latest": _held(latest)}
    untimed = sum(came(record) is None for record in of_one)
    found = {"scans": len(of_one), "untimed": untimed, "held": held}
    if len(before) < MIN_BEFORE:
        need = LATEST + MIN_BEFORE
        reason = f"{len(of_one)} scans, at least {need} are needed to see a change"
        return {**found, "metrics": {}, "verdict": "too few", "reasons": [reason]}
    metrics, reasons = {}, []
    if _chance(held["latest"], len(latest), held["before"], len(before)) < RARE:
        reasons.append(
            f"{held['latest']} of the latest {len(latest)} scans were held, {held['before']} of "
            f"{len(before)} before: check scanner and coil"
        )
    for name in WATCHED:
        old, new = _values(before, name), _values(latest, name)
        if len(old) < MIN_BEFORE:
            continue
        if len(new) < LATEST // 2:
            reasons.append(
                f"{name} could be told in {len(new)} of the latest {len(latest)} scans only, in "
                f"{len(old)} of {len(before)} before: check scanner and coil"
            )
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
    return {**found, "metrics": metrics, "verdict": verdict, "reasons": reasons}


def _held(records: list[dict[str, Any]]) -> int:
    return sum(record.get("verdict") == "hold" for record in records)


def _chance(new: int, of_new: int, old: int, of_old: int) -> float:
    """The chance of `new` or more out of `of_new`, at the share that `old` out of `of_old` show.

    By Laplace's rule, so that what never happened before may happen.
    """
    share = (old + 1) / (of_old + 2)
    return sum(
        math.comb(of_new, k) * share**k * (1 - share) ** (of_new - k)
        for k in range(new, of_new + 1)
    )


def _values(records: list[dict[str, Any]], name: str) -> Any:
    found = (figures(record).get(name) for record in records)
    return np.array([value for value in found if value is not None], dtype=float)


def figures(record: dict[str, Any]) -> dict[str, float]:
    """What a receipt says was measured of its scan: metric -> value, where there is one."""
    entries = record["metrics"].get("scan", {}).items()
    values = {name: entry.get("value") for name, entry in entries if isinstance(entry, dict)}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
