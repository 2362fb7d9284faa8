"""The self-test: the scan that ships, through a daemon of its own, against what must come out.

Three answers are compared, each of them from another place. The golden slices come from the
workstation; the daemon's worker computes them when it starts. The whole volume is compared with
what fp32.onnx makes of the same scan on onnxruntime, computed once on this device and kept under
seal. And it must be about as near to the scan's 3 T truth, which ships, as the scan itself.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import bundle as bundles
from lohi_edge import demo, nifti
from lohi_edge.acceptance import tolerance_of
from lohi_edge.bundle import Bundle
from lohi_edge.device import latency, trial
from lohi_edge.device.trial import CONTRAST
from lohi_edge.files import make_directory, sha256
from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.settings import Settings
from lohi_edge.slices import INTENSITY_MAX
from lohi_edge.store import Store, digest
from lohi_edge.volume import Float32, Volume

BLOCK_MM = 8
ROUNDING = 0.5  # of INTENSITY_MAX: what storing a result as int16 may change
LOSS_DB = 0.5  # a result may be so much farther from the truth than its scan


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
        ModelFault: the bundle is damaged, or the daemon refuses it.
        SelfTestFailed: the daemon held the result back.
        NotTested: the daemon was killed, hung, or gave the scan up.
        BundleError, UsageError: nothing can run here, whatever the bundle.
        DiskError: the private folder or the store cannot be written.
    """
    found = bundles.load(bundle)
    if CONTRAST not in found.manifest.contrasts:
        return {"passed": True, "problems": [], "skipped": f"no scan but of {CONTRAST} ships"}
    golden = _golden(found, store or Store())
    receipt, image = trial.run(found.path, settings)
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
    make_directory(path.parent)
    values = [round(float(value), 2) for value in means.ravel()]
    store.write(path, {"key": key, "shape": list(means.shape), "means": values})
    return means


def summary(report: dict[str, Any]) -> str:
    """One line for people and logs."""
    if "skipped" in report:
        return f"passed on its golden slices alone: {report['skipped']}"
    seconds = report["phases"]["total"]["seconds"]
    words = "passed" if report["passed"] else f"FAILED: {'; '.join(report['problems'])}"
    budget = report["phases"]["total"]["budget_s"]
    slow = f", slower than the budget of {budget:g} s" if report["slow"] else ""
    return f"{words}; {seconds:.1f} s{slow} on {report['runtime']} {report['precision']}"
