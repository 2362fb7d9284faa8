"""The scans that lie in the inbox: files, and series of DICOM slices."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.dicom import Part
from lohi_edge.files import is_directory
from lohi_edge.watch.group import LINK, UNFINISHED, Group, is_other, is_slice_name, place_of
from lohi_edge.watch.series import Sorter, Unfinished
from lohi_edge.watch.sidecars import alone, sidecar_of

_ZIP = ".zip"


@dataclass(frozen=True)
class Found:
    """A scan as one look saw it.

    Attributes:
        path: relative to the inbox; bytes that are no UTF-8 as surrogate escapes. Of a series, its
            folder's or archive's with the series' name.
        mark: changes whenever the file, or the sidecar beside it, does; or a file of the series.
        size: bytes; 0 of a series.
        refused: why it must not be enhanced, or None.
        parts: where the instances of a series are; None of a file.
        grows: nothing tells whether more files will come.
    """

    path: str
    mark: str
    size: int
    refused: str | None = None
    parts: tuple[Part, ...] | None = field(default=None, repr=False)
    grows: bool = False


def is_candidate(name: str) -> bool:
    """Whether a file name is a scan's: never a dotfile, an unfinished copy or a result of ours."""
    return (
        name.lower().endswith((*nifti.SUFFIXES, _ZIP))
        and not name.startswith(".")
        and not name.lower().endswith(UNFINISHED)
        and not nifti.names_result(name)
    )


def mark_of(status: os.stat_result, stable: bool) -> str:
    """(device, inode,) size, mtime and ctime; the first two only where they are `stable`."""
    first = f"{status.st_dev}:{status.st_ino}:" if stable else ""
    return f"{first}{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class Listing:
    """Lists an inbox.

    Args:
        root: the inbox.
        stable: inode numbers are to be relied on.

    Attributes:
        stable: the same.
        leaving: files by folder, with their lasting marks, that are on their way out: not seen any
            more.
        troubles: folders that the last walk could not list.
        waiting: places that it could not judge yet, and why.
        skipped: series that are no scans to enhance.
        unreadable: files that may be slices and cannot be read, and why.
        alone: sidecars without a scan, and their marks.
        others: files that are no scans of any kind.
        hurried: it had no time to look into every new file.
    """

    def __init__(self, root: Path, stable: bool) -> None:
        self._root, self.stable = root, stable
        self._real = os.path.realpath(root)
        self._sorter = Sorter(root)
        self.leaving: dict[str, dict[str, str]] = {}
        self._reset()

    def _reset(self) -> None:
        self.troubles: list[str] = []
        self.waiting: dict[str, str] = {}
        self.skipped: list[Group] = []
        self.unreadable: dict[str, str] = {}
        self.alone: dict[str, str] = {}
        self.others: list[str] = []
        self.hurried = False

    def walk(self) -> Iterator[Found]:
        """Every scan in the inbox.

        Raises:
            OSError: the inbox itself cannot be listed.
        """
        self._reset()
        self._real = os.path.realpath(self._root)  # it may be mounted by now
        self._sorter.begin()
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                listed = self._listed(folder)
            except OSError as error:
                if not folder:
                    raise
                self.troubles.append(f"{folder}: {(error.strerror or '').lower()}")
                continue
            yield from self._series(folder, listed)
            names = {entry.name for entry in listed}
            single = alone(names)
            for entry in listed:
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith(".") and not nifti.names_result(entry.name):
                            pending.append(path)
                    elif is_candidate(entry.name):
                        yield from self._file(entry, path, names)
                    elif entry.name in single and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        self.alone[path] = mark_of(status, self.stable)
                    elif is_other(entry.name) and entry.is_file(follow_symlinks=False):
                        known = is_slice_name(entry.name)
                        if not (known and self._sorter.may_be_slice(folder, entry.name)):
                            self.others.append(path)
                except FileNotFoundError:
                    continue  # gone between listing and looking
                except OSError as error:  # of this file alone: the others are not to wait for it
                    self._sorter.cannot_read("", path, error)
        self._sorter.end()
        self.unreadable = self._sorter.unreadable

    def find(self, path: str) -> Found | None:
        """What a path is now; None when it is gone or cannot be looked at."""
        place = place_of(path)
        full = self._root / path
        try:
            if place is None:
                return Found(path, self._mark(full, full.lstat()), 0, self._refusal(full))
            groups = self.groups(place)
        except (OSError, Unfinished):
            return None
        found = (_found(group, grows=True) for group in groups if not group.skipped)
        return next((one for one in found if one.path == path), None)

    def groups(self, place: str) -> list[Group]:
        """The series in a folder or archive, skipped ones too.

        Raises:
            OSError: it is gone.
            Unfinished: a file cannot be read.
        """
        full = self._root / place
        if not full.is_dir():
            return self._sorter.archive(place, mark_of(full.lstat(), self.stable))
        return self._sorted(place, self._listed(place))

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        with os.scandir(self._root / folder) as entries:
            return _by_name(entries)

    def _series(self, folder: str, listed: list[os.DirEntry[str]]) -> Iterator[Found]:
        try:
            groups = self._sorted(folder, listed)
        except Unfinished as why:
            self._wait(folder, why)
            return
        yield from self._fit(groups, grows=True)

    def _fit(self, groups: list[Group], grows: bool) -> Iterator[Found]:
        for group in groups:
            if group.skipped:
                self.skipped.append(group)
            else:
                yield _found(group, grows)

    def _wait(self, place: str, why: Unfinished) -> None:
        self.waiting[place or "."] = str(why)
        self.hurried |= self._sorter.late

    def _sorted(self, folder: str, listed: list[os.DirEntry[str]]) -> list[Group]:
        leaving = self.leaving.get(folder, {})
        marks: dict[str, str | None] = {}
        for entry in listed:
            if not is_slice_name(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone between listing and looking
            except OSError as error:
                self._sorter.cannot_read(folder, entry.name, error)
                continue
            mark = mark_of(status, self.stable)
            if leaving and leaving.get(entry.name) == mark_of(status, stable=False):
                continue
            if stat.S_ISREG(status.st_mode):
                marks[entry.name] = mark
            elif self._leads_out(entry, status):
                marks[entry.name] = None
        return self._sorter.folder(folder, marks) if marks else []

    def _file(self, entry: os.DirEntry[str], path: str, names: set[str]) -> Iterator[Found]:
        status = entry.stat(follow_symlinks=False)
        link = stat.S_ISLNK(status.st_mode)
        if not (stat.S_ISREG(status.st_mode) or (link and self._leaves(entry.path))):
            return  # where a link points to within the inbox is found by its own name
        mark = mark_of(status, self.stable)
        if not link and entry.name.lower().endswith(_ZIP):
            try:
                groups = self._sorter.archive(path, mark)
            except Unfinished as why:
                self._wait(path, why)
                return
            if groups:
                yield from self._fit(groups, grows=False)
                return
        if nifti.stem(Path(entry.name)) + ".json" in names:
            mark += self._sidecar_mark(Path(entry.path))
        yield Found(path, mark, status.st_size, LINK if link else None)

    def _leads_out(self, entry: os.DirEntry[str], status: os.stat_result) -> bool:
        """Whether a link leads to a file outside the inbox, or to one that cannot be looked at."""
        link = stat.S_ISLNK(status.st_mode)
        return link and not is_directory(Path(entry.path)) and self._leaves(entry.path)

    def _leaves(self, path: str) -> bool:
        return not os.path.realpath(path).startswith(self._real + "/")

    def _refusal(self, full: Path) -> str | None:
        return LINK if full.is_symlink() and self._leaves(str(full)) else None

    def _mark(self, full: Path, status: os.stat_result) -> str:
        return mark_of(status, self.stable) + self._sidecar_mark(full)

    def _sidecar_mark(self, path: Path) -> str:
        try:
            return "+" + mark_of(sidecar_of(path).lstat(), self.stable)
        except OSError:
            return ""


def _found(group: Group, grows: bool) -> Found:
    return Found(group.path, group.mark, 0, group.refused, group.parts, grows)


def _by_name(entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return sorted(entries, key=lambda entry: entry.name)
