"""The ledger and the clock it counts by."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.watch import clock, localfs, state
from lohi_edge.watch.clock import ServiceClock
from lohi_edge.watch.ledger import FILE, Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.log import Log, printable, without_names
from lohi_edge.watch.schema import MIGRATIONS


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path)
    yield made
    made.close()


def found(path="a.nii", mark="1:2:3"):
    return Found(path, mark, 3)


def test_it_is_durable_by_its_settings(ledger):
    def pragma(name):
        return ledger._db.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)


def test_a_waiting_scan_is_replaced_by_its_newer_self(ledger):
    ledger.receive([found()])
    (new,) = ledger.receive([found(mark="9:9:9")])
    assert [scan.id for scan in ledger.due()] == [new]
    assert ledger.mark("a.nii") == "9:9:9"


@pytest.mark.parametrize("original", ["kept", "pending"])
def test_a_scan_that_came_back_is_known_whatever_was_there_between(ledger, original):
    """Done, replaced by a bad one, put back: known again, or every look would take it anew."""
    (first,) = ledger.receive([Found("a.nii", "m1", 3)])
    ledger.finish(first, "done", original="kept")
    (bad,) = ledger.receive([Found("a.nii", "m2", 3)])
    ledger.finish(bad, "failed", original=original)
    (again,) = ledger.receive([Found("a.nii", "m3", 3)])
    ledger.touch(first, ledger.get(again))
    assert ledger.mark("a.nii") == ledger.get(first).mark == "m3"
    assert ledger.latest("a.nii").id == bad
    assert ledger.get(bad).original == "kept"  # what it was is replaced: nothing of it can go


def test_paths_that_are_no_text_survive(ledger):
    path = os.fsdecode(b"\xff\n-\x01.nii")
    (scan,) = ledger.receive([found(path)])
    assert ledger.get(scan).path == path
    assert ledger.mark(path) == "1:2:3"


def test_only_strikes_count_and_an_interrupted_scan_goes_to_the_back(ledger):
    a, b = ledger.receive([found("a.nii"), found("b.nii")])
    ledger.begin(a)
    ledger.put_back(a)
    assert [scan.id for scan in ledger.due()] == [b, a]
    assert (ledger.get(a).attempts, ledger.get(a).strikes) == (1, 0)
    ledger.begin(b)
    ledger.strike(b, delay_s=100, alone=False)
    assert [scan.id for scan in ledger.due()] == [a]
    assert (ledger.get(b).attempts, ledger.get(b).strikes) == (1, 1)


def test_a_failed_transaction_leaves_nothing(ledger):
    (scan,) = ledger.receive([found()])

    def fail():
        with ledger.transaction():
            ledger.set("fact", "1")
            ledger._db.execute("UPDATE scans SET state = 'nonsense' WHERE id = ?", (scan,))

    with pytest.raises(sqlite3.IntegrityError):
        fail()
    assert ledger.fact("fact") is None
    assert ledger.get(scan).state == "received"


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path):
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(UsageError, match="newer"):
        state.open_ledger(tmp_path, Log())
    assert list(tmp_path.glob("*damaged*")) == []


def test_migrations_carry_an_older_ledger_on(tmp_path, monkeypatch):
    with Ledger(tmp_path)._db as db:
        db.execute(
            "INSERT INTO scans (path, mark, state, turn, received_at, received_wall) "
            "VALUES (x'61', 'm', 'received', 1, 0, '')"
        )
    db.close()
    more = "ALTER TABLE meta ADD COLUMN extra TEXT;"
    monkeypatch.setattr("lohi_edge.watch.schema.MIGRATIONS", (*MIGRATIONS, more))
    for _ in range(2):  # once only: a second ALTER would fail
        ledger = Ledger(tmp_path)
        assert ledger.get(1).path == "a"
        assert ledger._db.execute("SELECT extra FROM meta").fetchall() is not None
        ledger.close()


def test_read_only_never_creates(tmp_path):
    with pytest.raises(UsageError, match="no ledger"):
        Ledger(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


class TestClock:
    def test_it_ignores_the_wall_clock(self, monkeypatch):
        service = ServiceClock()
        before = service.now()
        monkeypatch.setattr(time, "time", lambda: 4e9)
        assert 0 <= service.now() - before < 5

    def test_it_goes_on_within_a_boot_and_after_one(self, monkeypatch):
        seconds, boot = [100.0], ["one"]
        monkeypatch.setattr(clock, "boot_seconds", lambda: seconds[0])
        monkeypatch.setattr(clock, "boot_id", lambda: boot[0])
        service = ServiceClock()
        seconds[0] = 160.0
        assert service.now() == 60
        saved = service.state()
        seconds[0] = 200.0  # the daemon was restarted
        assert ServiceClock(saved).now() == 100
        seconds[0], boot[0] = 7.0, "two"  # the device was off for who knows how long
        assert ServiceClock(saved).now() == 67


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /srv/my\\040share rw shared:1 - cifs //host/x rw
31 22 0:41 / /srv/nfs rw - nfs4 host:/x rw
32 31 8:2 / /srv/nfs/local rw - xfs /dev/sdb rw
33 22 0:42 / /ssh rw - fuse.sshfs host:/ rw
34 22 0:43 / /disk rw - fuseblk /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/x", "ext4", False),
        ("/srv/my share/a", "cifs", True),
        ("/srv/nfs/x", "nfs4", True),
        ("/srv/nfs/local/x", "xfs", False),
        ("/srv/nfsx", "ext4", False),
        ("/ssh/a", "fuse.sshfs", True),
        ("/disk/a", "fuseblk", False),
    ],
)
def test_file_systems(tmp_path, path, kind, network):
    from pathlib import Path

    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert localfs.kind(Path(path), mounts) == kind
    assert localfs.is_network(kind) is network
    if network:
        with pytest.raises(UsageError, match=kind):
            localfs.require_local(Path(path), mounts)
    else:
        localfs.require_local(Path(path), mounts)


@pytest.mark.parametrize("name", ["scan", "error", "T1w"])
def test_a_message_keeps_words_that_merely_are_a_scan_s_name(name):
    message = "no bundle for T1w: the scan has an error"
    assert (
        without_names(f"/in/{name}.nii: {message}", f"{name}.nii", 7) == f"/in/[scan 7]: {message}"
    )


@pytest.mark.parametrize("name", ["Doe", "DOE", "4711", "doe_jane", "doe2"])
def test_what_may_be_a_patient_s_name_or_number_goes_from_everywhere(name):
    told = without_names(f"series {name} of {name}: expected one", f"{name}/scan.nii", 7)
    assert told == "series [scan 7] of [scan 7]: expected one"


def test_text_for_logs_and_terminals():
    message = "/in/DOE^JANE/sub-1_T1w.nii.gz: its sidecar sub-1_T1w.json is not JSON"
    told = without_names(message, "DOE^JANE/sub-1_T1w.nii.gz", 7)
    assert "DOE" not in told
    assert "sub-1" not in told
    for name in ("scan", "DOE"):
        told = without_names(
            f"/in/{name}/x: no scan.nii: '{name}', {name}.json, {name}_desc-synthetic, /in/{name}",
            f"{name}/{name}.nii", 7,
        )  # fmt: skip
        assert name not in told.replace("[scan 7]", "").replace("scan.nii", "")
    assert printable("a\x1b[2Jb\n\udcff") == "a\\x1b[2Jb\\n\\xff"
