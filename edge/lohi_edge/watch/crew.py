"""The worker process over all its lives: started, watched over, and started again."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lohi_edge.settings import Settings
from lohi_edge.watch.process import Process

MODULE = "lohi_edge.watch.child"
STDERR_FILE = "worker.stderr"
TICK_S = 0.5
RESTART_S = (0.1, 60.0)  # first and longest wait before a worker is started again


class Crew:
    """At most one worker at a time.

    Attributes:
        models: what the worker has accepted.
        lost: workers that crashed or had to be killed.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._worker: Process | None = None
        self.models: list[dict[str, Any]] = []
        self.lost = 0
        self._restart_at = 0.0
        self._restart_wait = RESTART_S[0]
        self._starting_s = 0.0
        self._ticked = time.monotonic()

    @property
    def process(self) -> Process | None:
        return self._worker

    @property
    def ready(self) -> bool:
        """Whether the worker can be given work."""
        return bool(self._worker and self._worker.ready)

    @property
    def ended(self) -> bool:
        return bool(self._worker and self._worker.ended)

    def passed(self) -> float:
        """Seconds since the last call, as far as they count.

        A daemon that was stopped (SIGSTOP, suspend) counts one tick, not the whole time.
        """
        now = time.monotonic()
        passed, self._ticked = min(now - self._ticked, 2 * TICK_S), now
        return passed

    def keep(self, settings: Settings, passed: float) -> bool:
        """Start a worker where there is none; False where one takes too long to be ready."""
        if self._worker is None:
            if time.monotonic() >= self._restart_at:
                options = asdict(settings.enhance)
                self._worker = Process(MODULE, options, self._state / STDERR_FILE)
                self._starting_s = 0.0
        elif not self._worker.ready:
            self._starting_s += passed
            return self._starting_s <= settings.worker.start_timeout_s
        return True

    def accept(self, models: list[dict[str, Any]]) -> None:
        """The worker is ready."""
        assert self._worker
        self._worker.ready = True
        self.models = models
        self._restart_wait = RESTART_S[0]

    def events(self) -> list[dict[str, Any]]:
        return self._worker.receive() if self._worker else []

    def send(self, do: str, **what: Any) -> None:
        assert self._worker
        self._worker.write({"do": do, **what})

    def bury(self) -> tuple[str, str]:
        """End a worker that failed and put the next start off; (how it ended, its last line)."""
        assert self._worker
        how, words = self._worker.end(), self._worker.last_words()
        self._worker = None
        self.lost += 1
        self._restart_at = time.monotonic() + self._restart_wait
        self._restart_wait = min(2 * self._restart_wait, RESTART_S[1])
        return how, words.rpartition("\n")[2]

    def dismiss(self) -> None:
        """End the worker because it is not wanted any more."""
        if self._worker:
            self._worker.end()
        self._worker = None
        self._restart_at = 0.0
