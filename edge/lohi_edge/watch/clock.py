"""Time that no clock setting can move: ages are measured in seconds this device was running."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's name for this boot; the same from power-on to power-off."""
    return _BOOT_ID.read_text().strip()


def boot_seconds() -> float:
    """Seconds since boot, sleep included; never set by anyone."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall() -> str:
    """Wall time for people, UTC; nothing is decided by it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class ServiceClock:
    """Seconds that only grow, over restarts and reboots.

    Time during which the device was off does not count, so a clock that comes up years wrong
    neither ages a result nor holds back a retry.
    """

    def __init__(self, saved: tuple[str, float, float] | None = None) -> None:
        """Args: saved: what `state` returned in an earlier process."""
        self._boot = boot_id()
        now = boot_seconds()
        if saved is None:
            self._offset = -now
        else:
            boot, then, total = saved
            # Within one boot the clock ran on between the processes; else it began at 0 again.
            self._offset = total - then if boot == self._boot else total

    def now(self) -> float:
        return boot_seconds() + self._offset

    def state(self) -> tuple[str, float, float]:
        """(boot id, seconds since boot, service seconds), to be saved."""
        now = boot_seconds()
        return self._boot, now, now + self._offset
