"""How a scan leaves the queue, or stays in it: closed, struck, or put back for a disk's sake."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from lohi_edge.errors import DiskError
from lohi_edge.files import require_place
from lohi_edge.watch import disk, withheld
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.gate import Gate
from lohi_edge.watch.log import printable, without_names
from lohi_edge.watch.outbox import STAGING
from lohi_edge.watch.schema import FINAL, Scan
from lohi_edge.watch.withheld import HELD, HOLD

PUT_OFF_S = (10.0, 600.0)  # first and longest time that a scan waits for its own trouble to pass


class Endings:
    """Ends one scan after another.

    Args:
        drop: called with a scan's id where the worker may still hold it.
        delivered: called with (scan, folder) after each delivery.
    """

    def __init__(
        self,
        parts: Closing,
        gate: Gate,
        drop: Callable[[int], None],
        delivered: Callable[[Scan, str], None],
    ) -> None:
        self._parts, self._gate = parts, gate
        self._drop, self._delivered = drop, delivered
        self._failures: dict[int, int] = {}  # of scans that a disk refused which is well

    def close(self, scan: Scan, state: str, reason: str) -> None:
        """Failed or quarantined."""
        self.guarded(scan, lambda: self._parts.close_without_result(scan, state, reason))

    def hold(self, scan: Scan, reason: str) -> None:
        """Held by the quality check; what the worker wrote of it is staged."""
        self.guarded(scan, lambda: self._withhold(scan, reason))
        self._parts.outbox.discard(scan.id)

    def _withhold(self, scan: Scan, reason: str) -> None:
        parts = self._parts
        pages = withheld.place(parts.outbox, scan.path, scan.id)
        try:
            parts.close_without_result(scan, HELD, reason, verdict=HOLD, bytes=pages)
        except DiskError:
            # It is tried again, and may end otherwise then.
            with suppress(DiskError):
                withheld.take_back(parts.outbox, scan.path, scan.id)
            raise

    def strike(self, scan: Scan, reason: str, alone: bool) -> None:
        """A crash counts against the scan; after too many it is quarantined."""
        settings = self._parts.settings.worker
        strikes = scan.strikes + 1
        delay = settings.backoff_s * 2 ** (strikes - 1)
        self._parts.ledger.strike(scan.id, delay, alone or scan.alone)
        told = without_names(reason, scan.path, scan.id)
        self._parts.audit.append("scan.crashed", scan=scan.id, strikes=strikes)
        self._parts.log("scan.crashed", scan=scan.id, strikes=strikes, why=told, retry_in_s=delay)
        if strikes >= settings.attempts:
            self.close(self._parts.ledger.get(scan.id), "quarantined", reason)

    def guarded(self, scan: Scan, step: Callable[[], None]) -> None:
        """Run a step that writes; a full or failing disk is the disk's fault, never the scan's."""
        try:
            step()
        except DiskError as error:
            self._drop(scan.id)
            self.put_back(scan, str(error))
            return
        row = self._parts.ledger.get(scan.id)
        if row.state in FINAL:
            self._failures.pop(scan.id, None)
        if row.state == "done" and row.result is not None:
            self._delivered(row, row.result)

    def put_back(self, scan: Scan, message: str) -> None:
        """To the front of the queue, until the disk is well; or put off, so that the others go on.

        The latter where the disk is well and refuses the scan a second time: that concerns one name
        alone, as a file does where the scan needs a folder.
        """
        self._parts.outbox.discard(scan.id)
        failures = self._failures.get(scan.id, 0) + 1 if self._is_well() else 0
        self._failures[scan.id] = failures
        told = without_names(message, scan.path, scan.id)
        if failures < 2:
            self._parts.ledger.put_back(scan.id, last=False)
            self._gate.close(told)
            return
        first, longest = PUT_OFF_S
        delay = min(first * 2 ** min(failures - 2, 16), longest)
        later = self._parts.ledger.clock.now() + delay
        self._parts.ledger.put_back(scan.id, not_before=later, reason=printable(message))
        self._parts.log("scan.put_off", scan=scan.id, why=told, retry_in_s=delay)

    def _is_well(self) -> bool:
        """Whether the outbox can be written and has room, for all that can be told in general."""
        outbox, settings = self._parts.outbox, self._parts.settings.disk
        try:
            require_place(outbox.root / STAGING / "any")
        except DiskError:
            return False
        return outbox.is_there() and disk.has_room(outbox.root, settings, 0)
