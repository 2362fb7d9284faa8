"""Fitness of scans alone, as `lohi-edge qc` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lohi_edge import bundle as bundles
from lohi_edge import contrast as contrasts
from lohi_edge import receipt, source
from lohi_edge.bundle import CONTRASTS, Manifest
from lohi_edge.clock import Clock
from lohi_edge.device import installed
from lohi_edge.device.library import Library
from lohi_edge.dicom import Series
from lohi_edge.errors import BadInput, BundleError, LohiError, OtherContrast, UsageError
from lohi_edge.nifti_header import Prefer
from lohi_edge.quality.inspect import inspect
from lohi_edge.slices import SliceContract, place
from lohi_edge.volume import Volume


def check(
    scan: Path | Series,
    contrast: str | None = None,
    limits: Path | Mapping[str, Any] | None = None,
    bundle: Path | None = None,
    prefer: Prefer | None = None,
) -> dict[str, Any]:
    """`source`, `contrast`, `metrics`, `verdict`, `reasons` of one scan; or `source` and `error`.

    Args:
        limits: that go before the bundle's, as `limits_for` takes them.
        bundle: whose limits count, and which must be made for the scan's contrast; None for the
            one that `enhance` would use here.
        prefer: which affine to take where sform and qform disagree; refused when None.

    Raises:
        UsageError: an unknown contrast or unusable limits.
        BundleError: that bundle cannot be used.
    """
    if contrast is not None and contrast not in CONTRASTS:
        raise UsageError(f"expected --contrast to be one of {', '.join(CONTRASTS)}, got {contrast}")
    try:
        resolved = source.resolve(scan)
        volume = source.read(resolved, prefer, Clock())
        fine = volume.isotropic()
        sidecar = volume.origin.sidecar if volume.origin else None
        name, rule = contrasts.decide(contrast, source.stem(resolved), sidecar, fine)
        manifest = _serving(name, bundle)
        metrics = manifest.metrics if manifest else {}
        seen = inspect(volume, fine, name, None, metrics, limits)
    except LohiError as error:
        if isinstance(error, UsageError | BundleError) and not isinstance(error, OtherContrast):
            raise
        return {
            "source": {"path": scan.name},
            "error": {"exit_code": error.exit_code, "message": str(error)},
        }
    refused = _refusal(fine, manifest.slice_contract if manifest else SliceContract())
    return {
        "source": {"path": scan.name},
        "contrast": {"name": name, "rule": rule},
        "metrics": seen.metrics,
        "verdict": "hold" if refused else seen.verdict,
        "reasons": [*refused, *seen.reasons, *receipt.notes(volume)],
    }


def bundle_metrics(contrast: str, bundle: Path | None) -> dict[str, Any]:
    """`metrics` of a bundle, or of the one in use for a contrast; empty where none serves it.

    Raises:
        OtherContrast: the bundle was not made for it.
        BundleError: it cannot be used.
    """
    manifest = _serving(contrast, bundle)
    return dict(manifest.metrics) if manifest else {}


def _serving(contrast: str, bundle: Path | None) -> Manifest | None:
    """The manifest of a bundle, or of the one in use for a contrast; raises as `bundle_metrics`."""
    if bundle is not None:
        manifest = bundles.load(bundle).manifest
        bundles.require_contrast(bundle, manifest, contrast)
        return manifest
    Library().pointer()  # where it cannot be read, nothing is guessed
    try:
        path = installed.resolve(contrast)
    except BundleError:
        return None
    return bundles.read_manifest(path)[0]


def _refusal(fine: Volume, contract: SliceContract) -> list[dict[str, Any]]:
    """Why `enhance` would refuse a scan (1 mm) whatever its quality, as reasons; or none."""
    try:
        place(fine, contract)
    except BadInput as error:
        return [{"name": "input", "level": "hold", "text": f"not to be enhanced: {error}"}]
    return []


def line(record: dict[str, Any]) -> str:
    """What became of a scan, for people."""
    name = record["source"]["path"]
    if "error" in record:
        return f"{name}: error: {record['error']['message']}"
    contrast = record["contrast"]
    reasons = "".join(f"\n  {r['level']}: {r['text']}" for r in record["reasons"])
    return f"{name}: {record['verdict']} ({contrast['name']}, {contrast['rule']}){reasons}"


def exit_code(records: list[dict[str, Any]]) -> int:
    """5 where a bundle refused a scan, else 3 where one is unreadable, else 4 where one is held."""
    if codes := {record["error"]["exit_code"] for record in records if "error" in record}:
        return 5 if 5 in codes else 3
    return 4 if any(record["verdict"] == "hold" for record in records) else 0
