"""The report's section on volumes of regions: agreement with the 3 T image."""

from __future__ import annotations

from collections.abc import Sequence

from lohi_export.study import plots, volumes
from lohi_export.study.bench import RAW
from lohi_export.study.config import StudyConfig
from lohi_export.study.markup import plot, table, text
from lohi_export.study.study import Outcome
from lohi_export.study.tables import Row, name_of

NOTE = (
    "Every image was segmented by the same network; its volumes on the 3 T image are the "
    "reference. Error: mean absolute percentage error over heads, then over regions. ICC(2,1): "
    "two-way random effects, absolute agreement, single measurement (Shrout & Fleiss 1979). "
    "Bland-Altman plots: difference (image - 3 T) against mean, with bias and limits of agreement "
    "(1.96 sd). Truth labels: those that the 3 T image was made from; their distance from the "
    "segmentation of the 3 T image is the segmenter's own error. Ventricles stand apart because "
    "decisions in hydrocephalus rest on their size."
)


def volume_section(config: StudyConfig, outcome: Outcome, rows: Sequence[Row]) -> str:
    """Agreement of volumes with the 3 T image; why there is none where there is none."""
    if not config.morphometry:
        return "<p class='note'>Not measured: morphometry = false in the configuration.</p>"
    failed = _failures(volumes.failures(outcome))
    found = volumes.agreements(rows)
    if not found:
        return failed
    scans = volumes.by_scan(rows)
    systems = list(dict.fromkeys(one.system for one in found))
    regions = list(dict.fromkeys(one.region for one in found))
    pooled = {}
    for system in systems:
        pairs = [volumes.paired(scans, system, r) for r in regions if r != volumes.VENTRICLES]
        pooled[name_of(system)] = (
            [v for reference, _ in pairs for v in reference],
            [v for _, measured in pairs for v in measured],
        )
    ventricles = {name_of(s): volumes.paired(scans, s, volumes.VENTRICLES) for s in systems}
    return (
        f"<p class='note'>{text(NOTE)}</p>"
        + _overall(volumes.overall(found))
        + plot(
            plots.bland_altman(ventricles, "ml", relative=False), "Bland-Altman plots of ventricles"
        )
        + plot(
            plots.bland_altman(pooled, "ml", relative=True),
            "Bland-Altman plots of all regions, relative",
        )
        + _by_region(found, systems, regions)
        + failed
    )


def _overall(rows: Sequence[volumes.Overall]) -> str:
    raw = next((row.mape for row in rows if row.system == RAW), None)
    header = [
        "",
        "error, 33 regions",
        "of the raw scan's",
        "median ICC(2,1)",
        "worst region",
        "ventricles: error",
        "bias, ml",
        "limits of agreement, ml",
        "ICC(2,1)",
    ]
    body = [
        [
            name_of(row.system),
            _percent(row.mape),
            f"{100 * row.mape / raw:.0f} %" if raw and row.mape is not None else "",
            _number(row.icc),
            row.worst or "",
            _percent(row.ventricles.mape),
            f"{row.ventricles.bias:+.2f}",
            f"{_number(row.ventricles.low)} to {_number(row.ventricles.high)}",
            _number(row.ventricles.icc),
        ]
        for row in rows
    ]
    return table("agreement with the 3 T image", header, body)


def _failures(found: Sequence[tuple[str, str, str]]) -> str:
    if not found:
        return ""
    rows = [[scan, name_of(system), why] for scan, system, why in found]
    return table("images the segmenter could not measure", ["scan", "image", "why"], rows, "order")


def _by_region(
    found: Sequence[volumes.Agreed], systems: Sequence[str], regions: Sequence[str]
) -> str:
    cells = {(one.system, one.region): one.agreement for one in found}
    body = [
        [
            region,
            *(
                "" if one is None or one.mape is None else f"{one.mape:.1f}"
                for one in (cells.get((system, region)) for system in systems)
            ),
        ]
        for region in regions
    ]
    shown = table("mean absolute percentage error", ["", *map(name_of, systems)], body)
    return f"<details open><summary>by region</summary>{shown}</details>"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
