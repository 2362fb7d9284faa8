"""What a measurement of the daemon needs: one of its own, scans for it, and a word on progress."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import nibabel as nib
import numpy as np

from lohi_edge import nifti
from lohi_edge.errors import LohiError
from lohi_edge.watch.ledger import FILE
from lohi_edge.watch.status import said

BEGUN, CLOSED = "attempts > 0", "finished_at IS NOT NULL"
_WAIT_S = 3600.0
Progress = Callable[[int, int, str], None]  # steps done, of, what is being done


class Steps:
    """Counts the steps of a measurement and tells of them.

    Args:
        total: steps in all; a scan, or a second of waiting, is one.
        progress: told of each.
        say: told how long something will take.
    """

    def __init__(
        self,
        total: int = 0,
        progress: Progress = lambda done, total, what: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._done, self._total, self._progress, self.say = 0, total, progress, say

    def step(self, what: str, count: int = 1) -> None:
        """So many more steps are done; `what` is going on."""
        self._done += count
        self._progress(self._done, self._total, what)


class Running:
    """A daemon on folders of its own, as a context manager.

    Args:
        base: an empty folder.
        bundle, threads: of the worker.
        environ: settings, as environment variables.
    """

    def __init__(
        self, base: Path, bundle: Path | None, threads: int | None, **environ: str
    ) -> None:
        self.inbox, self.outbox, self.state = (base / n for n in ("in", "out", "state"))
        self.away = base / "away"
        for folder in (self.inbox, self.outbox, self.away):
            folder.mkdir(parents=True)
        self._command: list[str | Path] = [sys.executable, "-m", "lohi_edge", "watch"]
        self._command += [self.inbox, self.outbox, "--state", self.state]
        self._command += ["--bundle", bundle] if bundle else []
        self._environ = {**os.environ, "LOHI_EDGE_DISK_RESERVE_GB": "0", **environ}
        if threads:
            self._environ["LOHI_EDGE_ENHANCE_THREADS"] = str(threads)

    def __enter__(self) -> Running:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, env=self._environ, stderr=quiet)
        self.wait(lambda: (said(self.state) or {}).get("phase") == "ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def pids(self) -> tuple[int, int]:
        """Of daemon and worker."""
        status = said(self.state) or {}
        return int(status["pid"]), int(status["worker_pid"])

    def count(self, where: str) -> int:
        """Rows of the ledger."""
        with sqlite3.connect(f"file:{self.state / FILE}?mode=ro", uri=True) as db:
            (count,) = db.execute(f"SELECT count(*) FROM scans WHERE {where}").fetchone()
        db.close()
        return int(count)

    def wait(self, done: Callable[[], bool], step_s: float = 0.005) -> float:
        """Seconds until `done()`.

        Raises:
            LohiError: the daemon ended.
        """
        begin = time.perf_counter()
        while not done():
            if self._process.poll() is not None or time.perf_counter() - begin > _WAIT_S:
                raise LohiError("the daemon of the measurement ended; run `lohi-edge watch`")
            time.sleep(step_s)
        return time.perf_counter() - begin

    def wait_for(self, where: str, count: int, step_s: float = 0.005) -> float:
        """Seconds until so many rows of the ledger meet a condition."""
        return self.wait(lambda: self.count(where) >= count, step_s)

    def close(self, before: int, count: int, steps: Steps, what: str) -> float:
        """Seconds until `count` scans more than `before` are closed, each of them a step."""
        begin = time.perf_counter()
        for more in range(count):
            self.wait_for(CLOSED, before + more + 1, 0.02)
            steps.step(what)
        return time.perf_counter() - begin

    def drop(self, files: list[Path]) -> None:
        """Let finished files appear in the inbox."""
        for file in files:
            file.rename(self.inbox / file.name)


class Scans:
    """Copies of a scan that differ in a byte, so that each is another scan.

    Raises:
        BadInput: it cannot be read.
    """

    def __init__(self, scan: Path) -> None:
        nifti.read(scan)  # what a daemon refuses measures nothing
        image = nib.Nifti1Image.from_filename(scan)
        self._data, self._image = np.asanyarray(image.dataobj), image
        self._made = 0

    def make(self, folder: Path, count: int) -> list[Path]:
        files = []
        for _ in range(count):
            self._made += 1
            header = self._image.header.copy()
            header["descrip"] = f"bench {self._made}"
            path = folder / f"bench-{self._made:06d}_T1w.nii"
            nib.save(nib.Nifti1Image(self._data, self._image.affine, header), path)
            files.append(path)
        return files
