"""Limits that a device learns from its own scanner's scans."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lohi_edge import bundle as bundles
from lohi_edge import demo, nifti
from lohi_edge.cli import app
from lohi_edge.errors import BadInput
from lohi_edge.quality import drift, own_limits, verdict
from lohi_edge.quality.faultbench import measure
from lohi_edge.quality.faults import noise as make_noisy
from lohi_edge.quality.faults import shading as shade

SLOPES = ("shading_right", "shading_front", "shading_up")


def scans(count, seed=0, noise=0.015, spread=0.2):
    rng = np.random.default_rng(seed)
    return [
        {"noise": noise * float(np.exp(spread * rng.standard_normal()))}
        | {name: spread * float(rng.standard_normal()) for name in SLOPES}
        for _ in range(count)
    ]


def test_the_interval_is_that_of_one_more_normal_value():
    """Fifteen values of mean 0 and standard deviation 1: t with 14 degrees of freedom.

    t(1 - 0.03 / 4 / 2, 14) = 3.11845 by tables of the incomplete beta function, times
    sqrt(16 / 15).
    """
    values = np.linspace(-1, 1, 15)
    values /= values.std(ddof=1)
    given = [{"shading_up": float(value)} for value in values]
    found = own_limits.learn(given, {}).limits["shading_up"]
    low, high = found["warn"]
    assert high == pytest.approx(3.11845 * np.sqrt(16 / 15), rel=2e-3)
    assert low == pytest.approx(-high)
    assert found["hold"][1] > high


def test_as_many_of_its_own_scans_lie_beyond_as_is_said():
    levels = []
    for seed in range(50):
        every = scans(60, seed)
        limits = own_limits.learn(every[:20], {}).limits
        levels += [own_limits.worst_of(new, limits) for new in every[20:]]
    # Of 2,000: 60 and 6 on average; those of one scanner have their limits in common.
    assert 30 <= sum(level != "pass" for level in levels) <= 90
    assert 1 <= levels.count("hold") <= 18


@given(st.integers(0, 1000), st.floats(0.001, 0.04), st.floats(0.01, 1.0))
def test_own_limits_are_never_wider_than_those_that_ship(seed, noise, spread):
    base = verdict.limits_for("T1w", {})["scan"]
    for name, limits in own_limits.learn(scans(20, seed, noise, spread), base).limits.items():
        for level, (low, high) in limits.items():
            least, most = base.get(name, {}).get(level, [None, None])
            assert most is None or high <= most
            assert least is None or low >= least


def test_scans_that_the_shipped_limits_hold_teach_nothing():
    base = {"noise": {"warn": [None, 0.038], "hold": [None, 0.048]}}
    clean = scans(20)
    spoilt = [*clean, *({"noise": 0.06, **dict.fromkeys(SLOPES, 3.0)} for _ in range(5))]
    found = own_limits.learn(spoilt, base)
    assert (found.scans, found.left_out) == (20, 5)
    assert found.limits == own_limits.learn(clean, base).limits
    # What is warned of is not what the scanner is like, but its other figures are.
    loud = [*clean, {"noise": 0.04, **dict.fromkeys(SLOPES, 0.0)}]
    assert own_limits.learn(loud, base).limits["noise"] == found.limits["noise"]
    assert own_limits.learn(loud, base).limits["shading_up"] != found.limits["shading_up"]


def test_scans_of_one_volunteer_do_not_make_limits_that_no_patient_meets():
    alike = [{"noise": 0.015, **dict.fromkeys(SLOPES, 0.1)}] * 15
    limits = own_limits.learn(alike, {}).limits
    assert limits["noise"]["warn"][1] > 0.015 * 1.25
    assert limits["shading_up"]["warn"][1] > 0.2


def test_a_figure_far_off_or_impossible_widens_nothing():
    clean = scans(20)
    for odd in ({"shading_up": 1e99, "noise": 0.9}, {"noise": 0.0}, {"noise": -0.01}):
        found = own_limits.learn([*clean, odd], {})
        assert found.limits == own_limits.learn(clean, {}).limits
        assert found.scans == 21


def test_too_few_scans_and_figures_that_are_missing_give_no_limits():
    assert own_limits.learn(scans(14), {}).limits == {}
    older = [{"noise": scan["noise"]} for scan in scans(15)]  # receipts of before slopes were
    assert own_limits.learn(older, {}).limits.keys() == {"noise"}


def save(folder, number, contrast, scan):
    record = {
        "schema": 1,
        "source": {"sha256": f"{number}", "affine": []},
        "result": {"grid": "1mm", "sha256": "5ha"},
        "bundle": {"sha256": "5ha"},
        "onnx": {"file": "fp32.onnx", "sha256": "5ha"},
        "contrast": {"name": contrast},
        "runtime": {"name": "onnxruntime"},
        "precision": "fp32",
        "metrics": {"scan": {name: {"value": value} for name, value in scan.items()}},
        "made": f"2026-01-01T00:{number:02}:00+00:00",
    }
    (folder / f"s{number}_desc-synthetic.json").write_text(json.dumps({"LohiEdge": record}))


@pytest.fixture
def history(tmp_path):
    """The demo scan's scanner has scanned twenty heads like it, and four with T2w."""
    folder = tmp_path / "outbox"
    folder.mkdir()
    seen = measure(nifti.read(demo.SCAN), "T1w")
    rng = np.random.default_rng(0)
    for number in range(24):
        scan = dict(seen)
        scan["noise"] *= float(np.exp(0.1 * rng.standard_normal()))
        for name in SLOPES:
            scan[name] += 0.1 * float(rng.standard_normal())
        save(folder, number, "T1w" if number < 20 else "T2w", scan)
    return folder


def status(scan, *options):
    run = CliRunner().invoke(app, ["qc", str(scan), "--json", *options])
    (record,) = json.loads(run.stdout)
    return {name: entry["status"] for name, entry in record["metrics"]["scan"].items()}, record


@pytest.mark.parametrize(("fault", "strength"), [(make_noisy, 0), (shade, 1)])
def test_what_no_limit_for_any_scanner_sees_the_device_s_own_do(history, tmp_path, fault, strength):
    own = tmp_path / "own.json"
    run = CliRunner().invoke(app, ["limits", str(history), "-o", str(own)])
    assert run.exit_code == 0, run.output
    assert "4 of T2w: too few to learn from, at least 15 are needed" in run.stderr
    assert "20 scans" in run.stdout
    volume = nifti.read(demo.SCAN)
    damaged = fault(volume.data, strength, np.random.default_rng(1))
    scan = tmp_path / "faulty_T1w.nii"
    nib.save(nib.Nifti1Image(damaged, volume.affine), scan)
    watched = ("noise", *SLOPES)
    before, _ = status(scan)
    assert {name: before[name] for name in watched} == dict.fromkeys(watched, "pass")
    after, record = status(scan, "--limits", str(own))
    assert {after[name] for name in watched} > {"pass"}
    assert [r for r in record["reasons"] if r["name"] in watched]
    clean, _ = status(demo.SCAN, "--contrast", "T1w", "--limits", str(own))
    assert {clean[name] for name in watched} == {"pass"}


def test_a_metric_that_few_receipts_know_has_no_limits_and_that_is_said(history, tmp_path):
    for number in range(8):
        path = history / f"s{number}_desc-synthetic.json"
        record = json.loads(path.read_text())
        record["LohiEdge"]["metrics"]["scan"]["noise"]["value"] = (0.0, "0.02", None, True)[
            number % 4
        ]
        path.write_text(json.dumps(record))
    own = tmp_path / "own.json"
    run = CliRunner().invoke(app, ["limits", str(history), "-o", str(own)])
    assert run.exit_code == 0, run.output
    assert "no limits of noise for T1w: known of 12 of 20 scans, at least 15" in run.stderr
    assert verdict.read(own)["scan"]["T1w"].keys() == {*SLOPES}


def test_receipts_of_no_contrast_are_left_out_and_said(history, tmp_path):
    path = history / "s23_desc-synthetic.json"
    path.write_text(path.read_text().replace('"T2w"', '"PDw"'))
    run = CliRunner().invoke(app, ["limits", str(history), "-o", str(tmp_path / "own.json")])
    assert "1 of PDw left out: it is none of T1w, T2w, FLAIR" in run.stderr


def test_limits_as_json_tells_what_is_written(history, tmp_path):
    own = tmp_path / "own.json"
    run = CliRunner().invoke(app, ["limits", str(history), "-o", str(own), "--json"])
    found = json.loads(run.stdout)["T1w"]
    assert (found["scans"], found["left_out"]) == (20, 0)
    written = verdict.read(own)["scan"]["T1w"]
    assert written.keys() == {"noise", *SLOPES}
    for name, limits in written.items():
        assert {key: found["metrics"][name][key] for key in ("warn", "hold")} == limits
    assert found["beyond"]["hold"] <= found["beyond"]["warn"] <= 0.15


def test_too_few_receipts_are_refused_and_nothing_is_written(history, tmp_path):
    own = tmp_path / "own.json"
    for path in sorted(history.glob("s1*")):
        path.unlink()
    run = CliRunner().invoke(app, ["limits", str(history), "-o", str(own)])
    assert isinstance(run.exception, BadInput)
    assert "at least 15 scans of one contrast" in str(run.exception)
    assert "got 9 of T1w, 4 of T2w" in str(run.exception)
    assert not own.exists()


def test_a_contrast_that_the_bundle_is_not_made_for_is_left_out_and_said(history, tmp_path):
    t2w = bundles.shipped("T2w")
    own = ["limits", str(history), "-o", str(tmp_path / "own.json"), "--bundle", str(t2w)]
    run = CliRunner().invoke(app, own)
    assert isinstance(run.exception, BadInput)
    assert f"20 of T1w left out: {t2w} is not made for it" in run.stderr
    assert "got 4 of T2w" in str(run.exception)


def test_a_receipt_of_a_later_version_is_left_out_and_said(history, capsys):
    path = history / "s3_desc-synthetic.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    said = []
    assert len(drift.receipts([history], said.append)) == 23
    (line,) = said
    assert "s3_desc-synthetic.json: expected a receipt of schema at most 1, got 99" in line
