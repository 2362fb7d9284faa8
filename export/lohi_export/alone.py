"""Folders that one run writes into, or several at a time, and what killed ones left there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lohi_edge.errors import UsageError
from lohi_edge.files import make_directory


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`, and remove what a killed one was writing there.

    Where the file system knows no locks, nobody is kept out and nothing is removed.

    Raises:
        UsageError: another process works there.
        DiskError: the folder cannot be made.
    """
    make_directory(folder)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(held, folder):
            _sweep(folder, ".*.tmp")
        yield
    finally:
        os.close(held)


@contextmanager
def together(folder: Path, unfinished: str) -> Iterator[None]:
    """Write into `folder` as others may at the same time.

    Who comes while nobody writes removes what killed ones were writing there. Where the file system
    knows no locks, nothing is removed.

    Args:
        unfinished: pattern of such files; the folder may hold those of other programs.

    Raises:
        DiskError: the folder cannot be made.
    """
    make_directory(folder)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _try(held, fcntl.LOCK_EX):
            _sweep(folder, unfinished)
        _try(held, fcntl.LOCK_SH)
        yield
    finally:
        os.close(held)


def _sweep(folder: Path, unfinished: str) -> None:
    for leftover in folder.glob(unfinished):
        leftover.unlink(missing_ok=True)


def _try(held: int, kind: int) -> bool:
    try:
        fcntl.flock(held, kind | fcntl.LOCK_NB)
    except OSError:  # others hold it, or there are no locks
        return False
    return True


def _lock(held: int, folder: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{folder}: expected a folder at rest, another process works there; wait until "
            "it has ended, or name another --out"
        ) from None
    except OSError:
        return False
    return True
