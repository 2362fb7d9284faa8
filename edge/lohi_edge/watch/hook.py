"""The hook: a command run after each delivery, which can neither block nor stop the queue."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from pathlib import Path

from lohi_edge.watch.log import Log

MAX_WAITING = 1000


class Hooks:
    """Runs one hook at a time beside the work; at most once per delivery."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: deque[tuple[int, list[str], float]] = deque()
        self._running: tuple[int, subprocess.Popen[bytes], float] | None = None

    def add(self, scan: int, command: tuple[str, ...], receipt: Path, timeout_s: float) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._log("hook.skipped", scan=scan, why="too many hooks are waiting")
            return
        self._waiting.append((scan, [*command, str(receipt)], timeout_s))

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def tick(self) -> None:
        """Start, reap or kill; never waits."""
        if self._running:
            scan, process, deadline = self._running
            code = process.poll()
            if code is None and time.monotonic() < deadline:
                return
            if code is None:
                _kill(process)
            self._log("hook.ended", scan=scan, code="timeout" if code is None else code)
            self._running = None
        if self._waiting:
            self._start(*self._waiting.popleft())

    def stop(self) -> None:
        self._waiting.clear()
        if self._running:
            _kill(self._running[1])
            self._running = None

    def _start(self, scan: int, command: list[str], timeout_s: float) -> None:
        nowhere = subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
            )
        except OSError as error:
            self._log("hook.failed", scan=scan, why=error.strerror)
            return
        self._running = (scan, process, time.monotonic() + timeout_s)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
