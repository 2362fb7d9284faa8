"""Series whose files have left the inbox, in part or whole, and come back."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

from dicom_series import ball, save, write


@pytest.mark.slow
def test_what_a_dead_daemon_left_on_its_way_out_can_be_tried_again(box):
    box.settings["watch"].update(series_quiet_s=0.3, originals="move", incomplete_s=0.1)
    folder = save(box.inbox / "ward", ball(1)[:5] + ball(1)[6:])
    box.start(fault="after_slice_left:7")
    box.wait_killed()
    assert len(list(folder.iterdir())) == 16
    assert "again" in box.cli("queue", "retry", "1").stdout
    assert len(list(folder.iterdir())) == 23
    assert box.counts() == {"received": 1}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ward", "."])
def test_without_the_ledger_no_scan_is_made_of_what_is_left_of_a_series(box, place):
    """Its slices leave from one end on, so that the rest of them has no gap."""
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    (box.inbox / place).mkdir(exist_ok=True)
    for k, ds in enumerate(ball(1)):
        write(box.inbox / place / f"{k:03}", ds)
    box.start(fault="after_slice_left:7")
    box.wait_killed()
    assert len(list((box.inbox / place).iterdir())) == 17
    shutil.rmtree(box.state)
    box.start()
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    assert box.stop() == 0
    assert [(r["state"], r["original"]) for r in box.rows()] == [("done", "moved")]
    assert len(box.receipts()) == 1
    assert sum(p.is_file() for p in (box.outbox / "originals").rglob("*")) == 24
    assert box.leftovers() == []


def tried_again(box, place, fault=None):
    """A series is quarantined and moved away, and brought back while no daemon runs."""
    box.settings["watch"].update(series_quiet_s=0.3, originals="move")
    box.settings["worker"]["attempts"] = 1
    (box.inbox / place).mkdir(exist_ok=True)
    for k, ds in enumerate(ball(1)):
        write(box.inbox / place / f"{k:03}", ds)
    box.start(fault="worker_compute")
    box.wait_states(quarantined=1)
    box.wait(lambda: not list(box.inbox.iterdir()), "the originals gone")
    box.kill()
    retry = [sys.executable, "-m", "lohi_edge", "queue", "retry", "1", "--state", str(box.state)]
    extra = {"LOHI_EDGE_FAULT": fault} if fault else {}
    code = subprocess.run(retry, env=box.environment(**extra), check=False).returncode
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    assert not list((box.outbox / "quarantined").rglob("0*"))
    (receipt,) = box.receipts().values()
    assert receipt["source"]["shape"][2] == 24
    assert sum(p.is_file() for p in (box.outbox / "originals").rglob("*")) == 24
    return code


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ward", "."])
def test_a_failed_series_that_was_moved_can_be_tried_again(box, place):
    assert tried_again(box, place) == 0
    assert [row["attempts"] for row in box.rows()] == [2]


@pytest.mark.slow
def test_killed_while_it_brings_a_series_back(box):
    """Half of a series in the inbox would be taken for a whole one."""
    assert tried_again(box, ".", fault="after_brought_back") == -signal.SIGKILL
