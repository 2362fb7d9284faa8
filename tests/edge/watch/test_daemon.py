"""The daemon as a user runs it: scans in, results out, each exactly once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from dicom_series import save, slices
from helpers import small_head
from lohi_edge import delivery, dicom
from watch_parts import without_root


def test_every_way_a_file_can_arrive(box):
    """Renamed in, copied, grown slowly, hard-linked, moved in with its folder; .nii and .nii.gz."""
    away = box.inbox.parent / "away"
    made = [box.scan(f"../away/{n}", seed=i) for i, n in enumerate(("a.nii.gz", "b.nii", "c.nii"))]
    folder = box.scan("../away/ward/d_T1w.nii.gz", seed=3).parent
    box.scan("early_T1w.nii.gz", seed=4)
    box.start()
    box.wait_ready()
    shutil.copy(made[0], box.inbox / "copied.nii.gz")
    os.link(made[1], box.inbox / "linked.nii")
    folder.rename(box.inbox / "ward")
    whole = made[2].read_bytes()
    with (box.inbox / "grown.nii").open("wb") as file:
        for start in range(0, len(whole), 4000):
            file.write(whole[start : start + 4000])
            file.flush()
            time.sleep(0.15)  # longer than the time between two looks after an event
            assert "grown" not in {p.parent.name for p in box.images()}
    for name in ("x.nii.gz.part", ".hidden.nii.gz", "y.nii.tmp", "notes.txt"):
        (box.inbox / name).write_bytes(whole)
    box.wait_states(done=5)
    assert box.stop() == 0
    box.assert_exactly_once(5)
    names = {str(p.parent.relative_to(box.outbox)) for p in box.images()}
    assert names == {"early_T1w", "copied", "linked", "grown", "ward/d_T1w"}
    receipt = box.receipts()["ward/d_T1w/d_T1w_desc-synthetic.json"]
    assert receipt["source"]["path"] == "../../../in/ward/d_T1w.nii.gz"
    assert receipt["timings"]["total"] > receipt["timings"]["read"] > 0
    assert (away / "a.nii.gz").is_file()


def test_names_from_hell(box):
    """Newline, leading dash, 255 bytes, invalid UTF-8, reserved words; a link out is refused."""
    hostile = [
        os.fsdecode(n)
        for n in (b"new\nline.nii.gz", b"-rf.nii.gz", b"x" * 248 + b".nii.gz", b"\xff\xfe.nii.gz",
                  b"held.nii.gz", b"%s$(id).nii.gz", "Zoë.nii.gz".encode())
    ]  # fmt: skip
    outside = box.scan("../secret_T1w.nii.gz", seed=99)
    for seed, name in enumerate(hostile):
        box.scan(name, seed=seed)
    (box.inbox / "link.nii.gz").symlink_to(outside)
    (box.inbox / "folder").symlink_to(outside.parent)
    (box.inbox / "inner.nii.gz").symlink_to(box.inbox / "-rf.nii.gz")
    box.start()
    box.wait_states(done=len(hostile), failed=1)
    assert box.stop() == 0
    receipts = box.receipts()
    assert len(receipts) == len(box.images()) == len(hostile)
    for path, receipt in receipts.items():
        path.encode()  # valid UTF-8, and so is everything in the receipt
        json.dumps(receipt, ensure_ascii=False).encode()
    assert "link" in (box.outbox / "failed/link.nii.gz.reason.txt").read_text()
    assert [r["path"] for r in box.rows() if r["state"] == "failed"] == [b"link.nii.gz"]
    assert outside.is_file()
    assert '"new\\\\nline.nii.gz"' in box.cli("queue", "list", "--all", "--json").stdout
    assert box.leftovers() == []


def test_second_name_and_touch_are_recognised(box):
    first = box.scan("a_T1w.nii.gz")
    box.start()
    box.wait_states(done=1)
    shutil.copy(first, box.inbox / "b_T1w.nii.gz")
    box.wait_states(done=2)
    os.utime(first)
    box.wait(lambda: "scan.known" in box.read_log())
    box.scan("a_T1w.nii.gz", seed=7)  # a new scan under the old name
    box.wait_states(done=3)
    assert box.stop() == 0
    assert len(box.images()) == 2
    receipts = box.receipts()
    second = receipts["b_T1w/b_T1w_desc-synthetic.json"]
    original = receipts["a_T1w/a_T1w_desc-synthetic.json"]
    assert second["result"]["path"] == "../a_T1w/a_T1w_desc-synthetic.nii.gz"
    assert second["result"]["sha256"] == original["result"]["sha256"]
    assert second["watch"]["repeats"] == original["watch"]["scan"]
    assert sum(p.startswith("a_T1w-") for p in receipts) == 1


def test_bad_scan_fails_with_a_reason_and_is_retried_when_mended(box):
    bad = box.inbox / "bad_T1w.nii.gz"
    bad.write_bytes(b"this is no scan")
    box.start()
    box.wait_states(failed=1)
    reason = box.outbox / "failed/bad_T1w.nii.gz.reason.txt"
    assert "NIfTI" in reason.read_text()
    assert bad.read_bytes() == b"this is no scan"
    box.scan("bad_T1w.nii.gz")
    box.wait_states(failed=1, done=1)
    assert box.stop() == 0


@pytest.mark.slow
def test_cut_off_file_waits_then_is_given_up(box):
    whole = box.scan("../whole.nii.gz").read_bytes()
    box.settings["watch"]["incomplete_s"] = 1.5
    (box.inbox / "cut.nii.gz").write_bytes(whole[:-100])
    (box.inbox / "late.nii.gz").write_bytes(whole[:-100])
    box.start()
    box.wait(lambda: len(box.status().get("waiting", {})) == 2, "both waiting")
    (box.inbox / "late.nii.gz").write_bytes(whole)
    box.wait_states(done=1, failed=1)
    assert box.stop() == 0
    assert "truncated" in (box.outbox / "failed/cut.nii.gz.reason.txt").read_text()


@pytest.mark.slow
def test_file_that_changes_while_it_is_read(box):
    """The worker has the old bytes in hand when the file is replaced: only the new count."""
    box.scan("a_T1w.nii.gz", seed=1)
    box.settings["worker"]["timeout_s"] = 2
    box.start(fault="worker_read:1=hang")
    box.wait_states(running=1)
    new = box.scan("a_T1w.nii.gz", seed=2).read_bytes()
    box.wait(lambda: box.counts() == {"done": 1} or "strikes" in box.read_log())
    box.kill()
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    from lohi_edge.files import sha256

    assert [r["source"]["sha256"] for r in box.receipts().values()] == [sha256(new)]


def test_permission_that_appears_later(box):
    scan = box.scan("a_T1w.nii.gz")
    scan.chmod(0)
    box.start(prefix=without_root())
    box.wait(lambda: box.status().get("waiting"), "waiting")
    assert box.status()["waiting"] == {"a_T1w.nii.gz": "permission denied"}
    scan.chmod(0o644)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_outbox_that_becomes_writable_later(box):
    box.scan("a_T1w.nii.gz")
    box.outbox.chmod(0o500)
    box.start(prefix=without_root())
    box.wait(lambda: "cannot be written" in str(box.status().get("paused")), "paused")
    assert box.counts() in ({}, {"received": 1})
    box.outbox.chmod(0o700)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


def test_one_daemon_per_folder(box):
    box.start()
    box.wait_ready()
    for state, outbox in ((box.state, box.outbox), (box.state.with_name("s2"), box.outbox)):
        second = subprocess.run(
            [*box.command()[:4], str(box.inbox), str(outbox), "--state", str(state)],
            env=box.environment(), capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert second.returncode == 2, second.stderr
        assert "another lohi-edge watch" in second.stderr
    box.kill()
    box.start()  # the kernel let go of the locks
    box.wait_ready()
    assert box.stop() == 0


@pytest.mark.slow
def test_stopped_and_continued_counts_against_nobody(box):
    box.settings["worker"]["timeout_s"] = 2
    box.start(fault="worker_compute=hang@zzz")
    box.wait_ready()
    box.process.send_signal(signal.SIGSTOP)
    box.scan("a_T1w.nii.gz")
    time.sleep(2.5)  # longer than the worker's timeout
    box.process.send_signal(signal.SIGCONT)
    box.wait_states(done=1)
    assert box.stop() == 0
    assert [row["strikes"] for row in box.rows()] == [0]


@pytest.mark.slow
def test_sigterm_rolls_back_within_ten_seconds_and_the_next_start_goes_on(box):
    box.scan("a_T1w.nii.gz")
    box.start(fault="worker_compute=hang")
    box.wait(lambda: [j["phase"] for j in box.status().get("jobs", [])] == ["computing"])
    begin = time.monotonic()
    assert box.stop() == 0
    assert time.monotonic() - begin < 10
    assert box.counts() == {"received": 1}
    assert box.leftovers() == []
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


def test_sighup_takes_good_settings_and_keeps_the_old_for_bad(box, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[watch]\noriginals = 'keep'\n")
    box.start(env={"LOHI_EDGE_CONFIG": str(config)})
    box.wait_ready()
    config.write_text("[watch]\noriginals = 'burn'\n")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.refused" in box.read_log())
    config.write_text("[watch]\noriginals = 'move'\n[enhance]\ngrid = 'native'\n")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.reloaded" in box.read_log())
    box.scan("a_T1w.nii.gz")
    box.wait_states(done=1)
    box.wait(lambda: [row["original"] for row in box.rows()] == ["moved"])
    assert box.stop() == 0
    (receipt,) = box.receipts().values()
    assert receipt["result"]["grid"] == "native"
    assert receipt["source"]["path"] == "../originals/a_T1w.nii.gz"
    assert (box.outbox / "originals/a_T1w.nii.gz").is_file()


def test_limits_of_the_settings_judge_and_other_ones_judge_anew(box, tmp_path):
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"base": "none"}))
    box.start(env={"LOHI_EDGE_ENHANCE_LIMITS": str(limits)})
    scan = box.scan("a_T1w.nii.gz")
    box.wait_states(done=1)
    limits.write_text("{")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.refused" in box.read_log())
    strict = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}
    limits.write_text(json.dumps(strict))
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.reloaded" in box.read_log())
    os.utime(scan, (1, 1))  # the same bytes, sent again
    box.wait_states(done=1, held=1)
    assert box.stop() == 0


def test_systemd_hears_of_ready_watchdog_and_stopping(box):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = box.inbox.parent / "notify"
        listener.bind(str(address))
        listener.settimeout(60)
        box.start(env={"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"})
        heard: list[str] = []
        while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
            heard.append(listener.recv(4096).decode())
        assert any(h.startswith("EXTEND_TIMEOUT_USEC=") for h in heard[: heard.index("READY=1")])
        assert box.stop() == 0
        listener.settimeout(5)
        while heard[-1] != "STOPPING=1":
            heard.append(listener.recv(4096).decode())


def test_refused_model_ends_with_5(box, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(box.bundle, broken)
    (broken / "fp32.onnx").write_bytes(b"no model")
    box.bundle = broken
    box.start()
    assert box.process.wait(60) == 5
    box.process = None
    assert "sha256" in box.read_log()


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


@pytest.mark.parametrize("originals", [pytest.param("keep", marks=pytest.mark.slow), "delete"])
def test_dicom_series_in_a_folder_and_in_a_zip(box, originals):
    """Slices come one by one; the folder is one scan once it is quiet, and so is an archive."""
    ball = small_head(edge=24)
    box.settings["watch"].update(series_quiet_s=1.0, originals=originals)
    made = slices(ball, spacing=(2.0, 2.0), gap=2.0, series=1)
    other = save(box.inbox.parent / "away", slices(ball, (2.0, 2.0), 2.0, series=2))
    box.start()
    box.wait_ready()
    for number, instance in enumerate(made):
        save(box.inbox / "study/ser 1", [instance], prefix=f"{number:03d}-")
        time.sleep(0.05)
    shutil.make_archive(str(box.inbox / "packed"), "zip", other)
    box.wait_states(done=2)
    assert box.stop() == 0
    assert box.leftovers() == []
    receipts = box.receipts()
    series = dicom.find(other).series[0].name
    folders = {path.rpartition("/")[0] for path in receipts}
    assert f"packed.zip/{series}" in folders
    assert [f.startswith("study/ser 1/series-1-") for f in folders - {f"packed.zip/{series}"}] == [
        True
    ]
    for path, receipt in receipts.items():
        result = (box.outbox / path).parent / receipt["result"]["path"]
        assert len(list(result.iterdir())) == len(made)
        assert delivery.digest(result) == receipt["result"]["sha256"]
    left = {p.name for p in box.inbox.rglob("*") if p.is_file()}
    assert len(left) == (len(made) + 1 if originals == "keep" else 0)
    said = box.log.read_text() + (box.state / "audit.jsonl").read_text()
    assert "PLANTED" not in said
    assert "PLANTED" not in "".join(map(str, receipts.values()))


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
