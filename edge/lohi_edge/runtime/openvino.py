"""OpenVINO on x86-64 CPUs: the same ONNX files as onnxruntime, INT8 several times faster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import Any

import numpy as np

from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError
from lohi_edge.runtime import Progress
from lohi_edge.runtime.ort import check_answer, check_interface
from lohi_edge.volume import Float32

_HINTS = {"bf16": "bf16"}  # everything else computes its remainder in f32
INT8_BATCH = 8  # slices a request: INT8 takes 8 % less time so, everything else more


class OpenVinoRuntime:
    """Runs one ONNX file of a bundle, one slice (or batch) on each core at a time.

    One thread a slice wastes nothing on waiting for other threads, and a head has slices enough.
    """

    name = "openvino"
    device = "CPU"

    def __init__(
        self,
        bundle: Bundle,
        onnx: str,
        threads: int | None = None,
        precision: str | None = None,
        batch: int | None = None,
    ) -> None:
        """Compile `onnx`.

        Args:
            precision: "bf16" to compute an FP32 file in bfloat16; None for what the file says.
            batch: slices a request; None for what is fastest.

        Raises:
            BundleError: OpenVINO itself does not load, or the file does not compile or has other
                inputs than the slice contract.
        """
        try:
            import openvino as ov
        except (ImportError, OSError) as error:  # installed, but a library of it is not there
            raise BundleError(f"OpenVINO cannot be loaded: {error}; install it again") from error

        self.version = metadata.version("openvino")
        self.precision = precision or onnx.split(".")[0]
        self.threads = threads or len(os.sched_getaffinity(0))
        self._batch = batch or (INT8_BATCH if self.precision == "int8" else 1)
        self._file = bundle.path / onnx
        contract = bundle.manifest.slice_contract
        data = bundle.read_onnx(onnx)
        try:
            core = ov.Core()
            model = core.read_model(data)
            check_interface(bundle, onnx, _interface(model))
            first = 1 if self._batch == 1 else -1  # a last batch may be smaller
            model.reshape([first, contract.channels, contract.height, contract.width])
            # Left to itself it computes FP32 files in bf16 on CPUs that can, and says nothing.
            settings = {
                "INFERENCE_PRECISION_HINT": _HINTS.get(self.precision, "f32"),
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": self.threads,
            }
            self._model = core.compile_model(model, "CPU", settings)
            self._queue = ov.AsyncInferQueue(self._model)
        except BundleError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds alike
            raise BundleError(f"{bundle.path / onnx}: OpenVINO rejects it: {error}") from error

    def run(self, stack: Float32, progress: Progress | None = None) -> Float32:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32.

        Raises:
            BundleError: the model fails on the slices, or answers with another number of them.
        """
        count, _, height, width = stack.shape
        result = np.empty((count, 1, height, width), dtype=np.float32)
        done = 0
        failures: list[Exception] = []

        def keep(request: Any, index: int) -> None:
            nonlocal done
            try:
                output = request.get_output_tensor(0).data
                size = min(self._batch, count - index)
                check_answer(self._file, output.shape, (size, 1, height, width))
                result[index : index + len(output)] = output
                done += len(output)
            except Exception as error:  # noqa: BLE001 (the queue cannot be waited for else)
                failures.append(error)

        self._queue.set_callback(keep)
        with self._finished():
            for n in range(0, count, self._batch):
                part = np.ascontiguousarray(stack[n : n + self._batch])
                with self._told():
                    self._queue.start_async({0: part}, n)
                if failures:
                    break
                if progress and done:
                    progress(done, count)
            with self._told():
                self._queue.wait_all()
                if failures:
                    raise failures[0]
        if progress:
            progress(count, count)
        return result

    @contextmanager
    def _finished(self) -> Iterator[None]:
        """No request is left when the program ends: its callback would abort it then."""
        try:
            yield
        except BaseException:
            for request in self._queue:
                with suppress(Exception):  # what went wrong first is told
                    request.wait()
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a request raises, here or in its callback, in words."""
        try:
            yield
        except BundleError:
            raise
        except Exception as error:  # as in __init__
            raise BundleError(f"{self._file}: OpenVINO fails on it: {error}") from error


def _interface(model: Any) -> list[tuple[str, str, list[int]]]:
    """(name, type, shape after the batch axis) of every input and output."""
    words = {"f32": "tensor(float)"}
    return [
        (
            port.get_any_name(),
            words.get(port.get_element_type().get_type_name(), "another type"),
            [d.get_length() if d.is_static else -1 for d in list(port.get_partial_shape())[1:]],
        )
        for port in (*model.inputs, *model.outputs)
    ]
