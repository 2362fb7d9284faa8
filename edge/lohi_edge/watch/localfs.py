"""File systems: which kind a folder lies on, what should be mounted, one daemon per folder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

from lohi_edge.errors import DiskError, UsageError

_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\w*|ncpfs|afs|9p|ceph|glusterfs|lustre|beegfs|gpfs|davfs|fuse\..*)"
)
ROOT = Path("/")
MOUNTS = ROOT / "proc/self/mountinfo"


def kind(path: Path, mounts: Path = MOUNTS) -> str:
    """Type of the file system a path lies on, e.g. "ext4"; "unknown" where Linux does not say."""
    return _mount(path, mounts)[1]


def mount_point(path: Path, mounts: Path = MOUNTS) -> str:
    """Where the file system that a path lies on is mounted; "" where Linux does not say."""
    return _mount(path, mounts)[0]


def _mount(path: Path, mounts: Path) -> tuple[str, str]:
    """The longest mount point above the path, and its type; of several mounted there, the last."""
    real = os.path.realpath(path)
    best, found = "", "unknown"
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return best, found
    for line in lines:
        left, _, right = line.partition(" - ")
        point = _unescaped(left.split()[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, right.split()[0]
    return best, found


def _unescaped(point: str) -> str:
    """A mount point as the kernel and fstab write it: octal for blanks."""
    return re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), point)


def comes_back(point: str, root: Path = ROOT) -> bool:
    """Whether fstab or a unit of systemd mounts something at a point when the system starts."""
    try:
        lines = (root / "etc/fstab").read_text(errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    entries = (words for line in lines if len(words := line.split()) > 1 and words[0][0] != "#")
    points = {_unescaped(words[1]).rstrip("/") or "/" for words in entries}
    unit = point.strip("/").replace("-", r"\x2d").replace("/", "-") + ".mount"
    return point in points or (root / "etc/systemd/system" / unit).exists()


def not_mounted(path: Path, root: Path = ROOT) -> str | None:
    """The mount point at or above a path that comes back at a start and has nothing on it now."""
    point = mount_point(path, root / "proc/self/mountinfo")
    real = Path(os.path.realpath(path))
    for above in (real, *real.parents) if point else ():
        if len(str(above)) > len(point) and comes_back(str(above), root):
            return str(above)
    return None


def is_network(kind: str) -> bool:
    return bool(_NETWORK.fullmatch(kind))


def require_local(state: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a state folder on a network: SQLite's WAL needs memory shared between processes.

    Raises:
        UsageError: it lies on a network file system.
    """
    found = kind(state, mounts)
    if is_network(found):
        raise UsageError(
            f"{state}: expected the state folder on a local disk, this one is on {found}; "
            "the ledger would not survive there, name another with --state"
        )


def lock(folder: Path, what: str, required: bool = False) -> int | None:
    """Lock a folder for this process; the kernel lets go whenever the process ends.

    Args:
        required: fail where the file system knows no locks.

    Returns:
        The descriptor that holds the lock; None where the file system cannot lock a folder.

    Raises:
        UsageError: another daemon has it.
        DiskError: the folder cannot be opened, or not locked though that is required.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be opened as {what}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(
                f"{folder}: another lohi-edge watch uses this {what} already; stop it first, "
                "or give this one folders of its own"
            ) from None
        if required:
            raise DiskError(f"{folder}: cannot be locked: {error.strerror}") from None
        return None
