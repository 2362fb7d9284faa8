"""CUDA graphs through the driver: pycuda knows streams but no graphs.

A graph replays the copies and kernels of one batch with a single call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from lohi_edge.runtime.cuda import LIBRARY

_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: other threads may go on calling CUDA


class GraphError(Exception):
    """The driver captures no graph here; the same work is then launched call by call."""


class Graph:
    """What `work` puts on a stream, recorded once."""

    def __init__(self, stream: int, work: Callable[[], None], library: str = LIBRARY) -> None:
        """Capture `work` on a stream (its handle) and make it launchable.

        Raises:
            GraphError: the driver refuses, or `work` does something that cannot be captured.
        """
        self._cuda = ctypes.CDLL(library)
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _RELAXED)
        try:
            work()
        finally:
            # Ends the capture whatever happened, or the stream could never be used again.
            status = self._status("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        if status:
            raise GraphError(f"cuStreamEndCapture returned {status}")
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, _FLAGS)
        finally:
            self._status("cuGraphDestroy", graph)

    def launch(self) -> None:
        """Put the recorded work on the stream.

        Raises:
            GraphError: the driver refuses.
        """
        self._call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Give the graph back; must happen while its context lives."""
        if self._executable:
            self._status("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()

    def _call(self, function: str, *arguments: Any) -> None:
        status = self._status(function, *arguments)
        if status:
            raise GraphError(f"{function} returned {status}")

    def _status(self, function: str, *arguments: Any) -> int:
        try:
            return int(getattr(self._cuda, function)(*arguments))
        except AttributeError:
            raise GraphError(f"this CUDA driver has no {function}") from None


_FLAGS = ctypes.c_ulonglong(0)
