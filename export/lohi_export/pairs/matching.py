"""Which 3 T scan belongs to which 64 mT scan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lohi_edge import contrast
from lohi_edge.bundle import CONTRASTS
from lohi_edge.nifti import stem
from lohi_export.pairs.scans import NAMES, Finding, Override, Scan, find_scans


@dataclass(frozen=True)
class Pair:
    """Two scans of one subject: `low` at 64 mT, `high` at 3 T.

    Attributes:
        name: of the pair, unique in its data set and contrast: the 64 mT scan's entities, less a
            session that only says 64 mT, unless another scan is called so.
        simulated: whether the metadata of both say so.
    """

    name: str
    subject: str
    contrast: str
    low: Path
    high: Path
    simulated: bool = False


@dataclass(frozen=True)
class Survey:
    """A data set as its names and metadata describe it; no voxel was read.

    Attributes:
        pairs: by subject and name.
        findings: what is wrong, and which scans are left out.
    """

    root: Path
    scans: list[Scan]
    pairs: list[Pair]
    findings: list[Finding]

    @property
    def grave(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.grave]


def survey(
    root: Path, contrasts: Sequence[str] = CONTRASTS, override: Override | None = None
) -> Survey:
    """Pair up the scans of a data set.

    Scans of one subject and contrast are partners when their `ce` entities agree and their `run`
    entities, where both have one, too. A session that holds both fields is matched within itself.
    Of several candidates the one that shares most entities is taken. A 3 T scan whose
    SpatialReference names a 64 mT scan belongs to that one alone.

    Raises:
        BadInput: `root` is no folder.
    """
    scans, findings = find_scans(root, override, tuple(contrasts))
    findings += _twice(scans)
    groups: dict[tuple[str, str], list[Scan]] = defaultdict(list)
    for scan in scans:
        findings += _contradiction(scan)
        if scan.field is None:
            findings.append(Finding(scan.where, "field", f"left out: {scan.rule}", grave=False))
        elif _scanned_again(scan):
            text = "left out: `simulate --scans` made it on a grid of its own, without a 3 T scan"
            findings.append(Finding(scan.where, "grid", text, grave=False))
        else:
            groups[scan.subject, scan.contrast].append(scan)
    pairs: list[Pair] = []
    for group in groups.values():
        fresh, problems = _match(group)
        pairs += fresh
        findings += problems
    pairs.sort(key=lambda pair: (pair.subject, pair.name, pair.contrast))
    return Survey(root, scans, pairs, sorted(findings, key=lambda f: (f.where, f.kind)))


def _contradiction(scan: Scan) -> list[Finding]:
    """A sidecar that describes another contrast than the name."""
    said, rule = contrast.decide(None, "", scan.metadata)
    if said == scan.contrast or rule.startswith("nothing"):
        return []
    text = f"named {scan.contrast}, but {rule} says {said}; rename or remove it"
    return [Finding(scan.where, "contrast", text)]


def _match(group: list[Scan]) -> tuple[list[Pair], list[Finding]]:
    """Pairs and findings of one subject's scans of one contrast."""
    lows = [s for s in group if s.field == "low"]
    highs = [s for s in group if s.field == "high"]
    sessions = {s.entities.get("ses") for s in lows} & {s.entities.get("ses") for s in highs}
    pairs, findings, taken = [], [], set()
    for low in lows:
        chosen = _partners(low, highs, bool(sessions))
        taken |= {scan.where for scan in chosen}
        if len(chosen) == 1:
            pairs.append(_pair(low, chosen[0], lows))
        elif chosen:
            names = ", ".join(scan.path.name for scan in chosen)
            text = (
                f"expected one 3 T partner, got {len(chosen)} alike: {names}; "
                "choose with --high, or tell them apart with run-"
            )
            findings.append(Finding(low.where, "duplicate", text))
        else:
            findings.append(_alone(low, "3 T", highs))
    findings += [_alone(high, "64 mT", lows) for high in highs if high.where not in taken]
    return pairs, findings


def _partners(low: Scan, highs: Iterable[Scan], within_session: bool) -> list[Scan]:
    """The 3 T scans that fit a 64 mT scan best; several where they fit equally well."""
    free = []
    for high in highs:
        reference = _reference(high)
        if reference == low.where:
            return [high]
        if reference is None and _compatible(low, high, within_session):
            free.append(high)
    shared = [len(low.entities.items() & high.entities.items()) for high in free]
    return [high for high, n in zip(free, shared, strict=True) if n == max(shared)]


def _scanned_again(scan: Scan) -> bool:
    """Whether a simulated head was posed for another scan, and scanned again for this one."""
    simulation = scan.metadata.get("Simulation")
    return isinstance(simulation, dict) and "Scan" in simulation


def _compatible(low: Scan, high: Scan, within_session: bool) -> bool:
    runs = {scan.entities["run"] for scan in (low, high) if "run" in scan.entities}
    alike = ("ce", "ses") if within_session else ("ce",)
    return len(runs) < 2 and all(low.entities.get(k) == high.entities.get(k) for k in alike)


def _reference(scan: Scan) -> str | None:
    """The scan of this data set on whose grid another lies, by its SpatialReference."""
    reference = scan.metadata.get("SpatialReference")
    if not isinstance(reference, str) or not reference.startswith("bids::"):
        return None
    return unquote(reference.removeprefix("bids::"))


def _pair(low: Scan, high: Scan, lows: Iterable[Scan]) -> Pair:
    plain = {k: v for k, v in low.entities.items() if (k, v) != ("ses", "64mT")}
    taken = any(plain == other.entities for other in lows if other is not low)
    name = "_".join(f"{k}-{v}" for k, v in (low.entities if taken else plain).items())
    simulated = all(scan.metadata.get("Simulated") is True for scan in (low, high))
    return Pair(name, low.subject, low.contrast, low.path, high.path, simulated)


def _alone(scan: Scan, wanted: str, others: list[Scan]) -> Finding:
    assert scan.field
    seen = f"; {len(others)} of another session or run" if others else ""
    text = f"has no partner: left out, no {wanted} {scan.contrast} of this subject fits it{seen}"
    return Finding(scan.where, "partner", f"{text} (it is {NAMES[scan.field]}: {scan.rule})", False)


def _twice(scans: list[Scan]) -> list[Finding]:
    """Images that are there as .nii and as .nii.gz."""
    stems: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        stems[str(scan.path.with_name(stem(scan.path)))].append(scan)
    return [
        Finding(same[1].where, "duplicate", f"the same name as {same[0].path.name}; remove one")
        for same in stems.values()
        if len(same) > 1
    ]
