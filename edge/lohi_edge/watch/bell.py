"""What wakes the daemon's loop: signals, file events, a child that speaks, or time."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EVENT = b"e"


class Speaker(Protocol):
    def fileno(self) -> int: ...


class Bell:
    """A pipe that signals and other threads write to; signals are caught between enter and exit."""

    def __enter__(self) -> Bell:
        self._ear, self.rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._caught: set[int] = set()
        self._before = {n: signal.signal(n, self._catch) for n in SIGNALS}
        self._waking = signal.set_wakeup_fd(self.rope, warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._waking)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._ear)
        os.close(self.rope)

    def caught(self) -> set[int]:
        """Signals since the last call."""
        caught, self._caught = self._caught, set()
        return caught

    def wait(self, until: float, speakers: Iterable[Speaker]) -> bool:
        """Until then (seconds of `time.monotonic`) or until something happens.

        Returns:
            Whether there was a file event.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            for speaker in speakers:
                selector.register(speaker, selectors.EVENT_READ)
            selector.select(max(0.0, until - time.monotonic()))
        try:
            return EVENT in os.read(self._ear, 4096)
        except BlockingIOError:
            return False

    def _catch(self, number: int, _: Any) -> None:
        self._caught.add(number)
