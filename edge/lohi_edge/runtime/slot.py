"""One half of a double buffer on the GPU: a stream, an execution context, and its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lohi_edge.errors import BundleError
from lohi_edge.runtime.graphs import Graph, GraphError
from lohi_edge.volume import Float32


class Slot:
    """Copies a batch in, runs it, copies it out, all in order on one stream.

    Two slots overlap: while one computes, the other's batch travels.

    Attributes:
        input, output: pinned host arrays (batch, C, H, W) and (batch, 1, H, W).
    """

    def __init__(self, cuda: Any, engine: Any, shapes: tuple[Any, Any], unified: bool) -> None:
        """Allocate everything once.

        Args:
            cuda: pycuda.driver, with a current context.
            shapes: of input and output at the largest batch.
            unified: the GPU shares the machine's memory, so that pinned buffers need no copies.

        Raises:
            BundleError: no memory for an execution context.
        """
        self._cuda = cuda
        self._unified = unified
        self._graph: Graph | None = None
        self.graph_refused: str | None = None
        self._batch = 0
        self._hosts: list[Any] = []
        self._device: list[Any] = []
        self.context: Any = None
        self.stream: Any = None
        try:
            self._allocate(engine, shapes)
        except BaseException:
            self.close()
            raise
        self.input, self.output = self._hosts

    def _allocate(self, engine: Any, shapes: tuple[Any, Any]) -> None:
        cuda = self._cuda
        self.context = engine.create_execution_context()
        if self.context is None:
            raise BundleError("no memory left for TensorRT's execution context; free some")
        self.stream = cuda.Stream()
        flags = cuda.host_alloc_flags.DEVICEMAP if self._unified else 0
        for name, shape in zip(("input", "output"), shapes, strict=True):
            host = cuda.pagelocked_empty(shape, np.float32, mem_flags=flags)
            self._hosts.append(host)
            if self._unified:
                memory = np.intp(host.base.get_device_pointer())
            else:
                memory = cuda.mem_alloc(host.nbytes)
                self._device.append(memory)
            if not self.context.set_tensor_address(name, int(memory)):
                raise BundleError(f"TensorRT refuses a buffer for {name}")

    def start(self, batch: int) -> None:
        """Put a batch, already in `input`, on the stream and return at once.

        Raises:
            BundleError: TensorRT refuses.
        """
        if self._graph and batch == len(self.input):
            try:
                self._graph.launch()
                return
            except GraphError as error:
                self.graph_refused = str(error)
                self._drop_graph()
        self._enqueue(batch)

    def capture(self) -> None:
        """Record the full batch as a CUDA graph; where that fails, go on without one."""
        # TensorRT prepares itself on the first run with a shape; only then may it be recorded.
        self._enqueue(len(self.input))
        self.stream.synchronize()
        try:
            self._graph = Graph(self.stream.handle, lambda: self._enqueue(len(self.input)))
        except (GraphError, BundleError) as error:
            self.graph_refused = str(error)

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def wait(self) -> None:
        """Until everything on the stream is done."""
        self.stream.synchronize()

    def close(self) -> None:
        """Give all back, in the order in which it depends on each other."""
        self._drop_graph()
        self.context = self.stream = None
        for memory in self._device:
            memory.free()
        for host in self._hosts:
            host.base.free()
        self._device, self._hosts = [], []
        self.input = self.output = np.empty(0, dtype=np.float32)

    def _enqueue(self, batch: int) -> None:
        if batch != self._batch:
            shape = (batch, *self.input.shape[1:])
            if not self.context.set_input_shape("input", shape):
                raise BundleError(f"TensorRT refuses a batch of {batch}")
            self._batch = batch
        if not self._unified:
            self._cuda.memcpy_htod_async(self._device[0], self.input[:batch], self.stream)
        if not self.context.execute_async_v3(self.stream.handle):
            raise BundleError("TensorRT did not run the engine")
        if not self._unified:
            self._cuda.memcpy_dtoh_async(self.output[:batch], self._device[1], self.stream)

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
            self._graph = None


def copy_batch(target: Float32, source: Float32) -> int:
    """Fill the front of a pinned buffer; returns the batch size."""
    count = len(source)
    np.copyto(target[:count], source)
    return count
