"""Which folder the inbox is: the one that is mounted, never the bare one under its mount."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lohi_edge.watch import localfs

if TYPE_CHECKING:
    from lohi_edge.watch.ledger import Ledger

_FACT = "inbox"  # of the ledger: the place of the inbox


class Place(NamedTuple):
    """A folder as it is mounted: `localfs.token` and `localfs.depth` of it."""

    token: str
    depth: int


class Ground:
    """Knows a folder from when it is first seen, or seen mounted where fstab or a unit mounts it.

    A mount that comes on top is the folder from then on. When it goes, what is bared is not.

    Args:
        folder: may be bare, or missing, so far.
        place: what an earlier process knew it as; None to begin with what is there.
        tell: called with the place of what has been mounted since.
        root: in front of /etc and /proc, which tell what should be mounted and what is.

    Attributes:
        place: None while nothing but the bare folder has been there.
    """

    def __init__(
        self,
        folder: Path,
        place: Place | None = None,
        tell: Callable[[Place], Any] = lambda place: None,
        root: Path = localfs.ROOT,
    ) -> None:
        self._folder, self._root = folder, root
        self.place = place
        self._tell: Callable[[Place], Any] = lambda place: None
        self.token()
        self._tell = tell

    def token(self) -> str:
        """`localfs.token` of the folder; empty where it is bare or another one."""
        now = localfs.token(self._folder)
        if not now or (self.place and now == self.place.token):
            return now
        place = Place(now, localfs.depth(self._folder))
        if self.place and place.depth <= self.place.depth:
            return ""
        if localfs.not_mounted(self._folder, self._root) or localfs.token(self._folder) != now:
            return ""  # the latter where something was mounted between the lines
        self.place = place
        self._tell(place)
        return now


def remembered(inbox: Path, ledger: Ledger) -> Ground:
    """The inbox as the ledger knows it, over restarts, while scans in it are yet to leave.

    Without any it is known anew: somebody may have given the daemon another disk.
    """

    def keep(place: Place) -> None:
        ledger.set(_FACT, json.dumps(place))

    open_ones = "original = 'pending' OR state IN ('received', 'running')"
    known = ledger.fact(_FACT) if any(ledger.select(open_ones, order="id LIMIT 1")) else None
    ground = Ground(inbox, Place(*json.loads(known)) if known else None, keep)
    if ground.place:
        keep(ground.place)
    return ground
