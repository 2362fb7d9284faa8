"""Where a receipt's reasons point to, and the contact sheet's rows that show it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lohi_edge.picture import MARK, Row, Voxel
from lohi_edge.volume import Volume

APART_MM = 12.0  # nearer ones are one spot
MAX_MM = 1e4  # from a scanner's centre


def sheet_rows(record: dict[str, Any], before: Volume, after: Volume | None) -> list[Row]:
    """Scan and result, on one 1 mm grid, in the middle and where a reason says to compare them.

    `after` is None where the result was held back: then the scan alone.
    """
    if after is None:
        return [Row("the scan: 64 mT", before)]
    rows = [Row("before: 64 mT", before), Row(f"after: {MARK}", after)]
    for at in places(record, before):
        rows.append(Row("before: 64 mT; compare the spot in the ring", before, at))
        rows.append(Row(f"after: {MARK}", after, at))
    return rows


def places(record: dict[str, Any], grid: Volume) -> list[Voxel]:
    """Voxels of `grid` that the reasons of a receipt are about; of several within APART_MM one.

    A receipt may have been edited: what is no place inside the grid is left out.
    """
    found: list[Voxel] = []
    for reason in record.get("reasons", []):
        at = reason.get("at_mm") if isinstance(reason, dict) else None
        if not isinstance(at, list) or len(at) != 3:
            continue
        if not all(type(mm) in (int, float) and abs(mm) < MAX_MM for mm in at):
            continue
        x, y, z = np.rint(np.linalg.inv(grid.affine) @ [*at, 1])[:3].astype(int).tolist()
        inside = all(0 <= i < n for i, n in zip((x, y, z), grid.shape, strict=True))
        if inside and all(math.dist((x, y, z), other) > APART_MM for other in found):
            found.append((x, y, z))
    return found
