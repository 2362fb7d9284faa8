"""Telling others how the daemon is: systemd, the status file, health and metrics, the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge.device import machine
from lohi_edge.settings import Http
from lohi_edge.watch import disk, status
from lohi_edge.watch.health import Health
from lohi_edge.watch.notify import notify
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.page import Page

HEARTBEAT_S = 30.0


class Herald:
    """Tells what changed, and every so often that nothing did.

    Args:
        state: folder of the status file.
        settings: which servers there are.

    Attributes:
        beat: when something was told last, in seconds of `time.monotonic`.

    Raises:
        UsageError: a server's address cannot be used.
    """

    def __init__(self, state: Path, outbox: Outbox, settings: Http) -> None:
        self._outbox = outbox
        self._publisher = status.Publisher(state)
        self._health = Health(settings.port) if settings.port else None
        self._page = Page(state, outbox, settings.page) if settings.page else None
        self._servers = [server for server in (self._health, self._page) if server]
        self.beat = 0.0

    @property
    def http_port(self) -> int:
        """Of health and metrics; 0 where no socket is open."""
        return self._health.port if self._health else 0

    @property
    def page_port(self) -> int:
        """Of the web page; 0 where there is none."""
        return self._page.port if self._page else 0

    def alive(self, starting: bool) -> None:
        """The work loop turns."""
        if starting:
            # Building an engine takes minutes; every step of the loop asks for some more time.
            notify("EXTEND_TIMEOUT_USEC=30000000")
        notify("WATCHDOG=1")

    def tell(self, now: float, said: dict[str, Any]) -> None:
        """Tell a snapshot, where it is new or a heartbeat is due."""
        if not self._publisher.publish(said, beat=now - self.beat > HEARTBEAT_S):
            return
        self.beat = now
        if self._servers:
            free = disk.free_bytes(self._outbox.root)
            heat = machine.heat()["temperature_c"]
            for server in self._servers:
                server.tell({**said, "outbox_free": free, "heat": heat})

    def stop(self) -> None:
        """Close the servers; the status file can still be told the end."""
        for server in self._servers:
            server.stop()
        self._servers = []
