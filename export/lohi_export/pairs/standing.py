"""What stands in a data set already, and that simulated pairs do not replace."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lohi_edge import nifti
from lohi_edge.errors import UsageError
from lohi_edge.files import read_bytes, sha256
from lohi_export.pairs.plan import Job


def refuse_other_scanner(jobs: Iterable[Job]) -> None:
    """Refuse a data set that another scanner scanned, or that every scan has another of.

    Raises:
        UsageError: names the first such pair and its scanner.
    """
    wanted = {(job.out, job.scanner) for job in jobs}
    for out, scanner in wanted:
        for path in sorted(out.glob("sub-*/ses-64mT/anat/*.json")):
            stated = _stated(path)
            if stated is not None and stated.get("Scanner") != scanner:
                own, found = (
                    "a scanner of its own for every scan" if n is None else f"scanner {n}"
                    for n in (scanner, stated.get("Scanner"))
                )
                raise UsageError(
                    f"expected {own} in {out}, got {found} of {path.relative_to(out)}; name "
                    "another folder with --out"
                )


def refuse_other_seed(jobs: Iterable[Job]) -> None:
    """Refuse to replace what is there by heads of another seed.

    Every contrast of a head and draw shows one anatomy and shares its segmentation, so those of
    other contrasts count.

    Raises:
        UsageError: names the first such pair and its seed.
    """
    for job in jobs:
        for path in sorted(job.sidecar("3T").parent.glob(job.any_contrast("3T"))):
            seed = _seed(path)
            if seed is not None and seed != job.seed:
                raise UsageError(
                    f"expected seed {job.seed} of {path.relative_to(job.out)}, got one of seed "
                    f"{seed}; repeat --seed {seed}, or name another folder with --out"
                )


def refuse_other_volume(jobs: Iterable[Job]) -> None:
    """Refuse to replace pairs of one volume by those of another whose subject is called the same.

    Pairs in another contrast may well be of another volume of that subject, and sidecars that do
    not tell are believed.

    Raises:
        UsageError: names the first such pair and both volumes.
        BadInput: a volume that cannot be read.
    """
    digest = lru_cache(maxsize=1)(_digest)  # the draws of a volume follow one another
    for job in jobs:
        for session in ("64mT", "3T"):
            path = job.sidecar(session)
            stated = _stated(path) or {}
            made_of = stated.get("VolumeSHA256")
            if isinstance(made_of, str) and made_of != digest(job.source):
                raise UsageError(
                    f"expected the volume that {path.relative_to(job.out)} was made of, "
                    f"{stated.get('Volume')} of sha256 {made_of[:12]}, got {job.source} of "
                    f"{digest(job.source)[:12]}; rename the file if this is another head, or "
                    "name another folder with --out"
                )


def _digest(path: Path) -> str:
    return sha256(read_bytes(path, nifti.MAX_FILE_BYTES))


def _seed(sidecar: Path) -> int | None:
    """What a pair was simulated with; None where nobody says."""
    seed = (_stated(sidecar) or {}).get("Seed")
    return seed if isinstance(seed, int) else None


def _stated(sidecar: Path) -> dict[str, Any] | None:
    """What a sidecar says of its simulation; None where it says nothing."""
    try:
        stated = json.loads(sidecar.read_text())["Simulation"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stated if isinstance(stated, dict) else None
