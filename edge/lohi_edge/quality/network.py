"""Small networks of the quality check, on the CPU whatever runs the generator."""

from __future__ import annotations

import os
from typing import Any

from lohi_edge.errors import BundleError
from lohi_edge.onnx_check import check_onnx


def open_network(data: bytes, name: str, threads: int | None) -> Any:
    """An onnxruntime session.

    Args:
        data: an ONNX file, of which `name` tells in errors.
        threads: None for one per core.

    Raises:
        BundleError: not a model that may run here.
    """
    import onnxruntime as ort  # a moment that only those who measure should wait

    check_onnx(data, name)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # what a scan takes is given back
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no narrower public base
        raise BundleError(f"{name}: onnxruntime rejects it: {error}") from error
