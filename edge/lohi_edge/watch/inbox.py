"""What lies in the inbox, and what of it is ready: looking decides, events only wake.

A file is ready once nothing about it changed between two looks and its content is complete.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes
from lohi_edge.watch import content, series

SETTLE_S = 0.1  # between the two looks, at least
_UNFINISHED = (".part", ".tmp", ".partial", ".filepart", ".crdownload")


@dataclass(frozen=True)
class Found:
    """A scan's file as one look saw it.

    Attributes:
        path: relative to the inbox; bytes that are no UTF-8 as surrogate escapes.
        mark: changes whenever the file, or the sidecar beside it, does.
        size: bytes.
        link: it is a symbolic link that leaves the inbox.
    """

    path: str
    mark: str
    size: int
    link: bool = False
    series: bool = False  # a folder of DICOM slices


@dataclass
class Look:
    """Outcome of one look at the whole inbox."""

    ready: list[Found] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)  # path -> why
    present: dict[str, str] = field(default_factory=dict)  # path -> mark
    troubles: list[str] = field(default_factory=list)  # folders that cannot be listed
    settling: bool = False  # some file only needs its second look


def is_candidate(name: str) -> bool:
    """Whether a file name is a scan's: never a dotfile, an unfinished copy or a result of ours."""
    return (
        name.lower().endswith((*nifti.SUFFIXES, ".zip"))
        and not name.startswith(".")
        and not name.lower().endswith(_UNFINISHED)
        and not nifti.names_result(name)
    )


def mark_of(status: os.stat_result, stable: bool) -> str:
    """(device, inode,) size, mtime and ctime; the first two only where they are `stable`."""
    first = f"{status.st_dev}:{status.st_ino}:" if stable else ""
    return f"{first}{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class Inbox:
    """Looks at the inbox again and again.

    Args:
        root: the inbox.
        known: the mark under which the ledger knows a path; None when it does not.
        stable_inodes: False on network file systems, some of which make inode numbers up.
        incomplete_s: when a cut-off file that no longer grows is taken as it is.
        series_quiet_s: a DICOM series is complete when nothing has come for so long.
    """

    def __init__(
        self,
        root: Path,
        known: Callable[[str], str | None],
        stable_inodes: bool = True,
        incomplete_s: float = 600.0,
        series_quiet_s: float = 10.0,
    ) -> None:
        self._root = root
        self._known = known
        self._stable = stable_inodes
        self.incomplete_s = incomplete_s
        self.series_quiet_s = series_quiet_s
        self._done: dict[str, str] = {}  # present paths the ledger knows: path -> mark
        self._seen: dict[str, tuple[str, float]] = {}  # others: path -> (mark, since)
        self._lacks: dict[str, tuple[str, str | None]] = {}  # path -> (mark, what is missing)

    def look(self, now: float) -> Look:
        """One look; `now` in seconds of a clock that never steps.

        Raises:
            OSError: the inbox itself cannot be listed.
        """
        look = Look()
        seen: dict[str, tuple[str, float]] = {}
        done: dict[str, str] = {}
        lacks: dict[str, tuple[str, str | None]] = {}
        for found in _walk(self._root, self._stable, look.troubles):
            look.present[found.path] = found.mark
            if self._done.get(found.path) == found.mark or self._known(found.path) == found.mark:
                done[found.path] = found.mark
                continue
            before = self._seen.get(found.path)
            since = before[1] if before and before[0] == found.mark else now
            seen[found.path] = (found.mark, since)
            if now - since < SETTLE_S:
                look.settling = True
                continue
            if found.series and now - since < self.series_quiet_s:
                look.waiting[found.path] = "more slices may come"
                continue
            why = self._missing(found, lacks)
            if why is None or now - since > self.incomplete_s:
                look.ready.append(found)
            else:
                look.waiting[found.path] = why
        self._seen, self._done, self._lacks = seen, done, lacks
        return look

    def forget(self, path: str) -> None:
        """Ask the ledger about this path again at the next look."""
        self._done.pop(path, None)

    def mark(self, path: str) -> str | None:
        """The mark a path has now; None when it is gone."""
        full = self._root / path
        try:
            status = full.lstat()
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(full) as entries:
                    return _series_mark(_slices(_by_name(entries)), self._stable)
        except OSError:
            return None
        return mark_of(status, self._stable) + _sidecar_mark(full, self._stable)

    def _missing(self, found: Found, lacks: dict[str, tuple[str, str | None]]) -> str | None:
        before = self._lacks.get(found.path)
        if before and before[0] == found.mark:
            lacks[found.path] = before
            return before[1]
        if found.link or found.series:
            return None
        path = self._root / found.path
        try:
            if path.suffix.lower() == ".zip":
                why = series.missing_of_zip(path)
            else:
                why = content.missing(path) or _missing_sidecar(path)
        except OSError as error:
            return (error.strerror or "unreadable").lower()  # may change without a mark: not kept
        lacks[found.path] = (found.mark, why)
        return why


def _walk(root: Path, stable: bool, troubles: list[str]) -> Iterator[Found]:
    real = os.path.realpath(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                listed = _by_name(entries)
        except OSError as error:
            if not folder:
                raise
            troubles.append(f"{folder}: {(error.strerror or '').lower()}")
            continue
        if folder and (scan := _series(root, folder, listed, stable)):
            yield scan
        names = {entry.name for entry in listed}
        for entry in listed:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and not nifti.names_result(entry.name):
                        pending.append(path)
                elif is_candidate(entry.name) and (found := _found(entry, path, real, stable)):
                    beside = nifti.stem(Path(entry.name)) + ".json"
                    if beside in names:
                        sidecar = _sidecar_mark(root / path, stable)
                        found = Found(found.path, found.mark + sidecar, found.size, found.link)
                    yield found
            except FileNotFoundError:
                continue  # gone between listing and looking


def _by_name(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return sorted(entries, key=lambda entry: entry.name)


def _slices(listed: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return [e for e in listed if series.is_slice_name(e.name) and not e.is_dir()]


def _series_mark(slices: list[os.DirEntry[str]], stable: bool) -> str:
    return series.mark_of(slices, lambda status: mark_of(status, stable))


def _series(root: Path, folder: str, listed: list[os.DirEntry[str]], stable: bool) -> Found | None:
    slices = _slices(listed)
    if not slices or not series.is_series(root / folder, [e.name for e in slices]):
        return None
    try:
        mark = _series_mark(slices, stable)
    except FileNotFoundError:
        return None  # a slice went between listing and looking
    return Found(folder, mark, 0, link=any(e.is_symlink() for e in slices), series=True)


def _found(entry: os.DirEntry[str], path: str, real: str, stable: bool) -> Found | None:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.path.realpath(entry.path)
        if target.startswith(real + "/"):
            return None  # what it points to is found by its own name
        return Found(path, mark_of(status, stable), status.st_size, link=True)
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, mark_of(status, stable), status.st_size)


def sidecar_of(path: Path) -> Path:
    return path.with_name(nifti.stem(path) + ".json")


def _sidecar_mark(path: Path, stable: bool) -> str:
    try:
        return "+" + mark_of(sidecar_of(path).lstat(), stable)
    except OSError:
        return ""


def _missing_sidecar(path: Path) -> str | None:
    """A sidecar that does not parse yet may still be on its way."""
    beside = sidecar_of(path)
    if not beside.is_file():
        return None
    try:
        json.loads(read_bytes(beside, nifti.MAX_SIDECAR))
    except (ValueError, RecursionError, BadInput):
        return "its JSON sidecar is not complete"
    return None
