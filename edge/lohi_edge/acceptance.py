"""Acceptance: a model is trusted on this machine once it reproduces its golden slices."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from lohi_edge.bundle import Bundle
from lohi_edge.quality.reference import psnr, ssim
from lohi_edge.runtime import choose


def accept(bundle: Bundle, threads: int | None = None) -> dict[str, Any]:
    """Run the golden slices and compare with the output recorded on the workstation.

    Returns:
        `accepted`, `precision`, `runtime`, `tolerance`, `max_error`, `mean_error` (both in
        [-1, 1] units), PSNR (dB) and SSIM against the truth, `slices`, `seconds_per_slice`.

    Raises:
        BundleError: unusable golden slices, or a model that does not load.
    """
    golden = bundle.golden()
    choice = choose(bundle, threads)
    begin = time.perf_counter()
    output = choice.runtime.run(golden.input)
    seconds = time.perf_counter() - begin
    error = np.abs(output - golden.output)
    tolerance = bundle.manifest.tolerance[choice.runtime.precision]
    # A NaN compares false with everything, so it is never accepted.
    accepted = bool(error.max() <= tolerance)
    pairs = list(zip(golden.truth[:, 0], output[:, 0], strict=True))
    return {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "accepted": accepted,
        "runtime": choice.runtime.name,
        "precision": choice.runtime.precision,
        "slices": len(output),
        "max_error": _number(error.max()),
        "mean_error": _number(error.mean()),
        "tolerance": tolerance,
        "psnr_db": _number(np.mean([psnr(t, o) for t, o in pairs])),
        "ssim": _number(np.mean([ssim(t, o) for t, o in pairs])),
        "seconds_per_slice": round(seconds / len(output), 5),
    }


def _number(value: Any) -> float | None:
    """Six decimals, or None where JSON has no word for it."""
    return round(float(value), 6) if np.isfinite(value) else None
