"""The ledger: what became of every scan, in SQLite; written by one process, surviving kill -9.

States: received -> running -> done | held | failed | quarantined. A scan that was running when the
daemon died is received again, at the back of the queue.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lohi_edge.errors import DiskError, UsageError
from lohi_edge.watch import schema
from lohi_edge.watch.clock import ServiceClock, wall
from lohi_edge.watch.listing import Found
from lohi_edge.watch.schema import FINAL, STATES, Scan

FILE = "ledger.sqlite"


class Ledger:
    """The open ledger of one state folder.

    Args:
        state: the folder; it must lie on a local disk.
        read_only: for `status` and `queue` beside a running daemon.

    Raises:
        UsageError: the ledger was written by a newer version, or is not there to be read.
        sqlite3.DatabaseError: it is damaged.
        DiskError: it cannot be opened.
    """

    def __init__(self, state: Path, read_only: bool = False) -> None:
        path = state / FILE
        if read_only and not path.is_file():
            raise UsageError(f"{state}: expected a state folder of the daemon, no ledger there")
        mode = "ro" if read_only else "rwc"
        try:
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None
            )
        except sqlite3.OperationalError as error:
            raise DiskError(f"{path}: cannot be opened: {error}") from None
        self._db.row_factory = sqlite3.Row
        self._counted: tuple[int, dict[str, int]] | None = None
        self._db.execute("PRAGMA busy_timeout = 5000")
        if read_only:
            return
        try:
            schema.prepare(self._db, path)
        except BaseException:
            self._db.close()
            raise
        self.clock = ServiceClock(self._saved_clock())

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On disk as a whole, or not at all. The service clock is saved along."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.set("clock", " ".join(map(str, self.clock.state())))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # What happens to a scan, in this order.

    def receive(self, found: Iterable[Found]) -> list[int]:
        """New work. A scan still waiting under the same path is replaced, not doubled."""
        ids = []
        with self.transaction():
            turn = self._last_turn()
            for one in found:
                turn += 1
                path = os.fsencode(one.path)
                # "+" keeps SQLite off the index by state, which a long queue makes a bad choice.
                self._db.execute(
                    "DELETE FROM scans WHERE path = ? AND +state = 'received'", (path,)
                )
                ids.append(self._insert(path, one.mark, "received", turn))
        return ids

    def begin(self, scan: int) -> None:
        """Count the attempt, before any work is done; why it was put off is over."""
        self._change(scan, state="running", attempts=self.get(scan).attempts + 1, reason=None)

    def identify(self, scan: int, identity: str, sha256: str, contrast: str) -> None:
        self._change(scan, identity=identity, sha256=sha256, contrast=contrast)

    def finish(self, scan: int, state: str, **values: Any) -> None:
        """Close a scan in one of the final states."""
        assert state in FINAL
        now = self.clock.now()
        self._change(scan, state=state, finished_at=now, finished_wall=wall(), **values)

    def strike(self, scan: int, delay_s: float, alone: bool) -> None:
        """A crash or timeout while this scan was worked on: it is tried again after the delay."""
        row = self.get(scan)
        later = self.clock.now() + delay_s
        self._change(scan, state="received", strikes=row.strikes + 1, not_before=later, alone=alone)

    def put_back(self, scan: int, last: bool = True, **values: Any) -> None:
        """Not the scan's fault: it is received again, at the back of the queue or in its place."""
        turn = self._last_turn() + 1 if last else self.get(scan).turn
        self._change(scan, state="received", turn=turn, **values)

    def retry(self, scan: int, path: str, mark: str) -> None:
        """Forget strikes and outcome, and queue the scan again, as it is in the inbox now."""
        self._change(
            scan, path=os.fsencode(path), mark=mark,
            state="received", turn=self._last_turn() + 1, strikes=0, not_before=0, alone=0,
            reason=None, verdict=None, finished_at=None, finished_wall=None, original=None, bytes=0,
        )  # fmt: skip

    def touch(self, old: int, new: Scan) -> None:
        """`new` turned out to be the file that `old` stands for already."""
        with self.transaction():
            self._db.execute("DELETE FROM scans WHERE id = ?", (new.id,))
            # Later attempts too: the last of them says what is known of the path. What was still
            # to go of those is not there any more: it was replaced.
            self._db.execute(
                "UPDATE scans SET mark = ?, original = CASE WHEN id <> ? AND original = 'pending' "
                "THEN 'kept' ELSE original END WHERE path = ?",
                (new.mark, old, os.fsencode(new.path)),
            )

    def adopt(
        self, number: int | None, path: str, mark: str, state: str, sha256: str, **values: Any
    ) -> int:
        """A scan whose receipt is in the outbox and that the ledger lost; in a transaction."""
        raw = os.fsencode(path)
        # Received before its result was found: it does not wait any more.
        where = "path = ? AND mark = ? AND +state = 'received'"
        self._db.execute(f"DELETE FROM scans WHERE {where}", (raw, mark))
        scan = self._insert(raw, mark, state, self._last_turn() + 1, number)
        self._update(scan, {"sha256": sha256, "finished_at": self.clock.now(), **values})
        return scan

    def set_original(self, scan: int, outcome: str) -> None:
        """Note what became of the original: kept, moved or deleted."""
        self._change(scan, original=outcome)

    def expired(self, scan: int) -> None:
        """Retention removed the image; the receipt stays."""
        self._change(scan, bytes=0)

    # Questions.

    def get(self, scan: int) -> Scan:
        try:
            row = self._db.execute("SELECT * FROM scans WHERE id = ?", (scan,)).fetchone()
        except OverflowError:  # more than SQLite can count
            row = None
        if row is None:
            raise UsageError(f"no scan {scan} in the ledger; see `lohi-edge queue list`")
        return Scan.from_row(row)

    def is_free(self, number: int) -> bool:
        """Whether no scan bears a number."""
        return not self._db.execute("SELECT 1 FROM scans WHERE id = ?", (number,)).fetchone()

    def mark(self, path: str) -> str | None:
        """The mark under which a path was last received."""
        row = self._db.execute(
            "SELECT mark FROM scans WHERE path = ? ORDER BY id DESC LIMIT 1", (os.fsencode(path),)
        ).fetchone()
        return row[0] if row else None

    def latest(self, path: str) -> Scan | None:
        """The last attempt at a path."""
        order = "id DESC LIMIT 1"
        return next(self.select("path = ?", os.fsencode(path), order=order), None)

    def select(self, where: str, *values: Any, order: str = "turn, id") -> Iterator[Scan]:
        """Rows by a condition written in this package, never taken from outside."""
        # Fetched at once: a caller may change rows while it walks through them.
        rows = self._db.execute(f"SELECT * FROM scans WHERE {where} ORDER BY {order}", values)
        return map(Scan.from_row, rows.fetchall())

    def below(self, place: str) -> Iterator[Scan]:
        """The scans whose paths lie in a folder or archive, or in one below it."""
        # "0" comes behind "/": a range, which the index by path finds in a ledger of any length.
        return self.select("path > ? AND path < ?", *(os.fsencode(place + end) for end in "/0"))

    def due(self) -> Iterator[Scan]:
        """Received scans whose time has come, in turn; nothing may change while it is read."""
        rows = self._db.execute(
            "SELECT * FROM scans WHERE state = 'received' AND not_before <= ? ORDER BY turn, id",
            (self.clock.now(),),
        )
        return map(Scan.from_row, rows)

    def with_identity(self, identity: str) -> Iterator[Scan]:
        """The finished scans of an identity that have a result of their own, each made anew."""
        return self.select("identity = ? AND state = 'done' AND first IS NULL", identity)

    def counts(self) -> dict[str, int]:
        """Scans by state; counted again only after a change made through this connection."""
        changes = self._db.total_changes
        if self._counted is None or self._counted[0] != changes:
            self._counted = (changes, self._count())
        return self._counted[1]

    def _count(self) -> dict[str, int]:
        rows = self._db.execute("SELECT state, count(*) FROM scans GROUP BY state")
        return dict.fromkeys(STATES, 0) | dict(tuple(row) for row in rows)

    # Small facts beside the scans.

    def fact(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _saved_clock(self) -> tuple[str, float, float] | None:
        saved = self.fact("clock")
        if saved is None:
            return None
        boot, then, total = saved.split()
        return boot, float(then), float(total)

    def _last_turn(self) -> int:
        row = self._db.execute("SELECT coalesce(max(turn), 0) FROM scans").fetchone()
        return int(row[0])

    def _insert(
        self, path: bytes, mark: str, state: str, turn: int, number: int | None = None
    ) -> int:
        cursor = self._db.execute(
            "INSERT INTO scans (id, path, mark, state, turn, received_at, received_wall) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, path, mark, state, turn, self.clock.now(), wall()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _change(self, scan: int, **values: Any) -> None:
        with self.transaction():
            self._update(scan, values)

    def _update(self, scan: int, values: dict[str, Any]) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE scans SET {columns} WHERE id = ?", (*values.values(), scan))
