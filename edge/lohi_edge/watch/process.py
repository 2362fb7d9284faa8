"""Child processes that speak JSON lines: the daemon's end, and the child's."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_READ = 1 << 16
_TAIL = 2000
_PR_SET_PDEATHSIG = 1
CRASH = 70  # EX_SOFTWARE of sysexits.h
Send = Callable[..., None]


class Process:
    """A child process; made anew after each crash.

    Args:
        module: run with `python -m`.
        first: the first message to it.
        stderr: file that gets what it prints (it may name scans, so no log does).
    """

    def __init__(self, module: str, first: dict[str, Any], stderr: Path) -> None:
        self._stderr = stderr
        with stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            )
        assert self._process.stdout
        os.set_blocking(self._process.stdout.fileno(), False)
        self._rest = b""
        self.ready = False
        self.ended = False
        self.write(first)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        assert self._process.stdout
        return self._process.stdout.fileno()

    def write(self, message: dict[str, Any]) -> None:
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


def enter(oom_score: int = 0) -> Send:
    """Become such a child, called with the daemon's pid as argument; what tells it events.

    The child ends with the daemon, leaves signals to it, and what libraries print goes to stderr.

    Args:
        oom_score: how much sooner than others the kernel ends it when memory is short.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with(int(sys.argv[1]))
    if oom_score:
        with contextlib.suppress(OSError):  # some containers forbid it
            Path("/proc/self/oom_score_adj").write_text(str(oom_score))
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(event: str, **facts: Any) -> None:
        with lock:
            events.write(json.dumps({"event": event, **facts}) + "\n")

    return send


def or_crash(work: Callable[..., None], *arguments: Any) -> None:
    """Run a thread's work; what goes wrong in it ends the whole process now."""
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 (whatever it is, the daemon starts another process)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(CRASH)


def in_thread(work: Callable[..., None], *arguments: Any) -> None:
    """`or_crash` in a thread of its own."""
    threading.Thread(target=or_crash, args=(work, *arguments), daemon=True).start()


def die_with(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """From now on this process gets a signal when its parent ends, however it does."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above could notice
