"""Acceptance: a model is trusted on this machine once it reproduces its golden slices."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from lohi_edge.bundle import Bundle, Golden
from lohi_edge.errors import BundleError, ModelFault
from lohi_edge.quality.reference import psnr, ssim
from lohi_edge.runtime import Choice, Runtime
from lohi_edge.runtime.chooser import Request, pick
from lohi_edge.runtime.records import Records
from lohi_edge.volume import Float32

SCHEMA = 1
# What a precision may lose against the truth on top of its tolerance, which is one value's.
PSNR_DROP_DB = 0.3
SSIM_DROP = 0.005
BF16_FACTOR = 8.0  # bfloat16 keeps 8 bits of a number where FP16 keeps 11
_MOST_DB = 200.0  # stands for equal, which JSON has no number for


def prove(
    bundle: Bundle, threads: int | None = None, runtime: str = "auto", precision: str = "auto"
) -> Choice:
    """As `choose`, with the golden slices run now on what is chosen, whatever was recorded before.

    Drivers and hardware change under a device. What fails now is recorded and passed over, which
    the choice's `fallback` says, until something is accepted or nothing is left.

    Raises:
        ModelFault: nothing on this machine computes what it must.
        BundleError: nothing that was asked for by name does, though something else would; or
            nothing of it is there.
    """
    try:
        return _prove(bundle, Request(runtime, precision, threads))
    except ModelFault as error:
        if (runtime, precision) == ("auto", "auto"):
            raise
        wrong = error
    try:
        well = _prove(bundle, Request(threads=threads)).runtime
    except BundleError:
        raise wrong from None
    raise BundleError(
        f"{wrong}; {well.precision} on {well.name} is accepted here: set runtime and precision to "
        "auto"
    )


def _prove(bundle: Bundle, request: Request) -> Choice:
    records = Records()
    while True:
        choice = pick(bundle, request, records)
        if records.is_of_now(choice.key):
            return choice  # `pick` has just run its golden slices
        try:
            record = examine(bundle, choice.runtime, choice.onnx)
        except BundleError as error:
            # It may do better in another process: only this one remembers.
            broke = not isinstance(error, ModelFault)
            record = {"accepted": False, "problems": [str(error)], "broke": broke}
            records.add(choice.key, record, keep=False)
        else:
            if record["accepted"]:
                return replace(choice, acceptance=record)
            records.add(choice.key, record)
        if close := getattr(choice.runtime, "close", None):
            close()  # what is tried next wants the GPU's memory


def accept(
    bundle: Bundle, threads: int | None = None, runtime: str = "auto", precision: str = "auto"
) -> dict[str, Any]:
    """Choose a runtime and run the golden slices on it now, whatever was recorded before.

    Returns:
        The record of `examine`, with the `fallback` of the choice; where nothing is accepted that
        of the last resort, fp32.onnx on onnxruntime, which then says what is wrong; its `fallback`
        is why there was no choice.

    Raises:
        BundleError: nothing loads, or nothing that was asked for by name is accepted.
    """
    try:
        choice = prove(bundle, threads, runtime, precision)
    except BundleError as error:
        if (runtime, precision) != ("auto", "auto"):
            raise
        from lohi_edge.runtime.ort import OnnxRuntime

        record = examine(bundle, OnnxRuntime(bundle, "fp32.onnx", threads), "fp32.onnx")
        return {**record, "fallback": str(error)}
    assert choice.acceptance
    return {**choice.acceptance, "fallback": choice.fallback}


def examine(bundle: Bundle, runtime: Runtime, onnx: str) -> dict[str, Any]:
    """Run the golden slices and compare with the output recorded on the workstation.

    Returns:
        `accepted` and, where not, the `problems` in words; `runtime`, `version`, `precision`,
        `onnx`; `tolerance`, `max_error`, `mean_error` (in [-1, 1] units); `psnr_db` and `ssim`
        against the truth, and `psnr_fp32_db` against the recorded output; `latency_ms` p50 and
        p95 of single slices; `seconds_per_slice` of the whole stack; `slices`.

    Raises:
        BundleError: unusable golden slices, or no tolerance for this precision.
    """
    golden = bundle.golden()
    tolerance = tolerance_of(bundle, onnx, runtime.precision)
    runtime.run(golden.input[:1])  # the first slice pays for lazy allocations
    begin = time.perf_counter()
    output = runtime.run(golden.input)
    seconds = time.perf_counter() - begin
    latencies = [_timed(runtime, golden.input[n : n + 1]) for n in range(len(output))]
    error = np.abs(output - golden.output)
    scores = _scores(golden, output)
    problems = _problems(float(error.max()), tolerance, scores, _scores(golden, golden.output))
    p50, p95 = np.percentile(latencies, [50, 95])
    return {
        "schema": SCHEMA,
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "onnx": onnx,
        "accepted": not problems,
        "problems": problems,
        "runtime": runtime.name,
        "version": runtime.version,
        "precision": runtime.precision,
        "slices": len(output),
        "max_error": _number(error.max()),
        "mean_error": _number(error.mean()),
        "tolerance": tolerance,
        "psnr_db": _number(scores[0]),
        "ssim": _number(scores[1]),
        "psnr_fp32_db": _number(min(psnr(golden.output, output), _MOST_DB)),
        "latency_ms": {"p50": round(1e3 * p50, 3), "p95": round(1e3 * p95, 3)},
        "seconds_per_slice": round(seconds / len(output), 6),
    }


def tolerance_of(bundle: Bundle, onnx: str, precision: str) -> float:
    """Largest |error| on the golden slices that the manifest grants.

    Raises:
        BundleError: it grants none.
    """
    granted = bundle.manifest.tolerance
    stem = onnx.removesuffix(".onnx")
    if precision == "bf16":
        stem = "fp16"
    if stem not in granted:
        raise BundleError(
            f"{bundle.path}: expected a tolerance for {stem} in the manifest, it has "
            f"{', '.join(sorted(granted))}; make the bundle again with this precision"
        )
    return float(granted[stem]) * (BF16_FACTOR if precision == "bf16" else 1)


def _problems(
    error: float, tolerance: float, got: tuple[float, float], fp32: tuple[float, float]
) -> list[str]:
    """Rules that are broken; written so that NaN, false against everything, breaks them all."""
    problems = []
    if not error <= tolerance:
        problems.append(f"largest error {error:.4g}, tolerance {tolerance:.4g}")
    if not got[0] >= fp32[0] - PSNR_DROP_DB:
        problems.append(f"PSNR {got[0]:.2f} dB against {fp32[0]:.2f} dB of FP32")
    if not got[1] >= fp32[1] - SSIM_DROP:
        problems.append(f"SSIM {got[1]:.4f} against {fp32[1]:.4f} of FP32")
    return problems


def _scores(golden: Golden, output: Float32) -> tuple[float, float]:
    pairs = list(zip(golden.truth[:, 0], output[:, 0], strict=True))
    return (
        float(np.mean([min(psnr(t, o), _MOST_DB) for t, o in pairs])),
        float(np.mean([ssim(t, o) for t, o in pairs])),
    )


def _timed(runtime: Runtime, one: Float32) -> float:
    begin = time.perf_counter()
    runtime.run(one)
    return time.perf_counter() - begin


def _number(value: Any) -> float | None:
    """Six decimals, or None where JSON has no word for it."""
    return round(float(value), 6) if np.isfinite(value) else None
