"""The doctor's checks of the machine: software, GPU, power, heat, clock."""

from __future__ import annotations

import re

from lohi_edge import bundle as bundles
from lohi_edge.device import machine
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Context, Finding
from lohi_edge.device.library import Library
from lohi_edge.engine.manage import WORKSPACE_MB
from lohi_edge.engine.memory import MEBIBYTE, needed_mb
from lohi_edge.runtime.cuda import Gpu

PYTHONS = ((3, 10), (3, 12))
JETPACKS = (6, 7)
OLDEST_TENSORRT = (10, 3)
OLDEST_CUDA = 12
_TIME_ERROR = 5


def python(context: Context) -> Finding:
    """A version this package is made for."""
    found = "{}.{}".format(*context.python)
    if PYTHONS[0] <= context.python <= PYTHONS[1]:
        return Finding(PASS, found)
    return Finding(FAIL, found, "install with Python 3.10 to 3.12: install.sh --python python3.12")


def jetpack(context: Context) -> Finding:
    """A JetPack that the wheels and TensorRT's version fit."""
    jetson = machine.jetson(context.root)
    if jetson is None:
        return Finding(NOT_APPLICABLE, "no Jetson")
    words = f"Jetson Linux {jetson.linux} (JetPack {jetson.jetpack or 'unknown'}), {jetson.model}"
    if jetson.jetpack in JETPACKS:
        return Finding(PASS, words)
    if jetson.jetpack is None:
        return Finding(WARN, words, "this release is not known here; lohi-edge selftest tells")
    return Finding(FAIL, words, "flash the device with JetPack 6 or 7 (NVIDIA SDK Manager)")


def tensorrt(context: Context) -> Finding:
    """TensorRT and pycuda load, in a version that runs on this JetPack."""
    jetson = machine.jetson(context.root)
    if isinstance(context.gpu, str) and jetson is None:
        return Finding(NOT_APPLICABLE, "no NVIDIA GPU")
    try:
        version = context.tensorrt()
    except (ImportError, OSError) as error:
        fix = "without it the CPU computes; install TensorRT and pycuda (docs/how-to/install.md)"
        return Finding(FAIL if jetson else WARN, f"does not load: {error}", fix)
    found = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if found < OLDEST_TENSORRT:
        return Finding(FAIL, version, "update to TensorRT 10.3 or later, on a Jetson with JetPack")
    if jetson and jetson.jetpack == 6 and found[0] != 10:
        return Finding(FAIL, version, "JetPack 6 runs TensorRT 10 alone: remove the other from pip")
    if jetson and (11, 0) <= found < (11, 4):
        return Finding(FAIL, version, "TensorRT 11.0 to 11.3 do not run on JetPack: use its own")
    return Finding(PASS, version)


def cuda(context: Context) -> Finding:
    """The driver finds a GPU and is new enough."""
    if isinstance(context.gpu, str):
        if machine.jetson(context.root) is None:
            return Finding(NOT_APPLICABLE, context.gpu)
        fix = "sudo usermod -aG video,render USER; in a container: --runtime nvidia"
        return Finding(FAIL, context.gpu, fix)
    gpu = context.gpu
    words = f"{gpu.cuda}, {gpu.name} (SM {gpu.sm})"
    if int(gpu.cuda.split(".")[0]) < OLDEST_CUDA:
        return Finding(FAIL, words, "update the driver to one for CUDA 12 or later")
    return Finding(PASS, words)


def gpu_memory(context: Context) -> Finding:
    """Enough for the build of an engine, the hungriest step."""
    if isinstance(context.gpu, str):
        return Finding(NOT_APPLICABLE, context.gpu)
    needed = needed_mb(_largest_onnx(context.library), WORKSPACE_MB)
    free = _free_mb(context, context.gpu)
    words = f"{free} MB, an engine's build may take {needed} MB"
    if free < needed:
        return Finding(FAIL, words, "close other programs, or build with --workspace 128")
    return Finding(PASS, words)


def _free_mb(context: Context, gpu: Gpu) -> int:
    """Free memory of a Jetson; of a card all of it, for asking more would take a context."""
    if gpu.unified:
        return machine.memory_mb(context.root).get("MemAvailable", 0)
    return gpu.total_bytes // MEBIBYTE


def _largest_onnx(library: Library) -> int:
    path = library.active("T1w") or bundles.shipped("T1w")
    return max(file.stat().st_size for file in path.glob("*.onnx"))


def power_mode(context: Context) -> Finding:
    """A Jetson in its mode without a power limit."""
    if machine.jetson(context.root) is None:
        return Finding(NOT_APPLICABLE, "no Jetson")
    mode = machine.power_mode(context.root)
    fix = "sudo nvpmodel -m ID, of: grep 'POWER_MODEL ID' /etc/nvpmodel.conf (docs/how-to/power.md)"
    if mode is None:
        return Finding(WARN, "nvpmodel has set none", fix)
    return Finding(PASS, mode) if mode.startswith("MAXN") else Finding(WARN, mode, fix)


def throttling(context: Context) -> Finding:
    """Nothing was slowed down by heat or by a weak supply since the start."""
    seen = machine.heat(context.root)
    hottest = max(seen["temperature_c"].values(), default=None)
    words = (
        f"{seen['throttled_times']} times by heat, {seen['overcurrent_times']} by current, active: "
        f"{', '.join(seen['cooling_active']) or 'nothing'}"
        + (f", now {hottest:g} degrees" if hottest is not None else "")
    )
    if not machine.throttled(seen):
        return Finding(PASS, words)
    return Finding(WARN, words, "clear the vents, fan to `cool`, stronger supply (how-to/power.md)")


def clock_sync(context: Context) -> Finding:
    """Receipts and audit log bear the time: it must be the right one."""
    if context.clock() != _TIME_ERROR:
        return Finding(PASS, "synchronised")
    fix = "timedatectl set-ntp true, with a time server of the hospital in timesyncd.conf"
    return Finding(WARN, "not synchronised: times in receipts may be wrong", fix)


CHECKS: dict[str, Check] = {
    "python": python,
    "jetpack": jetpack,
    "tensorrt": tensorrt,
    "cuda": cuda,
    "gpu memory": gpu_memory,
    "power mode": power_mode,
    "throttling": throttling,
    "clock": clock_sync,
}
