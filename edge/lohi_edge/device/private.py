"""A private folder for the while, which goes with its processes even where these are killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_folder(prefix: str) -> Iterator[tuple[Path, int]]:
    """A folder in the machine's temporary one, and the descriptor of the lock on it.

    Those of processes that were killed are removed first. A folder counts as used for as long as
    any process has its descriptor, so whoever works in it has to inherit that.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(prefix)
    folder, lock = _made(prefix)
    try:
        yield folder, lock
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made(prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = _opened(folder)
        with contextlib.suppress(OSError):  # where none can be locked, none is removed either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        os.close(lock)  # another process took it for an abandoned one


def _sweep(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            lock = _opened(folder)
        except OSError:
            continue  # a link, a file, gone, or not ours
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)  # follows no link either
        except OSError:
            continue  # it is in use
        finally:
            os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
