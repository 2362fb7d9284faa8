"""Results that are there already: their receipts, and whether one would only be repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lohi_edge import delivery, nifti, receipt
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory, is_file, read_bytes
from lohi_edge.nifti_write import Grid
from lohi_edge.quality.verdict import PARTS, limits_for

MAX_RECEIPT = 4 << 20
MAX_NUMBER = 1e100  # of which squares and sums are numbers still; no measure comes near it

_NONE = type(None)
_RECEIPT = {
    "schema": int,
    "source": {"sha256": str | _NONE, "affine": list},
    "result": dict | _NONE,
    "bundle": {"sha256": str},
    "onnx": {"file": str, "sha256": str},
    "contrast": {"name": str},
    "runtime": {"name": str},
    "precision": str,
    "metrics": {"scan": dict, "result": dict},
    "verdict": str | _NONE,
    "reasons": list,
}
_RESULT = {"grid": str, "sha256": str}
_OPTIONAL = ("scan", "result", "verdict", "reasons")  # where the quality was not assessed


def existing(
    image: Path,
    record: dict[str, Any],
    grid: Grid,
    mark: bool = False,
    uncertainty: bool = False,
    volumes: bool = False,
) -> dict[str, Any] | None:
    """The receipt of a finished result that `record` would only repeat; None when there is none.

    Raises:
        UsageError: a finished result of another scan, model or grid is in the way, or one without
            the uncertainty or volumes that are asked for.
        BadInput: a later version of this software made what is in the way.
    """
    beside = delivery.receipt_path(image)
    if not os.path.lexists(image) or (not is_file(beside) and _ours(image)):
        return None
    found = read_receipt(beside)
    same = (
        found is not None
        and found["result"] is not None
        and all(found[key] == record[key] for key in ("bundle", "onnx", "precision"))
        and found["contrast"]["name"] == record["contrast"]["name"]
        and found["source"]["affine"] == record["source"]["affine"]
    )
    if (
        found is not None
        and same
        and None is not found["source"]["sha256"] == record["source"]["sha256"]
        and found["result"]["grid"] == grid
        and found["result"].get("marked", False) == mark
        and (not uncertainty or delivery.has_uncertainty(image, found))
        and ("volumes" in found["metrics"] or not volumes)
        and found["result"]["sha256"] == delivery.digest(image)
    ):
        return found
    raise UsageError(
        f"{image}: another result is there already; remove it, choose another folder with -o, "
        "or replace it with --overwrite"
    )


def refuse_other_limits(
    path: Path,
    found: dict[str, Any],
    metrics: Mapping[str, Any],
    limits: Path | Mapping[str, Any],
) -> None:
    """Raises UsageError where a finished result was judged by other limits than these."""
    wanted = limits_for(found["contrast"]["name"], metrics, limits)
    for part in PARTS:
        for name, entry in found["metrics"].get(part, {}).items():
            if isinstance(entry, dict) and entry.get("limits", {}) != wanted[part].get(name, {}):
                raise UsageError(
                    f"{path}: this result was judged by other limits of {name} than those "
                    "given; judge it anew with --overwrite"
                )


def find_receipt(path: Path) -> Path:
    """Where the receipt of a result is: itself, beside the image, or alone in a folder.

    Args:
        path: a receipt, a result, or a folder that holds one result, as the daemon makes them.

    Raises:
        BadInput: a folder without a result or with several, says which file to name; or as
            `read_receipt`.
    """
    beside = path if path.suffix == ".json" else delivery.receipt_path(path)
    if is_file(beside) or not is_directory(path):
        return beside
    found = [file.name for file in sorted(path.glob("*.json")) if read_receipt(file)]
    if len(found) == 1:
        return path / found[0]
    got = f"found {', '.join(found)}: name one" if found else "found none: name its receipt (.json)"
    raise BadInput(f"{path}: expected a folder with one result, {got}")


def require_receipt(path: Path) -> dict[str, Any]:
    """A receipt from its file.

    Raises:
        BadInput: as `read_receipt`, or there is none of ours.
    """
    found = read_receipt(path)
    if found is None:
        got = "another file, or a receipt that was edited" if is_file(path) else "none there"
        raise BadInput(f"{path}: expected a receipt (the .json beside a result), got {got}")
    return found


def read_receipt(path: Path, root: Path | None = None) -> dict[str, Any] | None:
    """A receipt from its file, or None where the file holds none of ours.

    People edit receipts: what is there is of the types that `_RECEIPT` names, every number is
    finite and at most MAX_NUMBER, every text can be shown, and the result is a name beside the
    receipt.

    Args:
        root: the daemon's outbox: the result of a scan that repeats another may lie elsewhere in
            it. Without it such a receipt is none, as that result has one of its own.

    Raises:
        BadInput: a later version of this software wrote it.
    """
    found: Any = read_sidecar(path).get("LohiEdge")
    schema = found.get("schema") if isinstance(found, dict) else None
    if type(schema) is not int or schema < 1:
        return None
    if schema > receipt.SCHEMA:
        raise BadInput(
            f"{path}: expected a receipt of schema at most {receipt.SCHEMA}, got {schema}: "
            "update lohi-edge"
        )
    known = has(found, _RECEIPT) and _tells_of_result(found, path.parent, root)
    return found if known else None


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON file that holds a receipt; empty where there is none that can be one."""
    try:
        text = read_bytes(path, MAX_RECEIPT)
        found = json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_no_number)
        # JSON can spell halves of characters. Those that stand for bytes of names are ours.
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError, BadInput):
        return {}
    return found if isinstance(found, dict) else {}


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _float(word: str) -> float:
    """A number of JSON: `1e999` would be read as infinity, which is none and cannot be written."""
    value = float(word)
    if not abs(value) <= MAX_NUMBER:
        raise ValueError(f"{word} is out of range")
    return value


def _int(word: str) -> int:
    _float(word)  # JSON's whole numbers have no end, and what counts with them has
    return int(word)


def _tells_of_result(record: dict[str, Any], folder: Path, root: Path | None) -> bool:
    """Whether a receipt says where its result is, or that the quality check held it back."""
    if receipt.is_withheld(record):
        return True
    result: Any = record.get("result")
    watch = record.get("watch")
    if not has(result, _RESULT) or not _names_file(result.get("sheet", {})):
        return False
    if root and isinstance(watch, dict) and "repeats" in watch:
        return _names_within(result.get("path"), folder, root)
    return _names_file(result)


def _names_file(entry: Any) -> bool:
    """Whether a file that a receipt tells of lies beside it: a plain name, where it has one."""
    name = entry.get("path") if isinstance(entry, dict) else ""
    return name is None or (
        isinstance(name, str)
        and name == Path(name).name != ""
        and name != ".."
        and "\0" not in name
    )


def _names_within(name: Any, folder: Path, root: Path) -> bool:
    """Whether a path, as seen from a folder in `root`, is that of something in `root`."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return Path(root).absolute() in Path(os.path.normpath(folder.absolute() / name)).parents


def has(found: Any, wanted: Any) -> bool:
    """Whether a value is of a type, or a dict with values of the types that a dict names."""
    if not isinstance(wanted, dict):
        return isinstance(found, wanted)
    return isinstance(found, dict) and all(
        has(found[key], kind) if key in found else key in _OPTIONAL for key, kind in wanted.items()
    )


def _ours(image: Path) -> bool:
    """Whether an image without a receipt is a result of ours that was cut off."""
    if image.is_dir():
        return True  # dicom.write replaces only what it recognises
    try:
        return nifti.is_synthetic(nifti.read(image).origin.header)  # type: ignore[union-attr]
    except BadInput:
        return False
