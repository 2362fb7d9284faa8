"""Which volume a simulated pair was made of, as its sidecars tell."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.errors import UsageError
from lohi_edge.files import read_bytes, sha256
from lohi_export.pairs.plan import Job


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
            name, made_of = _stated(path)
            if made_of is not None and made_of != digest(job.source):
                raise UsageError(
                    f"expected the volume that {path.relative_to(job.out)} was made of, {name} of "
                    f"sha256 {made_of[:12]}, got {job.source} of {digest(job.source)[:12]}; rename "
                    "the file if this is another head, or name another folder with --out"
                )


def _digest(path: Path) -> str:
    return sha256(read_bytes(path, nifti.MAX_FILE_BYTES))


def _stated(sidecar: Path) -> tuple[str, str | None]:
    """Name and sha256 of the volume that a pair was made of; None where nobody says."""
    try:
        stated = json.loads(sidecar.read_bytes())["Simulation"]
        name, digest = stated["Volume"], stated["VolumeSHA256"]
    except (OSError, ValueError, KeyError, TypeError):
        return "", None
    return str(name), digest if isinstance(digest, str) else None
