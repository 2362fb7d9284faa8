"""What the fault bench showed: rates with intervals by head, receiver curves, a table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lohi_edge.quality import fitness, plausibility, robust, verdict
from lohi_edge.quality.faultbench import STRENGTHS, Row
from lohi_edge.quality.measure import Better, Measure
from lohi_edge.volume import Float64

DRAWS = 1000  # of the bootstrap
DIRECTIONS: dict[str, dict[str, Better]] = {
    "scan": {name: better for name, (_, better, _) in fitness.METRICS.items()},
    "result": {name: better for name, (_, better, _) in plausibility.METRICS.items()},
}


@dataclass(frozen=True)
class Rate:
    """A share of scans, and its 95 % interval by bootstrap over heads."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def verdict_of(row: Row, limits: Mapping[str, Any]) -> str:
    """pass, warn or hold for a row's figures under the limits of its part."""
    directions = DIRECTIONS[row.part]
    measures = {
        name: Measure(value, "", directions.get(name, "range"))
        for name, value in row.values.items()
    }
    return verdict.judge(measures, limits).verdict


def rate(hits: Iterable[tuple[int, bool]], seed: int = 0) -> Rate:
    """Share of hits among (head, hit), resampling heads (Efron and Tibshirani 1993, ch. 8)."""
    by_head: dict[int, list[bool]] = {}
    for head, hit in hits:
        by_head.setdefault(head, []).append(hit)
    sums = np.array([[sum(found), len(found)] for found in by_head.values()], dtype=float)
    draws = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    totals = sums[draws].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    return Rate(value, float(low), float(high), int(sums[:, 1].sum()))


def scores(rows: list[Row], clean: list[Row]) -> Float64:
    """How odd each row looks beside the clean ones: its worst metric in robust deviations (n,).

    The deviations count in the direction that is worse for a metric. A receiver curve needs one
    number a scan; the verdict itself uses limits metric by metric.
    """
    result = np.zeros(len(rows))
    part = rows[0].part
    for name, better in DIRECTIONS[part].items():
        known = np.array([v for r in clean if (v := r.values.get(name)) is not None], dtype=float)
        if len(known) < 5:
            continue
        middle = float(np.median(known))
        spread = max(robust.deviation(known, middle), 0.02 * abs(middle), 1e-6)
        for i, row in enumerate(rows):
            value = row.values.get(name)
            if value is None:
                continue
            off = (value - middle) / spread
            result[i] = max(result[i], {"low": off, "high": -off, "range": abs(off)}[better])
    return result


def receiver(clean: Float64, faulty: Float64) -> tuple[Float64, Float64, float]:
    """False alarms, catches at every threshold, and the area under that curve (Fawcett 2006)."""
    thresholds = np.unique(np.concatenate([clean, faulty, [np.inf]]))[::-1]
    alarms = np.array([(clean >= t).mean() for t in thresholds])
    catches = np.array([(faulty >= t).mean() for t in thresholds])
    area = float(np.sum(np.diff(alarms) * (catches[1:] + catches[:-1]) / 2))
    return alarms, catches, area


def summarise(
    fitted: list[Row], reported: list[Row], limits: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One entry a part, contrast, fault and strength: `caught`, `held`, `auc`, and the curve.

    Args:
        fitted: rows of the heads that the limits were set on; only clean ones are used.
        reported: rows of other heads.
        limits: contrast -> {"scan": limits, "result": limits}.
    """
    found = []
    kinds = sorted({(r.part, r.contrast, r.fault, r.strength) for r in reported})
    for part, contrast, fault, strength in kinds:
        rows = [
            r
            for r in reported
            if (r.part, r.contrast, r.fault, r.strength) == (part, contrast, fault, strength)
        ]
        judged = [(r.head, verdict_of(r, limits[contrast][part])) for r in rows]
        entry: dict[str, Any] = {
            "part": part,
            "contrast": contrast,
            "fault": fault,
            "strength": STRENGTHS[strength] if fault else "",
            "caught": rate([(head, word != "pass") for head, word in judged]),
            "held": rate([(head, word == "hold") for head, word in judged]),
        }
        known = [r for r in fitted if (r.part, r.contrast, r.fault) == (part, contrast, "")]
        clean = [r for r in reported if (r.part, r.contrast, r.fault) == (part, contrast, "")]
        if fault and known and clean:
            alarms, catches, area = receiver(scores(clean, known), scores(rows, known))
            entry |= {"auc": area, "alarms": alarms.tolist(), "catches": catches.tolist()}
        found.append(entry)
    return found


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = [
        "| part | contrast | fault | strength | n | caught | held | AUC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary:
        area = f"{row['auc']:.2f}" if "auc" in row else ""
        lines.append(
            f"| {row['part']} | {row['contrast']} | {row['fault'] or 'none (clean)'} | "
            f"{row['strength']} | {row['caught'].count} | {row['caught']} | {row['held']} | "
            f"{area} |"
        )
    return "\n".join(lines) + "\n"


def overview(reported: list[Row], limits: Mapping[str, Mapping[str, Any]]) -> str:
    """What is caught of every fault, contrasts together, as Markdown; of clean ones the alarms.

    A fault of one strength stands under both.

    Args:
        reported: rows of heads that no limit was set on.
        limits: as of `summarise`.
    """
    words: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for row in reported:
        word = verdict_of(row, limits[row.contrast][row.part])
        words.setdefault((row.part, row.fault), []).append((row.head, row.strength, word))
    lines = ["| part | fault | n | middle: caught | strong: held |", "|---|---|---|---|---|"]
    for (part, fault), judged in sorted(words.items()):
        strengths = {strength for _, strength, _ in judged}
        middle, strong = (k if k in strengths else max(strengths) for k in (1, 2))
        caught = rate([(head, word != "pass") for head, k, word in judged if k == middle])
        held = rate([(head, word == "hold") for head, k, word in judged if k == strong])
        name = fault or "none (clean): warned or held, held"
        lines.append(f"| {part} | {name} | {caught.count} | {caught} | {held} |")
    return "\n".join(lines) + "\n"


def curves(summary: list[dict[str, Any]], columns: int = 6, size: int = 150) -> str:
    """Receiver curves as SVG: a panel a fault, a line a strength (darker is stronger)."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in summary:
        if "alarms" in row:
            panels.setdefault(f"{row['contrast']}: {row['fault']}", []).append(row)
    rows = -(-len(panels) // columns)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{columns * size}' height='{rows * size}' "
        "font-family='sans-serif' font-size='9'><rect width='100%' height='100%' fill='white'/>"
    ]
    for number, (title, lines) in enumerate(panels.items()):
        x, y = number % columns * size, number // columns * size
        parts.append(f"<g transform='translate({x},{y})'>")
        parts.append(f"<text x='8' y='12'>{html.escape(title)}</text>")
        side = size - 30
        parts.append(
            f"<rect x='8' y='18' width='{side}' height='{side}' fill='none' stroke='#999'/>"
        )
        for line in lines:
            shade = ("#9ecae1", "#4292c6", "#08306b")[STRENGTHS.index(line["strength"])]
            points = " ".join(
                f"{8 + side * a:.1f},{18 + side * (1 - c):.1f}"
                for a, c in zip(line["alarms"], line["catches"], strict=True)
            )
            parts.append(f"<polyline points='{points}' fill='none' stroke='{shade}'/>")
        parts.append("</g>")
    return "".join(parts) + "</svg>\n"
