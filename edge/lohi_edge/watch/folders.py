"""Inbox, outbox and state folder: fit for the work, and this daemon's alone."""

from __future__ import annotations

from pathlib import Path

from lohi_edge.errors import UsageError
from lohi_edge.files import is_directory
from lohi_edge.settings import Settings
from lohi_edge.watch import localfs, state
from lohi_edge.watch.log import Log


def folders(settings: Settings) -> tuple[Path, Path, Path]:
    """(inbox, outbox, state) of the settings.

    Raises:
        UsageError: one is missing, or one lies within another.
    """
    watch = settings.watch
    for name in ("inbox", "outbox", "state"):
        if not getattr(watch, name):
            raise UsageError(f"expected a folder for watch.{name}, got none; name it")
    assert watch.inbox
    assert watch.outbox
    assert watch.state
    found = Path(watch.inbox), Path(watch.outbox), Path(watch.state)
    for path, name in zip(found[:2], ("inbox", "outbox"), strict=True):
        if not is_directory(path):
            raise UsageError(f"{path}: expected a folder for the {name}, found none; create it")
    real = [path.resolve() for path in found]
    for inner in real:
        for outer in real[:2]:
            if inner is not outer and (inner == outer or outer in inner.parents):
                raise UsageError(
                    f"{inner}: lies within {outer}; inbox, outbox and state must be apart"
                )
    return found


def claim(inbox: Path, outbox: Path, home: Path) -> list[int]:
    """Make the state folder and lock all three; the descriptors that hold the locks.

    Raises:
        UsageError: another daemon has one of them, or the state folder is on a network or another
            user's.
        DiskError: they cannot be used.
    """
    state.prepare(home)
    localfs.require_own(home)
    localfs.require_local(home)
    held = (
        localfs.lock(home, "state folder", required=True),
        localfs.lock(outbox, "outbox"),
        localfs.lock(inbox, "inbox"),
    )
    return [fd for fd in held if fd is not None]


def warn_of_bare(inbox: Path, outbox: Path, log: Log, root: Path = localfs.ROOT) -> None:
    """Say where a folder lies below a mount point with nothing on it; the work goes on.

    Scans put into the mount do not arrive, and results hide below it once it comes.

    Args:
        root: in front of /proc and /etc, which tell what is mounted and what should be.
    """
    for name, folder in (("inbox", inbox), ("outbox", outbox)):
        if point := localfs.not_mounted(folder, root):
            log("folder.bare", folder=name, why=f"{point} is not mounted")
