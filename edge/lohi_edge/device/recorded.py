"""The bundle that a receipt names, wherever it lies on this device, and whether it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge import bundle as bundles
from lohi_edge.bundle import Bundle, Manifest
from lohi_edge.device.library import Library
from lohi_edge.errors import BundleError
from lohi_edge.files import is_file
from lohi_edge.settings import load

NOT_HERE = "not on this device"


def check(record: dict[str, Any], named: Path | None = None) -> dict[str, str]:
    """Of `bundle` and `onnx` of a receipt, each "ok", "changed" or NOT_HERE.

    "changed" is what claims to be the recorded bundle and is another. That another one is in use
    now says nothing of an earlier result.

    Args:
        named: where the bundle lies, as a person says; "missing" where none is there.

    Raises:
        UsageError: the settings, which may name a bundle, cannot be read.
    """
    bundle, state = _named(named, record["bundle"]) if named else look_up(record["bundle"])
    if bundle is None:
        return {"bundle": state, "onnx": state}
    onnx = bundle.manifest.files.get(record["onnx"]["file"])
    return {"bundle": state, "onnx": "ok" if onnx == record["onnx"]["sha256"] else "changed"}


def look_up(wanted: dict[str, Any]) -> tuple[Bundle | None, str]:
    """The recorded bundle among those of this device, whole, and "ok"; else None and why.

    Args:
        wanted: `bundle` of a receipt.

    Raises:
        UsageError: the settings, which may name a bundle, cannot be read.
    """
    state = NOT_HERE
    for path in _places():
        if not _claims(path, wanted):
            continue
        try:
            bundle = bundles.load(path)
        except BundleError:
            state = "changed"
            continue
        if bundle.sha256 == wanted["sha256"]:
            return bundle, "ok"
        state = "changed"
    return None, state


def _places() -> list[Path]:
    """Bundles of this device: installed ones, in use or not, the daemon's own, those that ship."""
    configured = load().enhance.bundle
    own = [Path(configured)] if configured else []
    return [*Library().folders(), *own, *bundles.all_shipped()]


def _named(path: Path, wanted: dict[str, Any]) -> tuple[Bundle | None, str]:
    try:
        bundle = bundles.load(path)
    except BundleError:
        return None, "changed" if _claims(path, wanted) else "missing"
    return bundle, "ok" if bundle.sha256 == wanted["sha256"] else "changed"


def _manifest(path: Path) -> tuple[Manifest, str]:
    if not is_file(path):
        return bundles.read_manifest(path)
    bundle = bundles.load(path)  # a .zip
    return bundle.manifest, bundle.sha256


def _claims(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder says that it holds the wanted bundle, be it by its name as installed."""
    if path.name.endswith(f"-{wanted['sha256'][:8]}"):
        return True
    try:
        manifest, digest = _manifest(path)
    except BundleError:
        return False
    identity = {"name": manifest.name, "version": manifest.version, "serial": manifest.serial}
    return digest == wanted["sha256"] or identity.items() <= wanted.items()
