"""DICOM beside the daemon: a child process that receives into the inbox and sends results on.

The child may crash, or be made to by a peer, without harm: what it has acknowledged is in the
inbox, what it is to send is a job on disk, and another one is started.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes
from lohi_edge.settings import Settings
from lohi_edge.watch.log import Log, printable
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.process import Process
from lohi_edge.watch.schema import Scan

MODULE = "lohi_edge.watch.network_child"
FOLDER = "send"  # in the state folder: jobs of results that are not sent yet
STDERR_FILE = "network.stderr"
_ASIDE = "failed-"  # before the name of a job that was set aside, by `sendqueue.Queue`
_RESTART_S = (0.5, 60.0)
_READ, _MAX_JOB = 20, 16 << 20  # jobs looked into for why they wait, and bytes of one


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


class Outgoing:
    """Results that are to be sent, as jobs on disk.

    Args:
        state: the state folder.
        settings: at the time of asking.
    """

    def __init__(self, state: Path, settings: Settings) -> None:
        self._folder = state / FOLDER
        self.settings = settings

    def add(self, scan: Scan, placed: Placed) -> int:
        """Queue a delivered result for every destination; returns how many jobs that makes.

        A job's name comes from the scan, so that doing it again after a power cut changes nothing.
        Series and sheet are jobs of their own: not every archive takes secondary captures.

        Raises:
            DiskError
        """
        dicom, result = self.settings.dicom, placed.record.get("result") or {}
        if not dicom.send or result.get("format") != "dicom":
            return 0
        from lohi_edge.dicom.send import Node
        from lohi_edge.dicom.sendqueue import Queue

        queue, folder = Queue(self._folder), placed.receipt.parent
        parts = [folder / result["path"]]
        parts += [folder / result["sheet"]["path"]] if "sheet" in result else []
        jobs = [(node, part) for node in dicom.send for part in parts]
        for number, (node, part) in enumerate(jobs):
            name = f"{scan.id:012d}-{_token(scan)}-{number}"
            queue.add([part], Node.parse(node, dicom.title), name)
        return len(jobs)

    def waits(self, scan: Scan, unsent: set[str]) -> bool:
        """Whether a scan's result is among `unsent`."""
        return bool(scan.identity) and _token(scan) in unsent

    def unsent(self) -> set[str]:
        """What stands for results that some destination has not acknowledged.

        Jobs that were set aside count: nobody has their results elsewhere.
        """
        jobs = (*self._jobs(), *self._aside())
        names = (job.stem.removeprefix(_ASIDE).split("-") for job in jobs)
        return {token for _, token, *_ in names}

    def reasons(self) -> list[str]:
        """Why results are not sent, each reason once; of the oldest jobs alone, and the newest.

        What is never sent by itself, somebody has to know of: jobs that were set aside, and those
        for a node that the settings no longer name.
        """
        jobs = sorted(self._jobs())
        found = dict.fromkeys(map(self._reason, [*jobs[:_READ], *jobs[_READ:][-1:]]))
        lines = [line for line in found if line]
        if aside := sorted(self._aside()):
            first = f"{len(aside)} set aside, the first as {aside[0]}"
            lines.append(
                f"{first}; the log said why (dicom.not_sent): send their results with `lohi-edge "
                "send` and remove them, retention keeps the results until then"
            )
        return lines

    def _reason(self, job: Path) -> str | None:
        """What the last attempt at a job met; None before one."""
        try:
            said = json.loads(read_bytes(job, _MAX_JOB))
            node = "{title}@{host}:{port}".format_map(said["node"])
        except (ValueError, TypeError, KeyError, RecursionError, BadInput):
            return None  # just sent, or damaged: the network process sets it aside
        named = (text.replace("[", "").replace("]", "") for text in self.settings.dicom.send)
        if node not in named:
            return (
                f"{printable(node)}: no longer in dicom.send: put it back, or send its results "
                f"with `lohi-edge send` and remove its jobs from {self._folder}"
            )
        why = said.get("why")
        return printable(why) if isinstance(why, str) else None

    def _jobs(self) -> Iterator[Path]:
        return self._folder.glob("[0-9]*-*-*.json")

    def _aside(self) -> Iterator[Path]:
        return self._folder.glob(f"{_ASIDE}[0-9]*-*-*.json")


def _token(scan: Scan) -> str:
    """Of a scan's identity, which outlives its number where the ledger has to be rebuilt."""
    assert scan.identity
    return scan.identity[:16]


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
