"""explain finds a verdict that does not follow from the figures beside it."""

from __future__ import annotations

import copy
import json

import pytest
from typer.testing import CliRunner

from lohi_edge.cli import app
from lohi_edge.quality import rejudge, verdict
from lohi_edge.quality.measure import NotApplicable, take

LIMITS = {
    "noise": {"warn": [None, 0.05], "hold": [None, 0.1]},
    "blank": {"warn": [0.9, None], "hold": [0.5, None]},
}


def fail():
    raise ValueError("no edges")


def skip():
    raise NotApplicable("no air")


def judged(noise, blank=1.0, **more):
    """A receipt's metrics and verdict, as they are made of measures."""
    measures = {
        "noise": take("ratio", "low", lambda: noise),
        "blank": take("ratio", "high", lambda: blank),
        "failed": take("ratio", "low", fail if more.get("failing") else lambda: 1.0),
        "skipped": take("ratio", "low", skip),
    }
    found = verdict.judge(measures, LIMITS)
    metrics = {"scan": found.metrics, "head_mm": [1, 2, 3]}
    note = {"name": "input", "level": "note", "text": "sform taken"}
    return {"metrics": metrics, "verdict": found.verdict, "reasons": [*found.reasons, note]}


@pytest.mark.parametrize(
    ("noise", "blank", "failing", "expected"),
    [
        (0.01, 1.0, False, "pass"),
        (0.07, 1.0, False, "warn"),
        (0.07, 0.3, False, "hold"),
        (0.01, 1.0, True, "warn"),
        (float("nan"), 1.0, False, "warn"),
        # Judged as measured, recorded rounded: the very limit stands there.
        (0.1 * (1 + 1e-9), 1.0, False, "hold"),
        (0.01, 0.5 * (1 - 1e-9), False, "hold"),
    ],
)
def test_what_was_judged_stands_up(noise, blank, failing, expected):
    record = json.loads(json.dumps(judged(noise, blank, failing=failing)))
    assert record["verdict"] == expected
    assert rejudge.check(record) == "ok"


@pytest.mark.parametrize("value", ["pass", "PASS", "hold", None, "", "note"])
def test_another_verdict_is_changed(value):
    assert rejudge.check({**judged(0.07), "verdict": value}) == "changed"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("noise", "status", "pass"),
        ("noise", "status", "hold"),
        ("noise", "status", None),
        ("noise", "status", []),
        ("noise", "value", 0.04),
        ("noise", "value", 0.2),
        ("noise", "value", None),
        ("noise", "value", "0.07"),
        ("noise", "value", True),
        ("noise", "limits", {"warn": [None, 0.08], "hold": [None, 0.1]}),
        ("noise", "limits", {}),
        ("noise", "limits", {"warn": [None]}),
        ("noise", "limits", {"warn": ["a", "b"]}),
        ("noise", "limits", {"warn": 1}),
        ("noise", "limits", []),
        ("failed", "status", "not applicable"),
        ("failed", "note", "there is no air"),
        ("failed", "note", None),
        ("skipped", "status", "pass"),
        ("skipped", "value", 1.0),
    ],
)
def test_a_metric_that_was_edited_is_changed(name, key, value):
    record = judged(0.07, failing=True)
    assert rejudge.check(record) == "ok"
    edited = copy.deepcopy(record)
    edited["metrics"]["scan"][name][key] = value
    assert rejudge.check(edited) == "changed"


@pytest.mark.parametrize("entry", [None, [], "pass", {}, {"status": "pass"}])
def test_what_is_no_metric_is_changed(entry):
    record = judged(0.07)
    record["metrics"]["scan"]["noise"] = entry
    assert rejudge.check(record) == "changed"


@pytest.mark.parametrize(
    "edit",
    [
        lambda reasons: [],
        lambda reasons: reasons[1:],
        lambda reasons: [*reasons, {"name": 5, "level": "hold", "text": "x"}],
        lambda reasons: [*reasons, {"name": "skipped", "level": "warn", "text": "x"}],
        lambda reasons: [reasons[0] | {"level": "note"}, *reasons[1:]],
        lambda reasons: [*reasons, "x"],
        lambda reasons: [{"name": [], "level": "warn"}],
    ],
)
def test_reasons_taken_out_or_added_are_changed(edit):
    record = judged(0.07, failing=True)
    assert rejudge.check({**record, "reasons": edit(record["reasons"])}) == "changed"
    words = [{**reason, "text": "in words of one's own"} for reason in record["reasons"]]
    assert rejudge.check({**record, "reasons": words}) == "ok"


def test_the_few_slices_of_a_scan_may_be_its_one_reason():
    record = judged(0.07)
    few = verdict.judge(
        {"slices": take("count", "range", lambda: 1.0)}, {"slices": {"hold": [10, None]}}
    )
    record["metrics"]["scan"] |= few.metrics
    held = {**record, "verdict": "hold", "reasons": few.reasons}
    assert rejudge.check(held) == "ok"
    assert rejudge.check({**held, "reasons": record["reasons"]}) == "changed"
    held["metrics"]["scan"]["slices"]["value"] = 8.0  # of which the other metrics tell
    assert rejudge.check(held) == "changed"
    assert rejudge.check({**held, "reasons": few.reasons + record["reasons"]}) == "ok"


def test_metrics_that_were_taken_out_are_changed():
    assert rejudge.check({"metrics": {}, "verdict": "pass"}) == "changed"
    assert rejudge.check({"metrics": {"scan": {}}, "verdict": None}) == "missing"


def test_explain_says_so_and_exits_with_3(done, identity_bundle):
    words = ["explain", str(done.path), "--bundle", str(identity_bundle), "--json"]
    asked = CliRunner().invoke(app, words)
    assert (asked.exit_code, json.loads(asked.stdout)["checks"]["verdict"]) == (0, "ok")
    beside = done.path.with_name("scan_T1w_desc-synthetic.json")
    beside.write_text(beside.read_text().replace('"verdict": "pass"', '"verdict": "PASS"'))
    asked = CliRunner().invoke(app, words)
    assert (asked.exit_code, json.loads(asked.stdout)["checks"]["verdict"]) == (3, "changed")
