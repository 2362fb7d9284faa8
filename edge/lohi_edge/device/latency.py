"""The latency contract: how long a scan may take on a device of this class, and whether it did.

The budget is the 95th percentile of whole scans, from the file to the written result. A breach says
how the machine was then: a Jetson in a low power mode, or too hot, is slow and not broken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.device import machine
from lohi_edge.runtime.cuda import Gpu, probe
from lohi_edge.settings import CLASSES, Latency

MIN_SCANS = 5  # a percentile of fewer says nothing
WINDOW = 100
# Which part of the budget each phase may take, generously: they sum to more than 1.
SHARES = {
    "read": 0.15,
    "validate": 0.05,
    "prepare": 0.2,
    "infer": 0.8,
    "restore": 0.2,
    "quality": 0.3,
    "write": 0.15,
}


def device_class(root: Path = machine.ROOT, gpu: Gpu | str | None = None) -> str:
    """One of CLASSES, by the device tree of a Jetson, else by what computes here."""
    jetson = machine.jetson(root)
    model = jetson.model.lower() if jetson else ""
    if "thor" in model:
        return "thor"
    if "orin" in model:
        return "orin_nano" if "nano" in model else "orin"
    return "cpu" if isinstance(gpu or probe(), str) else "gpu"


def budget(settings: Latency, root: Path = machine.ROOT) -> tuple[str, float]:
    """(class, seconds) that hold here."""
    name = device_class(root) if settings.device == "auto" else settings.device
    assert name in CLASSES
    return name, float(getattr(settings, f"{name}_p95_s"))


def phases(timings: dict[str, float], budget_s: float) -> dict[str, dict[str, Any]]:
    """Each phase of one scan against its share of the budget, and the total against all of it."""
    table = {}
    for name, share in {**SHARES, "total": 1.0}.items():
        seconds, limit = timings[name], round(share * budget_s, 3)
        table[name] = {"seconds": seconds, "budget_s": limit, "within": seconds <= limit}
    return table


class Contract:
    """The last scans of a daemon against its budget.

    Args:
        kind, budget_s: from `budget`.
    """

    def __init__(self, kind: str, budget_s: float, root: Path = machine.ROOT) -> None:
        self.kind = kind
        self.budget_s = budget_s
        self._root = root
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self.breaches = 0  # scans that took longer than the budget
        self._breached = False

    def restore(self, seconds: Iterable[float]) -> None:
        """Begin with scans of an earlier daemon, oldest first; a breach of theirs was told then."""
        self._seconds = deque(seconds, WINDOW)
        self._breached = self._over()

    def renew(self, settings: Latency) -> None:
        """Hold the same scans against other settings."""
        self.kind, self.budget_s = budget(settings)
        self._breached = self._over()

    def add(self, seconds: float) -> dict[str, Any] | None:
        """Count a scan; the state of things where this one breaks the contract, else None."""
        self._seconds.append(seconds)
        if seconds > self.budget_s:
            self.breaches += 1
        before, self._breached = self._breached, self._over()
        return self.status() if self._breached and not before else None

    def _over(self) -> bool:
        p95 = self.p95_s
        return p95 is not None and p95 > self.budget_s

    @property
    def p95_s(self) -> float | None:
        """Of the last WINDOW scans, seconds; None while there are fewer than MIN_SCANS."""
        if len(self._seconds) < MIN_SCANS:
            return None
        return round(float(np.percentile(list(self._seconds), 95)), 3)

    def status(self) -> dict[str, Any]:
        """For `lohi-edge status`, the log and the metrics; the machine's state only on a breach."""
        said: dict[str, Any] = {
            "class": self.kind,
            "budget_p95_s": self.budget_s,
            "p95_s": self.p95_s,
            "scans": len(self._seconds),
            "over_budget": self.breaches,
            "breached": self._breached,
        }
        if self._breached:
            said["power_mode"] = machine.power_mode(self._root)
            said["throttled"] = machine.throttled(machine.heat(self._root))
        return said
