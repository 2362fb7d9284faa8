"""What is known of each candidate on the golden slices, from runs just now or kept from before."""

from __future__ import annotations

from typing import Any

from lohi_edge.errors import BundleError, DiskError
from lohi_edge.store import Store, digest

_FORGOTTEN = "acceptance is not remembered"  # which only costs time


class Records:
    """Acceptance records by the keys of their candidates; without a store, those of now alone.

    Attributes:
        trouble: why nothing is remembered, in words; None where all is.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._store: Store | None = None
        self._now: dict[str, dict[str, Any]] = {}
        try:
            self._store = Store()
        except (BundleError, DiskError) as error:
            self.trouble = f"{_FORGOTTEN}: {error}"

    def find(self, key: dict[str, Any], trust_failures: bool = True) -> dict[str, Any] | None:
        """The record of now, else the one that was kept; None where the candidate must be run.

        Args:
            trust_failures: believe a kept record of a failure too.
        """
        if found := self._now.get(digest(key)):
            return found
        kept = self._store.accepted(key) if self._store else None
        return kept if kept and (kept["accepted"] or trust_failures) else None

    def is_of_now(self, key: dict[str, Any]) -> bool:
        """Whether the candidate was run in this process."""
        return digest(key) in self._now

    def add(self, key: dict[str, Any], record: dict[str, Any], keep: bool = True) -> None:
        """Note what a run just now gave, and keep it for later processes too."""
        self._now[digest(key)] = record
        if not keep or not self._store:
            return
        try:
            self._store.keep(key, record)
        except DiskError as error:
            self.trouble = f"{_FORGOTTEN}: {error}"
