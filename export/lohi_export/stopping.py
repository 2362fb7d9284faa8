"""A polite end for long work: signals and deadlines become a flag read between two steps."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType


class Stop:
    """Context in which SIGTERM and SIGINT, or the end of `max_minutes`, set `reason`.

    Attributes:
        reason: why to stop, empty while there is no reason.
        exit_code: 0 for the deadline, 128 + the signal's number for a signal.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._signal: int | None = None
        self._former: dict[int, object] = {}

    @property
    def reason(self) -> str:
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self._deadline is not None and time.monotonic() > self._deadline:
            return "the time limit"
        return ""

    @property
    def exit_code(self) -> int:
        return 0 if self._signal is None else 128 + self._signal

    def __enter__(self) -> Stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._former[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        # A second one ends the process at once.
        signal.signal(number, signal.SIG_DFL)
