"""Opening the state folder: ledger and audit log, damaged ones set aside."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from lohi_edge.errors import DiskError, UsageError
from lohi_edge.files import disk_error, fsync_directory, make_directory
from lohi_edge.watch import ledger
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import Log


def prepare(state: Path) -> None:
    """Create the state folder, readable to its owner only: the ledger holds file names.

    Raises:
        DiskError
    """
    new = not os.path.lexists(state)
    make_directory(state)
    if new:
        state.chmod(0o700)


def open_ledger(state: Path, log: Log) -> Ledger:
    """The ledger; a damaged one is set aside and a new one begun.

    Raises:
        DiskError: neither can be done.
        UsageError: a newer version wrote it.
    """
    try:
        return Ledger(state)
    except (UsageError, DiskError):
        raise
    except sqlite3.OperationalError as error:
        # Locked, or no room to open it: the disk's trouble, and no reason to give up the ledger.
        if "malformed" not in str(error) and "not a database" not in str(error):
            raise DiskError(f"{state / ledger.FILE}: cannot be opened: {error}") from None
        why = str(error)
    except sqlite3.DatabaseError as error:
        why = str(error)
    aside = set_aside(state)
    log("ledger.damaged", why=why, kept_as=aside.name)
    return Ledger(state)


def set_aside(state: Path) -> Path:
    """Move a damaged ledger out of the way, for whoever wants to look at it."""
    number = 1
    while (aside := state / f"ledger.damaged-{number}.sqlite").exists():
        number += 1
    try:
        # The log and its index belong to the file: under other names they cannot spoil a new one.
        for suffix in ("-wal", "-shm", ""):
            part = state / (ledger.FILE + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        fsync_directory(state)
    except OSError as error:
        raise disk_error(aside, error) from None
    return aside


def same_folders(book: Ledger, inbox: Path, outbox: Path) -> None:
    """A state belongs to one inbox and one outbox.

    Raises:
        UsageError: it was made for others.
    """
    now = "\n".join(str(path.resolve()) for path in (inbox, outbox))
    before = book.fact("folders")
    if before is not None and before != now:
        was = before.split("\n")
        raise UsageError(
            f"expected inbox {was[0]} and outbox {was[-1]}, which this state folder was made for; "
            "name another with --state"
        )
    with book.transaction():
        book.set("folders", now)
