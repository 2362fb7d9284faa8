"""Volumes of 33 regions: how those measured on an image agree with those of the 3 T image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lohi_edge.quality import regions
from lohi_edge.quality.regions import REGIONS
from lohi_export.study.bench import LABELS, TRUTH
from lohi_export.study.statistics import Agreement, agreement
from lohi_export.study.study import Outcome, Scan
from lohi_export.study.tables import Row

VENTRICLES = "all ventricles"  # lateral and inferior lateral of both sides, third and fourth
VENTRICULAR = tuple(REGIONS[label] for label in regions.VENTRICLES)
ML = "ml"
# (system, region) -> (subject, fold, scan) -> ml
Scans = dict[tuple[str, str], dict[tuple[str, int, str], float]]


@dataclass(frozen=True)
class Agreed:
    """Agreement of one system with the 3 T image in one region's volume, over heads."""

    system: str
    region: str
    agreement: Agreement


@dataclass(frozen=True)
class Overall:
    """One system over all regions.

    Attributes:
        mape: mean over regions of the mean absolute percentage error; None where none has one.
        worst: the region of the largest such error; None likewise.
        icc: median over regions of ICC(2,1).
        ventricles: agreement in the volume of all ventricles together.
    """

    system: str
    mape: float | None
    worst: str | None
    icc: float | None
    ventricles: Agreement


def volume_rows(outcome: Outcome) -> list[Row]:
    """Every region's volume (ml) on every scan and system, and that of all ventricles.

    Of the 3 T image also those of its truth labels, as the system LABELS: how far they are from
    what the segmenter finds there is the segmenter's own error.
    """
    return [
        Row(system, scan.fold, scan.subject, scan.name, region, ML, value)
        for scan in outcome.scans
        for system, volumes in _measured(scan).items()
        for region, value in _with_ventricles(volumes).items()
    ]


def failures(outcome: Outcome) -> list[tuple[str, str, str]]:
    """(scan, system, why) of every image that the segmenter could not measure."""
    return [
        (scan.name, system, result["why"])
        for scan in outcome.scans
        for system, result in scan.results.items()
        if "why" in result
    ]


def agreements(rows: Sequence[Row]) -> list[Agreed]:
    """Every system but the 3 T image, region by region, against the 3 T image."""
    scans = by_scan(rows)
    return [
        Agreed(system, region, agreement(*paired(scans, system, region)))
        for system, region in scans
        if system != TRUTH and paired(scans, system, region)[0]
    ]


def by_scan(rows: Iterable[Row]) -> Scans:
    """Volumes of each system and region, scan by scan."""
    found: Scans = {}
    for row in rows:
        scan = (row.subject, row.fold, row.scan)
        found.setdefault((row.system, row.region), {})[scan] = row.value
    return found


def paired(scans: Scans, system: str, region: str) -> tuple[list[float], list[float]]:
    """A region's volumes on the 3 T image and on a system's, means over each head's scans.

    Scans measured on both alone: those of one head differ, so that means of others do too.
    """
    truth, measured = scans.get((TRUTH, region), {}), scans[system, region]
    heads: dict[str, list[tuple[float, float]]] = {}
    for scan in truth.keys() & measured.keys():
        heads.setdefault(scan[0], []).append((truth[scan], measured[scan]))
    means = [np.mean(heads[subject], axis=0) for subject in sorted(heads)]
    return [float(m[0]) for m in means], [float(m[1]) for m in means]


def overall(found: Sequence[Agreed]) -> list[Overall]:
    """Each system over all regions; a region that is empty in some head has no percentage."""
    result = []
    for system in dict.fromkeys(one.system for one in found):
        of_system = {one.region: one.agreement for one in found if one.system == system}
        ventricles = of_system.pop(VENTRICLES)
        errors = {region: a.mape for region, a in of_system.items() if a.mape is not None}
        iccs = [a.icc for a in of_system.values() if a.icc is not None]
        result.append(
            Overall(
                system,
                float(np.mean(list(errors.values()))) if errors else None,
                max(errors, key=lambda region: errors[region]) if errors else None,
                float(np.median(iccs)) if iccs else None,
                ventricles,
            )
        )
    return result


def _measured(scan: Scan) -> dict[str, dict[str, float]]:
    """System -> region -> ml."""
    found = {system: result.get("volumes") for system, result in scan.results.items()}
    found[LABELS] = scan.results[TRUTH].get("labels")
    return {system: volumes for system, volumes in found.items() if volumes}


def _with_ventricles(volumes: dict[str, float]) -> dict[str, float]:
    return volumes | {VENTRICLES: sum(volumes[region] for region in VENTRICULAR)}
