"""Files: bounded reads of untrusted bytes, and writes that are whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lohi_edge import unfinished
from lohi_edge.errors import BadInput, DiskError

NOT_PERMITTED = "cannot be opened: permission denied; copy it to where this user may read it"


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole of a regular file of at most `limit` bytes.

    The type is checked on the open descriptor, so a file swapped for a pipe or device after a
    look at its name is refused too, and opening a pipe never blocks.

    Raises:
        BadInput: missing, not a regular file, not permitted, larger than `limit`, or failing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        what = "a link to nothing" if path.is_symlink() else "nothing"
        raise BadInput(f"{path}: expected a file, found {what}; check the path") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be opened: {_words(error)}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise BadInput(f"{path}: expected a regular file, got {_kind(status.st_mode)}")
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
        if status.st_size > limit:
            raise BadInput(
                f"{path}: expected at most {limit:,} bytes, got {status.st_size:,}; "
                "this is no head scan"
            )
        try:
            # Not read(limit): Python allocates what it is asked for before it reads.
            return file.read(status.st_size)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {_words(error)}") from None


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False for whatever cannot be looked at (pathlib raises)."""
    return os.path.isfile(path)  # noqa: PTH113


def may_be_file(path: Path) -> bool:
    """Whether a regular file is there, or what cannot be looked at: reading that says why not."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # links to nothing


def is_directory(path: Path) -> bool:
    """Whether a folder is there; False for whatever cannot be looked at (pathlib raises)."""
    return os.path.isdir(path)  # noqa: PTH112


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def atomic_write(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` complete and on disk, or not at all.

    Written under a temporary dot-name in the same directory (see `unfinished`), fsynced, renamed
    over `path`; then the directory is fsynced, so that the name survives a power cut as well.

    Args:
        mode: of the file; None for what the umask leaves.

    Raises:
        DiskError: full disk, no permission, or any other failure of the disk.
    """
    temporary: Path | None = None
    try:
        fd, temporary = unfinished.file(path)
        with open(fd, "wb") as file:  # noqa: PTH123
            yield file
            file.flush()
            os.fsync(fd)
            os.fchmod(fd, 0o666 & ~umask() if mode is None else mode)
        temporary.replace(path)
        temporary = None
        fsync_directory(path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if temporary is not None:
            discard(temporary)


def discard(path: Path) -> None:
    """Remove what a failed write left, as far as that can be done: what failed is told, not this.

    A disk that turned read-only lets nothing be removed either; one that is gone, not even be
    looked at.
    """
    if is_directory(path) and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def fsync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def require_place(path: Path) -> None:
    """Ask, before long work, whether its result could be written as the file `path`.

    Raises:
        DiskError: there is no such folder, it is not permitted, or `path` is a folder itself.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise disk_error(path, error) from None


def make_directory(path: Path) -> None:
    """The directory `path` with its parents.

    Raises:
        DiskError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from None


def disk_error(path: Path, error: OSError) -> DiskError:
    """What to tell a user whose result could not be written."""
    advice = (
        "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the folder"
    )
    return DiskError(f"{path}: cannot be written: {_words(error)}; {advice} and run again")


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return names.get(stat.S_IFMT(mode), "something else")


def umask() -> int:
    """Permissions a new file or folder does not get; a temporary one has fewer yet."""
    # It can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
