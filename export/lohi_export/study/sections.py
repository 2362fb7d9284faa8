"""Sections of the report beside its metrics: examples, volumes, models, provenance."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from lohi_export.record import as_json
from lohi_export.study import plots, volumes
from lohi_export.study.bench import RAW, TRUTH, Trained
from lohi_export.study.config import StudyConfig
from lohi_export.study.markup import Cell, plot, table, text
from lohi_export.study.study import Outcome
from lohi_export.study.tables import Row, by_head, name_of

PLANES = ("axial", "coronal", "sagittal")
SOFTWARE = ("lohi-edge", "torch", "numpy", "scipy")
VOLUMES_NOTE = (
    "Every image was segmented by the same network; its volumes on the 3 T image are the "
    "reference. Error: mean absolute percentage error over heads, then over regions. ICC(2,1): "
    "two-way random effects, absolute agreement, single measurement (Shrout & Fleiss 1979). "
    "Bland-Altman plots: difference (image - 3 T) against mean, with bias and limits of agreement "
    "(1.96 sd). Truth labels: those that the 3 T image was made from; their distance from the "
    "segmentation of the 3 T image is the segmenter's own error. Ventricles stand apart because "
    "decisions in hydrocephalus rest on their size."
)


@dataclass(frozen=True)
class ModelRow:
    """What a model costs.

    Attributes:
        parameters: of the generator.
        slice_wall_ms, slice_cpu_ms: median over scans of one slice's time in PyTorch, by the wall
            and by the processor's clock; the latter None on a GPU.
    """

    system: str
    parameters: int
    width: int
    channels: int
    steps: int
    slice_wall_ms: float
    slice_cpu_ms: float | None


def model_rows(outcome: Outcome) -> list[ModelRow]:
    """The models of the first fold; the others differ in weights alone."""
    return [_model_row(trained, outcome) for trained in outcome.folds[0].models]


def models(rows: Sequence[ModelRow], device: str) -> str:
    header = ["", "parameters", "width", "channels", "steps", "ms a slice", "CPU ms a slice"]
    body = [
        [
            row.system,
            f"{row.parameters:,}",
            row.width,
            row.channels,
            f"{row.steps:,}",
            f"{row.slice_wall_ms:.1f}",
            "" if row.slice_cpu_ms is None else f"{row.slice_cpu_ms:.1f}",
        ]
        for row in rows
    ]
    note = (
        f"<p class='note'>Times are PyTorch's on this machine ({text(device)}), where other "
        "work may have run; those of a device are measured by <code>lohi-edge bench</code>.</p>"
    )
    return table("what each model costs", header, body) + note


def examples(outcome: Outcome) -> str:
    """The first held-out pair in three planes: images, and below them their differences."""
    scan = outcome.scans[0]
    systems = [*(s for s in scan.results if s != TRUTH), TRUTH]
    rows = []
    for index, plane in enumerate(PLANES):
        cuts = {s: plots.decode(scan.results[s]["planes"][index]) for s in systems}
        truth = cuts[TRUTH]
        rows.append(
            [plane, *(_image(plots.picture(c), f"{plane}, {name_of(s)}") for s, c in cuts.items())]
        )
        rows.append(
            [
                "- 3 T",
                *(
                    _image(plots.difference(c, truth), f"{plane}, {name_of(s)} minus 3 T")
                    for s, c in cuts.items()
                    if s != TRUTH
                ),
            ]
        )
    note = (
        f"{scan.name}, slices through the middle of the head. Red is brighter than the 3 T image, "
        f"blue darker; full colour at a difference of {plots.LIMIT} in [-1, 1]."
    )
    header = ["", *(name_of(system) for system in systems)]
    return f"<p class='note'>{text(note)}</p>" + table("", header, rows, "examples")


def volume_section(config: StudyConfig, outcome: Outcome, rows: Sequence[Row]) -> str:
    """Agreement of volumes with the 3 T image; why there is none where there is none."""
    if not config.morphometry:
        return "<p class='note'>Not measured: morphometry = false in the configuration.</p>"
    failed = _failures(volumes.failures(outcome))
    found = volumes.agreements(rows)
    if not found:
        return failed
    heads = by_head(rows)
    systems = list(dict.fromkeys(one.system for one in found))
    regions = list(dict.fromkeys(one.region for one in found))
    pooled = {}
    for system in systems:
        pairs = [volumes.paired(heads, system, r) for r in regions if r != volumes.VENTRICLES]
        pooled[name_of(system)] = (
            [v for reference, _ in pairs for v in reference],
            [v for _, measured in pairs for v in measured],
        )
    ventricles = {name_of(s): volumes.paired(heads, s, volumes.VENTRICLES) for s in systems}
    return (
        f"<p class='note'>{text(VOLUMES_NOTE)}</p>"
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


def provenance(config: StudyConfig, outcome: Outcome) -> str:
    versions = {"python": platform.python_version()} | {n: metadata.version(n) for n in SOFTWARE}
    folds = [
        {
            "split": fold.split,
            "test_sha256": fold.test,
            "models": {
                trained.model: {
                    "weights_sha256": trained.weights,
                    "data_sha256": trained.data,
                    "init_learned": as_json(trained.began),
                    "training": trained.run.config.to_dict(),
                }
                for trained in fold.models
            },
        }
        for fold in outcome.folds
    ]
    record = {
        "study": config.to_dict(),
        "segmenter_sha256": outcome.segmenter,
        "software": versions,
        "folds": folds,
    }
    shown = json.dumps(record, indent=1)
    return (
        "<p class='note'>Research use only. The whole record: configuration, digests of data and "
        f"weights, versions.</p><details open><summary>record</summary><pre>{text(shown)}</pre>"
        "</details>"
    )


def _model_row(trained: Trained, outcome: Outcome) -> ModelRow:
    times = [scan.results[trained.model]["slice"] for scan in outcome.scans]
    cpu = [time["cpu_s"] for time in times if time["cpu_s"] is not None]
    config = trained.run.config
    return ModelRow(
        trained.model,
        trained.parameters,
        config.width,
        config.channels,
        config.steps,
        1e3 * float(np.median([time["wall_s"] for time in times])),
        1e3 * float(np.median(cpu)) if cpu else None,
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


def _image(uri: str, alt: str) -> Cell:
    return Cell(f"<img src='{uri}' alt='{text(alt)}'>")
