"""The outbox: a folder per scan that appears whole by one rename, and readable reasons.

OUTBOX/<folders as in the inbox>/<scan>/   image, report and receipt of one scan
OUTBOX/held|failed|quarantined/...         <scan>.reason.txt, and the original unless it is kept
OUTBOX/originals/...                       originals, where they are moved
OUTBOX/.lohi-edge/                         what is being written; emptied at every start
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write, disk_error, fsync_directory, make_directory, read_bytes
from lohi_edge.watch.log import printable

MAX_NAME = 180  # bytes of a stem; leaves room for what output names add within 255
MAX_RECEIPT = 4 << 20
STAGING = ".lohi-edge"
ORIGINALS = "originals"
TROUBLE = ("held", "failed", "quarantined")
_KEPT_TAIL = 40
_NAMES_TRIED = 5


def clean_name(name: str) -> str:
    """A file name that is valid UTF-8, printable, and short enough for what output names add."""
    stem = nifti.stem(Path(name))
    suffix = name[len(stem) :]
    text = printable(stem)
    if len(text.encode()) > MAX_NAME:
        short = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        head = text.encode()[: MAX_NAME - _KEPT_TAIL - 10].decode(errors="ignore")
        tail = text.encode()[-_KEPT_TAIL:].decode(errors="ignore")
        text = f"{head}-{short}-{tail}"
    return text + suffix


@dataclass(frozen=True)
class Placed:
    """A finished result found in the outbox."""

    folder: str  # relative to the outbox
    receipt: Path
    record: dict[str, Any]  # the receipt; record["watch"] is the daemon's stamp

    def files(self) -> list[Path]:
        """What retention may remove: all that was delivered but the receipt."""
        return [path for path in self.receipt.parent.iterdir() if path != self.receipt]

    @property
    def bytes(self) -> int:
        return sum(size_of(path) for path in self.files())


class Outbox:
    """Places results; nothing half-written ever bears a name of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._staging = root / STAGING

    def clear(self) -> None:
        """Drop what an earlier process was writing.

        Raises:
            DiskError: the outbox cannot be written.
        """
        try:
            if self._staging.exists():
                shutil.rmtree(self._staging)
        except OSError as error:
            raise disk_error(self._staging, error) from None
        make_directory(self._staging)

    def is_there(self) -> bool:
        """Whether this is still the folder the daemon started with, not a bare mount point."""
        return self._staging.is_dir()

    def close(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)

    def stage(self, scan: int) -> Path:
        """An empty folder to write a scan's results into.

        Raises:
            DiskError
        """
        folder = self._staging / str(scan)
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise disk_error(folder, error) from None
        make_directory(folder)
        return folder

    def discard(self, scan: int) -> None:
        shutil.rmtree(self._staging / str(scan), ignore_errors=True)

    def choose(self, path: str, identity: str) -> str:
        """Folder for the result of inbox `path`, relative to the outbox; not yet taken."""
        return next(
            name for name in self._names(path, identity) if not os.path.lexists(self.root / name)
        )

    def _names(self, path: str, identity: str) -> Iterator[str]:
        """Names for a result's folder, best first."""
        pure = PurePath(path)
        stem = nifti.stem(Path(clean_name(pure.name))).removesuffix(".zip")
        parents = [clean_name(part) for part in pure.parent.parts]
        if parents or stem not in (*TROUBLE, ORIGINALS):
            yield "/".join((*parents, stem))
        yield "/".join((*parents, f"{stem}-{identity[:8]}"))
        for number in itertools.count(2):
            yield "/".join((*parents, f"{stem}-{identity[:8]}-{number}"))

    def place(self, scan: int, folder: str) -> None:
        """Make a staged folder appear under its final name, at once and for good.

        Raises:
            DiskError: nothing appeared.
        """
        staged, final = self._staging / str(scan), self.root / folder
        try:
            fsync_directory(staged)
            _make_durable(final.parent, self.root)
            staged.rename(final)
            fsync_directory(final.parent)
        except OSError as error:
            raise disk_error(final, error) from None

    def find(self, folder: str, identity: str) -> Placed | None:
        """The finished result in a folder, if it is that of `identity`."""
        for receipt in sorted((self.root / folder).glob("*.json")):
            record = _stamped(receipt)
            if record and record["watch"]["identity"] == identity:
                return Placed(folder, receipt, record)
        return None

    def find_near(self, path: str, identity: str) -> Placed | None:
        """The finished result of `identity` under one of the names `choose` gives this path."""
        for folder in itertools.islice(self._names(path, identity), _NAMES_TRIED):
            if placed := self.find(folder, identity):
                return placed
        return None

    def all(self) -> Iterator[Placed]:
        """Every finished result: receipts are what a lost ledger is rebuilt from."""
        for base, folders, names in os.walk(self.root):
            folders[:] = sorted(f for f in folders if f != STAGING)
            for name in sorted(names):
                path = Path(base) / name
                if name.endswith(".json") and (record := _stamped(path)):
                    yield Placed(os.path.relpath(base, self.root), path, record)

    def explain(self, state: str, path: str, text: str) -> Path:
        """Write the readable reason of a scan that got no result.

        Raises:
            DiskError
        """
        target = self.reason_path(state, path)
        _make_durable(target.parent, self.root)
        # Written in the staging folder, so that a power cut leaves no temporary beside it.
        staged = self._staging / target.name
        with atomic_write(staged) as file:
            file.write(text.encode())
        try:
            staged.replace(target)
            fsync_directory(target.parent)
        except OSError as error:
            raise disk_error(target, error) from None
        return target

    def reason_path(self, state: str, path: str) -> Path:
        pure = PurePath(path)
        parent = "/".join(clean_name(part) for part in pure.parent.parts)
        return self.root / state / parent / f"{clean_name(pure.name)}.reason.txt"

    def take(self, original: Path, target: Path) -> Path:
        """Move an original out of the inbox; a name that another file has gets a number.

        Raises:
            DiskError: the original is where it was.
        """
        _make_durable(target.parent, self.root)
        final, number = target, 1
        while os.path.lexists(final):
            if _same(original, final):  # a power cut came between copying and removing
                break
            number += 1
            stem = nifti.stem(target)
            final = target.with_name(f"{stem}-{number}{target.name[len(stem) :]}")
        try:
            try:
                original.replace(final)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy_over(original, final)
            fsync_directory(final.parent)
            fsync_directory(original.parent)
        except OSError as error:
            raise disk_error(final, error) from None
        return final

    def destroy(self, original: Path) -> None:
        """Delete an original; of a folder, all at once.

        Raises:
            DiskError: it is where it was.
        """
        try:
            if original.is_dir():
                going = self.take(original, self._staging / "going")
                shutil.rmtree(going)
            else:
                original.unlink()
            fsync_directory(original.parent)
        except OSError as error:
            raise disk_error(original, error) from None

    def _copy_over(self, original: Path, final: Path) -> None:
        staged = self._staging / "original"
        remove(staged)
        if original.is_dir():
            shutil.copytree(original, staged)
        else:
            shutil.copy2(original, staged)
        for path in (*staged.rglob("*"), staged):
            _fsync(path)
        staged.rename(final)
        fsync_directory(final.parent)
        remove(original)


def remove(path: Path) -> None:
    """A file or a whole folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_durable(folder: Path, root: Path) -> None:
    """Create a folder below root so that a power cut cannot take it away again."""
    missing = []
    while not folder.is_dir() and folder != root:
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        make_directory(one)
        try:
            fsync_directory(one.parent)
        except OSError as error:
            raise disk_error(one, error) from None


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _stamped(path: Path) -> dict[str, Any] | None:
    """A receipt that this daemon stamped; None for any other file."""
    try:
        record: dict[str, Any] = json.loads(read_bytes(path, MAX_RECEIPT))["LohiEdge"]
        stamp = record["watch"]
        known = all(isinstance(stamp[key], str) for key in ("identity", "path", "mark"))
        return record if known and isinstance(record["source"]["sha256"], str) else None
    except (ValueError, RecursionError, TypeError, KeyError, BadInput):
        return None
