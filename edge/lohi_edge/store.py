"""This machine's private store of engines and acceptance records.

What lies here decides which compiled code is run, so the folder belongs to the user who runs it,
nobody else may enter it (mode 0700), and every record carries a seal made with a key that never
leaves it: a record copied from elsewhere or changed by hand does not count.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput, BundleError
from lohi_edge.files import atomic_write, disk_error, is_directory, read_bytes

ENVIRONMENT = "LOHI_EDGE_CACHE"
SYSTEM = Path("/var/lib/lohi-edge/cache")
FOLDER = "engines"
MAX_RECORD = 1 << 20
_SECRET = "device.key"


def default_root() -> Path:
    """In LOHI_EDGE_CACHE, systemd's CacheDirectory, the device's own folder, or the user's.

    The device's is for the daemon's user alone, whose commands then see what the daemon sees.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named) / FOLDER
    if service := os.environ.get("CACHE_DIRECTORY"):
        return Path(service.split(":")[0]) / FOLDER
    if is_directory(SYSTEM) and SYSTEM.stat().st_uid == os.geteuid():
        return SYSTEM / FOLDER
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lohi-edge" / FOLDER


class Store:
    """Sealed JSON records, and folders of them, under one private root."""

    def __init__(self, root: Path | None = None) -> None:
        """Open the store, making it where it is not there.

        Raises:
            BundleError: the folder is not ours alone.
            DiskError: it cannot be made.
        """
        self.root = root or default_root()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.root, error) from None
        check_private(self.root)

    def is_not_the_daemon_s(self) -> bool:
        """Whether a daemon is installed here, which has a store of its own."""
        return is_directory(SYSTEM) and self.root != SYSTEM / FOLDER

    def write(self, path: Path, record: dict[str, Any]) -> None:
        """Seal a record and write it, whole or not at all.

        Raises:
            DiskError: it cannot be written.
        """
        sealed = {"record": record, "seal": self._seal(record)}
        with atomic_write(path) as file:
            file.write(json.dumps(sealed, indent=1, allow_nan=False).encode())

    def read(self, path: Path) -> dict[str, Any] | None:
        """A record with its seal unbroken; None where there is none."""
        try:
            sealed = json.loads(read_bytes(path, MAX_RECORD))
            record = sealed["record"]
            whole = hmac.compare_digest(self._seal(record), sealed["seal"])
        except (BadInput, ValueError, KeyError, TypeError, RecursionError):
            return None
        return record if whole and isinstance(record, dict) else None

    def accepted(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The acceptance record kept under `key`."""
        return self.read(self._acceptance(key))

    def keep(self, key: dict[str, Any], record: dict[str, Any]) -> None:
        """Keep an acceptance record under `key`.

        Raises:
            DiskError: it cannot be written.
        """
        path = self._acceptance(key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise disk_error(path.parent, error) from None
        self.write(path, record)

    def _acceptance(self, key: dict[str, Any]) -> Path:
        return self.root / "accepted" / f"{digest(key)}.json"

    def _seal(self, record: Any) -> str:
        return hmac.new(self._key(), canonical(record), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        path = self.root / _SECRET
        try:
            return self._read_key(path)
        except BadInput:
            pass
        # Made elsewhere and linked into place, so that two processes at once agree on one key.
        fresh = self.root / f".{_SECRET}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(fresh)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        except OSError as error:
            raise disk_error(path, error) from None
        return self._read_key(path)

    def _read_key(self, path: Path) -> bytes:
        key = read_bytes(path, 64)
        if len(key) != 32:
            raise BundleError(f"{path}: expected 32 bytes, got {len(key)}; remove {self.root}")
        return key


def check_private(folder: Path) -> None:
    """Raises BundleError unless `folder` is a real directory, ours, and closed to others."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise BundleError(f"{folder}: expected a directory for engines, got something else")
    if status.st_uid != os.geteuid():
        raise BundleError(
            f"{folder}: expected a directory of user {os.geteuid()}, it belongs to "
            f"{status.st_uid}; set {ENVIRONMENT} to a folder of your own"
        )
    if status.st_mode & 0o077:
        raise BundleError(
            f"{folder}: expected mode 0700, got {stat.S_IMODE(status.st_mode):04o}: others could "
            f"put engines there; run: chmod 700 {folder}"
        )


def canonical(value: Any) -> bytes:
    """One byte string for one JSON value, whatever order its keys were in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """sha256 of `canonical`."""
    return hashlib.sha256(canonical(value)).hexdigest()
