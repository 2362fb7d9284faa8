"""Closing a scan: result on disk, then ledger, then the original; each step can be repeated."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lohi_edge import receipt
from lohi_edge.errors import DiskError
from lohi_edge.settings import Settings
from lohi_edge.watch import faults, originals, sidecars, withheld
from lohi_edge.watch.audit import Audit
from lohi_edge.watch.clock import wall
from lohi_edge.watch.group import place_of
from lohi_edge.watch.inbox import Inbox, Look
from lohi_edge.watch.leaving import Leaving
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.log import Log, printable, without_names
from lohi_edge.watch.names import moved
from lohi_edge.watch.outbox import PLANS, Outbox
from lohi_edge.watch.outgoing import Outgoing
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.schema import Scan
from lohi_edge.watch.sidecars import had_sidecar, is_shared, sidecar_of

_ADVICE = {
    "held": "There is no result: use the scan itself. If the scan is as bad as the reason says, "
    "acquire it again. Receipt and report beside this file say why, figure by figure.",
    "failed": "Mend the cause and put the scan into the inbox again, or: "
    "lohi-edge queue retry {id}",
    "quarantined": "The software failed on this scan, again and again. Please report it. To try "
    "once more: lohi-edge queue retry {id}",
}


@dataclass
class Closing:
    """What every step needs; one for the life of the daemon."""

    root: Path  # the inbox
    inbox: Inbox
    outbox: Outbox
    ledger: Ledger
    audit: Audit
    log: Log
    settings: Settings
    outgoing: Outgoing

    def __post_init__(self) -> None:
        self.leaving = Leaving(self.root, self.inbox, self.outbox, self.ledger)
        self._rested: set[str] = set()
        if self.leaving.plans.damaged:
            self.log("leaving.damaged", kept_as=f"{PLANS}.damaged")

    def stamp(self, scan: Scan, identity: str) -> dict[str, Any]:
        """What a receipt must say so that a lost ledger can be rebuilt from it."""
        return {
            "identity": identity,
            "scan": scan.id,
            # Percent-encoded: a path may hold bytes that no JSON text can.
            "path": urllib.parse.quote_from_bytes(os.fsencode(scan.path)),
            "mark": scan.mark,
            "received": scan.received_wall,
            "audit": self.audit.head.to_dict(),
        }

    def source(self, scan: Scan, folder: str) -> str:
        """Where the original will be, as seen from the result's folder."""
        policy = self.settings.watch.originals
        if policy == "delete":
            return printable(Path(scan.path).name)
        home = self._home(scan, "originals")
        return printable(receipt.relative(home, self.outbox.root / folder))

    def if_held(self, scan: Scan) -> tuple[str, str]:
        """Should its result be held back: name of the receipt, and the original as seen from it."""
        home = self._home(scan, withheld.HELD)
        beside = withheld.receipt_path(self.outbox, scan.path, scan.id)
        return beside.name, printable(receipt.relative(home, beside.parent))

    def deliver(self, scan: Scan, folder: str, done: dict[str, Any], **more: Any) -> None:
        """The staged folder becomes the result; `more` is for the ledger.

        Raises:
            DiskError: nothing was delivered.
        """
        self.outbox.place(scan.id, folder)
        faults.reach("after_placed", scan.path)
        self.record_done(scan, folder, done, **more)

    def record_done(self, scan: Scan, folder: str, done: dict[str, Any], **more: Any) -> None:
        """The result is on disk; now send queue, audit log and ledger learn of it."""
        if scan.identity and "first" not in more:
            placed = self.outbox.find(folder, scan.identity)
            if placed and (count := self.outgoing.add(scan, placed)):
                self.log("scan.queued_to_send", scan=scan.id, jobs=count)
        self._say(
            scan, "scan.done", verdict=done["verdict"], seconds=done.get("seconds"),
            result_sha256=done.get("result_sha256"), first=more.get("first"),
        )  # fmt: skip
        faults.reach("after_audit", scan.path)
        self.ledger.finish(
            scan.id,
            "done",
            result=os.fsencode(folder),
            verdict=done["verdict"],
            bytes=done.get("bytes", 0),
            original=self._intended(scan),
            **more,
        )
        faults.reach("after_ledger", scan.path)
        self.settle_original(self.ledger.get(scan.id))

    def adopt(self, scan: Scan, placed: Placed) -> None:
        """A result that was placed before a power cut, and only the ledger missed."""
        record = placed.record
        done = {
            "verdict": record["verdict"],
            "seconds": record["timings"].get("total"),
            "bytes": placed.bytes,
        }
        repeats = record["watch"].get("repeats")
        known = repeats is not None and not self.ledger.is_free(repeats)
        self.record_done(scan, placed.folder, done, **({"first": repeats} if known else {}))

    def close_without_result(self, scan: Scan, state: str, reason: str, **more: Any) -> None:
        """Held, failed or quarantined: a readable reason, and the original untouched.

        `more` is for the ledger.

        Raises:
            DiskError: the reason could not be written; the scan is where it was.
        """
        home = self._home(scan, state)
        text = (
            f"Scan: {printable(scan.path)}\nState: {state}\nWhy: {reason}\n"
            f"What to do: {_ADVICE[state].format(id=scan.id)}\n"
            f"Original: untouched, {printable(str(home))}\nAttempts: {scan.attempts}\n"
            f"When: {wall()} by this device's clock\n"
        )
        self.outbox.explain(state, scan.path, scan.id, text)
        faults.reach("after_reason", scan.path)
        self._say(scan, f"scan.{state}", reason=without_names(reason, scan.path, scan.id)[:300])
        faults.reach("after_audit", scan.path)
        self.ledger.finish(scan.id, state, reason=reason, original=self._intended(scan), **more)
        faults.reach("after_ledger", scan.path)
        self.settle_original(self.ledger.get(scan.id))

    def settle_original(self, scan: Scan) -> None:
        """Move or delete the original, once the ledger knows what became of the scan."""
        if scan.original != "pending":
            return
        if place_of(scan.path) is not None:
            self._leave(lambda: self.leaving.settle(scan.path, self.settings), scan=scan.id)
            return
        mark = self.inbox.mark(scan.path)
        if mark is None and not self._has_left(scan):
            return
        # None: a power cut came between the scan and its sidecar, which is then settled now.
        if mark in (scan.mark, None):
            try:
                outcome = self._dispose(scan, self.root / scan.path)
            except DiskError:
                self.log("original.kept", scan=scan.id, why="it cannot be moved or deleted")
                return
        else:
            outcome = "kept"  # replaced by another scan, which is yet to be enhanced
        faults.reach("after_original", scan.path)
        self.ledger.set_original(scan.id, outcome)
        faults.reach("after_closed", scan.path)

    def _has_left(self, scan: Scan) -> bool:
        """Whether a scan is in the inbox no more; False where the inbox is not there to tell."""
        try:
            (self.root / scan.path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return bool(self.leaving.ground.token())
        except OSError:
            return False
        return False

    def settle_pending(self) -> None:
        """Settle every original that could not be settled when its scan was closed."""
        if not self.outbox.is_there():
            return  # nothing may go onto a bare mount point
        self._rested = set()
        self._leave(self.leaving.resume)
        for scan in self.ledger.select("original = 'pending'"):
            if self.leaving.more:
                return
            self.settle_original(self.ledger.get(scan.id))

    def settle_seen(self, look: Look) -> None:
        """Settle what there was no time for, and what a look shows to be over."""
        if self.leaving.more or self.ledger.clock.now() >= self.leaving.due:
            self.settle_pending()
        if self.settings.watch.originals == "keep" or not self.outbox.is_there():
            return
        # What is skipped in the inbox itself stays there.
        of = {place: path for path in look.skipped if (place := place_of(path))}
        new = sorted(look.rested.intersection(of) - self._rested, reverse=True)  # inner ones first
        self._rested = look.rested
        for place in new:
            self._leave(partial(self.leaving.settle, of[place], self.settings))
        for path, quiet in look.alone.items():
            self._leave(partial(sidecars.set_aside, self, path, quiet))

    def _leave(self, step: Callable[[], None], **of: Any) -> None:
        try:
            step()
        except DiskError:
            self.log("original.kept", **of, why="it cannot be moved or deleted")

    def _dispose(self, scan: Scan, original: Path) -> str:
        # The scan first: without its sidecar it might pass for another contrast.
        beside, shared = sidecar_of(original), is_shared(original)
        own = [original, beside] if had_sidecar(scan.mark) else [original]
        files = [path for path in own if os.path.lexists(path)]
        if scan.state == "done" and self.settings.watch.originals == "delete":
            for file in files:
                if file == original or not shared:
                    self.outbox.destroy(file)
            return "deleted"
        home = self._home(scan, "originals" if scan.state == "done" else scan.state)
        for file in files:
            target = home if file == original else sidecar_of(home)
            self.outbox.take(file, target, copy=file == beside and shared)
        return "moved"

    def _home(self, scan: Scan, kind: str) -> Path:
        """Where the original will be; of a series, the folder or archive that holds it."""
        place = place_of(scan.path)
        holder = scan.path if place is None else place
        if self.settings.watch.originals == "keep":
            return self.root / holder
        if place is not None and (self.root / place).is_file():
            return moved(self.outbox.root, place, "originals")  # an archive goes as a whole
        target = moved(self.outbox.root, scan.path, kind)
        if place is not None:
            return target
        original, shares = self.root / scan.path, kind == "originals"
        return originals.home(target, original, scan.mark, shares)

    def _intended(self, scan: Scan) -> str:
        return "kept" if self.settings.watch.originals == "keep" else "pending"

    def _say(self, scan: Scan, event: str, **facts: Any) -> None:
        facts = {key: value for key, value in facts.items() if value is not None}
        self.audit.append(event, scan=scan.id, sha256=scan.sha256, **facts)
        with self.ledger.transaction():
            self.ledger.set("audit_head", f"{self.audit.head.seq} {self.audit.head.sha256}")
        self.log(event, scan=scan.id, **facts)
