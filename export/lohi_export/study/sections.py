"""Sections of the report beside its metrics: examples, models, provenance."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from lohi_export.record import as_json
from lohi_export.study import plots
from lohi_export.study.bench import TRUTH, Trained
from lohi_export.study.config import StudyConfig
from lohi_export.study.markup import Cell, table, text
from lohi_export.study.study import Outcome
from lohi_export.study.tables import name_of

PLANES = ("axial", "coronal", "sagittal")
SOFTWARE = ("lohi-edge", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class ModelRow:
    """What a model costs.

    Attributes:
        parameters: of the generator.
        steps_made: None of a loaded run without its checkpoint.
        slice_wall_ms, slice_cpu_ms: median over scans of one slice's time in PyTorch, by the wall
            and by the processor's clock; the latter None on a GPU.
    """

    system: str
    parameters: int
    width: int
    channels: int
    steps_planned: int
    steps_made: int | None
    slice_wall_ms: float
    slice_cpu_ms: float | None


def model_rows(outcome: Outcome) -> list[ModelRow]:
    """The models of the first fold; the others differ in weights alone."""
    return [_model_row(trained, outcome) for trained in outcome.folds[0].models]


def models(rows: Sequence[ModelRow], device: str) -> str:
    header = ["", "parameters", "width", "channels", "steps made", "ms a slice", "CPU ms a slice"]
    body = [
        [
            row.system,
            f"{row.parameters:,}",
            row.width,
            row.channels,
            _made(row),
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
                    "steps_made": trained.run.steps.made,
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
        trained.run.steps.planned,
        trained.run.steps.made,
        1e3 * float(np.median([time["wall_s"] for time in times])),
        1e3 * float(np.median(cpu)) if cpu else None,
    )


def _made(row: ModelRow) -> str:
    made = "not known" if row.steps_made is None else f"{row.steps_made:,}"
    return made if row.steps_made == row.steps_planned else f"{made} of {row.steps_planned:,}"


def _image(uri: str, alt: str) -> Cell:
    return Cell(f"<img src='{uri}' alt='{text(alt)}'>")
