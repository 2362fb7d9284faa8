"""The self-test: the scan that ships, through a daemon of its own, against what must come out.

Three answers are compared, each of them from another place. The golden slices come from the
workstation; the daemon's worker computes them when it starts. The whole volume is compared with
what fp32.onnx makes of the same scan on onnxruntime, computed once on this device and kept under
seal. And it must be about as near to the scan's 3 T truth, which ships, as the scan itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import bundle as bundles
from lohi_edge import demo, finished, nifti, signing
from lohi_edge.acceptance import tolerance_of
from lohi_edge.bundle import Bundle
from lohi_edge.device import latency
from lohi_edge.device.private import private_folder
from lohi_edge.errors import BundleError, LohiError
from lohi_edge.files import sha256
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.settings import Settings
from lohi_edge.slices import INTENSITY_MAX
from lohi_edge.store import Store, digest
from lohi_edge.volume import Float32, Volume

PREFIX = "lohi-edge-selftest-"  # of folders in the temporary one
CONTRAST = "T1w"  # of the scan that ships
BLOCK_MM = 8
ROUNDING = 0.5  # of INTENSITY_MAX: what storing a result as int16 may change
LOSS_DB = 0.5  # a result may be so much farther from the truth than its scan
_STOP_S = 20.0
# Whoever starts the daemon may be killed, or lose its terminal: then the daemon ends too.
_TETHERED = (
    "import os, signal, sys; from lohi_edge.watch.process import die_with; "
    "die_with(int(sys.argv.pop(1)), signal.SIGTERM); from lohi_edge.cli import main; main()"
)
_KEEP = ("runtime", "precision", "threads", "prefer")


class SelfTestFailed(LohiError):
    """The result is not what it must be."""

    exit_code = 4


def run(bundle: Path, settings: Settings, store: Store | None = None) -> dict[str, Any]:
    """Enhance the scan that ships through a daemon in a private folder, and compare.

    Args:
        bundle: directory of the bundle to test. The caller screens its serial; this remembers
            none, for the bundle may never become active.
        settings: of the device; its folders are not touched.

    Returns:
        `passed`, `problems` (words), `verdict`, `difference` and its `limit` (of INTENSITY_MAX),
        `psnr_db` before and after, `phases` against the budget, `device_class`, `slow`, and which
        `bundle`, `runtime` and `precision` ran. Where the bundle does not enhance T1w: `passed` and
        `skipped`, for no scan of another contrast ships.

    Raises:
        BundleError: the daemon refuses the bundle, or it cannot be read.
        SelfTestFailed: the daemon delivered no result.
        DiskError: the private folder or the store cannot be written.
    """
    found = bundles.load(bundle)
    if CONTRAST not in found.manifest.contrasts:
        return {"passed": True, "problems": [], "skipped": f"no scan but of {CONTRAST} ships"}
    golden = _golden(found, store or Store())
    with private_folder(PREFIX) as (folder, lock):
        receipt, image = _through_the_daemon(found.path, settings, folder, lock)
    return _judge(found, receipt, image, golden, settings)


def _judge(
    bundle: Bundle,
    receipt: dict[str, Any],
    image: Volume,
    golden: Float32,
    settings: Settings,
) -> dict[str, Any]:
    allowed = tolerance_of(bundle, receipt["onnx"]["file"], receipt["precision"])
    limit = allowed * INTENSITY_MAX / 2 + ROUNDING
    means = block_means(image.data)
    same = means.shape == golden.shape
    difference = float(np.abs(means - golden).max()) if same else float("inf")
    scan = nifti.read(demo.SCAN).isotropic()
    truth = nifti.read(demo.TRUTH)
    contract = bundle.manifest.slice_contract
    before = demo.psnr_db(scan, scan, truth, contract)
    after = demo.psnr_db(scan, image, truth, contract)
    problems = []
    if not difference <= limit:  # NaN is a problem too
        problems.append(f"differs from the golden output by {difference:.3g}, limit {limit:.3g}")
    if not after >= before - LOSS_DB:
        problems.append(f"{after:.2f} dB from the truth, the scan itself is {before:.2f} dB")
    kind, budget_s = latency.budget(settings.latency)
    phases = latency.phases(receipt["timings"], budget_s)
    return {
        "passed": not problems,
        "problems": problems,
        "verdict": receipt["verdict"],
        "difference": round(difference, 4) if same else None,
        "limit": round(limit, 4),
        "psnr_db": {"before": round(before, 2), "after": round(after, 2)},
        "device_class": kind,
        "slow": not phases["total"]["within"],
        "phases": phases,
        "bundle": receipt["bundle"],
        "runtime": receipt["runtime"]["name"],
        "precision": receipt["precision"],
        "fallback": receipt["fallback"],
    }


def block_means(data: Float32) -> Float32:
    """Means over whole blocks of BLOCK_MM voxels a side: (X, Y, Z) -> (X // 8, Y // 8, Z // 8)."""
    x, y, z = (n // BLOCK_MM for n in data.shape)
    cut = data[: x * BLOCK_MM, : y * BLOCK_MM, : z * BLOCK_MM].astype(np.float64)
    blocks = cut.reshape(x, BLOCK_MM, y, BLOCK_MM, z, BLOCK_MM)
    means: Float32 = blocks.mean(axis=(1, 3, 5)).astype(np.float32)
    return means


def _golden(bundle: Bundle, store: Store) -> Float32:
    """What fp32.onnx on onnxruntime makes of the scan, as block means; from the store, or now."""
    key = {
        "selftest": 1,
        "bundle": bundle.sha256,
        "scan": sha256(demo.SCAN.read_bytes()),
        "software": metadata.version("lohi-edge"),
    }
    path = store.root / "selftest" / f"{digest(key)}.json"
    kept = store.read(path)
    if kept and kept["key"] == key:
        found: Float32 = np.array(kept["means"], np.float32).reshape(kept["shape"])
        return found
    models = Models(bundle.path, None, "onnxruntime", "fp32", screened=True)
    result = enhance(demo.SCAN, bundle=models, contrast=CONTRAST, grid="1mm", deliver_held=True)
    assert result.volume is not None
    means = block_means(result.volume.data)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    values = [round(float(value), 2) for value in means.ravel()]
    store.write(path, {"key": key, "shape": list(means.shape), "means": values})
    return means


def _through_the_daemon(
    bundle: Path, settings: Settings, folder: Path, lock: int
) -> tuple[dict[str, Any], Volume]:
    inbox, outbox, state = (folder / name for name in ("inbox", "outbox", "state"))
    for path in (inbox, outbox):
        path.mkdir()
    (folder / "none.toml").touch()
    shutil.copyfile(demo.SCAN, inbox / demo.SCAN.name)
    command = [
        sys.executable, "-c", _TETHERED, str(os.getpid()), "watch", str(inbox), str(outbox),
        "--state", str(state), "--config", str(folder / "none.toml"), "--bundle", str(bundle),
    ]  # fmt: skip
    log = folder / "log"
    limit_s = settings.worker.start_timeout_s + settings.worker.timeout_s
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, env=environment(os.environ, settings, folder), stdout=words, stderr=words,
            pass_fds=(lock,),  # it may outlive this process by some seconds
        )  # fmt: skip
        try:
            _wait(process, outbox, limit_s, log)
        finally:
            _end(process)
    (found,) = [*outbox.rglob("*_desc-synthetic*.json"), *outbox.rglob("*.reason.txt")]
    receipt = finished.read_receipt(found) if found.suffix == ".json" else None
    if receipt is None:
        reason = found.read_text().strip().replace("\n", " ")
        raise SelfTestFailed(f"the daemon delivered no result of the scan that ships: {reason}")
    return receipt, nifti.read(found.parent / receipt["result"]["path"])


def environment(own: Mapping[str, str], settings: Settings, folder: Path) -> dict[str, str]:
    """For the private daemon: the device's way of computing, and nothing else of its settings."""
    kept = {
        name: value
        for name, value in own.items()
        if name in (signing.KEYS, "LOHI_EDGE_CACHE", "LOHI_EDGE_BUNDLES")
        or not name.startswith(("LOHI_EDGE_", "NOTIFY_", "WATCHDOG_", "STATE_DIRECTORY"))
    }
    options = {
        f"LOHI_EDGE_ENHANCE_{name.upper()}": str(value)
        for name in _KEEP
        if (value := getattr(settings.enhance, name)) is not None
    }
    own_options = {
        signing.SERIALS: str(folder / "serials"),
        "LOHI_EDGE_ENHANCE_CONTRAST": CONTRAST,
        "LOHI_EDGE_ENHANCE_GRID": "1mm",
        "LOHI_EDGE_DISK_RESERVE_GB": "0",
        "LOHI_EDGE_WATCH_INTERVAL_S": "0.2",
        "LOHI_EDGE_WORKER_ATTEMPTS": "1",
    }
    return kept | options | own_options


def _wait(process: subprocess.Popen[bytes], outbox: Path, limit_s: float, log: Path) -> None:
    """Until a receipt or a reason is there, or the daemon has ended."""
    end = time.monotonic() + limit_s
    patterns = ("*_desc-synthetic*.json", "*.reason.txt")
    while not any(_visible(path, outbox) for p in patterns for path in outbox.rglob(p)):
        code = process.poll()
        if code is not None:
            words = log.read_text(errors="replace").strip().splitlines()
            last = words[-1].removeprefix("error: ") if words else f"exit {code}"
            if code == BundleError.exit_code:
                raise BundleError(last)
            raise SelfTestFailed(f"the daemon ended with {code}: {last}")
        if time.monotonic() > end:
            raise SelfTestFailed(f"the daemon delivered nothing within {limit_s:g} s")
        time.sleep(0.05)


def _visible(path: Path, outbox: Path) -> bool:
    """Whether it is delivered: what is still being written lies below a dot-name."""
    return not any(part.startswith(".") for part in path.relative_to(outbox).parts)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def summary(report: dict[str, Any]) -> str:
    """One line for people and logs."""
    if "skipped" in report:
        return f"passed on its golden slices alone: {report['skipped']}"
    seconds = report["phases"]["total"]["seconds"]
    words = "passed" if report["passed"] else f"FAILED: {'; '.join(report['problems'])}"
    budget = report["phases"]["total"]["budget_s"]
    slow = f", slower than the budget of {budget:g} s" if report["slow"] else ""
    return f"{words}; {seconds:.1f} s{slow} on {report['runtime']} {report['precision']}"
