"""A run's generator as an ONNX file of one precision."""

from __future__ import annotations

import numpy as np

from lohi_calibration import graph, half
from lohi_edge.errors import UsageError
from lohi_export.evaluation import spread
from lohi_export.onnx_export import export_checked
from lohi_export.run import Run

OVERFLOW_SLICES = 12  # of each validation scan


def file_of(run: Run, precision: str) -> bytes:
    """FP32, checked against PyTorch, or typed FP16, checked for overflow on real slices.

    Raises:
        UsageError: another precision.
        BadInput: the run has no weights; for FP16 also where its data set is gone.
        BundleError: ONNX and PyTorch disagree, or FP16 overflows.
    """
    if precision not in ("fp32", "fp16"):
        raise UsageError(
            f"expected --precision fp32 or fp16, got {precision}; INT8 comes with `calibrate`"
        )
    fp32 = export_checked(run.generator(), run.config.contract)
    if precision == "fp32":
        return fp32
    model = graph.load(fp32)
    for pair in run.slices("validation"):
        slices, _ = pair.batch(spread(pair, OVERFLOW_SLICES), run.config.channels)
        half.check_overflow(model, slices.astype(np.float32))
    typed: bytes = half.to_fp16(model).SerializeToString()
    return typed
