"""File systems: which kind a folder lies on, what should be mounted, one daemon per folder."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
from pathlib import Path
from typing import NamedTuple

from lohi_edge.errors import DiskError, UsageError

_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\w*|ncpfs|afs|9p|ceph|glusterfs|lustre|beegfs|gpfs|davfs|fuse\..*)"
)
ROOT = Path("/")
MOUNTS = ROOT / "proc/self/mountinfo"


def kind(path: Path, mounts: Path = MOUNTS) -> str:
    """Type of the file system a path lies on, e.g. "ext4"; "unknown" where Linux does not say."""
    found = _mount(path, _mounts(mounts))
    return found.kind if found else "unknown"


def token(root: Path) -> str:
    """Tells an inbox from the bare mount point under it, or from none; empty for none."""
    found = kind(root)
    try:
        inode = root.stat().st_ino
    except OSError:
        return ""
    return found if is_network(found) else f"{found}:{inode}"


def depth(path: Path, mounts: Path = MOUNTS) -> int:
    """How many mounts lie at or above a path, those hidden by others included."""
    return len(_above(path, _mounts(mounts)))


def mount_point(path: Path, mounts: Path = MOUNTS) -> str:
    """Where the file system that a path lies on is mounted; "" where Linux does not say."""
    found = _mount(path, _mounts(mounts))
    return found.point if found else ""


class _Mount(NamedTuple):
    """A line of mountinfo: which folder (`root`) of which device is seen at `point`."""

    device: str
    root: str
    point: str
    kind: str

    def holds(self, path: str) -> bool:
        return path == self.point or path.startswith(self.point.rstrip("/") + "/")


def _mounts(mounts: Path) -> list[_Mount]:
    lines = [(words, words.index("-", 6)) for words in _words(mounts) if words]
    return [_Mount(w[2], _unescaped(w[3]), _unescaped(w[4]), w[end + 1]) for w, end in lines]


def _words(table: Path) -> list[list[str]]:
    """The words of each line of mountinfo or fstab; none where it cannot be read.

    Blanks and line ends of other alphabets are letters of a name: a stick may bear any.
    """
    try:
        lines = table.read_bytes().split(b"\n")
    except OSError:
        return []
    return [[os.fsdecode(word) for word in re.split(rb"[ \t]+", line) if word] for line in lines]


def _mount(path: Path, mounts: list[_Mount]) -> _Mount | None:
    """The longest mount point above the path; of several mounted there, the last."""
    above = _above(path, mounts)
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def _above(path: Path, mounts: list[_Mount]) -> list[_Mount]:
    real = os.path.realpath(path)
    return [mount for mount in mounts if mount.holds(real)]


def _unescaped(point: str) -> str:
    """A mount point as the kernel and fstab write it: octal for blanks."""
    return re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), point)


def comes_back(point: str, root: Path = ROOT) -> bool:
    """Whether fstab or a unit of systemd mounts something at a point when the system starts."""
    lines = _words(root / "etc/fstab")
    entries = (words for words in lines if len(words) > 1 and words[0][0] != "#")
    points = {_unescaped(words[1]).rstrip("/") or "/" for words in entries}
    unit = point.strip("/").replace("-", r"\x2d").replace("/", "-") + ".mount"
    return point in points or (root / "etc/systemd/system" / unit).exists()


def not_mounted(path: Path, root: Path = ROOT) -> str | None:
    """The mount point at or above a path that comes back at a start and has nothing on it now."""
    every = _mounts(root / "proc/self/mountinfo")
    mount = _mount(path, [m for m in every if not any(_same(m, other) for other in every)])
    if mount is None:
        return None
    real = Path(os.path.realpath(path))
    for above in (real, *real.parents):
        if len(str(above)) > len(mount.point) and comes_back(str(above), root):
            return str(above)
    return None


def _same(mount: _Mount, other: _Mount) -> bool:
    """Whether a mount shows what another one has there anyway, as systemd's ReadWritePaths= do."""
    below = mount.point[len(other.point.rstrip("/")) :]
    return (
        mount.point != other.point
        and other.holds(mount.point)
        and (mount.device, mount.root) == (other.device, other.root.rstrip("/") + below)
    )


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


def require_own(folder: Path) -> None:
    """Raises UsageError where a folder is another user's: its owner could not use what we write."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return  # whoever is about to use it says what is wrong
    if owner != os.geteuid():
        name = _user(owner)
        raise UsageError(
            f"{folder}: belongs to the user {name}, who alone may change what is in it, not "
            f"{_user(os.geteuid())}; run this as that user: sudo -u {name} lohi-edge ..."
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


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
