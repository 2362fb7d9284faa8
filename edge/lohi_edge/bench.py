"""How fast an enhancement is here: every phase, cold and warm."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.models import Models
from lohi_edge.pipeline import enhance

PHASES = ("read", "validate", "prepare", "infer", "restore", "quality", "write", "total")
_COLD = """
import sys, time
begin = time.perf_counter()
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
models = Models(*{options!r})
first = []
note = lambda done, total: first or first.append(time.perf_counter())
enhance({scan!r}, bundle=models, progress=note)
print(first[0] - begin, time.perf_counter() - begin)
"""


def measure(
    scan: Path,
    bundle: Path | None,
    runs: int = 5,
    threads: int | None = None,
    runtime: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Enhance `scan` `runs` times in this process, then once in a fresh one.

    Returns:
        `phases` (name -> p50 and p95 seconds and `share` of the total), `cold_first_slice_s`
        (imports, model load and reading included), `cold_start_s` (to the whole volume),
        `slices_per_second`, `peak_rss_mb` of this process, and what was measured on what.
    """
    options = (bundle and str(bundle), threads, runtime, precision)
    models = Models(*options)
    timings: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as folder:
        for _ in range(runs + 1):
            result = enhance(scan, out=folder, bundle=models, overwrite=True)
            timings.append(result.receipt["timings"])
    timings = timings[1:]  # the first run warms caches and arenas
    cold_slice, cold_all = _cold(scan, options)
    receipt = result.receipt
    assert result.volume is not None
    infer = float(np.median([t["infer"] for t in timings]))
    return {
        "scan": scan.name,
        "shape": receipt["source"]["shape"],
        "bundle": receipt["bundle"]["name"],
        "runtime": receipt["runtime"]["name"],
        "version": receipt["runtime"]["version"],
        "precision": receipt["precision"],
        "threads": receipt["runtime"]["threads"],
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "runs": runs,
        "phases": _phases(timings),
        "cold_first_slice_s": round(cold_slice, 3),
        "cold_start_s": round(cold_all, 3),
        "slices_per_second": round(result.volume.shape[2] / infer, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _phases(timings: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    total = float(np.median([t["total"] for t in timings]))
    table = {}
    for phase in PHASES:
        seconds = [t[phase] for t in timings]
        p50, p95 = np.percentile(seconds, [50, 95])
        table[phase] = {
            "p50": round(float(p50), 4),
            "p95": round(float(p95), 4),
            "share": round(float(p50) / total, 4),
        }
    return table


def _cold(scan: Path, options: tuple[Any, ...]) -> tuple[float, float]:
    """Seconds from a fresh interpreter's first import to the first slice, and to the volume."""
    code = _COLD.format(options=options, scan=str(scan))
    done = subprocess.run(  # our own interpreter on our own code
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    first, whole = (float(word) for word in done.stdout.split())
    return first, whole
