"""The daemon's side of the worker process: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lohi_edge.settings import Enhance

_READ = 1 << 16
STDERR_FILE = "worker.stderr"
_TAIL = 2000


class Worker:
    """One worker process; made anew after each crash.

    Args:
        settings: options of the enhancement.
        state: folder that gets what the process prints (it may name files, so no log does).
    """

    def __init__(self, settings: Enhance, state: Path) -> None:
        self._stderr = state / STDERR_FILE
        with self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lohi_edge.watch.child", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )
        assert self._process.stdout
        assert self._process.stdin
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""
        self.ready = False
        self.ended = False
        self._write(asdict(settings))

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        assert self._process.stdout
        return self._process.stdout.fileno()

    def send(self, do: str, **what: Any) -> None:
        self._write({"do": do, **what})

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return  # it died; its end of the other pipe says so

    def receive(self) -> list[dict[str, Any]]:
        """Events that have arrived; sets `ended` when there will be no more."""
        while not self.ended:
            try:
                got = os.read(self.fileno(), _READ)
            except BlockingIOError:
                break
            self.ended = not got
            self._rest += got
        *lines, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> str:
        """Kill what is left of the process; returns how it ended, in words."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            try:
                pipe.close()
            except OSError:
                continue  # unsent bytes to a dead process
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    def last_words(self) -> str:
        """The end of what it printed; may name files."""
        try:
            return self._stderr.read_bytes()[-_TAIL:].decode(errors="replace").strip()
        except OSError:
            return ""
