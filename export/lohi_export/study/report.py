"""The study's page: one HTML file that needs no network, and the CSV files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from lohi_edge.files import atomic_write, make_directory
from lohi_edge.picture import MARK
from lohi_export.study import plots, same, sections, volumes
from lohi_export.study.bench import RAW
from lohi_export.study.config import StudyConfig
from lohi_export.study.markup import Cell, plot, table, text
from lohi_export.study.study import Outcome
from lohi_export.study.tables import (
    METRICS,
    REGIONS,
    Line,
    by_head,
    lines,
    metric_rows,
    name_of,
    no_test,
    order,
    write_csv,
)
from lohi_export.study.volume_section import volume_section

UNITS = {
    "psnr": "PSNR, dB",
    "ssim_2d": "SSIM 2-D",
    "ssim_3d": "SSIM 3-D",
    "nrmse": "NRMSE",
    "piqe": "PIQE",
    "ulf_enc_psnr": "ULF-EnC PSNR, dB",
    "ulf_enc_ssim": "ULF-EnC SSIM",
}
METRICS_NOTE = (
    "Mean &plusmn; standard deviation over heads; below it the 95 % interval of the mean by "
    "bootstrap over heads (percentile, {resamples} resamples), too narrow where heads are few. "
    "Images in [-1, 1], data range 2. PSNR and NRMSE (over the truth's range) pool a region's "
    "voxels; SSIM (Gaussian window, sigma 1.5) is averaged over them, slice by slice (2-D) and in "
    "3-D. PIQE needs no reference; lower is better. ULF-EnC: after each volume's own minimum and "
    "maximum became 0 and 1. Whole: the 1 mm window with its air, which flatters. Head: a coarse "
    "mask found in the 3 T image. Brain: {brain}. p: Wilcoxon signed-rank test, two-sided, of the "
    "same heads against {reference}, adjusted by Holm over the systems of a column. {no_test}"
)


def write(config: StudyConfig, outcome: Outcome, device: str) -> Path:
    """report.html and its CSV files in the study's folder; returns the page's path.

    Raises:
        DiskError: they cannot be written.
    """
    rows = metric_rows(outcome)
    heads = by_head(rows)
    found = lines(heads, config.reference, config.resamples, config.seed)
    measured = volumes.volume_rows(outcome)
    models = sections.model_rows(outcome)
    make_directory(config.out)
    same.keep(config)
    for name, written in (
        ("metrics", rows),
        ("summary", found),
        ("models", models),
        ("volumes", measured),
        ("agreement", volumes.agreements(measured)),
    ):
        table = config.out / f"{name}.csv"
        if written:
            write_csv(table, written)
        else:  # one of an earlier run would be taken for this one's
            table.unlink(missing_ok=True)
    words = {
        "mark": MARK,
        "title": text(f"{config.contrast} study of {len(config.models)} models"),
        "about": _about(config, outcome),
        "metrics_note": METRICS_NOTE.format(
            resamples=config.resamples,
            brain=_brain_words(outcome),
            reference=text(config.reference),
            no_test=no_test(heads, config.reference),
        ),
        "metrics": "".join(_metric_table(found, region) for region in REGIONS),
        "order": _order_table(found),
        "boxes": _box_plots(heads),
        "examples": sections.examples(outcome),
        "volumes": volume_section(config, outcome, measured),
        "models": sections.models(models, device),
        "provenance": sections.provenance(config, outcome),
    }
    template = resources.files("lohi_export.study").joinpath("report.html").read_text("utf-8")
    path = config.out / "report.html"
    with atomic_write(path) as file:
        file.write(Template(template).substitute(words).encode())
    return path


def _about(config: StudyConfig, outcome: Outcome) -> str:
    tested = {scan.subject for scan in outcome.scans}
    how = (
        f"{config.folds}-fold cross-validation over heads"
        if config.folds > 1
        else "one split of the subjects"
    )
    return (
        f"Held-out pairs: {len(outcome.scans)}, of heads: {len(tested)}, by {how}. Every model was "
        f"judged on the same pairs; none was trained on them. {_beginnings(outcome)}Images made by "
        "a model are synthetic: they may hide what is there and show what is not. Not for "
        "diagnosis."
    )


def _beginnings(outcome: Outcome) -> str:
    """Of models that did not begin with random weights: what those had learned from.

    Only finished runs did, and a study that loads one has one fold.
    """
    said = []
    for trained in outcome.folds[0].models:
        for origin in trained.began:
            what = f"{trained.model} began with weights {origin.weights[:12]}"
            if origin.subjects is None:
                said.append(f"{what}; whether they knew these heads is not known. ")
            else:
                subjects, name = ", ".join(origin.subjects), origin.data_set or "without a name"
                said.append(f"{what} that learned from {subjects} of a data set {name}. ")
    return text("".join(said))


def _brain_words(outcome: Outcome) -> str:
    if all("brain" in scan.results[RAW]["metrics"] for scan in outcome.scans):
        return "with its ventricles and the CSF about it"
    return "not measured on pairs without a segmentation, and where the segmenter found none"


def _metric_table(found: Sequence[Line], region: str) -> str:
    chosen = [line for line in found if line.region == region]
    if not chosen:
        return ""
    metrics = [m for m in METRICS if any(line.metric == m for line in chosen)]
    best = {m: ranked[0].system for m in metrics if (ranked := order(found, region, m))}
    cells = {(line.system, line.metric): line for line in chosen}
    body = [
        [name_of(system)] + [_cell(cells.get((system, m)), best.get(m) == system) for m in metrics]
        for system in dict.fromkeys(line.system for line in chosen)
    ]
    return table(region, ["", *(UNITS[m] for m in metrics)], body)


def _cell(line: Line | None, best: bool) -> Any:
    if line is None:
        return ""
    s = line.summary
    digits = 2 if abs(s.mean) >= 2 else 4
    shown = f"{s.mean:.{digits}f}"
    if s.sd is not None:
        shown += f" &plusmn; {s.sd:.{digits}f}"
        shown += f"<small>{s.low:.{digits}f} to {s.high:.{digits}f}</small>"
    if line.p is not None:
        shown += f"<small>p {line.p:.3g}</small>"
    return Cell(shown, "best" if best else "")


def _order_table(found: Sequence[Line]) -> str:
    body = [
        [region, UNITS[metric], " > ".join(name_of(line.system) for line in ranked)]
        for region in REGIONS
        for metric in METRICS
        if (ranked := order(found, region, metric))
    ]
    return table("best first, by the mean", ["region", "metric", "order"], body, "order")


def _box_plots(heads: dict[tuple[str, str, str], dict[str, float]]) -> str:
    pictures = []
    for region in REGIONS:
        panels: dict[str, dict[str, list[float]]] = {}
        for (system, where, metric), values in heads.items():
            if where == region:
                panels.setdefault(UNITS[metric], {})[name_of(system)] = list(values.values())
        if panels:
            ordered = {UNITS[m]: panels[UNITS[m]] for m in METRICS if UNITS[m] in panels}
            picture = plot(plots.boxes(ordered), f"Box plots, {region}")
            pictures.append(f"<h3>{region}</h3>{picture}")
    return "".join(pictures)
