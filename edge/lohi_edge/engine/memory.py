"""Is there memory enough to build? Asked before TensorRT is loaded."""

from __future__ import annotations

import ctypes
from pathlib import Path

from lohi_edge.errors import BundleError
from lohi_edge.runtime.cuda import LIBRARY, Gpu, probe

MEBIBYTE = 1 << 20
CONTEXT_MB = 400  # CUDA context and TensorRT's own code
WEIGHT_COPIES = 4  # ONNX, parsed network, tactics under test, plan


def needed_mb(onnx_bytes: int, workspace_mb: int) -> int:
    """Memory a build may take at its worst, in MB; an estimate on the safe side."""
    return CONTEXT_MB + workspace_mb + WEIGHT_COPIES * onnx_bytes // MEBIBYTE


def check_memory(onnx_bytes: int, workspace_mb: int, meminfo: str = "/proc/meminfo") -> None:
    """Refuse to start a build that cannot end well.

    Raises:
        BundleError: no GPU, or less free memory than the build needs.
    """
    gpu = probe()
    if isinstance(gpu, str):
        raise BundleError(f"expected a GPU to build an engine on: {gpu}")
    needed, free = needed_mb(onnx_bytes, workspace_mb), _free_mb(gpu, meminfo)
    if free < needed:
        raise BundleError(
            f"expected {needed} MB of free {'memory' if gpu.unified else 'GPU memory'} to build "
            f"an engine, got {free} MB; close other programs or lower --workspace (now "
            f"{workspace_mb} MB)"
        )


def _free_mb(gpu: Gpu, meminfo: str) -> int:
    if gpu.unified:
        # On a Jetson CUDA counts reclaimable file cache as used; the kernel knows better.
        lines = Path(meminfo).read_text().splitlines()
        words = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(words["MemAvailable"].split()[0]) // 1024
    return _free_on_device()


def _free_on_device() -> int:
    """Free memory of the first GPU, in MB; needs a context, which is given back at once."""
    cuda = ctypes.CDLL(LIBRARY)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), 0)
    status = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if status:
        raise BundleError(f"the GPU gives no context (cuDevicePrimaryCtxRetain: {status})")
    try:
        status = cuda.cuCtxPushCurrent_v2(context) or cuda.cuMemGetInfo_v2(
            ctypes.byref(free), ctypes.byref(total)
        )
        if status:
            raise BundleError(f"the GPU does not say its free memory (cuMemGetInfo: {status})")
        return free.value // MEBIBYTE
    finally:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        cuda.cuDevicePrimaryCtxRelease_v2(device)
