"""The fault bench: its statistics, its results made wrong, and a whole small run that resumes."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from helpers import head_phantom
from lohi_edge.cli import app
from lohi_edge.errors import BadInput
from lohi_edge.models import Models
from lohi_edge.quality import benchrun, benchstats, limits
from lohi_edge.quality.faultbench import Case, Row
from lohi_edge.quality.result_faults import enlarged
from lohi_edge.quality.resultbench import result_rows


def test_the_area_under_a_receiver_curve_is_the_share_of_pairs_in_order():
    # Of the six pairs (clean, faulty), 2.5 beats 1 and 2, 4 beats all: 5 of 6.
    alarms, catches, area = benchstats.receiver(np.array([1.0, 2, 3]), np.array([2.5, 4]))
    assert area == pytest.approx(5 / 6)
    assert (alarms[0], catches[0], alarms[-1], catches[-1]) == (0, 0, 1, 1)
    assert benchstats.receiver(np.ones(3), np.ones(2))[2] == pytest.approx(0.5)


def test_rates_resample_heads_and_not_scans():
    # One head always hits, one never: whatever is drawn of two heads is 0, 1/2 or 1.
    found = benchstats.rate([(1, True)] * 50 + [(2, False)] * 50)
    assert (found.value, found.low, found.high, found.count) == (0.5, 0, 1, 100)
    sure = benchstats.rate([(head, True) for head in range(4)])
    assert (sure.low, sure.high) == (1, 1)


def row(value, head=1, fault="", strength=0):
    return Row(
        head, 1, 1, "T1w", "scan", fault, strength, {"echo": value, "blank": 1.0, "gap": None}
    )


def test_scores_grow_towards_the_worse_side_only():
    clean = [row(v) for v in (1.0, 1.1, 0.9, 1.2, 0.8)]
    better, same, worse = benchstats.scores([row(0.1), row(1.0), row(3.0)], clean)
    assert better == same == 0  # "echo" is better low
    assert worse == pytest.approx((3.0 - 1.0) / (1.4826 * 0.1))


def test_a_summary_tells_caught_from_held():
    clean = [row(v, head) for head, v in enumerate((1.0, 1.1, 0.9, 1.2, 0.8))]
    reported = [row(1.0, 13), row(1.5, 13, "noise", 1), row(9.0, 14, "noise", 1)]
    rules = {"T1w": {"scan": {"echo": {"warn": [None, 1.3], "hold": [None, 5.0]}}}}
    found = {r["fault"]: r for r in benchstats.summarise(clean, reported, rules)}
    assert found[""]["caught"].value == 0
    assert found["noise"]["caught"].value == 1
    assert found["noise"]["held"].value == 0.5
    assert found["noise"]["auc"] == 1
    assert "| scan | T1w | noise | middle | 2 | 1.00" in benchstats.table(list(found.values()))
    assert benchstats.curves(list(found.values())).count("<polyline") == 1
    text = benchstats.overview(reported, rules)
    assert "| scan | noise | 2 | 1.00 (1.00-1.00) | 0.50 (0.00-1.00) |" in text
    assert "held | 1 | 0.00 (0.00-0.00) | 0.00 (0.00-0.00) |" in text


@pytest.mark.parametrize(("fluid", "half"), [(100, 350), (1100, 850)])
def test_a_ventricle_grows_into_tissue_by_as_much_as_is_said(fluid, half):
    result = np.full((40, 40, 40), 600, np.float32)
    ventricle = np.zeros(result.shape, bool)
    ventricle[18:23, 18:23, 18:23] = True
    result[ventricle] = fluid
    wrong = enlarged(result, ventricle, 3)
    grown = np.abs(wrong[20, 20, 10:31] - fluid) <= abs(half - fluid)
    assert np.array_equal(grown, np.abs(np.arange(10, 31) - 20) <= 5)


@pytest.fixture
def data(tmp_path):
    """Phantoms under the names of simulated pairs: heads 1, 12 and 13."""
    for number, head in enumerate((1, 12, 13)):
        anat = tmp_path / "pairs" / f"sub-{head:02d}" / "ses-64mT" / "anat"
        anat.mkdir(parents=True)
        image = nib.Nifti1Image(head_phantom(seed=number), np.diag([2.8, 2.8, 9.0, 1.0]))
        nib.save(image, anat / f"sub-{head:02d}_ses-64mT_run-01_T1w.nii.gz")
    return tmp_path / "pairs"


def test_a_bench_measures_each_case_once(data, tmp_path):
    out = tmp_path / "bench"
    seen = []
    summary = benchrun.run(data, out, None, lambda done, total, what: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    faults = {r["fault"] for r in summary}
    assert {"", "motion", "clipped", "phantom", "wrong contrast (T1w as T2w)"} <= faults
    assert {p.name for p in out.iterdir()} == {
        "rows",
        "limits.json",
        "overview.md",
        "summary.md",
        "curves.svg",
    }
    # What is kept is not measured again: a figure changed by hand stays.
    kept = out / "rows" / "13-01-01-T1w-scan.json"
    found = json.loads(kept.read_text())
    found["rows"] = [r for r in found["rows"] if r["fault"] in ("", "clipped")]
    kept.write_text(json.dumps(found))
    again = benchrun.run(data, out, None, lambda *_: None)
    assert {r["fault"] for r in again} == {"", "clipped"}
    # Of another scan, check or model it is measured again.
    found["key"]["check"] = "another"
    kept.write_text(json.dumps(found))
    assert {r["fault"] for r in benchrun.run(data, out, None, lambda *_: None)} == faults


def test_a_bench_without_reported_heads_is_refused(data, tmp_path):
    for path in data.glob("sub-13/**/*.nii.gz"):
        path.unlink()
    run = CliRunner().invoke(app, ["bench", "--quality", str(data), "-o", str(tmp_path / "o")])
    assert isinstance(run.exception, BadInput)
    assert "13 to 16" in str(run.exception)
    assert not (tmp_path / "o").exists(), "refused before any work"


@pytest.mark.slow
def test_faulty_results_are_measured_beside_the_scan_they_came_from(data, identity_bundle):
    path = next((data / "sub-13").rglob("*.nii.gz"))
    rows = list(result_rows(Case(13, 1, 1, "T1w", path), Models(identity_bundle, 1), faulty=True))
    assert rows[0].fault == ""
    lesions = {f"lesion {what}" for what in ("invented", "erased")}
    lesions |= {f"{name} ({mm} mm)" for name in lesions for mm in (5, 12)}
    assert {r.fault for r in rows} == lesions | {
        "",
        "slice shifted",
        "checkerboard",
        "contrast collapsed",
    }
    clean = rows[0].values["checkerboard"]
    assert all(r.values["checkerboard"] > clean for r in rows if r.fault == "checkerboard")


def test_limits_are_set_where_there_are_enough_clean_scans():
    rows = [row(v, head) for head, v in enumerate((1.0, 1.1, 0.9, 1.2, 0.8))]
    found = limits.document(rows)
    assert found["scan"]["T1w"]["echo"]["warn"] == [None, pytest.approx(1.2 + 0.35 * 0.2)]
    assert found["scan"]["T1w"]["echo"]["hold"] == [None, pytest.approx(1.2 + 0.9 * 0.2)]
    assert found["result"] == {}
    assert "T2w" not in found["scan"]
