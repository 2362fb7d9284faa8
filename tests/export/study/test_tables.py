"""From scans to heads to lines with tests, and back out as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lohi_export.study.bench import RAW, TRUTH
from lohi_export.study.statistics import Summary
from lohi_export.study.study import Outcome, Scan
from lohi_export.study.tables import (
    Line,
    by_head,
    lines,
    metric_rows,
    name_of,
    no_test,
    order,
    write_csv,
)


def outcome(heads: int, gains: dict[str, float]) -> Outcome:
    """`heads` heads, two scans each; a system's PSNR is 20 + its gain, with a little noise."""
    rng = np.random.default_rng(0)
    scans = []
    for n in range(heads):
        base = 20 + rng.normal()
        for run in range(2):
            results = {TRUTH: {"metrics": {"whole": {"piqe": 10.0}}}}
            for system, gain in gains.items():
                psnr = base + gain + 0.01 * rng.normal()
                results[system] = {"metrics": {"whole": {"psnr": psnr, "piqe": 50 - gain}}}
            scans.append(Scan(f"{n:02d}", f"sub-{n:02d}_run-{run}", 0, results))
    return Outcome([], scans, None)


GAINS = {RAW: 0.0, "lohiresgan": 5.0, "unet": 4.0, "gan": 5.0}


def test_heads_not_scans_are_counted() -> None:
    heads = by_head(metric_rows(outcome(4, GAINS)))
    found = {(line.system, line.metric): line for line in lines(heads, "lohiresgan", 200, 0)}
    assert found["unet", "psnr"].summary.n == 4
    assert found["unet", "psnr"].p is None
    assert "4 held-out heads" in no_test(heads, "lohiresgan")
    assert "lohiresgan-plain, which the others" in no_test(heads, "lohiresgan-plain")


def test_from_eight_heads_on_every_system_is_tested_against_the_reference() -> None:
    """All eight heads on one side: p = 2 / 2^8 each; three tests, the two smallest x 3 by Holm."""
    heads = by_head(metric_rows(outcome(8, GAINS)))
    assert no_test(heads, "lohiresgan") == ""
    p = {
        line.system: line.p for line in lines(heads, "lohiresgan", 200, 0) if line.metric == "psnr"
    }
    assert p["lohiresgan"] is None
    assert p[RAW] == p["unet"] == pytest.approx(3 * 2 / 2**8)
    assert p["gan"] is not None
    assert p["gan"] > 0.05
    piqe = {(line.system, line.p) for line in lines(heads, "lohiresgan", 200, 0)
            if line.metric == "piqe"}  # fmt: skip
    assert (TRUTH, None) in piqe


def test_best_first_in_either_direction() -> None:
    found = lines(by_head(metric_rows(outcome(3, GAINS))), "lohiresgan", 200, 0)
    assert order(found, "whole", "psnr")[-1].system == RAW
    assert {line.system for line in order(found, "whole", "piqe")[:2]} == {"lohiresgan", "gan"}
    assert TRUTH not in {line.system for line in order(found, "whole", "piqe")}
    assert name_of(RAW) == "raw 64 mT"


def test_csv_has_a_column_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    write_csv(path, [Line("unet", "head", "psnr", Summary(2, 1.5, 0.5, 1.0, 2.0))])
    with path.open() as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "system": "unet", "region": "head", "metric": "psnr", "n": "2", "mean": "1.5",
        "sd": "0.5", "low": "1.0", "high": "2.0", "p": "",
    }  # fmt: skip
