"""File events only wake the scan of the inbox early; whatever they miss, the next look finds."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from lohi_edge.files import is_directory
from lohi_edge.watch.bell import EVENT
from lohi_edge.watch.listing import is_candidate

_GROUP_MS = 200  # events within so long of one another wake once
_STEP_MS = 20
_CHECK_MS = 5000  # how often the thread looks whether it should end


class Waker:
    """A thread that writes a byte to `pipe` when something happens in the inbox."""

    def __init__(self, inbox: Path, pipe: int) -> None:
        self._inbox = inbox
        self._pipe = pipe
        self._stop = threading.Event()
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        try:
            import watchfiles

            for _ in watchfiles.watch(
                self._inbox,
                watch_filter=lambda _, path: _concerns(Path(path)),
                debounce=_GROUP_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                rust_timeout=_CHECK_MS,
                force_polling=False,
                ignore_permission_denied=True,
            ):
                os.write(self._pipe, EVENT)
        except Exception as error:  # noqa: BLE001 (watchfiles raises what its Rust side raises)
            self.trouble = type(error).__name__


def _concerns(path: Path) -> bool:
    """Whether an event may mean a scan: of a folder that is moved in, Linux tells no more."""
    return is_candidate(path.name) or is_directory(path)
