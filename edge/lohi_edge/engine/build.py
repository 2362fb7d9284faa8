"""ONNX bytes -> serialized TensorRT plan. Nothing here knows of files, caches or processes.

Precision lives in the ONNX file: the network is strongly typed and the builder has no precision
flag, so that one path serves TensorRT 10.3 (JetPack 6) to 11.x, and TensorRT-RTX, which builds
without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lohi_edge.errors import BundleError, UsageError

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Profile:
    """Batch sizes an engine serves: smallest, the one it is tuned for, largest."""

    smallest: int = 1
    best: int = 8
    largest: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.best <= self.largest <= 1024:
            raise BundleError(
                "no engine has such batch sizes: expected 1 <= MIN <= OPT <= MAX <= 1024, got "
                f"{self.smallest},{self.best},{self.largest}"
            )

    @classmethod
    def parse(cls, text: str) -> Profile:
        """From "MIN,OPT,MAX".

        Raises:
            UsageError: not three whole numbers.
            BundleError: no engine can serve them.
        """
        try:
            smallest, best, largest = (int(word) for word in text.split(","))
        except ValueError:
            raise UsageError(f"expected --batch MIN,OPT,MAX, e.g. 1,8,8, got {text!r}") from None
        return cls(smallest, best, largest)


@dataclass(frozen=True)
class Plan:
    """A serialized engine, the timing cache it leaves, and what was noted on the way."""

    data: bytes
    timing_cache: bytes
    notes: tuple[str, ...]


def build(
    trt: Any,
    onnx: bytes,
    profile: Profile,
    workspace_mb: int,
    timing_cache: bytes | None = b"",
    compute_capability: str | None = None,
) -> Plan:
    """Build an engine.

    Args:
        trt: the module `tensorrt`, or `tensorrt_rtx`.
        onnx: a model with one input (dynamic batch, static C, H and W).
        timing_cache: of an earlier build, or b""; one that does not fit is set aside and noted.
            None keeps none (TensorRT-RTX times nothing).
        compute_capability: "SM86" and the like, for TensorRT-RTX on a machine without a GPU.

    Raises:
        BundleError: the parser or the builder refuses the model; their words are passed on.
    """
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    # The parser does not keep the network alive; this name does.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        words = "; ".join(parser.get_error(n).desc() for n in range(parser.num_errors))
        raise BundleError(f"TensorRT {trt.__version__} rejects the model: {words}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * MEBIBYTE)
    if compute_capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, compute_capability), 0)
    _add_profile(builder, network, config, profile)
    notes = _start_timing_cache(config, timing_cache, logger)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise BundleError(
            f"TensorRT {trt.__version__} builds no engine within {workspace_mb} MB of workspace: "
            f"{'; '.join(logger.complaints[-3:]) or 'no reason given'}"
        )
    left = config.get_timing_cache() if timing_cache is not None else None
    return Plan(bytes(data), bytes(left.serialize()) if left else b"", notes)


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps `complaints`: errors and warnings, which no call returns."""
    silent = (trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.complaints: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity not in silent:
                self.complaints.append(message)

    return Logger()


def _add_profile(builder: Any, network: Any, config: Any, profile: Profile) -> None:
    tensor = network.get_input(0)
    _, *rest = tensor.shape
    if network.num_inputs != 1 or min(rest) < 1:
        raise BundleError(
            f"expected one input with a dynamic batch alone, got {network.num_inputs} inputs, the "
            f"first of shape {tuple(tensor.shape)}"
        )
    shapes = builder.create_optimization_profile()
    sizes = (profile.smallest, profile.best, profile.largest)
    shapes.set_shape(tensor.name, *((size, *rest) for size in sizes))
    if config.add_optimization_profile(shapes) < 0:
        raise BundleError(f"TensorRT refuses the batch sizes {sizes} for {tensor.name}")


def _start_timing_cache(config: Any, data: bytes | None, logger: Any) -> tuple[str, ...]:
    """Set a timing cache on the config; returns notes."""
    if data is None:
        return ()
    before = len(logger.complaints)
    try:
        cache = config.create_timing_cache(data)
        # TensorRT takes a damaged cache for an empty one and only says so in its log.
        if config.set_timing_cache(cache, False) and len(logger.complaints) == before:
            return ()
    except (RuntimeError, TypeError, ValueError):
        pass
    if not data:
        return ("this TensorRT keeps no timing cache",)
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return ("the timing cache is damaged, or of another GPU or TensorRT; it was not used",)
