"""A folder that one training run at a time writes into."""

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
        UsageError: another process trains there.
        DiskError: the folder cannot be made.
    """
    make_directory(folder)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(held, folder):
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{folder}: expected a run folder at rest, another process trains there; wait until "
            "it has ended, or name another --out"
        ) from None
    except OSError:
        return False
    return True
