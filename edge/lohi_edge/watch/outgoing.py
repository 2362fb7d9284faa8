"""Results that are to be sent on, as jobs in the state folder; another process sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes
from lohi_edge.settings import Settings
from lohi_edge.watch.log import printable
from lohi_edge.watch.placed import Placed
from lohi_edge.watch.schema import Scan

FOLDER = "send"  # in the state folder: jobs of results that are not sent yet
_ASIDE = "failed-"  # before the name of a job that was set aside, by `sendqueue.Queue`
_READ, _MAX_JOB = 20, 16 << 20  # jobs looked into for why they wait, and bytes of one


class _Said(NamedTuple):
    """Of a job: where it goes, as dicom.send names it, and why it has not got there yet."""

    node: str
    why: str | None


class _Known(NamedTuple):
    """What a job's file said when it was the file that `stamp` tells; None: nothing that counts."""

    stamp: tuple[int, int] | None
    said: _Said | None


class Outgoing:
    """Results that are to be sent, as jobs on disk.

    Args:
        state: the state folder.
        settings: at the time of asking.
    """

    def __init__(self, state: Path, settings: Settings) -> None:
        self._folder = state / FOLDER
        self.settings = settings
        self._known: dict[Path, _Known] = {}  # the jobs that were looked into last

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
        return {_token_of(job.stem.removeprefix(_ASIDE)) for job in jobs}

    def reasons(self) -> list[str]:
        """Why results are not sent, each reason once; of the oldest jobs alone, and the newest.

        What is never sent by itself, somebody has to know of: jobs that were set aside, and those
        for a node that the settings no longer name.
        """
        jobs = sorted(self._jobs())
        self._known = {job: self._look(job) for job in (*jobs[:_READ], *jobs[_READ:][-1:])}
        found = dict.fromkeys(self._reason(known.said) for known in self._known.values())
        lines = [line for line in found if line]
        if aside := sorted(self._aside()):
            first = f"{len(aside)} set aside, the first as {aside[0]}"
            lines.append(
                f"{first}; the log said why (dicom.not_sent): mend that, then `lohi-edge queue "
                "retry --sends`; retention keeps the results until then"
            )
        return lines

    def retry(self, scan: Scan | None) -> dict[str, Any]:
        """Queue anew what was set aside, and have what waits tried now, of one scan or of all.

        Returns:
            `did`, in words; `sends`, the jobs that are in the queue again; `hurried`, those that
            waited for another attempt; `damaged`, the files of those that cannot be and stay.

        Raises:
            UsageError: nothing of `scan` was set aside or waits.
            DiskError
        """
        names = sorted(job.stem.removeprefix(_ASIDE) for job in self._aside())
        waiting = sorted(job.stem for job in self._jobs())
        if scan:
            names, waiting = (
                [name for name in kind if scan.identity and _token_of(name) == _token(scan)]
                for kind in (names, waiting)
            )
            if not names and not waiting:
                raise UsageError(
                    "expected a scan that was held, failed or quarantined, or whose result is not "
                    f"sent yet, scan {scan.id} is {scan.state}, and nothing of it is to be sent"
                )
        if not names and not waiting:
            return {"did": "nothing is to be sent", "sends": [], "hurried": [], "damaged": []}
        from lohi_edge.dicom.sendqueue import Queue

        queue = Queue(self._folder)
        hurried = queue.hurry(waiting)
        sends, damaged = queue.retry(names)
        did = f"{len(sends)} jobs of sending are in the queue again"
        if hurried:
            did += f", {len(hurried)} that waited for another attempt are tried now"
        if damaged:
            did += (
                f", not {len(damaged)} that are damaged: send their results with `lohi-edge send` "
                f"and remove them, the first is {damaged[0]}"
            )
        files = [str(file) for file in damaged]
        return {"did": did, "sends": sends, "hurried": hurried, "damaged": files}

    def _look(self, job: Path) -> _Known:
        """What a job says; read again only where an attempt has written another file."""
        try:
            status = job.stat()
        except OSError:
            return _Known(None, None)  # just sent
        stamp, known = (status.st_ino, status.st_mtime_ns), self._known.get(job)
        return known if known and known.stamp == stamp else _Known(stamp, _said(job))

    def _reason(self, said: _Said | None) -> str | None:
        """What the last attempt at a job met; None before one."""
        if said is None:
            return None
        named = (text.replace("[", "").replace("]", "") for text in self.settings.dicom.send)
        if said.node not in named:
            return (
                f"{printable(said.node)}: no longer in dicom.send: put it back, or send its "
                f"results with `lohi-edge send` and remove its jobs from {self._folder}"
            )
        return said.why and printable(said.why)

    def _jobs(self) -> Iterator[Path]:
        return self._folder.glob("[0-9]*-*-*.json")

    def _aside(self) -> Iterator[Path]:
        return self._folder.glob(f"{_ASIDE}[0-9]*-*-*.json")


def _said(job: Path) -> _Said | None:
    try:
        said = json.loads(read_bytes(job, _MAX_JOB))
        node, why = "{title}@{host}:{port}".format_map(said["node"]), said.get("why")
    except (ValueError, TypeError, KeyError, RecursionError, BadInput):
        return None  # just sent, or damaged: the network process sets it aside
    return _Said(node, why if isinstance(why, str) else None)


def _token_of(name: str) -> str:
    """The token in a job's name."""
    return name.split("-")[1]


def _token(scan: Scan) -> str:
    """Of a scan's identity, which outlives its number where the ledger has to be rebuilt."""
    assert scan.identity
    return scan.identity[:16]
