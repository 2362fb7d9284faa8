"""Where the time went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds spent in named phases."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self._phases[phase] = self._phases.get(phase, 0.0) + spent

    def seconds(self) -> dict[str, float]:
        """Phases so far and the `total` since the clock was made."""
        phases = {**self._phases, "total": time.perf_counter() - self._start}
        return {name: round(value, 4) for name, value in phases.items()}
