"""One half of a double buffer on the GPU: a stream, an execution context, and its buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lohi_edge.errors import BundleError
from lohi_edge.runtime.graphs import Graph, GraphError
from lohi_edge.volume import Float32


class Slot:
    """Copies a batch in, runs it, copies it out, all in order on one stream.

    Two slots overlap: while one computes, the other's batch travels. Of neighbouring slices that
    stand in several windows of C channels, host memory holds each once; windows are cut on the way
    to the GPU.

    Attributes:
        output: pinned host array (batch, 1, H, W).
    """

    def __init__(self, cuda: Any, engine: Any, shape: tuple[int, ...], unified: bool) -> None:
        """Allocate everything once.

        Args:
            cuda: pycuda.driver, with a current context.
            shape: of the input at the largest batch, (batch, C, H, W).
            unified: the GPU shares the machine's memory, so that pinned buffers need no copies.

        Raises:
            BundleError: no memory for an execution context.
        """
        self._cuda = cuda
        self._shape = shape
        self._unified = unified
        self._graph: Graph | None = None
        self.graph_refused: str | None = None
        self._batch = 0
        self._hosts: list[Any] = []
        self._device: dict[str, Any] = {}
        self.context: Any = None
        self.stream: Any = None
        try:
            self._allocate(engine)
        except BaseException:
            self.close()
            raise
        self._input, self.output = self._hosts

    def _allocate(self, engine: Any) -> None:
        cuda, (batch, channels, height, width) = self._cuda, self._shape
        self.context = engine.create_execution_context()
        if self.context is None:
            raise BundleError("no memory left for TensorRT's execution context; free some")
        self.stream = cuda.Stream()
        flags = cuda.host_alloc_flags.DEVICEMAP if self._unified else 0
        for name, planes in (("input", batch * channels), ("output", batch)):
            host = cuda.pagelocked_empty((planes, height, width), np.float32, mem_flags=flags)
            self._hosts.append(host)
            # Overlapping windows are not one piece of memory before they are cut on the GPU.
            if self._unified and (name == "output" or channels == 1):
                memory = np.intp(host.base.get_device_pointer())
            else:
                memory = self._device[name] = cuda.mem_alloc(host.nbytes)
            if not self.context.set_tensor_address(name, int(memory)):
                raise BundleError(f"TensorRT refuses a buffer for {name}")

    def start(self, stack: Float32) -> None:
        """Put a batch (n, C, H, W) on the stream and return at once.

        Raises:
            BundleError: TensorRT refuses.
        """
        planes, step = _planes(stack)
        np.copyto(self._input[: len(planes)], planes)
        if self._graph and len(stack) == self._shape[0] and step == 1:
            try:
                self._graph.launch()
                return
            except GraphError as error:
                self.graph_refused = str(error)
                self._drop_graph()
        self._enqueue(len(stack), step)

    def capture(self) -> None:
        """Record the full batch as a CUDA graph; where that fails, go on without one."""
        self._input.fill(0)
        # TensorRT prepares itself on the first run with a shape; only then may it be recorded.
        self._enqueue(self._shape[0], 1)
        self.stream.synchronize()
        try:
            self._graph = Graph(self.stream.handle, lambda: self._enqueue(self._shape[0], 1))
        except (GraphError, BundleError) as error:
            self.graph_refused = str(error)

    def wait(self) -> None:
        """Until everything on the stream is done."""
        self.stream.synchronize()

    def close(self) -> None:
        """Give all back, in the order in which it depends on each other."""
        self._drop_graph()
        self.context = self.stream = None
        for memory in self._device.values():
            memory.free()
        for host in self._hosts:
            host.base.free()
        self._device, self._hosts = {}, []
        self._input = self.output = np.empty(0, dtype=np.float32)

    def _enqueue(self, batch: int, step: int) -> None:
        """Launch a batch whose windows begin `step` planes apart in the pinned input."""
        if batch != self._batch:
            if not self.context.set_input_shape("input", (batch, *self._shape[1:])):
                raise BundleError(f"TensorRT refuses a batch of {batch}")
            self._batch = batch
        if "input" in self._device:
            self._send(batch, step)
        if not self.context.execute_async_v3(self.stream.handle):
            raise BundleError("TensorRT did not run the engine")
        if "output" in self._device:
            self._cuda.memcpy_dtoh_async(self.output[:batch], self._device["output"], self.stream)

    def _send(self, batch: int, step: int) -> None:
        target, channels = int(self._device["input"]), self._shape[1]
        count = 1 if step == channels else batch  # windows side by side travel in one piece
        size = batch * channels // count
        for n in range(count):
            window = self._input[n * step : n * step + size]
            self._cuda.memcpy_htod_async(target + n * window.nbytes, window, self.stream)

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
            self._graph = None


def _planes(stack: Float32) -> tuple[Float32, int]:
    """The planes (m, H, W) of a stack (n, C, H, W), and how many lie between two windows' starts.

    Where channel c + 1 of one slice is channel c of the next, by strides, each plane comes once.
    """
    count, channels, height, width = stack.shape
    if stack.strides[0] == stack.strides[1]:
        shape = (count + channels - 1, height, width)
        return np.lib.stride_tricks.as_strided(stack, shape, stack.strides[1:], writeable=False), 1
    return stack.reshape(count * channels, height, width), channels
