"""Whether pairs that share a grid also show the head in the same place."""

from __future__ import annotations

import json
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.files import atomic_write
from lohi_export.alone import together
from lohi_export.dataset import UNFINISHED
from lohi_export.pairs.linear import Misalignment, misalignment
from lohi_export.pairs.matching import Pair

# Aligned simulated pairs are estimated at up to 1.3 mm and 0.5 degrees.
WARN_MM, WARN_DEGREES = 3.0, 2.0
ESTIMATE = 1  # raised whenever the same scans give another estimate


def doubt(found: Misalignment) -> str | None:
    """What to say of an estimate; nothing where the pair seems aligned."""
    if found.mm <= WARN_MM and found.degrees <= WARN_DEGREES:
        return None
    return (
        f"the heads seem to lie {found.mm:.1f} mm and {found.degrees:.1f} degrees apart although "
        "the grids agree; look at the pair, or run `lohi-export register` on the raw data"
    )


def warning(pair: Pair, digest: str, cache: Path) -> str | None:
    """`doubt` of a pair of one grid, estimated once and kept in `cache`.

    Simulated pairs are aligned by construction and not looked at.

    Args:
        digest: of the two files.

    Raises:
        BadInput: a scan that cannot be read or shows no head.
    """
    if pair.simulated:
        return None
    path = cache / f"{digest}-alignment-v{ESTIMATE}.json"
    try:
        kept = json.loads(path.read_text())
        found = Misalignment(float(kept["mm"]), float(kept["degrees"]))
    except (OSError, ValueError, KeyError, TypeError):
        found = misalignment(nifti.read(pair.low), nifti.read(pair.high))
        with together(cache, UNFINISHED), atomic_write(path) as file:
            file.write(json.dumps(vars(found)).encode())
    words = doubt(found)
    return f"warning: {pair.name}: {words}" if words else None
