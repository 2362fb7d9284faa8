"""Volumes of 33 regions: how those measured on an image agree with those of the 3 T image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lohi_export.study.bench import TRUTH
from lohi_export.study.statistics import Agreement, agreement
from lohi_export.study.study import Outcome
from lohi_export.study.tables import Heads, Row, by_head

VENTRICLES = "all ventricles"  # lateral and inferior lateral of both sides, third and fourth
VENTRICULAR = (
    "left lateral ventricle",
    "right lateral ventricle",
    "left inferior lateral ventricle",
    "right inferior lateral ventricle",
    "third ventricle",
    "fourth ventricle",
)
ML = "ml"


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
        mape: mean over regions of the mean absolute percentage error.
        worst: the region of the largest such error.
        icc: median over regions of ICC(2,1).
        ventricles: agreement in the volume of all ventricles together.
    """

    system: str
    mape: float
    worst: str
    icc: float | None
    ventricles: Agreement


def volume_rows(outcome: Outcome) -> list[Row]:
    """Every region's volume (ml) on every scan and system, and that of all ventricles."""
    return [
        Row(system, scan.fold, scan.subject, scan.name, region, ML, value)
        for scan in outcome.scans
        for system, result in scan.results.items()
        for region, value in _with_ventricles(result.get("volumes") or {}).items()
    ]


def agreements(rows: Sequence[Row]) -> list[Agreed]:
    """Every system but the 3 T image, region by region, against the 3 T image."""
    heads = by_head(rows)
    return [
        Agreed(system, region, agreement(*paired(heads, system, region)))
        for system, region, _ in heads
        if system != TRUTH
    ]


def paired(
    heads: dict[tuple[str, str, str], Heads], system: str, region: str
) -> tuple[list[float], list[float]]:
    """A region's volumes on the 3 T image and on a system's, of the same heads in one order."""
    truth, measured = heads[TRUTH, region, ML], heads[system, region, ML]
    return list(truth.values()), [measured[subject] for subject in truth]


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
                float(np.mean(list(errors.values()))),
                max(errors, key=lambda region: errors[region]),
                float(np.median(iccs)) if iccs else None,
                ventricles,
            )
        )
    return result


def _with_ventricles(volumes: dict[str, float]) -> dict[str, float]:
    if not volumes:
        return {}
    return volumes | {VENTRICLES: sum(volumes[region] for region in VENTRICULAR)}
