"""DICOM in the inbox: the series in a folder, or in a zip archive, are scans of their own.

A folder counts with the files directly in it, whichever they are called. Each file is looked into
once, as far as it says to which series and patient it belongs; reading it is the worker's business.
"""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lohi_edge.dicom import Part, glance
from lohi_edge.dicom.glance import Glance
from lohi_edge.dicom.places import parts_of, start_of
from lohi_edge.errors import BadInput
from lohi_edge.watch.group import LINK, UNREADABLE, Group, grouped, refusal

BUDGET_S = 0.5  # of one look at the inbox, for files never looked into before
_Seen = tuple[str, Glance | str | None]  # a file's mark, and its glance or what is wrong with it


class Unfinished(Exception):
    """A place cannot be judged yet; says why."""


class Sorter:
    """Sorts the files of folders and archives into series; remembers what it has looked into.

    Attributes:
        late: there was no time for some new file since `begin`.
        unreadable: files that could not be read since then, and why.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, dict[str, _Seen]] = {}
        self._archives: dict[str, tuple[str, list[Group]]] = {}
        self._visited: set[str] = set()
        self._until = math.inf
        self.late = False
        self.unreadable: dict[str, str] = {}

    def begin(self) -> None:
        """A look at the whole inbox begins: files that are new are looked into for a while only."""
        self._until = time.monotonic() + BUDGET_S
        self._visited.clear()
        self.late = False
        self.unreadable = {}

    def end(self) -> None:
        """It has ended: places that are gone are forgotten."""
        self._until = math.inf
        self._known = {k: v for k, v in self._known.items() if k in self._visited}
        self._archives = {k: v for k, v in self._archives.items() if k in self._visited}

    def folder(self, place: str, marks: Mapping[str, str | None]) -> list[Group]:
        """The series among the files of a folder.

        Args:
            place: of the folder, relative to the inbox; empty for the inbox itself.
            marks: of the files, by name; None for a link that leaves the inbox.

        Raises:
            Unfinished: a file cannot be read, which may be of any series of the folder; or there
                was no time yet. In the inbox itself such a file is left out until it can be read.
        """
        folder = self._root / place
        parts = {name: Part(folder / name) for name in marks}
        groups = self._sorted(place, marks, parts)
        # What lies directly in the inbox need not belong together.
        trouble = _trouble(groups) if place else None
        return [
            grouped(place, name, [(n, marks[n] or "link") for n in group], parts, seen, trouble)
            for name, (group, seen) in groups.items()
        ]

    def may_be_slice(self, place: str, name: str) -> bool:
        """Whether a file of a folder is DICOM, or was not looked into yet."""
        return self._known.get(place, {}).get(name, ("", ""))[1] is not None

    def archive(self, place: str, mark: str) -> list[Group]:
        """The series in a zip archive; none where it is damaged or holds no DICOM.

        Raises:
            Unfinished: there was no time yet.
        """
        self._visited.add(place)
        before = self._archives.get(place)
        if before is None or before[0] != mark:
            before = self._archives[place] = (mark, self._unpacked(place, mark))
        return before[1]

    def _unpacked(self, place: str, mark: str) -> list[Group]:
        path = self._root / place
        try:
            members = {str(part.member): part for part in parts_of(path)}
            groups = self._sorted(place, dict.fromkeys(members, mark), members)
        except (BadInput, zipfile.BadZipFile, OSError, IndexError):
            return []  # damaged, or exchanged just now
        trouble = _trouble(groups)
        made = []
        for name, (group, seen) in groups.items():
            one = grouped(place, name, [("", mark)], members, seen, trouble)
            parts = tuple(members[number] for number in group)
            made.append(replace(one, marks={path.name: mark}, parts=parts))
        return made

    def _sorted(
        self, place: str, marks: Mapping[str, str | None], parts: Mapping[str, Part]
    ) -> dict[str, tuple[list[str], list[Glance | str]]]:
        """Names of files and what they are, by name of the series."""
        self._visited.add(place)
        known = self._known.setdefault(place, {})
        for gone in known.keys() - marks.keys():
            del known[gone]
        found: dict[str, tuple[list[str], list[Glance | str]]] = {}
        for name, seen in self._looked(place, known, marks, parts):
            if seen is not None:
                series = UNREADABLE if isinstance(seen, str) else seen.series_uid
                names, all_seen = found.setdefault(series, ([], []))
                names.append(name)
                all_seen.append(seen)
        groups: dict[str, tuple[list[str], list[Glance | str]]] = {}
        for series, (names, all_seen) in found.items():
            named = [one for one in all_seen if isinstance(one, Glance)]
            called = glance.series_name(named) if named else series
            group = groups.setdefault(called, ([], []))
            group[0].extend(names)
            group[1].extend(all_seen)
        return dict(sorted(groups.items(), key=_order))

    def _looked(
        self,
        place: str,
        known: dict[str, _Seen],
        marks: Mapping[str, str | None],
        parts: Mapping[str, Part],
    ) -> Iterator[tuple[str, Glance | str | None]]:
        archive: zipfile.ZipFile | None = None
        try:
            for name, mark in marks.items():
                if mark is None:
                    yield name, LINK
                    continue
                before = known.get(name)
                if before is None or before[0] != mark:
                    if time.monotonic() > self._until:
                        self.late = True
                        raise Unfinished("not looked into yet")
                    if parts[name].member is not None:
                        archive = archive or zipfile.ZipFile(parts[name].path)
                    try:
                        before = known[name] = (mark, _look(parts[name], archive))
                    except OSError as error:  # may change without a mark: looked into again
                        self.cannot_read(place, name if archive is None else "", error)
                        continue
                yield name, before[1]
        finally:
            if archive:
                archive.close()

    def cannot_read(self, place: str, name: str, error: OSError) -> None:
        """Note a file that cannot be read or looked at; `place` is empty where it holds up nothing.

        Raises:
            Unfinished: it may be of any series of its place.
        """
        why = (error.strerror or "unreadable").lower()
        if not isinstance(error, FileNotFoundError):
            self.unreadable["/".join(filter(None, (place, name)))] = why
        if place:
            raise Unfinished(why) from None


def _look(part: Part, archive: zipfile.ZipFile | None) -> Glance | str | None:
    """A file's glance, what is wrong with it, or None where it is no DICOM image.

    Raises:
        OSError: it cannot be read.
    """
    for size in (glance.START, glance.MOST):
        try:
            start, whole = start_of(part, size, archive)
            return glance.look(start, whole or size == glance.MOST)
        except EOFError:
            continue
        except BadInput as error:
            return str(error)
    raise AssertionError("unreachable: the longest start is taken as the whole file")


def _trouble(groups: Mapping[str, tuple[list[str], list[Glance | str]]]) -> str | None:
    """Why nothing in a place may be enhanced, or None."""
    return refusal([one for _, seen in groups.values() for one in seen])


def _order(group: tuple[str, Any]) -> tuple[int, str]:
    """By SeriesNumber."""
    number = group[0].split("-")[1]
    return (int(number) if number.isdigit() else 0), group[0]
