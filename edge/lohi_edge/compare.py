"""Every runtime, precision and batch size that a bundle meets here, timed side by side."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import bundle as bundles
from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError
from lohi_edge.runtime import PRECISIONS, RUNTIMES, Progress, Runtime, choose
from lohi_edge.runtime.chooser import cpu_name
from lohi_edge.volume import Float32

BATCHES = (1, 8)
SLICES = 8  # a round runs these; a multiple of every batch
# In a process of its own: one thread of BLAS, which would otherwise spin while others are timed.
_PEAK = """
import time
import numpy as np
a = np.ones(({n}, {n}), np.float32)
a @ a
times = []
for _ in range(5):
    begin = time.process_time()
    a @ a
    times.append(time.process_time() - begin)
print(min(times))
"""
_PEAK_SIZE = 1024
_TIMES = ("best", "p50", "cpu")


@dataclass
class Timed:
    """One row: what runs, and seconds of each round, on the clock and of the processor."""

    runtime: str
    precision: str
    batch: int
    run: Callable[[Float32], Float32]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def compare(
    path: Path | None, rounds: int, threads: int | None, progress: Progress | None = None
) -> dict[str, Any]:
    """Time everything that is accepted here, in rounds in which each has its turn.

    Returns:
        `rows`: `runtime`, `precision`, `batch`; `ms_a_slice` (`best` and `p50` of the rounds on the
        clock, `cpu`: least processor time); `ratio` to FP32 on onnxruntime, slice by slice (`p50`
        over rounds of the time in the same round, `cpu`); for FP32 on CPUs `peak_share`: floating-
        point operations a second of processor time against the best that a large matrix product
        reaches. `missing`: what is not there, in words.
        Processor times are for one thread: more spend time on waiting for each other. Beside other
        programs only they can be trusted.

    Raises:
        BundleError: the bundle, or FP32 on onnxruntime, cannot be used.
    """
    bundle = bundles.load(path or bundles.shipped("T1w"))
    rows, missing = _rows(bundle, threads)
    golden = bundle.golden().input
    stack = np.concatenate([golden] * -(-SLICES // len(golden)))[:SLICES]
    peaks = []
    for number in range(rounds + 1):
        for row in rows:
            begin, cpu = time.perf_counter(), time.process_time()
            row.run(stack)
            row.wall.append((time.perf_counter() - begin) / SLICES)
            row.cpu.append((time.process_time() - cpu) / SLICES)
        peaks.append(_peak())
        if progress:
            progress(number + 1, rounds + 1)
    for row in rows:  # the first round warms up
        del row.wall[0], row.cpu[0]
    base = next(r for r in rows if (r.runtime, r.precision, r.batch) == ("onnxruntime", "fp32", 1))
    work = bundle.manifest.metrics.get("macs_per_slice")
    flops = 2 * work if type(work) is int else None
    return {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "cpu": cpu_name(),
        "threads": threads,
        "rounds": rounds,
        "gflops_per_slice": flops and round(flops / 1e9, 2),
        "peak_gflops": round(max(peaks) / 1e9, 1),
        "rows": [_figures(row, base, flops, max(peaks)) for row in rows],
        "missing": missing,
    }


def _rows(bundle: Bundle, threads: int | None) -> tuple[list[Timed], list[str]]:
    rows, missing = [], []
    for precision in PRECISIONS:
        for name in RUNTIMES:
            try:
                choice = choose(bundle, threads, name, precision)
            except BundleError as error:
                if (name, precision) == ("onnxruntime", "fp32"):
                    raise  # there is nothing to compare with
                reason = str(error).split(f"precision {precision}: ", 1)[-1]
                missing.append(f"{precision} on {name}: {reason}")
                continue
            batch = choice.engine["profile"][2] if choice.engine else BATCHES[0]
            rows.append(Timed(name, precision, batch, choice.runtime.run))
            if not choice.engine:
                for batch in BATCHES[1:]:
                    runtime = _batched(bundle, name, choice.onnx, precision, threads, batch)
                    rows.append(Timed(name, precision, batch, runtime.run))
    return rows, missing


def _batched(
    bundle: Bundle, name: str, onnx: str, precision: str, threads: int | None, batch: int
) -> Runtime:
    if name == "openvino":
        from lohi_edge.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(bundle, onnx, threads, precision, batch)
    from lohi_edge.runtime.ort import OnnxRuntime

    return OnnxRuntime(bundle, onnx, threads, batch)


def _figures(row: Timed, base: Timed, flops: int | None, peak: float) -> dict[str, Any]:
    best, p50, cpu = min(row.wall), float(np.median(row.wall)), min(row.cpu)
    found = {
        "runtime": row.runtime,
        "precision": row.precision,
        "batch": row.batch,
        "ms_a_slice": {k: round(1e3 * v, 2) for k, v in zip(_TIMES, (best, p50, cpu), strict=True)},
        "ratio": {
            "p50": round(float(np.median(np.divide(row.wall, base.wall))), 3),
            "cpu": round(cpu / min(base.cpu), 3),
        },
    }
    if flops and row.precision == "fp32" and row.runtime != "tensorrt":
        found["peak_share"] = round(flops / cpu / peak, 3)
    return found


def _peak() -> float:
    """Floating-point operations a second of processor time in a large matrix product."""
    done = subprocess.run(  # our own interpreter on our own code
        [sys.executable, "-c", _PEAK.format(n=_PEAK_SIZE)],
        check=True,
        capture_output=True,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    return 2 * _PEAK_SIZE**3 / float(done.stdout)
