"""Is a paired data set fit to train on? Everything that is wrong with it, file by file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.head import find_head
from lohi_edge.volume import Volume, isotropic_grid
from lohi_export.config import SPLITS
from lohi_export.dataset import MAX_MISMATCH_MM
from lohi_export.pairs.alignment import doubt
from lohi_export.pairs.linear import misalignment
from lohi_export.pairs.looks import other_contrast
from lohi_export.pairs.matching import Pair, survey
from lohi_export.pairs.scans import Finding, Override, Scan


@dataclass(frozen=True)
class Row:
    """One pair in the table.

    Attributes:
        low, high: relative to the data set.
        grids: "agree", "differ", or "" where a scan cannot be read.
        mm, degrees: estimated misalignment; None where grids differ.
    """

    pair: str
    contrast: str
    low: str
    high: str
    grids: str
    mm: float | None
    degrees: float | None


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        subjects: contrast -> subjects with a pair.
        usable: nothing grave was found.
    """

    rows: list[Row]
    findings: list[Finding]
    subjects: dict[str, int]

    @property
    def usable(self) -> bool:
        return not any(finding.grave for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "usable": self.usable}


def check(
    root: Path, override: Override, raw: bool, advance: Callable[[int], None] = lambda total: None
) -> Report:
    """Look at every scan of a data set.

    Args:
        raw: the data set is yet to be registered, so grids may differ.
        advance: called with the number of pairs, once a pair.

    Raises:
        BadInput: `root` is no folder.
    """
    found = survey(root, override=override)
    findings, rows = list(found.findings), []
    scans = {scan.path: scan for scan in found.scans}
    seen: dict[str, str] = {}
    volumes_of = _Reader(seen, findings)
    for pair in found.pairs:
        low, high = (volumes_of(scans[path]) for path in (pair.low, pair.high))
        row, problems = _look(pair, scans, low, high, raw)
        rows.append(row)
        findings += problems
        advance(len(found.pairs))
    subjects: dict[str, set[str]] = defaultdict(set)
    for pair in found.pairs:
        subjects[pair.contrast].add(pair.subject)
    findings += _too_few(subjects)
    findings.sort(key=lambda finding: (finding.where, finding.kind))
    return Report(rows, findings, {name: len(of) for name, of in sorted(subjects.items())})


class _Reader:
    """Reads scans, and notes those that cannot be read or were seen under another name."""

    def __init__(self, seen: dict[str, str], findings: list[Finding]) -> None:
        self._seen, self._findings = seen, findings
        self._told: set[str] = set()

    def __call__(self, scan: Scan) -> Volume | None:
        """The scan with a head in it, or None."""
        try:
            volume = nifti.read(scan.path)
            find_head(volume.isotropic().data)
        except BadInput as error:
            self._tell(Finding(scan.where, "unreadable", str(error).removeprefix(f"{scan.path}: ")))
            return None
        assert volume.origin
        assert volume.origin.sha256
        twin = self._seen.setdefault(volume.origin.sha256, scan.where)
        if twin != scan.where:
            text = f"the same bytes as {twin}; remove one, or a subject may be in two parts"
            self._tell(Finding(scan.where, "duplicate", text))
        return volume

    def _tell(self, finding: Finding) -> None:
        """Once a file: a 3 T scan may be the partner of several."""
        if finding.where not in self._told:
            self._told.add(finding.where)
            self._findings.append(finding)


def _look(
    pair: Pair, scans: dict[Path, Scan], low: Volume | None, high: Volume | None, raw: bool
) -> tuple[Row, list[Finding]]:
    where, other = scans[pair.low].where, scans[pair.high].where
    findings: list[Finding] = []
    grids, mm, degrees = "", None, None
    if low:
        findings += _other_contrast(pair, where, low)
    if low and high:
        shape, affine = isotropic_grid(low.shape, low.affine)
        agree = shape == high.shape and np.abs(affine - high.affine).max() <= MAX_MISMATCH_MM
        grids = "agree" if agree else "differ"
        if not agree and not raw:
            text = (
                f"expected the grid {shape} of the 64 mT scan at 1 mm, got {high.shape}"
                f"{' elsewhere' * (shape == high.shape)}; run `lohi-export register`"
            )
            findings.append(Finding(other, "grid", text))
        if agree:
            estimate = misalignment(low, high)
            mm, degrees = round(estimate.mm, 2), round(estimate.degrees, 2)
            if words := doubt(estimate):
                findings.append(Finding(other, "alignment", words, grave=False))
    return Row(pair.name, pair.contrast, where, other, grids, mm, degrees), findings


def _other_contrast(pair: Pair, where: str, low: Volume) -> list[Finding]:
    """A 64 mT scan that clearly looks like another contrast than its name says."""
    seen = other_contrast(low, pair.contrast)
    return [Finding(where, "contrast", f"looks like {seen}; look at it", False)] if seen else []


def _too_few(subjects: dict[str, set[str]]) -> list[Finding]:
    """Contrasts that cannot be split into training, validation and test subjects."""
    if not subjects:
        return [Finding(".", "subjects", "expected pairs of 64 mT and 3 T scans, found none")]
    return [
        Finding(
            ".",
            "subjects",
            f"expected {name} pairs of at least {len(SPLITS)} subjects ({', '.join(SPLITS)}), got "
            f"{len(of)}: {', '.join(sorted(of))}",
        )
        for name, of in sorted(subjects.items())
        if len(of) < len(SPLITS)
    ]
