"""Scans that the worker has in hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lohi_edge.watch.schema import Scan


@dataclass
class Job:
    """A scan the worker has in hand.

    Attributes:
        phase: "reading", "loaded" (in the worker's memory), "read" (its hash is known, waiting for
            its turn), "computing" or "writing".
        spent_s: time in a phase of the worker's; a stopped daemon does not count it.
        facts: what the worker said about it: sha256, contrast, bundle, expected_bytes.
        folder: where its result will be.
    """

    scan: Scan
    phase: str = "reading"
    spent_s: float = 0.0
    facts: dict[str, Any] | None = None
    folder: str = ""
    done: int = 0
    total: int = 0

    def enter(self, phase: str) -> None:
        self.phase, self.spent_s = phase, 0.0

    @property
    def at_work(self) -> bool:
        """Whether the worker is busy with it, so that a crash may be its doing."""
        return self.phase in ("reading", "computing", "writing")

    @property
    def finishing(self) -> bool:
        """Whether it is past the point where it would be put back for an orderly stop."""
        return self.phase in ("computing", "writing")
