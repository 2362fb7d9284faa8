"""Which folder the inbox is: the one that is mounted, never the bare one under its mount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lohi_edge.watch import localfs


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
