"""Running a generator on a slice stack; one Protocol, several runtimes, one chooser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from lohi_edge.bundle import Bundle
from lohi_edge.volume import Float32

Progress = Callable[[int, int], None]  # slices done, slices in all

RUNTIMES = ("tensorrt", "openvino", "onnxruntime")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


class Runtime(Protocol):
    """A generator ready to run.

    Attributes:
        name, version: of the library that computes.
        precision: what it computes in, e.g. "fp32".
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
        onnx: the file of the bundle that it runs.
        fallback: why something faster was passed over; None when nothing was.
        why: in words, what the choice rests on.
        acceptance: the record that this runtime passed on the golden slices here.
        engine: what is known of the TensorRT engine; None on CPUs.
        key: under which its acceptance record is kept.
    """

    runtime: Runtime
    onnx: str
    fallback: str | None
    why: str = ""
    acceptance: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    key: dict[str, Any] = field(default_factory=dict)


def choose(
    bundle: Bundle, threads: int | None = None, runtime: str = "auto", precision: str = "auto"
) -> Choice:
    """The fastest runtime that is accepted on this machine for a bundle.

    Args:
        threads: of a CPU runtime; None for one per core.
        runtime: "auto" or one of RUNTIMES.
        precision: "auto" or one of PRECISIONS.

    Raises:
        UsageError: an unknown runtime or precision.
        ModelFault: all that was asked for computes otherwise than where the bundle was made.
        BundleError: nothing that was asked for is there, or can be run.
    """
    from lohi_edge.runtime.chooser import Request, pick

    return pick(bundle, Request(runtime, precision, threads))
