"""A lost ledger that is rebuilt from the receipts, whatever comes between."""

from __future__ import annotations

import sqlite3

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.settings import Settings
from lohi_edge.watch import control, localfs, recovery
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.inbox import Inbox
from lohi_edge.watch.ledger import FILE, Ledger
from lohi_edge.watch.outbox import Outbox
from watch_parts import deliver

COUNT = 4


@pytest.fixture
def lost(parts, tmp_path):
    """Scans that were delivered and stay in the inbox; their ledger is lost."""
    for number in range(COUNT):
        name = f"s{number}.nii"
        (parts.root / name).write_bytes(bytes(number + 1))
        deliver(parts, name, str(number) * 64, mark=parts.inbox.mark(name))
    parts.ledger.close()
    for path in (tmp_path / "state").glob(FILE + "*"):
        path.unlink()
    parts.outbox.close()
    return parts


@pytest.fixture
def start(lost, tmp_path):
    """Factory: another process opens what the last one left; `recover` is still to come."""
    opened = []

    def again() -> Closing:
        for one in opened:
            one.ledger.close()
        ledger, outbox = Ledger(tmp_path / "state"), Outbox(lost.outbox.root)
        inbox = Inbox(lost.root, ledger.mark)
        outbox.clear()
        opened.append(
            Closing(
                lost.root, inbox, outbox, ledger, lost.audit, lost.log, Settings(), lost.outgoing
            )
        )
        return opened[-1]

    yield again
    lost.ledger = opened[-1].ledger


def taken(parts):
    """What the inbox offers as new."""
    parts.inbox.look(0)
    return [found.path for found in parts.inbox.look(1000).ready]  # however cut off


def test_a_power_cut_in_the_middle_leaves_it_to_the_next_start(start, monkeypatch):
    parts = start()
    whole, calls = parts.ledger.adopt, iter(range(COUNT))

    def cut_short(*args, **values):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **values)

    monkeypatch.setattr(parts.ledger, "adopt", cut_short)
    with pytest.raises(KeyboardInterrupt):
        recovery.recover(parts)
    parts = start()
    assert parts.ledger.counts()["done"] == 0
    recovery.recover(parts)
    assert (parts.ledger.counts()["done"], taken(parts)) == (COUNT, [])


@pytest.mark.parametrize("scan", [1, 99])
def test_a_command_before_the_first_start_takes_nothing_away(start, tmp_path, scan):
    with pytest.raises(UsageError, match="no daemon has worked here"):
        control.ask(tmp_path / "state", "retry", scan)
    parts = start()
    recovery.recover(parts)
    assert (parts.ledger.counts()["done"], taken(parts)) == (COUNT, [])


def test_it_waits_for_an_outbox_that_is_not_mounted(start, lost, monkeypatch):
    """What was received, and even delivered, on the bare mount point is known beside it."""
    away = lost.outbox.root.rename(lost.outbox.root.with_name("unmounted"))
    lost.outbox.root.mkdir()
    parts = start()
    with monkeypatch.context() as patch:
        patch.setattr(localfs, "not_mounted", lambda path: str(path))
        recovery.recover(parts)
    assert taken(parts) == [f"s{number}.nii" for number in range(COUNT)]
    parts.ledger.receive([parts.inbox.find("s1.nii"), parts.inbox.find("s2.nii")])
    deliver(parts, "s0.nii", "0" * 64, mark=parts.inbox.mark("s0.nii"))
    lost.outbox.root.rename(lost.outbox.root.with_name("bare"))
    away.rename(lost.outbox.root)
    for _ in range(2):
        parts = start()
        recovery.recover(parts)
        assert (parts.ledger.counts()["done"], taken(parts)) == (COUNT, [])
        assert list(parts.ledger.due()) == []


def test_a_mount_that_comes_while_it_reads_is_not_taken_for_read(start):
    parts = start()
    parts.outbox.close()  # the folder of the start is hidden by now
    recovery.rebuild(parts)
    assert parts.ledger.fact(recovery.REBUILD) == "wanted"
    parts = start()
    recovery.recover(parts)
    assert parts.ledger.fact(recovery.REBUILD) == "done"
    assert parts.ledger.counts()["done"] == COUNT


def test_it_is_done_once(start, monkeypatch):
    recovery.recover(start())
    monkeypatch.setattr(Outbox, "all", lambda _: pytest.fail("read again"))
    recovery.recover(start())


def test_a_ledger_of_an_older_version_wants_none(start, tmp_path):
    parts = start()
    with sqlite3.connect(tmp_path / "state" / FILE) as db:
        db.execute("DELETE FROM meta")
    db.close()
    recovery.recover(parts)
    assert parts.ledger.counts()["done"] == 0
