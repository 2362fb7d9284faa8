"""The process that builds: `python -m lohi_edge.engine.child REQUEST.json`.

A compiler of this size may crash or take all memory; then it takes nothing else with it.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from lohi_edge.engine.build import Profile, build
from lohi_edge.engine.cache import PLAN
from lohi_edge.engine.memory import check_memory
from lohi_edge.errors import BundleError, LohiError
from lohi_edge.files import atomic_write, read_bytes, sha256

MAX_ONNX = 512 << 20
TIMING, RESULT = "timing.cache", "result.json"


def main(request_path: str) -> None:
    """Build what the request says, beside it: the plan, the timing cache, and `result.json`."""
    _die_first()
    folder = Path(request_path).parent
    try:
        result = _build(json.loads(Path(request_path).read_text()), folder)
    except LohiError as error:
        result = {"error": str(error)}
    with atomic_write(folder / RESULT) as file:
        file.write(json.dumps(result).encode())


def _build(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    onnx = read_bytes(Path(request["onnx"]), MAX_ONNX)
    if sha256(onnx) != request["onnx_sha256"]:
        raise BundleError(f"{request['onnx']}: changed since the bundle was checked")
    if request["module"] == "tensorrt":
        check_memory(len(onnx), request["workspace_mb"])
    trt = _import(request["module"])
    timing = request["timing_cache"]
    plan = build(
        trt,
        onnx,
        Profile(*request["profile"]),
        request["workspace_mb"],
        None if timing is None else _read_timing(Path(timing)),
        request["compute_capability"],
    )
    for name, data in ((PLAN, plan.data), (TIMING, plan.timing_cache)):
        with atomic_write(folder / name) as file:
            file.write(data)
    return {"plan_sha256": sha256(plan.data), "notes": plan.notes, "version": trt.__version__}


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BundleError(
            f"TensorRT does not load: {error}; install NVIDIA's `tensorrt` for this machine"
        ) from None


def _read_timing(path: Path) -> bytes:
    return read_bytes(path, MAX_ONNX) if path.exists() else b""


def _die_first() -> None:
    """Should memory run out, the kernel is to take this process, not the one that waits for it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main(sys.argv[1])
