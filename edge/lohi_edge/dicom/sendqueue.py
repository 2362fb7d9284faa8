"""What is to be sent, on disk: a queue that outlives crashes and outages."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from lohi_edge.dicom.send import NetworkError, Node, Unreachable, Unreadable, send
from lohi_edge.dicom.tls import Tls
from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write, make_directory, read_bytes

MAX_JOB = 16 << 20
ASIDE = "failed-"  # before the name of a job that was set aside
FIRST_WAIT, LONGEST_WAIT = 5.0, 3600.0  # seconds before another attempt; doubled each time


class _Job(NamedTuple):
    """What a job file says, and all of it as it was stored."""

    node: Node
    paths: list[Path]
    due: float
    attempts: int
    stored: dict[str, Any]


class Queue:
    """Jobs as files: each says what to send where, how often that was tried, and when to again.

    A job disappears when the node has acknowledged every instance. Sending an instance twice does
    no harm (its UID is the same), so a crash between the two costs nothing but time. It waits while
    its files are away; set aside is only one that is damaged, or whose files were read and are no
    DICOM.

    Args:
        folder: of the job files.
        tls: for every node; None is no TLS.
        clock: seconds since the epoch.
    """

    def __init__(
        self, folder: Path, tls: Tls | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._tls, self._clock = folder, tls, clock
        make_directory(folder)

    def add(self, paths: Iterable[Path], node: Node, name: str | None = None) -> Path:
        """Queue files and folders; on disk when this returns.

        Args:
            name: of the job, digits first; another one of that name is replaced.
        """
        job = {
            "paths": [str(path.resolve()) for path in paths],
            "node": asdict(node),
            "attempts": 0,
            "due": self._clock(),
        }
        name = name or f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        return self._save(self._folder / f"{name}.json", job)

    def pending(self) -> list[Path]:
        """Job files, oldest first."""
        return sorted(self._folder.glob("[0-9]*.json"))

    def given_up(self) -> list[str]:
        """Names of the jobs that were set aside, oldest first."""
        aside = sorted(self._folder.glob(f"{ASIDE}[0-9]*.json"))
        return [file.stem.removeprefix(ASIDE) for file in aside]

    def hurry(self, names: Iterable[str]) -> list[str]:
        """Have jobs that wait tried at the next run, as if nobody had tried them yet.

        One that is just being sent may be sent once more, which does no harm.

        Returns:
            The names of those that waited.

        Raises:
            DiskError: a job's state could not be written.
        """
        hurried = []
        for name in names:
            file = self._folder / f"{name}.json"
            job = _read(file)
            if job and job.due > self._clock():
                self._save(file, {**job.stored, "attempts": 0, "due": self._clock()})
                hurried.append(name)
        return hurried

    def run(self, sent: Callable[[str], Any] = lambda name: None) -> list[str]:
        """Try every job that is due, once; of a node that is away the first one alone.

        A node that does not answer costs half a minute: its other jobs must not hold up those for
        nodes that do.

        Args:
            sent: called with the name of each job that is done.

        Returns:
            One line per job that was tried and is still there, or was set aside.

        Raises:
            DiskError: a job's state could not be written.
        """
        failed, away = [], set()
        for file in self.pending():
            if (job := _read(file)) is None:
                failed.append(self._set_aside(file, "it is damaged"))
                continue
            node, paths, due, attempts, stored = job
            # Further away than any wait: the clock was set back since.
            if node in away or 0 < due - self._clock() <= LONGEST_WAIT:
                continue
            # Counted and put off first, so that a job that kills us is not tried in a circle.
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempts, 20))
            stored |= {"attempts": attempts + 1, "due": self._clock() + wait}
            self._save(file, stored)
            try:
                send(paths, node, self._tls)
            except (NetworkError, Unreadable) as error:
                why = str(error)
                if isinstance(error, Unreadable):
                    why = f"{node}: cannot be sent now: {_without(paths, why)}"
                failed.append(f"{why}; attempt {attempts + 1}, next in {wait:.0f} s")
                self._save(file, {**stored, "why": why})
                if isinstance(error, Unreachable):
                    away.add(node)
            except BadInput as error:
                failed.append(self._set_aside(file, _without(paths, str(error))))
            else:
                file.unlink()
                sent(file.stem)
        return failed

    def retry(self, names: Iterable[str]) -> tuple[list[str], list[Path]]:
        """Queue jobs again that were set aside, as if nobody had tried them yet.

        Returns:
            The names of those in the queue again, and the files of those that are damaged and stay.

        Raises:
            DiskError: a job's state could not be written.
        """
        again, damaged = [], []
        for name in names:
            file = self._folder / f"{ASIDE}{name}.json"
            if (job := _read(file)) is None:
                damaged.append(file)
                continue
            job.stored.pop("why", None)
            self._save(file, {**job.stored, "attempts": 0, "due": self._clock()})
            taken = (self._folder / f"{name}.json").exists()  # it was queued once more since
            new = f"{name}-{uuid.uuid4().hex[:8]}" if taken else name
            file.replace(self._folder / f"{new}.json")
            again.append(new)
        return again, damaged

    def _save(self, file: Path, job: dict[str, Any]) -> Path:
        with atomic_write(file) as out:
            out.write(json.dumps(job, indent=2).encode())
        return file

    def _set_aside(self, file: Path, why: str) -> str:
        aside = file.with_name(ASIDE + file.name)
        file.replace(aside)
        return f"{aside.name}: set aside: {why}"


def _read(file: Path) -> _Job | None:
    """A job; None where it is damaged."""
    try:
        stored: dict[str, Any] = json.loads(read_bytes(file, MAX_JOB))
        paths = [Path(path) for path in stored["paths"]]
        due, attempts = float(stored["due"]), int(stored["attempts"])
        return _Job(Node(**stored["node"]), paths, due, attempts, stored)
    except (ValueError, TypeError, KeyError, RecursionError, BadInput):
        return None


def _without(paths: list[Path], why: str) -> str:
    """A message without the paths in it, which may name a patient: it is logged."""
    for path in paths:
        why = why.replace(str(path), "its file")
    return why
