"""Whether work may be taken: a disk with room, an outbox that is there, no recent trouble."""

from __future__ import annotations

import time

from lohi_edge.errors import DiskError
from lohi_edge.watch import disk
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.outbox import ELSEWHERE

PAUSE_S = 5.0
STATE_TROUBLE = "the state folder cannot be written: check its disk"
NO_ROOM = "not enough free disk space in the outbox: remove what is no longer needed"


class Gate:
    """Closed for a while after trouble; opens by itself once the disk allows it.

    Attributes:
        why: it is closed, in words; None while it is open.
    """

    def __init__(self, parts: Closing) -> None:
        self._parts = parts
        self.why: str | None = None
        self._was: str | None = None  # it was closed until just now, and may be at once again
        self._until = 0.0

    def close(self, why: str, seconds: float = PAUSE_S) -> None:
        """Take no work for a while, and say why."""
        if why not in (self.why, self._was):
            self._parts.log("intake.paused", why=why)
        self.why, self._was, self._until = why, None, time.monotonic() + seconds

    def close_after_trouble(self) -> None:
        """Close for what a step of the daemon ended in: an outbox that went, else the state."""
        self.close(STATE_TROUBLE if self._parts.outbox.is_there() else ELSEWHERE)

    def opens(self, idle: bool) -> bool:
        """Whether work may be taken now; `idle`: nothing is in hand."""
        if time.monotonic() < self._until:
            return False
        if not self._parts.outbox.is_there():
            self.close(ELSEWHERE)
            return False
        if not self.has_room(0):
            return False
        if self.why:
            try:
                if idle:
                    self._parts.outbox.clear()
            except DiskError as error:
                self.close(str(error))
                return False
            # Room for nothing is not room for the scan that waits: what comes of it is seen first.
            self.why, self._was = None, self.why
        elif self._was:
            self._parts.log("intake.resumed")
            self._was = None
        return True

    def has_room(self, expected_bytes: int) -> bool:
        """Whether the reserve stays free beside results of that size; closes where it does not."""
        room = disk.has_room(self._parts.outbox.root, self._parts.settings.disk, expected_bytes)
        if not room:
            self.close(NO_ROOM)
        return room
