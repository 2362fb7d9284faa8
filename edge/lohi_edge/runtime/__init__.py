"""Running a generator on a slice stack; one Protocol, several runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lohi_edge.bundle import Bundle
from lohi_edge.volume import Float32

Progress = Callable[[int, int], None]  # slices done, slices in all


class Runtime(Protocol):
    """A generator ready to run.

    Attributes:
        name, version: of the library that computes.
        precision: of the ONNX file it runs, e.g. "fp32".
        device: what it computes on, in words.
        threads: worker threads, 0 where that means nothing.
    """

    name: str
    version: str
    precision: str
    device: str
    threads: int

    def run(self, stack: Float32, progress: Progress | None = None) -> Float32:
        """(N, C, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1], float32."""
        ...


@dataclass(frozen=True)
class Choice:
    """The runtime that was chosen, and why.

    Attributes:
        fallback: why something faster was passed over; None when nothing was.
    """

    runtime: Runtime
    onnx: str
    fallback: str | None


def choose(bundle: Bundle, threads: int | None = None) -> Choice:
    """The runtime for a bundle on this machine.

    Raises:
        BundleError: the bundle's model does not load.
    """
    from lohi_edge.runtime.ort import OnnxRuntime

    name = "fp32.onnx"
    return Choice(OnnxRuntime(bundle, name, threads), name, None)
