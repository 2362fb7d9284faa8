"""Ledgers that break, no network at all, a long backlog, a clock that jumps."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest

from lohi_edge.watch.ledger import FILE


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["deleted", "overwritten", "flipped", "cut"],
)
def test_lost_ledger_is_rebuilt_and_nothing_is_delivered_twice(box, how):
    box.settings["watch"]["originals"] = "keep"
    for seed in range(3):
        box.scan(f"ward/s{seed}_T1w.nii.gz", seed=seed)
    box.start()
    box.wait_states(done=3)
    shutil.copy(box.inbox / "ward/s0_T1w.nii.gz", box.inbox / "again_T1w.nii.gz")
    box.wait_states(done=4)
    box.kill()
    before = {p: p.stat().st_mtime_ns for p in box.outbox.rglob("*.nii.gz")}
    ledger = box.state / FILE
    with sqlite3.connect(ledger) as db:  # or SQLite would restore the file from its log
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    whole = ledger.read_bytes()
    if how == "deleted":
        shutil.rmtree(box.state)
    elif how == "overwritten":
        ledger.write_bytes(b"x" * 20_000)
    elif how == "flipped":
        ledger.write_bytes(whole[:4096] + bytes(b ^ 0xFF for b in whole[4096:]))
    else:
        ledger.write_bytes(whole[: len(whole) // 2])
    box.scan("new_T1w.nii.gz", seed=9)
    box.start()
    box.wait_states(done=5)
    assert box.stop() == 0
    after = {p: p.stat().st_mtime_ns for p in box.outbox.rglob("*.nii.gz")}
    assert before.items() <= after.items()
    assert len(after) == 4
    assert len(box.receipts()) == 5
    if how != "deleted":
        assert list(box.state.glob("ledger.damaged-1.sqlite"))


# A seccomp filter that kills the process tree at the first IPv4 or IPv6 socket.
_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
_LAUNCH = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
AF_INET, AF_INET6 = 2, 10
def op(code, k, yes=0, no=0): return struct.pack("HBBI", code, yes, no, k)
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ALLOW = 0x80000000, 0x7FFF0000
code = b"".join([
    op(LOAD, 0), op(EQUAL, int(sys.argv[1]), 0, 4),  # the call's number
    op(LOAD, 16), op(EQUAL, AF_INET, 1, 0), op(EQUAL, AF_INET6, 0, 1),  # its first argument
    op(RETURN, KILL), op(RETURN, ALLOW)])
kept = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(kept))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, filter
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_no_network(box):
    """From its first instruction on, daemon and worker open no AF_INET or AF_INET6 socket."""
    number = _SOCKET_CALL.get(platform.machine())
    if number is None:
        pytest.skip(f"the number of socket(2) on {platform.machine()} is not known here")
    prefix = [sys.executable, "-c", _LAUNCH, str(number)]
    for family, code in (("AF_INET", -31), ("AF_INET6", -31), ("AF_UNIX", 0)):
        probe = f"import socket; socket.socket(socket.{family}).close()"
        done = subprocess.run([*prefix, sys.executable, "-c", probe], check=False)
        if done.returncode == 1:
            pytest.skip("seccomp filters are not permitted here")
        assert done.returncode == code, family  # the filter bites, and only there
    box.scan("a_T1w.nii.gz")
    box.start(prefix=prefix)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_ten_thousand_files_are_listed_and_started(box):
    """The whole backlog is in the queue before it is worked off; links make it cheap to lay out."""
    first = box.scan("s_T1w.nii.gz")
    for number in range(10_000):
        folder = box.inbox / f"f{number % 10}"
        folder.mkdir(exist_ok=True)
        os.link(first, folder / f"s{number:05d}_T1w.nii.gz")
    box.start()
    box.wait(lambda: sum(box.counts().values()) == 10_001, "the backlog")
    box.wait(lambda: box.counts().get("done", 0) >= 3, "the first results")
    assert json.loads(box.cli("queue", "list", "--json").stdout)
    assert box.stop() == 0
    assert box.counts().get("running", 0) == 0


@pytest.mark.slow
def test_killed_at_random_over_a_backlog(box):
    """SIGKILL 200 times, at moments nobody chose, over 100 files."""
    rng = random.Random(6)
    for seed in range(100):
        box.scan(f"ward{seed % 5}/s{seed:03d}_T1w.nii.gz", seed=seed)
    box.settings["watch"]["originals"] = "move"
    for _ in range(200):
        box.start()
        # Mostly while scans pass through, sometimes while the daemon still starts.
        pause = rng.uniform(0, 0.3)
        if rng.random() < 0.7:
            before = box.counts().get("done", 0)
            if before < 100:
                box.wait(lambda n=before: box.counts().get("done", 0) > n)
        time.sleep(pause)
        box.kill()
    box.start()
    box.wait_states(done=100)
    assert box.stop() == 0
    box.assert_exactly_once(100)
    assert list(box.inbox.rglob("*.nii.gz")) == []
    assert {row["strikes"] for row in box.rows()} == {0}


# Loaded by every Python of the daemon: its wall clock, by as many days as a file says.
_JUMP = """
import datetime, os, time
real = time.time
time.time = lambda: real() + 86400 * int(open(os.environ["JUMP"]).read())
time.time_ns = lambda: int(time.time() * 1e9)
class Jumped(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = Jumped
"""


@pytest.mark.slow
def test_a_clock_that_jumps_years_loses_and_repeats_nothing(box):
    """A year forward, two back, while it runs and while it does not."""
    folder = box.state.parent / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_JUMP)
    days, fresh = folder / "days", folder / "fresh"
    paths = f"{folder}{os.pathsep}{box.environment()['PYTHONPATH']}"
    environment = {"PYTHONPATH": paths, "JUMP": str(days)}
    box.settings["disk"] = {"keep_days": 30}
    jumps = (0, 365, -365, 365)
    for number, day in enumerate(jumps):
        fresh.write_text(str(day))
        fresh.replace(days)  # the daemon reads it all the time, never half
        if number == 3:  # this time while it is stopped
            assert box.stop() == 0
        if box.process is None:
            box.start(env=environment)
        box.scan(f"s{number}_T1w.nii.gz", seed=number)
        box.wait_states(done=number + 1)
    assert box.stop() == 0
    box.assert_exactly_once(len(jumps))
    rows = box.rows()
    years = [int(row["finished_wall"][:4]) for row in rows]
    assert years[1] == years[0] + 1 == years[2] + 2 == years[3]  # it did jump
    assert [row["finished_at"] for row in rows] == sorted(row["finished_at"] for row in rows)
