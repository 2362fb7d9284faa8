"""What the worker writes of one scan into its folder in staging: a result, or why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge import delivery, report, withheld
from lohi_edge.errors import DiskError, Held
from lohi_edge.files import disk_error
from lohi_edge.nifti_write import Grid
from lohi_edge.pipeline import Result, write
from lohi_edge.report_images import Images
from lohi_edge.volume import Volume
from lohi_edge.watch import faults
from lohi_edge.watch.names import size_of
from lohi_edge.watch.stamp import stamp_receipt

Facts = tuple[str, dict[str, Any], dict[str, float]]  # arguments of stamp_receipt


def result(
    computed: Result,
    named: Volume,
    out: Path,
    grid: Grid | None,
    mark: bool,
    facts: Facts,
    path: str,
) -> dict[str, Any]:
    """Write a result with its receipt and page; returns what the daemon wants to know of it.

    Args:
        computed: what `enhance` made of `named`, without writing it.
        out: the folder, which must be there.
        grid, mark: as of `enhance`.
        path: of the scan in the inbox, for faults.

    Raises:
        DiskError
    """
    _require(out)
    written = write(computed, named, out, grid, mark=mark)
    assert written.path
    beside = delivery.receipt_path(written.path)
    record = _stamped(beside, facts, path)
    report.pages(beside, record, Images(fine=written.before, result=written.after))
    faults.reach("after_write", path)
    return {
        "verdict": record["verdict"],
        "seconds": record["timings"]["total"],
        "bytes": sum(size_of(file) for file in out.iterdir() if file != beside),
    }


def held(error: Held, named: Volume, beside: Path, facts: Facts, path: str) -> None:
    """Write the receipt of a result that is held back, and its page, which shows the scan alone.

    Args:
        error: what `enhance` raised for `named`.
        beside: the receipt's file; its folder must be there.
        path: of the scan in the inbox, for faults.

    Raises:
        DiskError
    """
    _require(beside.parent)
    assert error.receipt
    withheld.write(beside, error.receipt, named, named.origin.sidecar if named.origin else None)
    record = _stamped(beside, facts, path)
    report.pages(beside, record, Images(fine=named.isotropic()))
    faults.reach("after_write", path)


def _require(out: Path) -> None:
    if not out.is_dir():  # unmounted while this was computed; writing would make it anew
        raise DiskError(f"{out}: expected the folder made for this result, it is gone")


def _stamped(beside: Path, facts: Facts, path: str) -> dict[str, Any]:
    try:
        faults.reach("worker_write", path)
    except OSError as error:
        raise disk_error(beside, error) from None
    return stamp_receipt(beside, *facts)
