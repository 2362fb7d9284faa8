"""The process is really killed at every step; whatever the step, nothing is lost or done twice."""

from __future__ import annotations

import shutil
import time

import pytest

from lohi_edge.watch import faults


@pytest.mark.slow
def test_every_fault_point_is_reached_and_survived(box):
    """One daemon after another dies at the next point; each start recovers what the last left."""
    box.settings["watch"]["originals"] = "move"
    for number, point in enumerate(faults.DAEMON_POINTS):
        box.scan(f"ward/s{number}_T1w.nii.gz", seed=number)
        box.start(fault=point)
        box.wait_killed()
    box.start()
    box.wait_states(done=len(faults.DAEMON_POINTS))
    assert box.stop() == 0
    box.assert_exactly_once(len(faults.DAEMON_POINTS))
    assert list(box.inbox.rglob("*.nii.gz")) == []
    assert len(list((box.outbox / "originals").rglob("*.nii.gz"))) == len(faults.DAEMON_POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["keep", "move", "delete"])
@pytest.mark.parametrize("point", faults.DAEMON_POINTS)
def test_killed_at_a_point_with_a_queue(box, point, originals):
    box.settings["watch"]["originals"] = originals
    for number in range(3):
        box.scan(f"s{number}_T1w.nii.gz", seed=number)
    box.start(fault=f"{point}:2" if point not in ("after_seen", "after_received") else point)
    if originals == "keep" and point in ("after_original", "after_closed"):
        box.wait_states(done=3)  # nothing happens to originals that are kept
        box.kill()
    else:
        box.wait_killed()
    box.start()
    box.wait_states(done=3)
    assert box.stop() == 0
    box.assert_exactly_once(3)
    assert len(list(box.inbox.rglob("*.nii.gz"))) == (3 if originals == "keep" else 0)


ONE = "worker_compute"  # in the fast tier; the others differ in when the worker dies
OTHERS = [p for p in faults.WORKER_POINTS if p != ONE]


@pytest.mark.parametrize("point", [ONE, *(pytest.param(p, marks=pytest.mark.slow) for p in OTHERS)])
def test_worker_killed_once_costs_one_attempt(box, point, tmp_path):
    box.scan("a_T1w.nii.gz")
    box.settings["worker"]["backoff_s"] = 3600
    box.start(fault=point)
    if point == "worker_start":
        box.wait(lambda: "worker.lost" in box.read_log())
        struck = 0
    else:
        box.wait(lambda: any(row["strikes"] for row in box.rows()))
        struck = 1
    box.kill()
    assert [row["strikes"] for row in box.rows() if row["strikes"]] == [1] * struck
    box.settings["worker"]["backoff_s"] = 0.1
    box.start()
    if struck:
        # The backoff of an hour still runs: a restart does not shorten it.
        box.wait(lambda: box.status().get("phase") == "ready")
        assert box.counts() == {"received": 1}
        return
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.parametrize(
    "action", ["kill", *(pytest.param(a, marks=pytest.mark.slow) for a in ("hang", "memory"))]
)
def test_poison_is_quarantined_and_the_others_pass(box, action):
    box.settings["worker"].update(attempts=2, timeout_s=4 if action == "hang" else 600)
    for number, name in enumerate(("a", "poison", "c")):
        box.scan(f"{name}_T1w.nii.gz", seed=number)
    before = (box.inbox / "poison_T1w.nii.gz").read_bytes()
    box.start(fault=f"worker_compute={action}@poison")
    box.wait_states(done=2, quarantined=1)
    assert box.stop() == 0
    assert sorted(p.parent.name for p in box.images()) == ["a_T1w", "c_T1w"]
    (explained,) = (box.outbox / "quarantined").glob("poison_T1w.nii.gz.*.reason.txt")
    reason = explained.read_text()
    why = {"kill": "SIGKILL", "hang": "longer than 4 s", "memory": "MemoryError"}[action]
    assert why in reason
    assert "queue retry" in reason
    assert (box.inbox / "poison_T1w.nii.gz").read_bytes() == before
    assert [r["strikes"] for r in box.rows() if r["state"] == "quarantined"] == [2]
    assert box.leftovers() == []


@pytest.mark.slow
def test_a_poison_that_is_read_ahead_does_not_quarantine_its_neighbour(box):
    box.settings["worker"].update(attempts=2)
    for number, name in enumerate(("a", "poison", "c")):
        box.scan(f"{name}_T1w.nii.gz", seed=number)
    box.start(fault="worker_read@poison")
    box.wait_states(done=2, quarantined=1)
    assert box.stop() == 0
    assert [r["path"] for r in box.rows() if r["state"] == "quarantined"] == [b"poison_T1w.nii.gz"]


def phases(box):
    return [job["phase"] for job in box.status().get("jobs", [])]


@pytest.mark.slow
def test_three_scans_are_in_hand_and_all_survive(box):
    """One is written (here for ever), one computed behind it, one read; then the power goes."""
    for number, name in enumerate("abcd"):
        box.scan(f"{name}_T1w.nii.gz", seed=number)
    box.start(fault="worker_write=hang@a_T1w")
    box.wait(lambda: phases(box) == ["writing", "writing", "read"], "all three at work")
    box.kill()
    assert [p.name for p in box.outbox.iterdir()] == [".lohi-edge"]  # nothing delivered
    box.start()
    box.wait_states(done=4)
    assert box.stop() == 0
    box.assert_exactly_once(4)


@pytest.mark.slow
def test_a_second_name_waits_for_the_first_that_is_being_written(box):
    shutil.copy(box.scan("a_T1w.nii.gz"), box.inbox / "b_T1w.nii.gz")
    box.start(fault="worker_write=hang@a_T1w")
    box.wait(lambda: phases(box) == ["writing", "read"], "both in hand")
    time.sleep(2)
    assert phases(box) == ["writing", "read"]
    box.kill()
    box.start()
    box.wait_states(done=2)
    assert box.stop() == 0
    assert (len(box.images()), len(box.receipts())) == (1, 2)
