"""Telling others how the daemon is: systemd, the status file, health and metrics, the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge.device import machine
from lohi_edge.errors import UsageError
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
        self._state, self._outbox = state, outbox
        self._publisher = status.Publisher(state)
        self._health: Health | None = None
        self._page: Page | None = None
        self._settings = Http()
        self.beat = 0.0
        self.renew(settings)

    @property
    def _servers(self) -> list[Health | Page]:
        return [server for server in (self._health, self._page) if server]

    def renew(self, settings: Http) -> None:
        """Take other servers; one whose address stays goes on.

        Raises:
            UsageError: an address cannot be used; nothing has changed.
        """
        old, health, page = self._settings, self._health, self._page
        if settings.port != old.port:
            health = Health(settings.port) if settings.port else None
        try:
            if settings.page != old.page:
                page = Page(self._state, self._outbox, settings.page) if settings.page else None
        except UsageError:
            if health and health is not self._health:
                health.stop()
            raise
        for server, new in ((self._health, health), (self._page, page)):
            if server and server is not new:
                server.stop()
        self._health, self._page, self._settings = health, page, settings
        self.beat = 0.0  # whoever is new is told at once

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
            # Accepting a model may take minutes; every step of the loop asks for some more time.
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
        self._health = self._page = None
