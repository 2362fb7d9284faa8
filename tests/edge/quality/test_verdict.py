"""Limits and the verdict by them: which count, which are refused, what comes first."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers import head_phantom
from lohi_edge.errors import BundleError, UsageError
from lohi_edge.quality import limits, verdict
from lohi_edge.quality.inspect import inspect
from lohi_edge.quality.measure import Measure, NotApplicable, take
from lohi_edge.volume import Volume


def test_a_failing_metric_is_named_and_warns():
    def broken():
        raise ValueError("no edges")

    judged = verdict.judge({"x": take("mm", "low", broken)}, {})
    assert judged.verdict == "warn"
    text = judged.reasons[0]["text"]
    assert text.startswith("x: could not be computed, as where a scan shows too little of a head")
    assert "no edges" not in text
    assert judged.metrics["x"]["cause"] == "no edges"


@pytest.mark.parametrize("slices", [1, 2, 3, 5])
def test_of_a_few_slices_is_said_what_a_person_can_act_on(slices):
    """And nothing that numpy says of its arrays."""
    middle = head_phantom().shape[0] // 2
    data = np.ascontiguousarray(head_phantom()[middle : middle + slices])
    scan = Volume(data, np.diag([2.8, 2.8, 9.0, 1.0]))
    fine = scan.isotropic()
    seen = inspect(scan, fine, "T1w", fine.with_data(fine.data * (1000 / fine.data.max())))
    entries = {**seen.metrics["scan"], **seen.metrics["result"]}
    causes = {name: entry["cause"] for name, entry in entries.items() if "cause" in entry}
    texts = {reason["name"]: reason["text"] for reason in seen.reasons}
    assert "cannot reshape array" in causes["checkerboard"]
    for name, cause in causes.items():
        assert "as where a scan shows too little of a head" in texts[name]
        assert cause not in texts[name]


@pytest.mark.parametrize(("slices", "alone"), [(1, True), (5, True), (8, False)])
def test_that_there_are_few_slices_is_why_all_else_looks_wrong(slices, alone):
    middle = head_phantom().shape[2] // 2
    data = np.ascontiguousarray(head_phantom()[:, :, middle : middle + slices])
    scan = Volume(data, np.diag([2.8, 2.8, 5.0, 1.0]))
    seen = inspect(scan, scan.isotropic(), "T1w")
    assert (seen.verdict, seen.reasons[0]["name"]) == ("hold", "slices")
    wrong = [name for name, entry in seen.metrics["scan"].items() if entry["status"] == "hold"]
    assert "head_height" in wrong
    names = {reason["name"] for reason in seen.reasons}
    assert ("head_height" not in names) == alone
    assert not alone or names <= {"slices", "in_plane_mm"}


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
