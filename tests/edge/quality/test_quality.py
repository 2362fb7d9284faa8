"""Fitness, plausibility, drift: what is wrong is seen, what is right passes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge import demo, nifti
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.quality import drift, faults, fitness, plausibility, result_faults
from lohi_edge.quality.inspect import inspect
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


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**-90, 2.0**80])
def test_a_scan_in_another_unit_of_brightness_has_the_same_figures(clean, unit):
    """A reconstruction in volts may lie below a millionth throughout."""
    found = assess(head_phantom() * np.float32(unit))
    assert {name: m.value for name, m in found.measures.items()} == clean


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
        ("added offset", "offset", True),
    ],
)
def test_a_strong_fault_moves_its_metric(clean, fault, metric, up):
    damaged = faults.SCAN_FAULTS[fault](head_phantom(), 2, np.random.default_rng(1))
    value = assess(np.ascontiguousarray(damaged)).measures[metric].value
    assert value is not None
    assert (value > clean[metric] * 1.1 + 1e-6) if up else (value < clean[metric] * 0.9)


def test_no_share_is_above_one_where_the_sign_was_turned():
    measure = assess(-head_phantom()).measures["clipped"]
    assert (measure.value, measure.failed) == (None, False)
    assert measure.note == "no voxel is as bright as tissue"
    masked = assess(head_phantom().max() - head_phantom() * (head_phantom() > 100))
    assert 0.5 < masked.measures["clipped"].value <= 1


@pytest.mark.parametrize("stated", [None, "3", True, 640, float("nan"), [3]])
def test_a_field_strength_that_is_not_in_tesla_is_none(tmp_path, stated):
    path = tmp_path / "a_T1w.nii.gz"
    path.write_bytes(demo.SCAN.read_bytes())
    path.with_name("a_T1w.json").write_text(json.dumps({"MagneticFieldStrength": stated}))
    assert fitness.stated_tesla(nifti.read(path)) is None


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


@pytest.mark.parametrize(
    ("added", "words"), [(1000, "added to all"), (100, "added to all"), (-150, "below zero")]
)
def test_a_scan_with_a_number_added_is_held_for_that(added, words):
    scan = nifti.read(demo.SCAN)
    wrong = scan.with_data(scan.data + np.float32(added))
    seen = inspect(wrong, wrong.isotropic(), "T1w")
    assert seen.verdict == "hold"
    assert seen.reasons[0]["name"] == "offset"
    assert words in seen.reasons[0]["text"]
    assert "offset" not in {r["name"] for r in inspect(scan, scan.isotropic(), "T1w").reasons}


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


@pytest.fixture(scope="module")
def pair():
    """A scan and a perfect result: the same head, inverted contrast, sharper."""
    scan = volume()
    fine = scan.isotropic()
    result = np.where(fine.data > 20, 900 - 2 * fine.data, 5).astype(np.float32)
    return scan, fine, result, fitness.assess(scan, fine, "T1w").scan


def figures(pair, result):
    _, fine, _, laid = pair
    measures = plausibility.assess(laid, fine.data, result, "T1w").measures
    return {name: measure.value for name, measure in measures.items()}


def test_a_faithful_result_is_consistent_whatever_its_contrast(pair):
    found = figures(pair, pair[2])
    assert found["consistency"] > 0.9
    assert found["finite"] == 1.0


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
        drift.receipts([tmp_path / "outbix"], print)
    (tmp_path / "x_desc-synthetic.json").symlink_to(tmp_path / "gone")
    assert drift.receipts([tmp_path], print) == []
