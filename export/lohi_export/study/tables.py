"""The figures of a study as rows: per scan, per head, summarised, tested."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.files import atomic_write
from lohi_edge.quality.compare import METRICS as REFERENCE_METRICS
from lohi_export.study.bench import LABELS, RAW, TRUTH
from lohi_export.study.statistics import MIN_PAIRS, Summary, holm, signed_rank, summarize
from lohi_export.study.study import Outcome

# name -> (unit, which direction is better), in the order of the report
METRICS = {
    **{name: REFERENCE_METRICS[name] for name in ("psnr", "ssim_2d", "ssim_3d", "nrmse")},
    "piqe": ("", "low"),
    **{name: REFERENCE_METRICS[name] for name in ("ulf_enc_psnr", "ulf_enc_ssim")},
}
REGIONS = ("whole", "head", "brain")
Heads = dict[str, float]  # one value a subject


@dataclass(frozen=True)
class Row:
    """One figure of one scan."""

    system: str
    fold: int
    subject: str
    scan: str
    region: str
    metric: str
    value: float


@dataclass(frozen=True)
class Line:
    """One figure over all heads.

    Attributes:
        p: of the signed-rank test against the reference model, adjusted by Holm over the systems
            tested in this metric and region; None where there is no test.
    """

    system: str
    region: str
    metric: str
    summary: Summary
    p: float | None = None


def metric_rows(outcome: Outcome) -> list[Row]:
    """Every figure of every scan."""
    return [
        Row(system, scan.fold, scan.subject, scan.name, region, metric, value)
        for scan in outcome.scans
        for system, result in scan.results.items()
        for region, figures in result["metrics"].items()
        for metric, value in figures.items()
    ]


def by_head(rows: Iterable[Row]) -> dict[tuple[str, str, str], Heads]:
    """(system, region, metric) -> subject -> mean over the subject's scans."""
    gathered: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in rows:
        key = (row.system, row.region, row.metric)
        gathered.setdefault(key, {}).setdefault(row.subject, []).append(row.value)
    return {
        key: {subject: float(np.mean(values)) for subject, values in heads.items()}
        for key, heads in gathered.items()
    }


def lines(
    heads: dict[tuple[str, str, str], Heads], reference: str, resamples: int, seed: int
) -> list[Line]:
    """Summaries of every system, region and metric, with tests where there are heads enough."""
    adjusted = _tests(heads, reference)
    return [
        Line(*key, summarize(list(values.values()), resamples, seed), adjusted.get(key))
        for key, values in heads.items()
    ]


def no_test(heads: dict[tuple[str, str, str], Heads], reference: str) -> str:
    """Why there is no test, in words; empty where there are tests."""
    counts = [len(values) for (system, _, _), values in heads.items() if system == reference]
    if not counts:
        return (
            f"No test: {reference}, which the others would be tested against, is not in the study."
        )
    if counts[0] < MIN_PAIRS:
        return (
            f"No test: {counts[0]} held-out heads; a signed-rank test is made from {MIN_PAIRS} on. "
            "With folds in the configuration every head of the data set is held out once."
        )
    return ""


def _tests(
    heads: dict[tuple[str, str, str], Heads], reference: str
) -> dict[tuple[str, str, str], float]:
    found: dict[tuple[str, str, str], float] = {}
    for region, metric in dict.fromkeys(key[1:] for key in heads):
        base = heads.get((reference, region, metric), {})
        others = [
            key for key in heads if key[1:] == (region, metric) and key[0] not in (reference, TRUTH)
        ]
        if len(base) >= MIN_PAIRS:
            p = [signed_rank([heads[key][s] for s in base], list(base.values())) for key in others]
            found |= dict(zip(others, holm(p), strict=True))
    return found


def order(found: Sequence[Line], region: str, metric: str) -> list[Line]:
    """The systems from best to worst in one metric, the 3 T image left out."""
    chosen = [
        line
        for line in found
        if (line.region, line.metric) == (region, metric) and line.system != TRUTH
    ]
    return sorted(chosen, key=lambda line: line.summary.mean, reverse=METRICS[metric][1] == "high")


def name_of(system: str) -> str:
    """A system's name for people."""
    return {TRUTH: "3 T", RAW: "raw 64 mT", LABELS: "truth labels"}.get(system, system)


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Dataclasses of one kind, at least one, as a table; fields of a nested one are columns too.

    Raises:
        DiskError: it cannot be written.
    """
    text = io.StringIO()
    flat = [_flat(row) for row in rows]
    table = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _flat(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in dataclasses.asdict(row).items():
        values |= value if isinstance(value, dict) else {key: value}
    return values
