"""How a result came about: the chain in its receipt, its hashes checked, and a second run of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lohi_edge import bundle as bundles
from lohi_edge import delivery, finished, nifti, receipt, signing, source
from lohi_edge.clock import Clock
from lohi_edge.device import recorded
from lohi_edge.errors import BadInput, BundleError, UsageError
from lohi_edge.files import is_directory, is_file, read_bytes, sha256
from lohi_edge.models import Models
from lohi_edge.nifti_write import Grid
from lohi_edge.pipeline import enhance
from lohi_edge.quality import rejudge
from lohi_edge.withheld import WHY_NONE


def receipt_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """The receipt of a result, of the folder that holds it, or itself, as (path, record).

    Raises:
        BadInput: there is none, or several in the folder.
    """
    beside = finished.find_receipt(path)
    return beside, finished.require_receipt(beside)


def explain(path: Path, bundle: Path | None = None, scan: Path | None = None) -> dict[str, Any]:
    """The chain from scan to result, each hash checked again: "ok", "changed" or "missing".

    So is the verdict, against the figures and limits that stand beside it.

    Of bundle and ONNX file also "not on this device", which says nothing against the result; where
    they are "changed", `bundle_note` says whether they were damaged, edited, or of another build.

    Args:
        bundle: where the bundle lies; None for wherever it is on this device.
        scan: where the scan lies, if not where the receipt says.
    """
    beside, record = receipt_of(path)
    folder = beside.parent
    result = record["result"]
    of_bundle, bundle_note = recorded.check(record, bundle)
    checks = {
        "source": _check_scan(folder, record["source"], scan),
        **({"result": _check_result(folder, result)} if result else {}),
        **of_bundle,
    }
    if result and isinstance(map_ := record.get("uncertainty"), dict):
        checks["uncertainty"] = _check_file(folder, map_)
    checks["verdict"] = rejudge.check(record)
    keys = ("contrast", "engine", "runtime", "precision", "fallback", "verdict", "reasons")
    return {
        "checks": checks,
        "source": record["source"].get("path"),
        **({"result": result.get("path")} if result else {"result": None, "note": WHY_NONE}),
        "bundle": record["bundle"],
        **({"bundle_note": bundle_note} if bundle_note else {}),
        "onnx": record["onnx"],
        **{key: record.get(key) for key in keys},
    }


def reproduce(path: Path, bundle: Path | None = None, scan: Path | None = None) -> dict[str, Any]:
    """Enhance the scan of a NIfTI result again and compare.

    Args:
        bundle: the model to run; None for the recorded one where it is on this device, else the
            one in use.
        scan: where it lies, if not where the receipt says.

    Returns:
        `identical` (voxel by voxel), `largest_difference` (0 to 1000), which of bundle, ONNX file,
        runtime and precision were the `same`, and a `note` where another model ran.

    Raises:
        BadInput: the scan or the result is gone, or changed since, the receipt says what no receipt
            does, or the result is a DICOM series or was held back.
    """
    beside, record = receipt_of(path)
    folder = beside.parent
    if receipt.is_withheld(record):
        raise BadInput(
            f"{beside}: expected the receipt of a result, got that of a scan whose result was held "
            "back: there is no image to compare with; `lohi-edge enhance --deliver-held` makes one"
        )
    if record["result"].get("format") == "dicom":
        raise BadInput(
            f"{beside}: expected the receipt of a NIfTI result, got that of a DICOM series; check "
            "it with `lohi-edge explain`, or enhance the scan anew with --format nifti"
        )
    _require_known(beside, "contrast.name", record["contrast"]["name"], bundles.CONTRASTS)
    _require_known(beside, "result.grid", record["result"]["grid"], get_args(Grid))
    _require_unchanged(beside, "scan", _check_scan(folder, record["source"], scan))
    _require_unchanged(beside, "result", _check_file(folder, record["result"]))
    models, prefer = _models(record, bundle), receipt.preferred(record)
    # Through a file as the first run did: what is stored is rounded.
    with tempfile.TemporaryDirectory(prefix="lohi-edge-reproduce-") as out:
        again = enhance(
            scan or folder / record["source"]["path"],
            out=out,
            bundle=models,
            prefer=prefer,
            contrast=record["contrast"]["name"],
            grid=record["result"]["grid"],
            format="nifti",
            deliver_held=True,
        )
        assert again.path is not None
        after = nifti.read(again.path, prefer=prefer).data
    before = nifti.read(folder / record["result"]["path"], prefer=prefer).data
    same_shape = before.shape == after.shape
    largest = float(np.abs(before - after).max()) if same_shape else None
    note = _other_model(record, again.receipt)
    return {
        "identical": largest == 0.0,
        "largest_difference": largest,
        "same": {
            key: _facts(again.receipt[key]) == _facts(record.get(key))
            for key in ("bundle", "onnx", "runtime", "precision")
        },
        **({"note": note} if note else {}),
    }


def _other_model(record: dict[str, Any], again: dict[str, Any]) -> str | None:
    """What to say where another bundle ran than the recorded one; None where it did not."""
    if again["bundle"]["sha256"] == record["bundle"]["sha256"]:
        return None
    made, ran = (
        " ".join(str(entry["bundle"].get(key)) for key in ("name", "version"))
        + f" (serial {entry['bundle'].get('serial')})"
        for entry in (record, again)
    )
    return (
        f"this result was made by bundle {made}, and {ran} ran instead: a difference says nothing "
        "about the result; name the recorded bundle with --bundle"
    )


def _facts(entry: Any) -> Any:
    """An entry of a receipt without its words on why, which tell of what else was on offer."""
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if key != "why"}


def _models(record: dict[str, Any], bundle: Path | None) -> Models:
    """The recorded model, or where it is not here the one in use or named.

    On the runtime and in the precision of the first run, or where these are not here, on others.

    Raises:
        BundleError: the recorded bundle is signed by nobody whom this device trusts.
    """
    screened = False
    if bundle is None and (found := recorded.look_up(record["bundle"]).bundle):
        signing.screen(found, allow_downgrade=True)  # going back for a comparison is no attack
        bundle, screened = found.path, True
    try:
        same = Models(
            bundle, None, record["runtime"]["name"], record["precision"], screened=screened
        )
        same.get(record["contrast"]["name"])
    except (BundleError, UsageError):
        return Models(bundle, screened=screened)
    return same


def _require_known(beside: Path, what: str, value: str, known: Sequence[str]) -> None:
    """Raises BadInput where a receipt holds what none of ours does: somebody edited it."""
    if value not in known:
        raise BadInput(
            f"{beside}: expected {what} to be one of {', '.join(known)}, got {value!r}: the "
            "receipt was changed since"
        )


def _require_unchanged(beside: Path, what: str, found: str) -> None:
    """Raises BadInput where a file was found "changed" or "missing"."""
    if found == "missing":
        advice = "; say where it lies with --scan" if what == "scan" else ""
        raise BadInput(f"{beside}: the {what} it speaks of is not where it says{advice}")
    if found == "changed":
        raise BadInput(f"{beside}: the {what} is another one, or was changed since")


def _check_scan(folder: Path, entry: dict[str, Any], scan: Path | None) -> str:
    if entry.get("kind") != "dicom":
        return _check_file(folder, {**entry, "path": str(scan.absolute())} if scan else entry)
    if scan is None and not isinstance(entry.get("path"), str):
        return "missing"
    scan = scan or folder / entry["path"]  # a folder, where the daemon moved the originals
    try:
        origin = source.read(source.resolve(scan), None, Clock()).origin
    except BadInput:
        return "changed" if is_file(scan) or is_directory(scan) else "missing"
    return "ok" if origin and origin.sha256 == entry.get("sha256") else "changed"


def _check_file(folder: Path, entry: dict[str, Any]) -> str:
    path = entry.get("path")
    if not isinstance(path, str):
        return "missing"
    try:
        found = sha256(read_bytes(folder / path, nifti.MAX_FILE_BYTES))
    except BadInput:
        return "missing"
    return "ok" if found == entry.get("sha256") else "changed"


def _check_result(folder: Path, entry: dict[str, Any]) -> str:
    image = folder / str(entry.get("path"))
    if entry.get("format") != "dicom" or not image.is_dir():
        return _check_file(folder, entry)
    return "ok" if delivery.digest(image) == entry.get("sha256") else "changed"
