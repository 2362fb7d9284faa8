"""A daemon whose scans take longer than their budget says so everywhere."""

from __future__ import annotations

import json

import pytest

from lohi_edge.device.latency import MIN_SCANS


@pytest.mark.slow
def test_a_breach_is_in_log_status_and_audit(box):
    box.settings["latency"] = {"device": "cpu", "cpu_p95_s": 0.001}
    for number in range(MIN_SCANS):
        box.scan(f"{number}.nii", number)
    box.start()
    box.wait_states(done=MIN_SCANS)
    assert box.stop() == 0
    said = box.status()["latency"]
    assert (said["breached"], said["over_budget"], said["class"]) == (True, MIN_SCANS, "cpu")
    assert said["p95_s"] > 0.001
    assert {"power_mode", "throttled"} <= said.keys()
    assert box.read_log().count("latency.breached") == 1
    audit = (box.state / "audit.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in audit]
    assert "latency.breached" in json.dumps(events)
