"""What the daemon tells others: hook, queue, audit log, log and page."""

from __future__ import annotations

import json
import urllib.request

import pytest


def test_hook_runs_after_delivery_and_a_hanging_one_blocks_nothing(box):
    out = box.inbox.parent / "told"
    script = box.inbox.parent / "hook.sh"
    script.write_text(f'#!/bin/sh\ncat "$1" >> {out}\nsleep 600\n')
    script.chmod(0o755)
    box.settings["watch"].update(hook=str(script), hook_timeout_s=0.5)
    for seed in range(3):
        box.scan(f"s{seed}_T1w.nii.gz", seed=seed)
    box.start()
    box.wait_states(done=3)
    box.wait(lambda: out.exists() and out.read_text().count('"LohiEdge"') == 3)
    assert box.stop() == 0


@pytest.mark.slow
def test_queue_commands_beside_a_running_daemon_and_without_one(box):
    box.settings["worker"].update(attempts=1)
    box.settings["watch"]["originals"] = "move"
    moved = box.outbox / "quarantined/a_T1w.nii.gz"
    box.scan("a_T1w.nii.gz")
    box.start(fault="worker_compute")
    box.wait_states(quarantined=1)
    box.wait(moved.is_file)
    listed = json.loads(box.cli("queue", "list", "--json").stdout)
    assert [(row["scan"], row["state"]) for row in listed] == [(1, "quarantined")]
    said = json.loads(box.cli("status", "--json").stdout)
    assert (said["running"], said["queue"]["quarantined"]) == (True, 1)
    for refused in (("drop", "1"), ("retry", "7")):
        assert box.cli("queue", *refused).exception.exit_code == 2
    assert "again" in box.cli("queue", "retry", "1").stdout  # the daemon does it
    box.wait_states(quarantined=1)
    box.wait(lambda: box.rows()[0]["attempts"] == 2 and moved.is_file())
    box.kill()
    assert "again" in box.cli("queue", "retry", "1").stdout  # the command does it itself
    assert (box.inbox / "a_T1w.nii.gz").is_file()
    assert not list((box.outbox / "quarantined").iterdir())
    box.start()
    box.wait_states(done=1)
    assert json.loads(box.cli("queue", "show", "1", "--json").stdout)["state"] == "done"
    assert box.stop() == 0
    assert json.loads(box.cli("status", "--json").stdout)["running"] is False


def test_a_dropped_scan_is_never_enhanced_and_stays_untouched(box):
    scan = box.scan("a_T1w.nii.gz")
    box.settings["disk"] = {"reserve_gb": 1e6}
    box.start()
    box.wait(lambda: "disk space" in str(box.status().get("paused")), "paused")
    assert box.counts() == {"received": 1}
    assert "dropped" in box.cli("queue", "drop", "1").stdout
    box.kill()
    box.settings["disk"] = {"reserve_gb": 0}
    box.start()
    box.scan("b_T1w.nii.gz", seed=1)
    box.wait_states(done=1, failed=1)
    assert box.stop() == 0
    assert scan.is_file()


@pytest.mark.slow
def test_audit_log_shows_edit_removal_and_reorder_before_the_known_head(box):
    box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(done=1)
    box.kill()
    path = box.state / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert box.cli("audit", "verify").exit_code == 0
    done = next(n for n, line in enumerate(lines) if b"scan.done" in line)
    for spoiled in (
        lines[:1] + lines[2:],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:1], lines[1].replace(b"identity", b"another!"), *lines[2:]],
        lines[:done],
        [],
    ):
        path.write_bytes(b"".join(spoiled))
        assert box.cli("audit", "verify").exit_code == 3, spoiled
    path.write_bytes(b"".join(lines) + b'{"torn')
    box.start()
    box.wait_ready()
    assert box.stop() == 0
    assert box.cli("audit", "verify").exit_code == 0
    assert b"log.mended" in path.read_bytes()


@pytest.mark.parametrize("format", ["text", pytest.param("json", marks=pytest.mark.slow)])
def test_logs_and_audit_name_no_patient(box, format):
    box.settings["log"] = {"format": format}
    box.settings["enhance"] = {"grid": "1mm"}  # and no contrast: the names say it
    box.settings["worker"].update(attempts=1)
    box.scan("DOE^JANE/sub-DOEJANE_T1w.nii.gz")
    (box.inbox / "DOEJANE_bad.nii.gz").write_bytes(b"no scan")
    (box.inbox / "DOEJANE_cut.nii").write_bytes(b"\x5c\x01\x00\x00")
    box.settings["watch"]["incomplete_s"] = 0.5
    box.scan("DOEJANE_poison_T1w.nii.gz", seed=3)
    box.scan("sub-DOEJANE_FLAIR.nii.gz", seed=4)  # no bundle serves it
    box.start(fault="worker_compute@poison")
    box.wait_states(done=1, failed=3, quarantined=1)
    assert box.stop() == 0
    said = box.log.read_text() + (box.state / "audit.jsonl").read_text()
    assert "scan.done" in said
    assert "DOE" not in said
    if format == "json":
        assert {"event", "at"} <= json.loads(box.log.read_text().splitlines()[-1]).keys()


def test_the_page_shows_what_the_daemon_delivers(box):
    """Report and picture lie in the result's folder; the page hands them out."""
    box.settings["http"] = {"page": "0"}
    box.scan("a_T1w.nii.gz")
    (box.inbox / "bad_T1w.nii.gz").write_bytes(b"this is no scan")
    box.start()
    box.wait_states(done=1, failed=1)
    box.wait(lambda: box.status().get("page_port"))
    base = f"http://127.0.0.1:{box.status()['page_port']}"

    def get(path):
        with urllib.request.urlopen(base + path, timeout=60) as answer:
            return answer.read()

    box.wait(lambda: "ready" in json.loads(get("/scans.json"))["state"])
    told = json.loads(get("/scans.json"))
    (done,), (bad,) = told["done"], told["trouble"]
    assert (done["report"], done["picture"], bad["report"]) == (True, True, False)
    assert b"SYNTHETIC" in get(f"/report/{done['scan']}")
    assert get(f"/picture/{done['scan']}.png").startswith(b"\x89PNG")
    assert box.stop() == 0
    assert sorted(p.name for p in (box.outbox / "a_T1w").iterdir()) == [
        "a_T1w_desc-synthetic.json", "a_T1w_desc-synthetic.nii.gz",
        "a_T1w_desc-synthetic_report.html", "a_T1w_desc-synthetic_report.png",
    ]  # fmt: skip
