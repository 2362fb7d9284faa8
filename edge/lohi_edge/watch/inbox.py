"""What lies in the inbox, and what of it is ready: looking decides, events only wake.

A file is ready once nothing about it changed between two looks and its content is complete.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes
from lohi_edge.watch import content
from lohi_edge.watch.group import Group, place_of
from lohi_edge.watch.listing import Found, Listing
from lohi_edge.watch.sidecars import sidecar_of

SETTLE_S = 0.1  # between the two looks, at least


@dataclass
class Look:
    """Outcome of one look at the whole inbox."""

    ready: list[Found] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)  # path -> why
    present: dict[str, str] = field(default_factory=dict)  # path -> mark
    troubles: list[str] = field(default_factory=list)  # folders that cannot be listed
    skipped: dict[str, str] = field(default_factory=dict)  # series that are no scans -> why
    rested: set[str] = field(default_factory=set)  # places to all skipped of which nothing comes
    unreadable: dict[str, str] = field(default_factory=dict)  # files that may be slices -> why
    others: list[str] = field(default_factory=list)  # files that are no scans of any kind
    alone: dict[str, float] = field(default_factory=dict)  # sidecars without a scan -> quiet for s
    settling: bool = False  # some file only needs its second look


class Inbox:
    """Looks at the inbox again and again.

    Args:
        root: the inbox.
        known: the mark under which the ledger knows a path; None when it does not.
        stable_inodes: False on network file systems, some of which make inode numbers up.
        incomplete_s: when a cut-off file that no longer grows is taken as it is.
        series_quiet_s: a DICOM series is complete when nothing has come for so long.
    """

    def __init__(
        self,
        root: Path,
        known: Callable[[str], str | None],
        stable_inodes: bool = True,
        incomplete_s: float = 600.0,
        series_quiet_s: float = 10.0,
    ) -> None:
        self._root = root
        self._known = known
        self.listing = Listing(root, stable_inodes)
        self.incomplete_s = incomplete_s
        self.series_quiet_s = series_quiet_s
        self._done: dict[str, str] = {}  # present paths the ledger knows: path -> mark
        self._seen: dict[str, tuple[str, float]] = {}  # others: path -> (mark, since)
        self._lacks: dict[str, tuple[str, str | None]] = {}  # path -> (mark, what is missing)
        self._skipped: dict[str, tuple[str, float]] = {}  # path -> (mark, since)
        self._alone: dict[str, tuple[str, float]] = {}  # the same
        self._now = 0.0

    def look(self, now: float) -> Look:
        """One look; `now` in seconds of a clock that never steps.

        Raises:
            OSError: the inbox itself cannot be listed.
        """
        look = Look()
        seen: dict[str, tuple[str, float]] = {}
        done: dict[str, str] = {}
        lacks: dict[str, tuple[str, str | None]] = {}
        for found in self.listing.walk():
            look.present[found.path] = found.mark
            if self._done.get(found.path) == found.mark or self._known(found.path) == found.mark:
                done[found.path] = found.mark
                continue
            before = self._seen.get(found.path)
            since = before[1] if before and before[0] == found.mark else now
            seen[found.path] = (found.mark, since)
            if now - since < SETTLE_S:
                look.settling = True
                continue
            if found.grows and now - since < self.series_quiet_s:
                look.waiting[found.path] = "more slices may come"
                continue
            why = self._missing(found, lacks)
            if why is None or now - since > self.incomplete_s:
                look.ready.append(found)
            else:
                look.waiting[found.path] = why
        self._seen, self._done, self._lacks = seen, done, lacks
        self._now = now
        self._look_at_skipped(look)
        self._look_at_alone(look)
        look.troubles = self.listing.troubles
        look.unreadable, look.others = self.listing.unreadable, self.listing.others
        look.waiting |= self.listing.waiting | look.unreadable
        look.settling |= self.listing.hurried
        return look

    def rests(self, group: Group) -> bool:
        """Whether nothing of a skipped series has come for so long that no more will."""
        mark, since = self._skipped.get(group.path, ("", self._now))
        return mark == group.mark and self._now - since >= self.series_quiet_s

    def _look_at_skipped(self, look: Look) -> None:
        skipped, restless = {}, set()
        for group in self.listing.skipped:
            before = self._skipped.get(group.path)
            same = before is not None and before[0] == group.mark
            skipped[group.path] = before if before and same else (group.mark, self._now)
            look.skipped[group.path] = str(group.skipped)
        self._skipped = skipped
        for group in self.listing.skipped:
            look.rested.add(place := str(place_of(group.path)))
            if not self.rests(group):
                restless.add(place)
        look.rested -= restless

    def _look_at_alone(self, look: Look) -> None:
        seen = {}
        for path, mark in self.listing.alone.items():
            before = self._alone.get(path)
            seen[path] = before if before and before[0] == mark else (mark, self._now)
            look.alone[path] = self._now - seen[path][1]
        self._alone = seen

    def forget(self, path: str) -> None:
        """Ask the ledger about this path again at the next look."""
        self._done.pop(path, None)

    def find(self, path: str) -> Found | None:
        """What a path is now; None when it is gone."""
        return self.listing.find(path)

    def mark(self, path: str) -> str | None:
        """The mark a path has now; None when it is gone."""
        found = self.listing.find(path)
        return found.mark if found else None

    def _missing(self, found: Found, lacks: dict[str, tuple[str, str | None]]) -> str | None:
        before = self._lacks.get(found.path)
        if before and before[0] == found.mark:
            lacks[found.path] = before
            return before[1]
        if found.refused or found.parts is not None:
            return None
        path = self._root / found.path
        try:
            if path.suffix.lower() == ".zip":
                # Its directory is written last.
                why = None if zipfile.is_zipfile(path) else "zip archive not at its end"
            else:
                why = content.missing(path) or _missing_sidecar(path)
        except OSError as error:
            return (error.strerror or "unreadable").lower()  # may change without a mark: not kept
        lacks[found.path] = (found.mark, why)
        return why


def _missing_sidecar(path: Path) -> str | None:
    """A sidecar that does not parse yet may still be on its way."""
    beside = sidecar_of(path)
    if not beside.is_file():
        return None
    try:
        json.loads(read_bytes(beside, nifti.MAX_SIDECAR))
    except (ValueError, RecursionError, BadInput):
        return "its JSON sidecar is not complete"
    return None
