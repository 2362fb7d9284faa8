"""onnxruntime on the CPU: the embedded default, there on every machine."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort

from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError
from lohi_edge.runtime import Progress
from lohi_edge.volume import Float32


class OnnxRuntime:
    """Runs one ONNX file of a bundle slice by slice.

    Batch 1 is faster than larger batches on CPUs: one slice's activations stay in the cache
    (`lohi-edge bench --compare` shows both).
    """

    name = "onnxruntime"
    version = ort.__version__
    device = "CPU"

    def __init__(
        self, bundle: Bundle, onnx: str, threads: int | None = None, batch: int = 1
    ) -> None:
        """Load `onnx` from the bundle.

        Raises:
            BundleError: the file does not load or has other inputs than the slice contract.
        """
        self.precision = onnx.split(".")[0]
        self._batch = batch
        self.threads = threads or len(os.sched_getaffinity(0))
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                bundle.read_onnx(onnx), options, providers=["CPUExecutionProvider"]
            )
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's own exceptions share no narrower public base
            raise BundleError(f"{bundle.path / onnx}: onnxruntime rejects it: {error}") from error
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        check_interface(bundle, onnx, [(i.name, i.type, i.shape[1:]) for i in ends])

    def run(self, stack: Float32, progress: Progress | None = None) -> Float32:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32."""
        count, _, height, width = stack.shape
        result = np.empty((count, 1, height, width), dtype=np.float32)
        for n in range(0, count, self._batch):
            part = np.ascontiguousarray(stack[n : n + self._batch])
            result[n : n + len(part)] = self._session.run(["output"], {"input": part})[0]
            if progress:
                progress(n + len(part), count)
        return result


def check_interface(bundle: Bundle, onnx: str, got: list[tuple[str, str, list[int]]]) -> None:
    """Compare a model's inputs and outputs (name, type, shape without batch) with the contract's.

    Raises:
        BundleError: they differ.
    """
    contract = bundle.manifest.slice_contract
    size = [contract.height, contract.width]
    wanted = [
        ("input", "tensor(float)", [contract.channels, *size]),
        ("output", "tensor(float)", [1, *size]),
    ]
    if got != wanted:
        raise BundleError(
            f"{bundle.path / onnx}: expected {wanted} after the batch axis, got {got}"
        )
