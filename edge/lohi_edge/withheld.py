"""A result that the quality check held back: its receipt alone, under a name that no image has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lohi_edge import delivery, finished, receipt, unfinished
from lohi_edge.errors import Held, UsageError
from lohi_edge.files import atomic_write, is_file, make_directory

WHY_NONE = "No enhanced image was delivered: the quality check held it back"


def held(
    record: dict[str, Any],
    image: Path | None,
    scan: Any,
    name: str,
    acquired: dict[str, Any] | None,
) -> Held:
    """What to raise instead of delivering an image, whose receipt is written all the same.

    Args:
        image: where it would have been written; None where nothing is to be written.
        scan, acquired: as for `write`.
        name: what to call the scan.

    Raises:
        DiskError: the receipt cannot be written.
    """
    why = "; ".join(r["text"] for r in record["reasons"] if r["level"] == "hold")
    words = f"{name or 'volume'}: held: {why}"
    if image is None:
        return Held(words, record)
    beside = delivery.withheld_path(image)
    write(beside, record, scan, acquired)
    words += f"; receipt: {beside}"
    if image.exists():  # judged otherwise before, and nothing is deleted unasked
        words += f"; an earlier result still stands there: remove {image} and its receipt"
    return Held(words, record, beside)


def write(beside: Path, record: dict[str, Any], scan: Any, acquired: dict[str, Any] | None) -> None:
    """Write the receipt of a result that is held back, over an earlier one of the same name.

    Args:
        beside: `delivery.withheld_path` of the image that is not delivered.
        scan: what it was made from; of a file the receipt names the place.
        acquired: the scan's own sidecar.

    Raises:
        DiskError: the earlier one, if any, still stands.
    """
    make_directory(beside.parent)
    unfinished.clear(beside)
    if isinstance(scan, Path):
        record["source"]["path"] = receipt.shown(scan, beside.parent)
    text = json.dumps(receipt.sidecar(record, acquired), indent=2, allow_nan=False)
    with atomic_write(beside) as file:
        file.write(text.encode() + b"\n")


def refuse_other(image: Path, record: dict[str, Any]) -> None:
    """Raises UsageError where the receipt of another scan, held back, would be replaced."""
    beside = delivery.withheld_path(image)
    if not is_file(beside):
        return
    found = finished.read_receipt(beside)
    if found is None or any(
        found["source"][key] != record["source"][key] for key in ("sha256", "affine")
    ):
        raise UsageError(
            f"{beside}: the receipt of another scan, whose result was held back, is there already; "
            "remove it, choose another folder with -o, or replace it with --overwrite"
        )
