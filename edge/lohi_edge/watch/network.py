"""DICOM beside the daemon: a child process that receives into the inbox and sends results on.

The child may crash, or be made to by a peer, without harm: what it has acknowledged is in the
inbox, what it is to send is a job on disk, and another one is started.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lohi_edge.errors import UsageError
from lohi_edge.settings import Settings
from lohi_edge.watch.log import Log
from lohi_edge.watch.outgoing import FOLDER
from lohi_edge.watch.process import Process

MODULE = "lohi_edge.watch.network_child"
STDERR_FILE = "network.stderr"
_RESTART_S = (0.5, 60.0)


def check(settings: Settings) -> None:
    """Raises UsageError where the section [dicom] cannot be used."""
    dicom = settings.dicom
    if dicom.port:
        from lohi_edge.dicom.titles import require_title

        for title in (dicom.title, *dicom.callers):
            require_title(title)
    if dicom.send:
        from lohi_edge.dicom.send import Node

        for text in dicom.send:
            Node.parse(text, dicom.title)
    if dicom.port and not dicom.callers:
        raise UsageError("expected the AE titles that may send in dicom.callers, got none")
    if len({bool(f) for f in (dicom.tls_cert, dicom.tls_key, dicom.tls_ca)}) > 1:
        raise UsageError("expected dicom.tls_cert, tls_key and tls_ca together")


class Network:
    """The child over all its lives, for as long as the settings ask for one."""

    def __init__(self, inbox: Path, state: Path, settings: Settings, log: Log) -> None:
        self._inbox, self._state, self._log = inbox, state, log
        self._settings = settings
        self.process: Process | None = None
        self._restart_at, self._restart_wait = 0.0, _RESTART_S[0]
        self._place: list[Any] | None = None  # by which each life of the child knows the inbox
        self.port = 0
        self.trouble: str | None = None

    @property
    def wanted(self) -> bool:
        return bool(self._settings.dicom.port or self._settings.dicom.send)

    def renew(self, settings: Settings) -> None:
        """Take other settings; the child is started again where they concern it."""
        if (settings.dicom, settings.disk) != (self._settings.dicom, self._settings.disk):
            self.stop()
        self._settings = settings

    def tick(self) -> None:
        """Start the child where there is none, and pass on what it says."""
        if self.process is None:
            if self.wanted and time.monotonic() >= self._restart_at:
                first = {
                    **asdict(self._settings.dicom),
                    "inbox": str(self._inbox),
                    "place": self._place,
                    "queue": str(self._state / FOLDER),
                    "reserve": int(self._settings.disk.reserve_gb * 1e9),
                }
                self.process = Process(MODULE, first, self._state / STDERR_FILE)
            return
        for event in self.process.receive():
            self._hear(**event)
        if self.process.ended:
            self._log("network.lost", how=self.process.end())
            self.process, self.port = None, 0
            self._restart_at = time.monotonic() + self._restart_wait
            self._restart_wait = min(2 * self._restart_wait, _RESTART_S[1])

    def stop(self) -> None:
        """End the child; nothing acknowledged or queued is lost."""
        if self.process:
            self.process.end()
        self.process, self.port, self._restart_at = None, 0, 0.0

    def _hear(self, event: str, **facts: Any) -> None:
        if event in ("listening", "mounted"):
            self._place = facts.pop("place")
        if event == "listening":
            self.port, self.trouble, self._restart_wait = facts["port"], None, _RESTART_S[0]
        elif event == "refused":
            self.trouble = facts["why"]
        self._log(f"dicom.{event}", **facts)
