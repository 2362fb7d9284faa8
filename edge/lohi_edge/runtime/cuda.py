"""The GPU, asked through the CUDA driver alone, before anything heavier is loaded.

No context is made here: `cuInit` and device queries do not need one, so that a daemon may ask.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute, cuda.h


@dataclass(frozen=True)
class Gpu:
    """The first CUDA device.

    Attributes:
        name: as the driver calls it, e.g. "Orin".
        sm: compute capability, e.g. "8.7".
        cuda: newest CUDA version that the driver serves, e.g. "12.6".
        total_bytes: its memory; on a Jetson the machine's.
        unified: it shares the machine's memory.
    """

    name: str
    sm: str
    cuda: str
    total_bytes: int
    unified: bool


def probe(library: str = LIBRARY) -> Gpu | str:
    """The first GPU; in words why there is none where there is none."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return "no CUDA driver on this machine"
    try:
        return _first(cuda)
    except _Failed as failed:
        return f"the CUDA driver fails: {failed}"
    except AttributeError as error:  # a library of that name that lacks a function
        return f"the CUDA driver is not usable: {error}"


def detach(context: Any, library: str = LIBRARY) -> None:
    """Release a pycuda primary context that is not current, and leave none current behind it.

    pycuda makes a context current to detach it, and trusts the driver to undo that; for primary
    contexts the driver does not.
    """
    cuda = ctypes.CDLL(library)
    before, after = ctypes.c_void_p(), ctypes.c_void_p()
    cuda.cuCtxGetCurrent(ctypes.byref(before))
    context.detach()
    cuda.cuCtxGetCurrent(ctypes.byref(after))
    if after.value != before.value:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(after))


class _Failed(Exception):
    pass


def _first(cuda: Any) -> Gpu | str:
    def call(function: str, *arguments: Any) -> None:
        status = getattr(cuda, function)(*arguments)
        if status:
            raise _Failed(f"{function} returned {status}")

    call("cuInit", ctypes.c_uint(0))
    count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        return "no CUDA device on this machine"
    call("cuDriverGetVersion", ctypes.byref(version))
    call("cuDeviceGet", ctypes.byref(device), 0)
    name, total = ctypes.create_string_buffer(256), ctypes.c_size_t()
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(total), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        sm=f"{attribute(_MAJOR)}.{attribute(_MINOR)}",
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
        total_bytes=total.value,
        unified=bool(attribute(_INTEGRATED)),
    )
