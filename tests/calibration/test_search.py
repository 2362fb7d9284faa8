from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from lohi_calibration import graph, qdq, ranges
from lohi_calibration.accuracy import Accuracy, needed_psnr_fp32, within
from lohi_calibration.journal import Journal
from lohi_calibration.search import search
from lohi_calibration.sensitivity import Trial, analyse, to_csv
from lohi_edge.errors import BundleError


@pytest.fixture(scope="module")
def trial(small_net, slices):
    model = graph.load(small_net)
    reach = {
        k: h.reach("minmax") for k, h in ranges.collect(model, qdq.tensors(model), slices).items()
    }
    fp32 = graph.run(model, slices)
    noise = np.random.default_rng(0).normal(0, 0.02, fp32.shape)
    return Trial(model, reach, slices[:6], (fp32 + noise)[:6].astype(np.float32), fp32[:6])


@pytest.fixture(scope="module")
def rows(trial, tmp_path_factory):
    journal = Journal(tmp_path_factory.mktemp("j") / "journal.json", "k")
    return analyse(trial, lambda slower, faster: (len(slower) - len(faster)) / 1e6, journal)


def test_every_layer_has_a_row_and_costs_something(trial, rows):
    assert [row.layer for row in rows] == qdq.quantizable(trial.model)
    assert all(30 < row.error_db < 100 for row in rows)


def test_csv_reads_back(rows):
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))

    assert [r["layer"] for r in read] == [row.layer for row in rows]
    assert float(read[0]["psnr_lost_db"]) == pytest.approx(rows[0].psnr_lost_db)


def test_a_tighter_budget_leaves_more_layers_alone(trial, rows, tmp_path):
    counts = []
    for budget in (3.0, 1.0, 0.3):
        found = search(trial, rows, budget, Journal(tmp_path / f"{budget}.json", "k"))
        assert not within(found.accuracy, found.reference, budget)
        counts.append(len(found.skip))

    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_the_fewest_layers_are_released(trial, rows, tmp_path):
    found = search(trial, rows, 0.3, Journal(tmp_path / "j.json", "k"))

    first = set(found.steps[0]["unquantized"])
    assert len(found.skip - first) == len(found.steps) - 1
    assert all(step["problems"] for step in found.steps[:-1])
    worst = min((row for row in rows if row.layer not in first), key=lambda row: row.error_db)
    assert worst.layer in found.skip


def test_no_timing_decides_what_is_released(trial, rows, tmp_path):
    """Layers that harm alike go in the graph's order, however long each took to run."""
    worst = sorted(row.error_db for row in rows)[2]
    found, journal = [], Journal(tmp_path / "j.json", "k")
    for sign in (1, -1):
        timed = [
            replace(row, error_db=max(row.error_db, worst), ms_saved=sign * place)
            for place, row in enumerate(rows)
        ]
        found.append(search(trial, timed, 0.3, journal))

    assert found[0].steps == found[1].steps
    assert len(found[0].steps) > 1


@pytest.mark.parametrize("first", [0.02, 0.2])
@pytest.mark.parametrize("last", [0.02, 0.2])
def test_an_end_is_left_alone_where_that_measures_better(trial, rows, tmp_path, first, last):
    gains = {rows[0].layer: first, rows[-1].layer: last}

    class Measured:
        def reference(self):
            return trial.reference()

        def accuracy(self, skip):
            reference = trial.reference()
            gained = sum(gains.get(layer, 0) for layer in skip)
            # Nearer to FP32 all the while, which alone is no reason.
            return replace(
                reference, psnr=reference.psnr - 0.25 + gained, psnr_fp32=60 + 2 * len(skip)
            )

    found = search(Measured(), rows, 0.3, Journal(tmp_path / "j.json", "k"))

    assert found.skip == {layer for layer, gain in gains.items() if gain > 0.1}


def test_a_budget_that_cannot_hold_is_an_error(trial, rows, tmp_path):
    with pytest.raises(BundleError, match="no INT8 model loses at most 1e-06 dB"):
        search(trial, rows, 1e-6, Journal(tmp_path / "j.json", "k"))


def test_an_interrupted_analysis_goes_on_where_it_stopped(trial, tmp_path):
    path, calls = tmp_path / "j.json", []

    def breaks(slower, faster):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        analyse(trial, breaks, Journal(path, "k"))
    rows = analyse(trial, lambda slower, faster: calls.append(1) or 1.0, Journal(path, "k"))

    assert len(rows) == 7
    assert len(calls) == 4 + (7 - 3)  # three of seven layers were on disk


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1, "key": "other", "steps": {"a": 1}}'])
def test_a_journal_of_something_else_is_not_believed(tmp_path, content):
    path = tmp_path / "j.json"
    path.write_text(content)

    assert Journal(path, "mine").step("a", lambda: 2) == 2
    assert Journal(path, "mine").step("a", lambda: 3) == 2


def test_needed_psnr_keeps_independent_errors_within_the_budget():
    # P = 24 dB and Q as returned: MSEs add, the sum is 0.3 dB worse than P.
    needed = needed_psnr_fp32(24, 0.3)
    total = 10 ** (-24 / 10) + 10 ** (-needed / 10)

    assert -10 * math.log10(total) == pytest.approx(24 - 0.3)


def test_nan_never_fits_a_budget():
    good = Accuracy(60, 24, 0.8, 0.01)

    assert not within(good, good, 0.3)
    for field in ("psnr_fp32", "psnr", "ssim"):
        assert within(Accuracy(**{**good.__dict__, field: math.nan}), good, 0.3)
