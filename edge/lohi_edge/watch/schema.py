"""The ledger's tables, and one row of it."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from lohi_edge.errors import UsageError

STATES = ("received", "running", "done", "held", "failed", "quarantined")
FINAL = ("done", "held", "failed", "quarantined")
# Append only: a ledger of any age is brought up to date by the steps it lacks.
MIGRATIONS = (
    """
    CREATE TABLE scans (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL,            -- relative to the inbox, as the file system spells it
        mark TEXT NOT NULL,            -- see inbox.mark_of
        state TEXT NOT NULL CHECK (state IN
            ('received', 'running', 'done', 'held', 'failed', 'quarantined')),
        turn INTEGER NOT NULL,         -- order in the queue
        attempts INTEGER NOT NULL DEFAULT 0,  -- begun
        strikes INTEGER NOT NULL DEFAULT 0,   -- ended in a crash or timeout of the worker
        alone INTEGER NOT NULL DEFAULT 0,     -- work on nothing else beside it
        not_before REAL NOT NULL DEFAULT 0,   -- service seconds
        sha256 TEXT, contrast TEXT, identity TEXT,
        result BLOB,                   -- folder relative to the outbox
        first INTEGER REFERENCES scans (id),  -- the scan this one repeats
        verdict TEXT, reason TEXT,
        bytes INTEGER NOT NULL DEFAULT 0,     -- of the delivered files that retention may remove
        original TEXT,                 -- pending, kept, moved, deleted
        received_at REAL NOT NULL, finished_at REAL,   -- service seconds
        received_wall TEXT NOT NULL, finished_wall TEXT
    );
    CREATE INDEX scans_path ON scans (path, id);
    CREATE INDEX scans_queue ON scans (state, turn, id);
    CREATE INDEX scans_identity ON scans (identity, state);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    INSERT INTO meta VALUES ('rebuild', 'wanted');  -- from the receipts; see recovery.rebuild
    """,
)


@dataclass(frozen=True)
class Scan:
    """One row of the ledger; see MIGRATIONS for the columns."""

    id: int
    path: str
    mark: str
    state: str
    turn: int
    attempts: int
    strikes: int
    alone: bool
    not_before: float
    sha256: str | None
    contrast: str | None
    identity: str | None
    result: str | None
    first: int | None
    verdict: str | None
    reason: str | None
    bytes: int
    original: str | None
    received_at: float
    finished_at: float | None
    received_wall: str
    finished_wall: str | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> Scan:
        values = dict(row)
        values["path"] = os.fsdecode(values["path"])
        values["result"] = None if values["result"] is None else os.fsdecode(values["result"])
        values["alone"] = bool(values["alone"])
        return cls(**values)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make a ledger durable, check it, and bring it up to date.

    Raises:
        UsageError: a newer version wrote it.
        sqlite3.DatabaseError: it is damaged.
    """
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UsageError(
            f"{path}: expected a ledger of version {len(MIGRATIONS)} or less, got {version}; "
            "it was written by a newer lohi-edge, install that one again"
        )
    for number in range(version, len(MIGRATIONS)):
        db.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )
