"""What a process is writing: locked while it lives, so that what a killed one left can be told.

Where the file system knows no locks, what is left there stays.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RECENT_S = 5.0  # a file is not locked yet just after it was made, nor while it is given its name
_SUFFIX = ".tmp"
_MOST = 40  # characters of a name in that of what becomes it


def file(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, as (descriptor, path); its process's until that is closed.

    Raises:
        OSError: it cannot be made.
    """
    fd, name = tempfile.mkstemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent)
    _locks(fd)
    return fd, Path(name)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, to be renamed; what bears its name in the end is removed.

    Raises:
        OSError: it cannot be made.
    """
    made = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent))
    fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _locks(fd)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(fd)


def clear(*paths: Path) -> None:
    """Remove what killed processes were writing to become `paths`: files or folders of one folder.

    It is listed once.
    """
    prefixes = "|".join(re.escape(_prefix(path)) for path in paths)
    wanted = re.compile(f"({prefixes})[a-z0-9_]{{8}}{re.escape(_SUFFIX)}")
    with suppress(OSError):
        for left in paths[0].parent.iterdir():
            if wanted.fullmatch(left.name):
                _clear(left)


def _prefix(path: Path) -> str:
    return f".{path.name[:_MOST]}."


def _locks(fd: int) -> bool:
    """Lock a file or folder; False where another process has it, or there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear(left: Path) -> None:
    with suppress(OSError):  # gone meanwhile, or not ours to remove
        folder = left.is_dir()
        # For writing, as network file systems want it for a lock; a folder cannot be opened so.
        mode = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_NONBLOCK
        fd = os.open(left, mode | os.O_NOFOLLOW)
        try:
            old = time.time() - os.fstat(fd).st_ctime > RECENT_S
            # Of the same name still: what was renamed since is nobody's to remove.
            if old and _locks(fd) and os.path.samestat(os.fstat(fd), left.lstat()):
                shutil.rmtree(left) if folder else left.unlink()
        finally:
            os.close(fd)
