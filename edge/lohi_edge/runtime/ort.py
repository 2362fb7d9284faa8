"""onnxruntime on the CPU: the embedded default, there on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError, ModelFault
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
        self._file = bundle.path / onnx
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
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32.

        Raises:
            BundleError: the model fails on the slices, or answers with another number of them.
        """
        count, _, height, width = stack.shape
        result = np.empty((count, 1, height, width), dtype=np.float32)
        for n in range(0, count, self._batch):
            part = np.ascontiguousarray(stack[n : n + self._batch])
            try:
                answer = self._session.run(["output"], {"input": part})[0]
            except Exception as error:  # as in __init__
                raise BundleError(f"{self._file}: onnxruntime fails on it: {error}") from error
            check_answer(self._file, answer.shape, (len(part), 1, height, width))
            result[n : n + len(part)] = answer
            if progress:
                progress(n + len(part), count)
        return result


def check_answer(file: Path, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Raises ModelFault unless a model answered a batch of slices with as many."""
    if got != wanted:
        raise ModelFault(f"{file}: expected an answer of shape {wanted}, got {got}")


def check_interface(bundle: Bundle, onnx: str, got: list[tuple[str, str, list[int]]]) -> None:
    """Compare a model's inputs and outputs (name, type, shape without batch) with the contract's.

    Raises:
        ModelFault: they differ.
    """
    contract = bundle.manifest.slice_contract
    size = [contract.height, contract.width]
    wanted = [
        ("input", "tensor(float)", [contract.channels, *size]),
        ("output", "tensor(float)", [1, *size]),
    ]
    if got != wanted:
        raise ModelFault(f"{bundle.path / onnx}: expected {wanted} after the batch axis, got {got}")
