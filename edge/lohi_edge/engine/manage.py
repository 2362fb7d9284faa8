"""Build, find and accept engines for a bundle on this machine."""

from __future__ import annotations

import datetime
import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lohi_edge.bundle import Bundle
from lohi_edge.engine.build import Profile
from lohi_edge.engine.cache import EngineCache, EngineKey, Entry
from lohi_edge.engine.child import RESULT, TIMING
from lohi_edge.errors import BundleError
from lohi_edge.files import atomic_write, disk_error
from lohi_edge.runtime.cuda import Gpu, probe
from lohi_edge.store import Store, digest

if TYPE_CHECKING:
    from lohi_edge.runtime.tensorrt import TensorRtRuntime

# The file that each precision is built from.
FILES = {"int8": "int8.trt.onnx", "fp16": "fp16.onnx", "fp32": "fp32.onnx"}
WORKSPACE_MB = 512


@dataclass(frozen=True)
class Target:
    """What engines are built with and for.

    Attributes:
        trt: the module `tensorrt`; `tensorrt_rtx` builds without a GPU, for tests.
        gpu: of this machine.
        compute_capability: of tensorrt_rtx alone, e.g. "SM86".
    """

    trt: Any
    gpu: Gpu
    compute_capability: str | None = None


def this_machine() -> Target:
    """TensorRT and the GPU here; CUDA is asked before TensorRT is loaded.

    Raises:
        BundleError: there is no GPU, or no TensorRT.
    """
    gpu = probe()
    if isinstance(gpu, str):
        raise BundleError(f"expected an NVIDIA GPU with TensorRT: {gpu}")
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise BundleError(
            f"TensorRT does not load: {error}; on a Jetson it comes with JetPack (then run "
            "install.sh again), in a checkout with `pip install '.[tensorrt]'` (docs/jetson.md)"
        ) from None
    return Target(trt, gpu)


def build_engine(
    bundle: Bundle,
    precision: str,
    profile: Profile,
    workspace_mb: int = WORKSPACE_MB,
    timing_cache: Path | None = None,
    target: Target | None = None,
    store: Store | None = None,
) -> Entry:
    """Build one engine in a child process and put it into the cache; nothing half-written stays.

    Args:
        timing_cache: file to start from and to leave behind; None for the store's own.

    Raises:
        BundleError: no such precision in the bundle, or no engine, in TensorRT's own words.
        DiskError: the cache cannot be written.
    """
    onnx = file_of(bundle, precision)
    bundle.read_onnx(onnx)
    target = target or this_machine()
    cache = EngineCache(store or Store())
    key = EngineKey.of(bundle.manifest.files[onnx], target.trt, target.gpu, precision, profile)
    try:
        timing = timing_cache or _own_timing_cache(cache.store, key)
        folder = cache.workspace()
    except OSError as error:
        raise disk_error(cache.root, error) from None
    try:
        begin = time.monotonic()
        result = _run_child(folder, bundle, onnx, key, workspace_mb, timing, target)
        if target.compute_capability is None:
            _keep_timing(folder, timing)
        facts = {
            "built": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - begin, 2),
            "workspace_mb": workspace_mb,
            "bundle": bundle.manifest.name,
            "notes": result["notes"],
        }
        return cache.publish(folder, key, facts)
    except OSError as error:
        raise disk_error(folder, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gone already where it was published


def file_of(bundle: Bundle, precision: str) -> str:
    """The ONNX file for a precision.

    Raises:
        BundleError: the bundle has none.
    """
    onnx = FILES.get(precision)
    if onnx not in bundle.manifest.files:
        have = ", ".join(p for p, f in FILES.items() if f in bundle.manifest.files)
        raise BundleError(f"{bundle.path}: expected precision {precision}, it has {have}")
    assert onnx is not None
    return onnx


def find(bundle: Bundle, precision: str, target: Target, store: Store) -> Entry | None:
    """The newest engine for a precision that was built here, whatever its profile."""
    onnx = file_of(bundle, precision)
    cache = EngineCache(store)
    for entry in reversed(cache.entries()):
        sizes = entry.record["key"]["profile"]
        profile = Profile(*sizes)
        key = EngineKey.of(bundle.manifest.files[onnx], target.trt, target.gpu, precision, profile)
        if entry.record["key"] == key.to_dict():
            return entry
    return None


def load(bundle: Bundle, entry: Entry, store: Store, target: Target) -> TensorRtRuntime:
    """An engine of the cache, ready to run in this process.

    Raises:
        BundleError: the plan is not the one that was built here, or does not load.
    """
    from lohi_edge.runtime.tensorrt import TensorRtRuntime

    plan = EngineCache(store).read(entry)
    key = entry.record["key"]
    return TensorRtRuntime(
        plan, bundle.manifest.slice_contract, key["precision"], key["profile"][2], target.trt
    )


def accept_engine(bundle: Bundle, entry: Entry, store: Store, target: Target) -> dict[str, Any]:
    """Run the golden slices on an engine now and keep the record, good or bad.

    Raises:
        BundleError: the engine does not load or run; a record that says so is kept.
    """
    from lohi_edge.acceptance import examine

    key = acceptance_key(bundle, entry)
    try:
        with load(bundle, entry, store, target) as runtime:
            record = examine(bundle, runtime, FILES[entry.record["key"]["precision"]])
    except BundleError as error:
        store.keep(key, {"accepted": False, "problems": [str(error)]})
        raise
    store.keep(key, record)
    return record


def acceptance_key(bundle: Bundle, entry: Entry) -> dict[str, Any]:
    """Under which an engine's acceptance record is kept."""
    return {"bundle": bundle.sha256, "plan": entry.record["plan_sha256"], **entry.record["key"]}


def _run_child(
    folder: Path,
    bundle: Bundle,
    onnx: str,
    key: EngineKey,
    workspace_mb: int,
    timing: Path,
    target: Target,
) -> dict[str, Any]:
    request = {
        "onnx": str(bundle.path.resolve() / onnx),
        "onnx_sha256": key.onnx_sha256,
        "module": key.module,
        "profile": list(key.profile),
        "workspace_mb": workspace_mb,
        "timing_cache": str(timing.resolve()) if target.compute_capability is None else None,
        "compute_capability": target.compute_capability,
    }
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    command = [sys.executable, "-m", "lohi_edge.engine.child", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (folder / RESULT).exists():
        raise BundleError(_how_it_died(done.returncode, done.stderr))
    result: dict[str, Any] = json.loads((folder / RESULT).read_text())
    if "error" in result:
        raise BundleError(f"{bundle.path / onnx}: {result['error']}")
    if result["version"] != key.tensorrt:
        raise BundleError(
            f"expected TensorRT {key.tensorrt} in the build, got {result['version']}; "
            "it was replaced meanwhile, run again"
        )
    return result


def _how_it_died(status: int, stderr: str) -> str:
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "it said nothing")
    if status == -signal.SIGKILL:
        cause = "it was killed, most likely because memory ran out; lower --workspace"
    elif status < 0:
        cause = f"it crashed ({signal.Signals(-status).name}): {last}"
    else:
        cause = f"it ended with status {status}: {last}"
    return f"the engine build failed: {cause}"


def _own_timing_cache(store: Store, key: EngineKey) -> Path:
    folder = store.root / "timing"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / digest([key.module, key.tensorrt, key.cuda, key.gpu, key.sm])


def _keep_timing(folder: Path, timing: Path) -> None:
    data = (folder / TIMING).read_bytes()
    if data:
        with atomic_write(timing) as file:
            file.write(data)
