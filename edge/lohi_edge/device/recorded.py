"""The bundle that a receipt names, wherever it lies on this device, and whether it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from lohi_edge import bundle as bundles
from lohi_edge.bundle import Bundle, Manifest
from lohi_edge.device.library import Library
from lohi_edge.errors import BundleError
from lohi_edge.files import is_file
from lohi_edge.settings import load

NOT_HERE = "not on this device"


class Found(NamedTuple):
    """What became of a recorded bundle.

    Attributes:
        bundle: the recorded one, whole; None where it was not found so.
        state: "ok", "changed", "missing" or NOT_HERE.
        note: of "changed", in words, whether it was damaged, edited, or is another build.
    """

    bundle: Bundle | None
    state: str
    note: str | None = None


def check(record: dict[str, Any], named: Path | None = None) -> tuple[dict[str, str], str | None]:
    """Of `bundle` and `onnx` of a receipt, each "ok", "changed" or NOT_HERE; and `Found.note`.

    "changed" is what claims to be the recorded bundle and is another: damaged or edited since, or
    another build under the same name, version and serial, which no two builds should have. That
    another one is in use now says nothing of an earlier result.

    Args:
        named: where the bundle lies, as a person says; "missing" where none is there.

    Raises:
        UsageError: the settings, which may name a bundle, cannot be read.
    """
    found = _look_at(named, record["bundle"]) if named else look_up(record["bundle"])
    if found.bundle is None:
        state = "missing" if named and found.state == NOT_HERE else found.state
        return {"bundle": state, "onnx": state}, found.note
    onnx = found.bundle.manifest.files.get(record["onnx"]["file"])
    same = "ok" if onnx == record["onnx"]["sha256"] else "changed"
    return {"bundle": found.state, "onnx": same}, found.note


def look_up(wanted: dict[str, Any]) -> Found:
    """The recorded bundle among those of this device, where it is whole.

    Args:
        wanted: `bundle` of a receipt.

    Raises:
        UsageError: the settings, which may name a bundle, cannot be read.
    """
    best = Found(None, NOT_HERE)
    for path in _places():
        if not _claims(path, wanted):
            continue
        found = _look_at(path, wanted)
        if found.state == "ok":
            return found
        best = Found(None, found.state, found.note)
    return best


def _look_at(path: Path, wanted: dict[str, Any]) -> Found:
    """The bundle at a path as that which is wanted; NOT_HERE where neither it nor a claim is."""
    try:
        bundle = bundles.load(path)
    except BundleError as error:
        if not _claims(path, wanted):
            return Found(None, NOT_HERE)
        return Found(None, "changed", f"the bundle was damaged or edited since: {error}")
    if bundle.sha256 == wanted["sha256"]:
        return Found(bundle, "ok")
    return Found(bundle, "changed", _other(path, bundle, wanted))


def _other(path: Path, bundle: Bundle, wanted: dict[str, Any]) -> str:
    """What a bundle is that is whole and not the wanted one."""
    identity = _identity(bundle.manifest)
    label = "{name} {version} (serial {serial})".format_map(identity)
    digests = f"its sha256 is {bundle.sha256}, that of the recorded one {wanted['sha256']}"
    if _installed_as(path, wanted):
        return f"{path} was installed as the recorded bundle and was edited since: {digests}"
    if identity.items() <= wanted.items():
        return f"another build of {label} is at {path}: {digests}"
    return f"{path} is another bundle, {label}: {digests}"


def _places() -> list[Path]:
    """Bundles of this device: installed ones, in use or not, the daemon's own, those that ship."""
    configured = load().enhance.bundle
    own = [Path(configured)] if configured else []
    return [*Library().folders(), *own, *bundles.all_shipped()]


def _manifest(path: Path) -> tuple[Manifest, str]:
    if not is_file(path):
        return bundles.read_manifest(path)
    bundle = bundles.load(path)  # a .zip
    return bundle.manifest, bundle.sha256


def _claims(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder says that it holds the wanted bundle, be it by its name as installed."""
    if _installed_as(path, wanted):
        return True
    try:
        manifest, digest = _manifest(path)
    except BundleError:
        return False
    return digest == wanted["sha256"] or _identity(manifest).items() <= wanted.items()


def _installed_as(path: Path, wanted: dict[str, Any]) -> bool:
    return path.name.endswith(f"-{wanted['sha256'][:8]}")


def _identity(manifest: Manifest) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "serial": manifest.serial}
