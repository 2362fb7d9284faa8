"""Fitness, verdict, plausibility, drift: what is wrong is seen, what is right passes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge.errors import BadInput, BundleError, UsageError
from lohi_edge.quality import (
    artefacts,
    drift,
    faults,
    fitness,
    limits,
    plausibility,
    result_faults,
    slicewise,
    verdict,
)
from lohi_edge.quality.inspect import inspect
from lohi_edge.quality.measure import Measure, NotApplicable, take
from lohi_edge.quality.phantom import phantom
from lohi_edge.volume import Volume

ZOOMS = (2.8, 2.8, 9.0)


def volume(data=None):
    data = head_phantom() if data is None else data
    return Volume(data, np.diag([*ZOOMS, 1.0]))


def assess(data=None):
    scan = volume(data)
    return fitness.assess(scan, scan.isotropic(), "T1w")


@pytest.fixture(scope="module")
def clean():
    return {name: m.value for name, m in assess().measures.items()}


def test_every_metric_of_a_scan_has_a_value_or_a_reason():
    for name, measure in assess().measures.items():
        assert measure.value is not None or measure.note, name
        assert not measure.failed, (name, measure.note)


@pytest.mark.parametrize(
    ("fault", "metric", "up"),
    [
        ("noise", "noise", True),
        ("clipped", "clipped", True),
        ("missing slice", "blank", False),
        ("duplicated slice", "repeated", False),
        ("swapped slices", "swapped", True),
        ("zipper", "zipper", True),
        ("cropped field of view", "crown_cut", True),
        ("strong shading", "shading", True),
        ("motion", "echo", True),
        ("ghosting", "echo", True),
    ],
)
def test_a_strong_fault_moves_its_metric(clean, fault, metric, up):
    damaged = faults.SCAN_FAULTS[fault](head_phantom(), 2, np.random.default_rng(1))
    value = assess(np.ascontiguousarray(damaged)).measures[metric].value
    assert value is not None
    assert (value > clean[metric] * 1.1 + 1e-6) if up else (value < clean[metric] * 0.9)


def test_a_masked_background_has_no_air_to_measure():
    data = head_phantom()
    data[:12], data[-12:] = 0, 0
    measures = assess(data).measures
    for name in ("snr_dietrich", "fber", "qi1"):
        assert measures[name].value is None
        assert "masked" in measures[name].note
    assert measures["noise"].value > 0


def test_a_phantom_is_no_head_and_is_held():
    scan = phantom(np.random.default_rng(3))
    seen = inspect(scan, scan.isotropic(), "T1w")
    assert seen.verdict == "hold"
    assert "head_like" in {reason["name"] for reason in seen.reasons}


@pytest.mark.parametrize("shape", [(60, 70, 1), (60, 70, 5), (12, 12, 12), (200, 16, 10)])
def test_odd_volumes_are_measured_without_a_crash(shape):
    data = head_phantom(shape)
    measures = assess(data).measures
    assert set(measures) == set(fitness.METRICS)
    for measure in measures.values():
        assert measure.value is None or np.isfinite(measure.value)


@pytest.mark.parametrize("shape", [(150, 180, 1), (150, 1, 100), (1, 200, 150)])
def test_a_single_layer_of_1_mm_is_judged_and_not_passed(shape):
    data = np.full(shape, 0.05, np.float32)
    data[tuple(slice(n // 4, -(n // 4) or None) for n in shape)] = 1.0
    data += np.random.default_rng(0).normal(0, 0.01, shape).astype(np.float32)
    scan = Volume(data, np.eye(4))
    seen = inspect(scan, scan.isotropic(), "T1w", scan.with_data(500 * data))
    assert seen.verdict == "hold"


def test_all_background_is_refused():
    with pytest.raises(BadInput, match="one brightness"):
        assess(np.zeros((40, 40, 12), np.float32))


def test_a_spike_stands_out_of_k_space():
    noise = np.random.default_rng(0).normal(100, 3, (64, 64, 4)).astype(np.float32)
    wave = 10 * np.cos(2 * np.pi * (0.3 * np.arange(64)[:, None] + 0.2 * np.arange(64)))
    assert artefacts.spike(noise + wave[..., None].astype(np.float32)) > 3 * artefacts.spike(noise)


def test_the_edge_of_a_mask_over_a_noise_floor_is_no_zipper():
    image = np.random.default_rng(0).rayleigh(2, (96, 96, 8)).astype(np.float32) + 10
    image[:20], image[:, 70:] = 0, 0
    assert artefacts.zipper(image) < 10
    image[40:42, :70] += 20
    assert artefacts.zipper(image) > 50
    assert artefacts.zipper(np.zeros((32, 32, 4), np.float32)) == 0


def test_a_displaced_copy_is_an_echo_of_its_strength_with_and_without_air():
    head = head_phantom((96, 96, 12))
    assert artefacts.echo(head) < 0.001
    for masked in (False, True):
        ghost = head + 0.2 * np.roll(head, 40, axis=1)
        image = np.where(head > 20, ghost, 0) if masked else ghost
        # One displacement of 81 returns 0.2 of the edges: 0.2 / sqrt(81). The detail of an edge is
        # two or three voxels wide, so that those beside it return some as well; what a copy adds
        # to the strength of the place where it stands takes weight from it.
        found = artefacts.echo(image.astype(np.float32))
        assert 0.2 / 9 / 2 < found < 0.2 / 9 * 2


def test_a_ghost_brightens_a_part_of_the_air():
    air = np.random.default_rng(0).rayleigh(2, (48, 48, 32)).astype(np.float32)
    everywhere = np.ones(air.shape, bool)
    plain = artefacts.ghost_level(air, everywhere, 100)
    air[:16] += 12
    assert artefacts.ghost_level(air, everywhere, 100) > plain + 0.08
    assert artefacts.ghost_level(air, ~everywhere, 100) is None


def test_a_failing_metric_is_named_and_warns():
    def broken():
        raise ValueError("no edges")

    judged = verdict.judge({"x": take("mm", "low", broken)}, {})
    assert judged.verdict == "warn"
    assert "no edges" in judged.reasons[0]["text"]


def test_not_a_number_is_a_failure_and_not_applicable_is_none():
    def skip():
        raise NotApplicable("no air")

    assert take("mm", "low", lambda: float("nan")).failed
    judged = verdict.judge({"x": take("mm", "low", skip)}, {"x": {"warn": [1, 2]}})
    assert judged.verdict == "pass"
    assert judged.metrics["x"]["status"] == "not applicable"


def test_limits_decide_and_the_worst_comes_first():
    rules = {
        "noise": {"warn": [None, 0.1], "hold": [None, 0.2]},
        "blank": {"warn": [0.9, None], "hold": [0.5, None]},
    }
    measures = {"noise": Measure(0.15, "", "low"), "blank": Measure(0.2, "", "high")}
    judged = verdict.judge(measures, rules)
    assert judged.verdict == "hold"
    assert [r["name"] for r in judged.reasons] == ["blank", "noise"]
    assert verdict.judge({"noise": Measure(0.1, "", "low")}, rules).verdict == "pass"


def test_limits_of_bundle_and_settings_override(tmp_path):
    bundle = {"quality": {"scan": {"T1w": {"noise": {"warn": [None, 7.0]}}}}}
    assert verdict.limits_for("T1w", bundle)["scan"]["noise"] == {"warn": [None, 7.0]}
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"scan": {"T1w": {"noise": {"warn": [None, 8.0]}}}}))
    assert verdict.limits_for("T1w", bundle, path)["scan"]["noise"] == {"warn": [None, 8.0]}
    assert verdict.limits_for("T1w", {"quality": {"base": "none"}})["scan"] == {}
    assert verdict.limits_for("T1w", {})["scan"]["clipped"]["hold"][1] is not None


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"scan": []},
        {"scan": {"T1w": {"noise": 3}}},
        {"scan": {"T1w": {"noise": {"warn": [None, float("inf")]}}}},
        {"reference": {"T1w": [1]}},
        {"reference": {"T1w": 9 * [0.5] + ["x"]}},
        {"reference": None},
    ],
)
def test_unusable_limits_are_refused(tmp_path, bad):
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(bad))
    with pytest.raises(UsageError, match="expected"):
        verdict.limits_for("T1w", {}, path)
    if bad:
        with pytest.raises(BundleError, match="expected"):
            verdict.limits_for("T1w", {"quality": bad})


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"scan": {"T1w": {"nois": {"warn": [None, 1]}}}}, "'nois'; did you mean 'noise'"),
        ({"scan": {"T1": {"noise": {"warn": [None, 1]}}}}, "'T1'; did you mean 'T1w'"),
        ({"scans": {}}, "'scans'; did you mean 'scan'"),
    ],
)
def test_limits_of_a_file_that_nothing_bears_are_refused(tmp_path, limits, words):
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(limits))
    with pytest.raises(UsageError, match=words):
        verdict.limits_for("T1w", {}, path)


def test_the_limits_that_ship_may_be_given_as_a_file(tmp_path):
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(verdict.shipped()))
    assert verdict.limits_for("T1w", {}, path) == verdict.limits_for("T1w", {})


def test_limits_lie_outside_of_clean_scans():
    found = limits._beyond(np.array([1.0, 2.0, 4.0]), "range", True, False)
    assert found["hold"][0] < found["warn"][0] < 1.0
    assert found["hold"][1] > found["warn"][1] > 4.0
    assert limits._beyond(np.array([1.0, 2.0]), "low", False, False)["warn"][0] is None
    few = limits._beyond(np.array([10.0, 10.0, 10.1]), "range", True, True)
    assert few == {"warn": [8.0, 12.1], "hold": [7.5, 12.6]}


def test_swapped_neighbours_shorten_the_way_back():
    table = np.cumsum(np.random.default_rng(0).random((12, 400)), axis=0).astype(np.float32)
    assert slicewise.swapped(table) < 1
    table[[5, 6]] = table[[6, 5]]
    assert slicewise.swapped(table) > 1


def test_a_slice_left_out_doubles_a_step():
    rng = np.random.default_rng(0)
    table = np.cumsum(rng.standard_normal((14, 4000)), axis=0).astype(np.float32)
    # A random walk: every step is as long as any other, and two at once are sqrt(2) as long.
    assert slicewise.gap(table) == pytest.approx(1, abs=0.05)
    assert slicewise.gap(np.delete(table, 6, axis=0)) == pytest.approx(np.sqrt(2), abs=0.05)


@pytest.fixture(scope="module")
def pair():
    """A scan and a perfect result: the same head, inverted contrast, sharper."""
    scan = volume()
    fine = scan.isotropic()
    result = np.where(fine.data > 20, 900 - 2 * fine.data, 5).astype(np.float32)
    return scan, fine, result, fitness.assess(scan, fine, "T1w").scan


def figures(pair, result):
    _, fine, _, laid = pair
    return {n: m.value for n, m in plausibility.assess(laid, fine.data, result).measures.items()}


def test_a_faithful_result_is_consistent_whatever_its_contrast(pair):
    found = figures(pair, pair[2])
    assert found["consistency"] > 0.9
    assert found["finite"] == 1.0


def test_an_invented_lesion_is_found_where_it_is(pair):
    centre = tuple(n // 2 for n in pair[2].shape)
    wrong = result_faults.invented(pair[2], centre, 12, 0.8)
    assert figures(pair, wrong)["residual_blob"] > 1.3 * figures(pair, pair[2])["residual_blob"]


@pytest.mark.parametrize(
    ("fault", "metric", "up"),
    [
        ("slice shifted", "result_displaced", True),
        ("checkerboard", "checkerboard", True),
        ("contrast collapsed", "result_contrast", False),
    ],
)
def test_a_faulty_result_moves_its_metric(pair, fault, metric, up):
    wrong = result_faults.RESULT_FAULTS[fault](pair[2], 2, np.random.default_rng(0))
    before, after = figures(pair, pair[2])[metric], figures(pair, wrong)[metric]
    assert (after > before) if up else (after < before)


def test_contrast_is_between_tissues_not_of_tissue_against_black():
    # Tissue of 0.8 to 1.2 beside more or less black: (P90 - P10) / median = 0.32 whatever there is.
    tissue = np.linspace(0.8, 1.2, 6000, dtype=np.float32)
    for black in (0, 1000, 4000):
        result = np.concatenate([tissue, np.zeros(black, np.float32)]).reshape(10, 10, -1)
        inside = np.ones(result.shape, bool)
        assert plausibility.tissue_contrast(result, 1.0, inside) == pytest.approx(0.32, abs=0.001)
        assert plausibility.tissue_contrast(0 * result, 1.0, inside) == 0


def test_a_result_that_is_not_finite_is_held(pair):
    scan, fine, result, _ = pair
    bad = result.copy()
    bad[3, 3, 3] = np.nan
    for figures in ({}, {"quality": {"base": "none"}}):
        seen = inspect(scan, fine, "T1w", fine.with_data(bad), figures)
        assert seen.verdict == "hold"
    assert "finite" in {reason["name"] for reason in seen.reasons}


def records(noise, count):
    rng = np.random.default_rng(0)
    return [
        {
            "contrast": {"name": "T1w"},
            "metrics": {"scan": {"noise": {"value": float(noise * rng.normal(1, 0.05))}}},
        }
        for _ in range(count)
    ]


def test_drift_sees_a_change_and_only_a_change():
    assert drift.drift(records(0.02, 15))["verdict"] == "too few"
    assert drift.drift(records(0.02, 60))["verdict"] == "pass"
    changed = drift.drift(records(0.02, 50) + records(0.03, 10))
    assert changed["verdict"] == "warn"
    assert "noise" in changed["reasons"][0]


def test_drift_of_nothing_that_exists_is_refused(tmp_path):
    with pytest.raises(UsageError, match="one of T1w, T2w, FLAIR, got t1w"):
        drift.drift(records(0.02, 60), contrast="t1w")
    with pytest.raises(BadInput, match="expected a folder with receipts"):
        drift.receipts([tmp_path / "outbix"])
    (tmp_path / "x_desc-synthetic.json").symlink_to(tmp_path / "gone")
    assert drift.receipts([tmp_path]) == []
