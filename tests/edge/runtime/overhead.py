"""Host overhead of the TensorRT runner: all of a volume's time but the engine's.

    python tests/edge/runtime/overhead.py [--slices 180] [--channels 5] [--kernel-us 2000]

Runs on a CUDA driver double whose streams work on threads of their own and whose engine is busy
for a set time a batch, so that what the runner hides behind the engine is hidden here too.
Overhead is wall time less the engine's time. On a busy machine the best of the runs counts.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu_double import FakePycuda, FakeTensorRt, load_fake_cuda
from lohi_edge.runtime.tensorrt import TensorRtRuntime
from lohi_edge.slices import SliceContract

BATCH = 8


class BusyTensorRt(FakeTensorRt):
    """An engine that takes its time and computes nothing."""

    def __init__(self, library: ctypes.CDLL, contract: SliceContract, microseconds: int) -> None:
        super().__init__(library)
        size = (contract.height, contract.width)
        shapes = {"input": (-1, contract.channels, *size), "output": (-1, 1, *size)}

        def kernel(stream: int) -> bool:
            library.fake_kernel(ctypes.c_void_p(stream), microseconds)
            return True

        context = SimpleNamespace(
            set_tensor_address=lambda name, address: True,
            set_input_shape=lambda name, shape: True,
            execute_async_v3=kernel,
        )
        self._engine = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda index: list(shapes)[index],
            get_tensor_shape=shapes.__getitem__,
            get_tensor_dtype=lambda name: self.float32,
            create_execution_context=lambda: context,
        )

    def Runtime(self, logger):
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self._engine)


def measure(slices: int, channels: int, microseconds: int, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each run: `overhead` and `cpu` (this thread's) a volume."""
    library = load_fake_cuda()
    library.fake_devices(1, 0)
    library.fake_async(1)
    library.fake_busy_us.restype = ctypes.c_longlong
    contract = SliceContract(channels=channels)
    planes = np.zeros((slices + channels - 1, contract.height, contract.width), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(planes, channels, axis=0)
    stack = windows.transpose(0, 3, 1, 2)
    found: dict[str, list[float]] = {"overhead": [], "cpu": []}
    trt = BusyTensorRt(library, contract, microseconds)
    with TensorRtRuntime(b"", contract, "fp16", BATCH, trt, FakePycuda(library)) as runtime:
        for _ in range(runs + 1):
            busy, begin, cpu = library.fake_busy_us(), time.perf_counter(), time.thread_time()
            runtime.run(stack)
            wall, cpu = time.perf_counter() - begin, time.thread_time() - cpu
            found["overhead"].append(1e3 * wall - (library.fake_busy_us() - busy) / 1e3)
            found["cpu"].append(1e3 * cpu)
    library.fake_async(0)
    return {name: values[1:] for name, values in found.items()}  # the first warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=180)
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--kernel-us", type=int, default=2000, help="engine time a batch of 8")
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()
    found = measure(options.slices, options.channels, options.kernel_us, options.runs)
    for name, values in found.items():
        print(f"{name}: best {min(values):.2f} ms, median {np.median(values):.2f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
