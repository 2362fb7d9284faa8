"""Doubles of the CUDA driver, pycuda and TensorRT that compute on the CPU."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SOURCE = Path(__file__).parent / "edge" / "runtime" / "fake_cuda.c"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lohi-edge-tests"
PYCUDA = CACHE / f"pycuda-py{sys.version_info.minor}"  # where build_pycuda.py puts it
_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def load_fake_cuda() -> ctypes.CDLL:
    """Compile and load the fake driver; later loads of libcuda.so.1 find it by its soname.

    Once a process: the first library of that soname is the one that everybody finds.
    """
    folder = Path(tempfile.mkdtemp(prefix="fake-cuda-"))
    compiler = shutil.which("gcc") or pytest.skip("no gcc to compile the fake CUDA driver with")
    library = folder / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", "-o", str(library)]
    subprocess.run([compiler, *flags, str(SOURCE)], check=True)
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    shutil.rmtree(folder)  # it stays mapped
    return loaded


def find_pycuda():
    """The real pycuda.driver on the fake CUDA driver; skips, saying so, where it is not built."""
    if PYCUDA.is_dir() and str(PYCUDA) not in sys.path:
        sys.path.append(str(PYCUDA))
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        pytest.skip(f"no pycuda ({error}); tests/edge/runtime/build_pycuda.py builds it with nvcc")


def single_thread(onnx: bytes):
    """A session that does not spin while the test waits."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


class FakePycuda:
    """What the project uses of pycuda.driver, straight on the driver."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._lib = library
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self.device_attribute = SimpleNamespace(INTEGRATED=18)
        self.Error = type("Error", (Exception,), {})

    def call(self, function, *arguments):
        status = getattr(self._lib, function)(*arguments)
        if status:
            raise self.Error(f"{function} failed: ordered by a test")

    def init(self):
        self.call("cuInit", 0)

    def Device(self, ordinal):
        context = SimpleNamespace(
            push=lambda: self.call("cuCtxPushCurrent_v2", None),
            pop=lambda: self.call("cuCtxPopCurrent_v2", None),
            detach=lambda: self.call("cuDevicePrimaryCtxRelease_v2", 0),
        )

        def retain():
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(ctypes.c_void_p()), 0)
            return context

        def attribute(number):
            value = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(value), number, ordinal)
            return value.value

        return SimpleNamespace(
            name=lambda: "Fake GPU", retain_primary_context=retain, get_attribute=attribute
        )

    def Stream(self):
        return _Stream(self)

    def mem_alloc(self, size):
        return _Memory(self, "cuMemAlloc_v2", "cuMemFree_v2", size)

    def pagelocked_empty(self, shape, dtype, mem_flags=0):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = _Memory(self, "cuMemHostAlloc", "cuMemFreeHost", size, mem_flags)
        raw = (ctypes.c_char * size).from_address(int(memory))
        array = np.frombuffer(raw, dtype).reshape(shape)
        return _Pinned.wrap(array, memory)

    def memcpy_htod_async(self, target, source, stream):
        self._copy("cuMemcpyHtoDAsync_v2", int(target), source.ctypes.data, source.nbytes, stream)

    def memcpy_dtoh_async(self, target, source, stream):
        self._copy("cuMemcpyDtoHAsync_v2", target.ctypes.data, int(source), target.nbytes, stream)

    def _copy(self, function, target, source, size, stream):
        pointers = [ctypes.c_void_p(p) for p in (target, source)]
        self.call(function, *pointers, ctypes.c_size_t(size), ctypes.c_void_p(stream.handle))


class _Stream:
    def __init__(self, cuda):
        self._cuda, pointer = cuda, ctypes.c_void_p()
        cuda.call("cuStreamCreate", ctypes.byref(pointer), 0)
        self.handle = pointer.value

    def synchronize(self):
        self._cuda.call("cuStreamSynchronize", ctypes.c_void_p(self.handle))

    def __del__(self):
        if hasattr(self, "handle"):
            self._cuda.call("cuStreamDestroy_v2", ctypes.c_void_p(self.handle))


class _Memory:
    def __init__(self, cuda, allocate, free, size, *flags):
        self._cuda, self._free, self._pointer = cuda, free, ctypes.c_void_p()
        cuda.call(allocate, ctypes.byref(self._pointer), ctypes.c_size_t(size), *flags)

    def __int__(self):
        return self._pointer.value

    def get_device_pointer(self):
        return int(self)

    def free(self):
        self._cuda.call(self._free, self._pointer)


class _Pinned(np.ndarray):
    """An array whose `base` is the allocation, as pycuda's."""

    @classmethod
    def wrap(cls, array, memory):
        pinned = array.view(cls)
        pinned.memory = memory
        return pinned

    @property
    def base(self):
        return self.memory


class FakeTensorRt:
    """What the runner uses of `tensorrt`: a plan is an ONNX file, run by onnxruntime."""

    __name__ = "tensorrt"
    __version__ = "10.3.0"
    float32 = "float32"

    class ILogger:
        Severity = SimpleNamespace(INFO=0, VERBOSE=1, WARNING=2, ERROR=3)

    def __init__(self, library, runs=True, context=True):
        self._lib, self._runs, self._context = library, runs, context

    def Runtime(self, logger):
        def deserialize(plan):
            if not plan.startswith(b"plan:"):
                logger.log(3, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION")
                return None
            return _Engine(self, plan[5:])

        return SimpleNamespace(deserialize_cuda_engine=deserialize)


class _Engine:
    def __init__(self, trt, onnx):
        self._trt = trt
        self._session = single_thread(onnx)
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        self._shapes = {e.name: (-1, *e.shape[1:]) for e in ends}
        self.num_io_tensors = len(self._shapes)

    def get_tensor_name(self, index):
        return list(self._shapes)[index]

    def get_tensor_shape(self, name):
        return self._shapes[name]

    def get_tensor_dtype(self, name):
        return "float32"

    def create_execution_context(self):
        return _Context(self._trt, self._session, self._shapes) if self._trt._context else None


class _Context:
    def __init__(self, trt, session, shapes):
        self._trt, self._session, self._tails = trt, session, {n: s[1:] for n, s in shapes.items()}
        self._addresses, self._shape, self._keep = {}, None, []

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        self._shape = shape
        return tuple(shape[1:]) == self._tails[name]

    def execute_async_v3(self, stream):
        if not self._trt._runs:
            return False
        batch = self._shape[0]

        def compute(_):
            source, target = (
                _at(self._addresses[name], (batch, *self._tails[name]))
                for name in ("input", "output")
            )
            target[:] = self._session.run(["output"], {"input": source})[0]

        function = _HOST_FUNCTION(compute)
        self._keep.append(function)
        status = self._trt._lib.cuLaunchHostFunc(ctypes.c_void_p(stream), function, None)
        return status == 0


def _at(address, shape):
    size = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * size).from_address(address), np.float32).reshape(shape)
