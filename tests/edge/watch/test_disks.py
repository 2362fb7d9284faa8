"""Disks that fill up, fail, vanish or turn read-only."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time

import pytest

from lohi_edge import bundle, demo
from lohi_edge.settings import load
from lohi_edge.watch import gate


def fill(path):
    """Write until the disk is full."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(1024))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(fd)


@pytest.mark.slow
def test_full_outbox_pauses_and_goes_on(box, tmpfs):
    """ENOSPC is the disk's fault: no scan is struck, none is lost, none is half-written."""
    tmpfs(box.outbox, 4)
    ballast = box.outbox / "ballast"
    box.settings["disk"] = {"reserve_gb": 0}
    for seed in range(4):
        box.scan(f"s{seed}_T1w.nii.gz", seed=seed)
    free = os.statvfs(box.outbox).f_bavail * os.statvfs(box.outbox).f_frsize
    ballast.write_bytes(bytes(free - 60_000))
    box.start(fault="after_computed=enospc@zzz")
    box.wait(lambda: box.status().get("paused"), "paused")
    time.sleep(0.5)
    assert {r["strikes"] for r in box.rows()} <= {0}
    assert box.counts().get("failed", 0) == 0
    ballast.unlink()
    box.wait_states(done=4)
    assert box.stop() == 0
    box.assert_exactly_once(4)


def test_a_disk_with_room_for_less_than_a_result_is_told_of_once(parts, monkeypatch):
    """Free enough for the reserve, not for the scan that waits: no line every few seconds."""
    told = []
    monkeypatch.setattr(parts, "log", lambda event, **facts: told.append(event))
    monkeypatch.setattr(gate.Gate.close, "__defaults__", (0.0,))
    now = gate.Gate(parts)
    free = os.statvfs(parts.outbox.root).f_bavail * os.statvfs(parts.outbox.root).f_frsize
    parts.settings = load(environ={}, overrides={"disk": {"reserve_gb": 0}})
    for _ in range(3):
        assert now.opens(idle=True)
        assert not now.has_room(free)
        assert "outbox" in str(now.why)
    assert told == ["intake.paused"]
    for _ in range(3):
        assert now.opens(idle=True)
        assert now.has_room(0)
        assert now.why is None
    assert told == ["intake.paused", "intake.resumed"]
    assert not now.has_room(free)
    assert told[2:] == ["intake.paused"]


@pytest.mark.slow
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_write_error_in_the_worker_is_not_the_scans_fault(box, action):
    """The first write fails; the daemon pauses, and the same scan goes through afterwards."""
    box.scan("a_T1w.nii.gz")
    box.start(fault=f"worker_write:1={action}")
    box.wait(lambda: "intake.paused" in box.read_log())
    box.wait_states(done=1)
    assert box.stop() == 0
    assert [r["strikes"] for r in box.rows()] == [0]
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_full_state_disk_pauses_and_goes_on(box, tmpfs):
    box.state.mkdir()
    tmpfs(box.state, 8)
    box.settings["disk"] = {"reserve_gb": 0}
    box.start()
    box.wait_ready()
    ballast = box.state / "ballast"
    fill(ballast)
    for seed in range(3):
        box.scan(f"s{seed}_T1w.nii.gz", seed=seed)
    box.wait(lambda: "state.trouble" in box.read_log() or "intake.paused" in box.read_log())
    ballast.unlink()
    box.wait_states(done=3)
    assert box.stop() == 0
    box.assert_exactly_once(3)


@pytest.mark.slow
def test_inbox_unmounted_and_back(box, tmpfs, tmp_path):
    tmpfs(box.inbox, 4)
    box.scan("a_T1w.nii.gz", seed=1)
    box.start()
    box.wait_states(done=1)
    kept = {p.name: p.read_bytes() for p in box.inbox.glob("*.gz")}
    subprocess.run(["umount", "-l", str(box.inbox)], check=True)
    time.sleep(1)
    assert box.counts() == {"done": 1}
    tmpfs(box.inbox, 4)  # another device, other inodes, the same scan
    for name, data in kept.items():
        (box.inbox / name).write_bytes(data)
    box.scan("b_T1w.nii.gz", seed=2)
    box.wait_states(done=2)
    box.wait(lambda: "scan.known" in box.read_log())
    assert box.stop() == 0
    box.assert_exactly_once(2)


@pytest.mark.slow
def test_outbox_unmounted_is_not_written_to(box, tmpfs):
    tmpfs(box.outbox, 4)
    box.settings["disk"] = {"reserve_gb": 0}
    box.start()
    box.wait_ready()
    subprocess.run(["umount", "-l", str(box.outbox)], check=True)
    box.scan("a_T1w.nii.gz")
    box.wait_states(received=1)
    box.wait(lambda: "outbox is not" in str(box.status().get("paused")), "paused")
    time.sleep(1)
    assert list(box.outbox.iterdir()) == []
    assert box.counts() == {"received": 1}


@pytest.mark.slow
def test_outbox_that_goes_while_a_scan_is_computed_is_not_made_anew(box):
    """What went onto the bare mount point would be hidden once the mount is back."""
    box.bundle = bundle.shipped("T1w")  # takes seconds, unlike the identity
    box.settings["disk"] = {"reserve_gb": 0}
    box.settings["watch"]["originals"] = "move"
    box.start()
    box.wait_ready()
    shutil.copy(demo.SCAN, box.inbox / "a_T1w.nii.gz")
    box.wait(lambda: (box.outbox / ".lohi-edge" / "1").is_dir(), "a scan that is computed")
    away = box.outbox.rename(box.outbox.with_name("unmounted"))
    box.outbox.mkdir()
    box.wait_states(received=1)
    box.wait(lambda: "outbox is not" in str(box.status().get("paused")), "paused")
    assert list(box.outbox.iterdir()) == []
    box.outbox.rmdir()
    away.rename(box.outbox)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_outbox_that_turns_read_only_and_back(box, tmpfs):
    """As a file system does that finds itself damaged: nothing is struck, nothing is lost."""
    tmpfs(box.outbox, 8)
    box.settings["disk"] = {"reserve_gb": 0}
    box.start()
    box.wait_ready()
    remount = ["mount", "-o", "remount,{}", str(box.outbox)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    for seed in range(2):
        box.scan(f"s{seed}_T1w.nii.gz", seed=seed)
    box.wait(lambda: "cannot be written" in str(box.status().get("paused")), "paused")
    assert box.counts() in ({"received": 2}, {"received": 1, "running": 1})
    subprocess.run([word.format("rw") for word in remount], check=True)
    box.wait_states(done=2)
    assert box.stop() == 0
    assert {row["strikes"] for row in box.rows()} == {0}, box.read_log()
    box.assert_exactly_once(2)


@pytest.mark.slow
def test_every_fortieth_sync_fails_with_eio(box):
    """Real system calls of daemon and worker fail, wherever that hits."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: no system call can be made to fail")
    tracer = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "--seccomp-bpf"]
    tracer += ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=40+40"]
    if subprocess.run([*tracer, "true"], capture_output=True, check=False).returncode:
        pytest.skip("tracing is not permitted here")
    for seed in range(4):
        box.scan(f"s{seed}_T1w.nii.gz", seed=seed)
    box.start(prefix=tracer)
    box.wait_states(done=4)
    assert "intake.paused" in box.read_log()
    assert box.stop() == 0
    assert {row["strikes"] for row in box.rows()} == {0}, box.read_log()
    box.assert_exactly_once(4)
