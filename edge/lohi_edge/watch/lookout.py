"""When to look at the inbox, and what is said of it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from lohi_edge.settings import Watch
from lohi_edge.watch.inbox import SETTLE_S, Inbox, Look
from lohi_edge.watch.log import Log
from lohi_edge.watch.wake import Waker

EVENTS_RETRY_S = 30.0
_SHARE = 20  # where nothing changes, looking takes one part in so many of the time


class Lookout:
    """Looks at the inbox at the right times; file events make it look early.

    Attributes:
        look: the last one.
        next: when the next is due, in seconds of `time.monotonic`.
        trouble: why inbox or folders in it cannot be listed, or None.
    """

    def __init__(self, root: Path, inbox: Inbox, log: Log) -> None:
        self._root, self._inbox, self._log = root, inbox, log
        self.look = Look()
        self.next = 0.0
        self.trouble: str | None = None
        self._skipped: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        self._others: set[str] = set()
        self._waker: Waker | None = None
        self._waker_at = 0.0
        self._woken = False

    @property
    def events(self) -> bool:
        """Whether file events wake the daemon; without them it looks once per interval."""
        return bool(self._waker and self._waker.alive)

    def wake(self) -> None:
        """Something happened: look now."""
        self._woken = True
        self.next = min(self.next, time.monotonic())

    def stop(self) -> None:
        if self._waker:
            self._waker.stop()

    def see(self, now: float) -> Look:
        """Look, and say what is wrong or new about the inbox."""
        try:
            self.look = self._inbox.look(now)
            trouble = "; ".join(self.look.troubles) or None
        except OSError as error:
            self.look, trouble = Look(), f"cannot be listed: {(error.strerror or '').lower()}"
        if trouble != self.trouble:
            # Names of folders may name patients: the status tells them, the log does not.
            self._log("inbox.trouble" if trouble else "inbox.fine", folders=len(self.look.troubles))
            self.trouble = trouble
        self._tell_skipped()
        self._tell_unreadable()
        self._tell_others()
        return self.look

    def plan(self, begin: float, watch: Watch, rope: int) -> None:
        """When to look again, after a look and what came of it that began at `begin`.

        Args:
            rope: of the bell that file events ring.
        """
        cost = time.monotonic() - begin
        if self.look.settling:
            pause = max(SETTLE_S if self._woken else watch.interval_s, cost)
        else:
            pause = max(watch.interval_s, _SHARE * cost)
        self.next = time.monotonic() + pause
        self._woken = False
        self._keep_events(watch, rope)

    def _tell_skipped(self) -> None:
        new = self.look.skipped.items() - self._skipped.items()
        for why, count in Counter(why for _, why in new).items():
            self._log("series.skipped", why=why, count=count)
        self._skipped = self.look.skipped

    def _tell_unreadable(self) -> None:
        new = self.look.unreadable.items() - self._unreadable.items()
        for why, count in Counter(why for _, why in new).items():
            self._log("files.unreadable", why=why, count=count)
        self._unreadable = self.look.unreadable

    def _tell_others(self) -> None:
        others = set(self.look.others)
        if new := others - self._others:
            self._log("files.ignored", count=len(new), why="no scans")
        self._others = others

    def _keep_events(self, watch: Watch, rope: int) -> None:
        now = time.monotonic()
        if self._waker and not watch.events:
            self._waker.stop()
            self._waker = None
        if not watch.events or self.events or now < self._waker_at or self.trouble:
            return
        if self._waker and self._waker.trouble:
            self._log("events.lost", why=self._waker.trouble)
        self._waker_at = now + EVENTS_RETRY_S
        self._waker = Waker(self._root, rope)
