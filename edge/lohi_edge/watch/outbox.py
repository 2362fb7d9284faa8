"""The outbox: a folder per scan that appears whole by one rename, and readable reasons.

OUTBOX/<folders as in the inbox>/<scan>/   image, report and receipt of one scan
OUTBOX/held|failed|quarantined/...         <scan>.<number>.reason.txt; the original unless kept;
                                           of a held one the receipt (see withheld.py)
OUTBOX/originals/...                       originals, where they are moved
OUTBOX/sidecars/...                        sidecars that came after their scans
OUTBOX/.lohi-edge/                         what is being written; emptied at every start
OUTBOX/.lohi-edge-leaving                  what is on its way out of the inbox, while there is any
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

from lohi_edge.errors import DiskError
from lohi_edge.files import atomic_write, disk_error, fsync_directory, is_directory
from lohi_edge.receipt import is_withheld
from lohi_edge.watch import originals
from lohi_edge.watch.names import clean_name, remove, result_names
from lohi_edge.watch.originals import make_durable
from lohi_edge.watch.placed import Placed, stamped

STAGING = ".lohi-edge"
REASON = ".reason.txt"
PLANS = ".lohi-edge-leaving"
ELSEWHERE = (
    "the outbox is not there, or not the folder it was at the start: mount it again, or restart"
)
_NAMES_TRIED = 5


class Outbox:
    """Places results; nothing half-written ever bears a name of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._staging = root / STAGING
        # An earlier daemon may have left its staging folder on the bare mount point too.
        self._known = self._staging / f"here-{secrets.token_hex(8)}"
        self._begun = False

    def clear(self) -> None:
        """Drop what an earlier process was writing; the first time, know the folder from now on.

        Raises:
            DiskError: the outbox cannot be written, or is another folder than the first time.
        """
        if self._begun:
            self._require()
        try:
            self._staging.mkdir(exist_ok=True)
            for path in self._staging.iterdir():
                if path != self._known:
                    remove(path)
            self._known.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(self._staging, error) from None
        self._begun = True

    def is_there(self) -> bool:
        """Whether this is the folder the daemon started with, no bare mount point or dead share."""
        return is_directory(self._known)

    def _require(self) -> None:
        if not self.is_there():
            raise DiskError(ELSEWHERE)

    def close(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)

    def stage(self, scan: int) -> Path:
        """An empty folder to write a scan's results into.

        Raises:
            DiskError
        """
        self._require()
        folder = self._staging / str(scan)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir()
        except OSError as error:
            raise disk_error(folder, error) from None
        return folder

    def discard(self, scan: int) -> None:
        shutil.rmtree(self._staging / str(scan), ignore_errors=True)

    def choose(self, path: str, identity: str, taken: Collection[str] = ()) -> str:
        """Folder for the result of inbox `path`, relative to the outbox.

        Args:
            taken: folders of results that are being made.
        """
        return next(
            name
            for name in result_names(path, identity)
            if name not in taken and not os.path.lexists(self.root / name)
        )

    def place(self, scan: int, folder: str) -> None:
        """Make a staged folder appear under its final name, at once and for good.

        Raises:
            DiskError: nothing appeared.
        """
        self._require()
        staged, final = self._staging / str(scan), self.root / folder
        try:
            fsync_directory(staged)
            make_durable(final.parent, self.root)
            staged.rename(final)
            fsync_directory(final.parent)
        except OSError as error:
            raise disk_error(final, error) from None

    def find(self, folder: str, identity: str) -> Placed | None:
        """The finished result in a folder, if it is that of `identity`.

        Raises:
            DiskError: the folder cannot be listed.
        """
        return next((one for one in self._in(folder) if _is_of(one, identity)), None)

    def find_own(self, scan: int, path: str, identity: str) -> Placed | None:
        """The finished result of this very scan under one of the names `choose` gives its path.

        Raises:
            DiskError: a folder cannot be listed.
        """
        for number, folder in enumerate(result_names(path, identity)):
            if number >= _NAMES_TRIED and not os.path.lexists(self.root / folder):
                return None
            for placed in self._in(folder):
                if _is_of(placed, identity) and placed.record["watch"].get("scan") == scan:
                    return placed
        return None

    def _in(self, folder: str) -> Iterator[Placed]:
        place = self.root / folder
        try:
            names = sorted(entry.name for entry in os.scandir(place))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            # No result here would be made a second time.
            words = (error.strerror or str(error)).lower()
            raise DiskError(f"{place}: cannot be listed: {words}; check the outbox") from None
        for path in (place / name for name in names if name.endswith(".json")):
            if (record := stamped(path, self.root)) and not is_withheld(record):
                yield Placed(folder, path, record)

    def all(self) -> Iterator[Placed]:
        """Every receipt, those of held results too: a lost ledger is rebuilt from them."""
        for base, folders, names in os.walk(self.root):
            folders[:] = sorted(f for f in folders if f != STAGING)
            for name in sorted(names):
                path = Path(base) / name
                if name.endswith(".json") and (record := stamped(path, self.root)):
                    yield Placed(os.path.relpath(base, self.root), path, record)

    def explain(self, state: str, path: str, scan: int, text: str) -> Path:
        """Write the readable reason of a scan that got no result.

        Raises:
            DiskError
        """
        self._require()
        target = self.reason_path(state, path, scan)
        make_durable(target.parent, self.root)
        self._write(target, text.encode())
        return target

    def take_back(self, state: str, path: str, scan: int) -> None:
        """Remove what `explain` wrote.

        Raises:
            DiskError: it may still be there.
        """
        _remove(self.reason_path(state, path, scan))

    def reason_path(self, state: str, path: str, scan: int) -> Path:
        """Where a scan's reason is; by its number too, as others come under the same path."""
        pure = PurePath(path)
        parent = "/".join(clean_name(part) for part in pure.parent.parts)
        return self.root / state / parent / f"{clean_name(pure.name)}.{scan}{REASON}"

    def note(self, name: str, data: bytes) -> None:
        """Write a small file of the daemon's own into the outbox, over an older one.

        Raises:
            DiskError: the older one is still there.
        """
        self._write(self.root / name, data)

    def forget(self, name: str) -> None:
        """Remove what `note` wrote.

        Raises:
            DiskError: it may still be there.
        """
        _remove(self.root / name)

    def set_aside(self, name: str) -> None:
        """Give what `note` wrote and is damaged another name, for whoever wants to look at it.

        Raises:
            DiskError
        """
        path = self.root / name
        try:
            path.replace(path.with_name(name + ".damaged"))
        except OSError as error:
            raise disk_error(path, error) from None

    def _write(self, target: Path, data: bytes) -> None:
        # Written in the staging folder, so that a power cut leaves no temporary beside it.
        staged = self._staging / target.name
        with atomic_write(staged) as file:
            file.write(data)
        try:
            staged.replace(target)
            fsync_directory(target.parent)
        except OSError as error:
            raise disk_error(target, error) from None

    def take(self, original: Path, target: Path, copy: bool = False) -> Path:
        """Move or copy an original here; see `originals.take`."""
        self._require()
        return originals.take(original, target, self.root, self._staging, copy)

    def destroy(self, original: Path) -> None:
        """Delete an original; see `originals.destroy`."""
        originals.destroy(original, self.root, self._staging)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            fsync_directory(path.parent)
    except OSError as error:
        raise disk_error(path, error) from None


def _is_of(placed: Placed, identity: str) -> bool:
    return bool(placed.record["watch"]["identity"] == identity)
