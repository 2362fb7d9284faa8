"""Scans that are there under two subjects, found by their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes, sha256
from lohi_export.pairs.matching import Pair


def twins(pairs: Iterable[Pair]) -> list[str]:
    """Every scan that is another subject's as well: one of the two might train and one test.

    Files that cannot be read are left to whoever needs them.
    """
    owners: dict[str, Pair] = {}
    found = {}
    for pair in pairs:
        for path in (pair.low, pair.high):
            try:
                content = sha256(read_bytes(path, nifti.MAX_FILE_BYTES))
            except BadInput:
                continue
            owner = owners.setdefault(content, pair)
            if owner.subject != pair.subject:
                found[path] = (
                    f"{path}: the same bytes as a scan of sub-{owner.subject}, remove it from one; "
                    "else a subject may be in two parts"
                )
    return list(found.values())
