"""TensorRT on an NVIDIA GPU, through pycuda and the version 3 (tensor address) API."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import numpy as np

from lohi_edge.engine.build import make_logger
from lohi_edge.errors import BundleError
from lohi_edge.runtime import Progress
from lohi_edge.runtime.cuda import detach
from lohi_edge.runtime.slot import Slot
from lohi_edge.slices import SliceContract
from lohi_edge.volume import Float32


class TensorRtRuntime:
    """An engine with its buffers and streams; belongs to the process and thread that made it.

    The GPU's primary context is retained, so that other libraries in this process share it, and
    released by `close`, with all memory. A worker process is the place for it.
    """

    name = "tensorrt"
    threads = 0

    def __init__(
        self,
        plan: bytes,
        contract: SliceContract,
        precision: str,
        batch: int,
        trt: Any = None,
        cuda: Any = None,
    ) -> None:
        """Deserialize a plan and allocate everything a volume needs.

        Args:
            plan: built by this device, see `EngineCache.read`.
            batch: the largest of the engine's profile.
            trt, cuda: the modules `tensorrt` and `pycuda.driver`.

        Raises:
            BundleError: no GPU or library, a plan of another TensorRT or GPU, no memory.
        """
        trt, cuda = trt or _load("tensorrt"), cuda or _load("pycuda.driver")
        self.precision, self.version = precision, str(trt.__version__)
        self._contract, self._batch, self._cuda = contract, batch, cuda
        self._slots: list[Slot] = []
        self._engine: Any = None
        self._runtime: Any = None
        self._context: Any = None
        try:
            cuda.init()
            device = cuda.Device(0)
            self.device = device.name()
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise BundleError(f"CUDA does not start: {error}") from None
        with self._current():
            self._open(trt, plan, device)

    def run(self, stack: Float32, progress: Progress | None = None) -> Float32:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32.

        Raises:
            BundleError: CUDA or TensorRT fails; everything is released then.
        """
        if not self._slots:
            raise BundleError("this TensorRT engine was closed after a failure; load it again")
        count, _, height, width = stack.shape
        result = np.empty((count, 1, height, width), dtype=np.float32)
        with self._current():
            waiting: list[tuple[Slot, int, int]] = []
            for number, begin in enumerate(range(0, count, self._batch)):
                slot = self._slots[number % len(self._slots)]
                if len(waiting) == len(self._slots):
                    self._collect(waiting.pop(0), result, progress)
                part = stack[begin : begin + self._batch]
                slot.start(part)
                waiting.append((slot, begin, len(part)))
            for item in waiting:
                self._collect(item, result, progress)
        return result

    @property
    def graph(self) -> str:
        """Whether batches are launched as CUDA graphs; in words why not where not."""
        refused = [slot.graph_refused for slot in self._slots if slot.graph_refused]
        return f"no: {refused[0]}" if refused else "yes"

    def close(self) -> None:
        """Release engine, buffers, streams and context; closing twice does no harm."""
        context, self._context = self._context, None
        if context is None:
            return
        context.push()
        try:
            self._release()
        finally:
            context.pop()
            detach(context)

    def __enter__(self) -> TensorRtRuntime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, trt: Any, plan: bytes, device: Any) -> None:
        logger = make_logger(trt)
        self._logger = logger  # TensorRT keeps a bare pointer to it
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            words = "; ".join(logger.complaints[-2:]) or "it gives no reason"
            raise BundleError(
                f"TensorRT {self.version} does not load this engine ({words}); it was built for "
                "another TensorRT or GPU: run `lohi-edge engine build` as this user"
            )
        shape = self._check(trt)
        unified = bool(device.get_attribute(self._cuda.device_attribute.INTEGRATED))
        for _ in range(2):
            self._slots.append(Slot(self._cuda, self._engine, shape, unified))
            self._slots[-1].capture()

    def _check(self, trt: Any) -> tuple[int, ...]:
        """Shape of the input at the largest batch.

        Raises:
            BundleError: the engine has other tensors than the slice contract says.
        """
        c, size = self._contract, (self._contract.height, self._contract.width)
        wanted = [("input", (-1, c.channels, *size)), ("output", (-1, 1, *size))]
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        got = [(name, tuple(self._engine.get_tensor_shape(name))) for name in names]
        floats = all(self._engine.get_tensor_dtype(name) == trt.float32 for name in names)
        if sorted(got) != wanted or not floats:
            raise BundleError(f"expected an engine with float32 {wanted}, got {got}")
        return (self._batch, c.channels, *size)

    def _collect(
        self, item: tuple[Slot, int, int], result: Float32, progress: Progress | None
    ) -> None:
        slot, begin, size = item
        slot.wait()
        result[begin : begin + size, 0] = slot.output[:size]
        if progress:
            progress(begin + size, len(result))

    @contextmanager
    def _current(self) -> Iterator[None]:
        """The GPU context, current inside; a failure releases everything and becomes words."""
        context = self._context
        context.push()
        try:
            yield
        except BaseException as error:
            # Pending copies must not outlive their buffers.
            self._release()
            context.pop()
            detach(context)
            self._context = None
            if isinstance(error, self._cuda.Error):
                raise BundleError(f"CUDA failed: {error}") from error
            raise
        context.pop()

    def _release(self) -> None:
        for slot in self._slots:
            with suppress(self._cuda.Error):  # a broken context takes its memory with it
                slot.wait()
        slots, self._slots = self._slots, []
        for slot in slots:
            with suppress(self._cuda.Error):
                slot.close()
        self._engine = self._runtime = None


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BundleError(
            f"{module} does not load: {error}; on a device install from a wheelhouse that holds it "
            "(EXTRA_WHEELS), in a checkout `pip install '.[tensorrt]'` (docs/jetson.md)"
        ) from None
