"""Which runtime computes: the fastest one that this machine has accepted."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lohi_edge.bundle import Bundle
from lohi_edge.errors import BundleError, ModelFault, UsageError
from lohi_edge.runtime import PRECISIONS, RUNTIMES, Choice, Runtime
from lohi_edge.runtime.records import Records

# The file that each CPU precision runs; bf16 computes the FP32 file in bfloat16.
_CPU_FILES = {
    "fp32": "fp32.onnx",
    "fp16": "fp16.onnx",
    "bf16": "fp32.onnx",
    "int8": "int8.cpu.onnx",
}
# What `auto` weighs on a CPU. FP16 only costs conversions there, and bfloat16 is a choice.
_AUTO_CPU = ("int8", "fp32")


@dataclass(frozen=True)
class Request:
    """What was asked for; "auto" leaves a choice open."""

    runtime: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("runtime", self.runtime, RUNTIMES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in ("auto", *known):
                raise UsageError(f"expected {what} auto or one of {', '.join(known)}, got {value}")


@dataclass(frozen=True)
class Candidate:
    """Something that could run: how to make it, and under which key its record is kept."""

    runtime: str
    precision: str
    onnx: str
    make: Callable[[], Runtime]
    key: dict[str, Any]


def pick(bundle: Bundle, request: Request, records: Records | None = None) -> Choice:
    """The fastest accepted candidate.

    Args:
        records: with what was found out in this process; None where nothing was.

    Raises:
        ModelFault: every candidate failed, on golden slices that were run just now.
        BundleError: nothing that was asked for is there, or can be run.
    """
    from lohi_edge.runtime import gpu_candidates

    records = records or Records()
    notes: list[str] = []
    engine = gpu_candidates.pick(bundle, request, notes, records)
    if engine:
        return engine
    candidates = cpu_candidates(bundle, request)
    weighed = _weigh(bundle, candidates, records, trust_failures=True)
    if not weighed.accepted:
        # A driver may have been mended since: no bundle is refused for what was once recorded.
        weighed = _weigh(bundle, candidates, records, trust_failures=False)
    notes += [*weighed.notes, *([records.trouble] if records.trouble else [])]
    if choice := _fastest(weighed.accepted, notes, request):
        return choice
    kind = ModelFault if weighed.wrong else BundleError
    raise kind(_nothing(bundle, request, notes))


@dataclass
class _Weighed:
    """Candidates that are accepted, with record and, where it was just made, runtime.

    Attributes:
        notes: why others are not, in words.
        wrong: one computes something else than its golden slices.
    """

    accepted: list[tuple[Candidate, dict[str, Any], Runtime | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: bool = False


def _weigh(
    bundle: Bundle, candidates: list[Candidate], records: Records, trust_failures: bool
) -> _Weighed:
    weighed = _Weighed()
    for candidate in candidates:
        name = f"{candidate.precision} on {candidate.runtime}"
        try:
            record, runtime = _accepted(bundle, candidate, records, trust_failures)
        except BundleError as error:
            weighed.wrong |= isinstance(error, ModelFault)
            weighed.notes.append(f"{name}: {error}")
            continue
        if record["accepted"]:
            weighed.accepted.append((candidate, record, runtime))
        else:
            weighed.wrong |= not record.get("broke")
            weighed.notes.append(f"{name} not accepted: {'; '.join(record['problems'])}")
    return weighed


def _fastest(
    found: list[tuple[Candidate, dict[str, Any], Runtime | None]],
    notes: list[str],
    request: Request,
) -> Choice | None:
    while found:
        fastest = min(found, key=lambda item: item[1]["seconds_per_slice"])
        candidate, record, runtime = fastest
        try:
            runtime = runtime or candidate.make()
        except BundleError as error:  # broken since it was accepted
            notes.append(f"{candidate.precision} on {candidate.runtime}: {error}")
            found.remove(fastest)
            continue
        return Choice(
            runtime,
            candidate.onnx,
            "; ".join(dict.fromkeys(notes)) or None,
            _why(candidate, record, [f[0] for f in found], request),
            record,
            key=candidate.key,
        )
    return None


def cpu_candidates(bundle: Bundle, request: Request) -> list[Candidate]:
    """What this machine's CPU could run of a bundle within a request."""
    found = []
    runtimes = ["onnxruntime"]
    if importlib.util.find_spec("openvino"):
        runtimes.insert(0, "openvino")
    for name in runtimes:
        if request.runtime not in ("auto", name):
            continue
        precisions = _AUTO_CPU if request.precision == "auto" else (request.precision,)
        for precision in precisions:
            onnx = _CPU_FILES[precision]
            if onnx not in bundle.manifest.files or (precision, name) == ("bf16", "onnxruntime"):
                continue
            if precision == "bf16" and "fp16" not in bundle.manifest.tolerance:
                continue  # nothing says how far off it may be
            key = {
                "onnx": bundle.manifest.files[onnx],
                "bundle": bundle.sha256,
                "runtime": name,
                "version": _version(name),
                "precision": precision,
                "threads": request.threads,
                "cpu": cpu_name(),
            }
            make = _maker(bundle, name, onnx, precision, request.threads)
            found.append(Candidate(name, precision, onnx, make, key))
    return found


def _maker(
    bundle: Bundle, name: str, onnx: str, precision: str, threads: int | None
) -> Callable[[], Runtime]:
    def openvino() -> Runtime:
        from lohi_edge.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(bundle, onnx, threads, precision)

    def onnxruntime() -> Runtime:
        from lohi_edge.runtime.ort import OnnxRuntime

        return OnnxRuntime(bundle, onnx, threads)

    return openvino if name == "openvino" else onnxruntime


def _accepted(
    bundle: Bundle, candidate: Candidate, records: Records, trust_failures: bool
) -> tuple[dict[str, Any], Runtime | None]:
    """The candidate's record, a known one or from a run of the golden slices now."""
    from lohi_edge.acceptance import examine

    record = records.find(candidate.key, trust_failures)
    if record is not None:
        return record, None
    runtime = candidate.make()
    record = examine(bundle, runtime, candidate.onnx)
    records.add(candidate.key, record)
    return record, runtime


def _why(
    chosen: Candidate, record: dict[str, Any], accepted: list[Candidate], request: Request
) -> str:
    speed = f"{1e3 * record['seconds_per_slice']:.1f} ms a slice"
    if len(accepted) == 1:
        return f"the only one accepted of what was asked for, {speed}"
    others = ", ".join(f"{c.precision} on {c.runtime}" for c in accepted if c is not chosen)
    return f"the fastest accepted, {speed}; also accepted: {others}"


def _nothing(bundle: Bundle, request: Request, notes: list[str]) -> str:
    asked = f"runtime {request.runtime}, precision {request.precision}"
    have = ", ".join(sorted(f for f in bundle.manifest.files if f.endswith(".onnx")))
    reasons = (
        "; ".join(dict.fromkeys(notes)) or f"not installed, or not in the bundle, which has {have}"
    )
    return f"{bundle.path}: nothing to run for {asked}: {reasons}"


def _version(name: str) -> str:
    """Of the library, without importing it; its wheels go by several names."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return str(importlib.import_module(name).__version__)


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor, as the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
