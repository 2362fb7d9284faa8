"""DICOM in the inbox: the series in a folder, or in a zip archive, are scans of their own.

A folder counts with the files directly in it, whichever they are called. Each file is looked into
once, as far as it says to which series and patient it belongs; reading it is the worker's business.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lohi_edge.dicom import Part, glance
from lohi_edge.dicom.glance import Glance
from lohi_edge.dicom.places import parts_of, start_of
from lohi_edge.errors import BadInput

BUDGET_S = 0.5  # of one look at the inbox, for files never looked into before
UNREADABLE = "series-unreadable"  # stands for the files that cannot be told apart
_SUFFIXES = ("", "dcm", "ima", "dicom")
LINK = "a symbolic link that leaves the inbox; put the file itself there"
_Seen = tuple[str, Glance | str | None]  # a file's mark, and its glance or what is wrong with it


class Unfinished(Exception):
    """A place cannot be judged yet; says why."""


@dataclass(frozen=True)
class Group:
    """The files of one series in one place.

    Attributes:
        path: of the place and the series' name: what the ledger calls it.
        mark: changes whenever one of its files does, or what is refused about it.
        marks: of its files by name; of the zip archive it is in.
        parts: where its instances are.
        refused: why it must not be enhanced, or None.
        skipped: why it is no scan to enhance, or None.
    """

    path: str
    mark: str
    marks: Mapping[str, str] = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)
    refused: str | None = None
    skipped: str | None = None


def is_slice_name(name: str) -> bool:
    """Whether a file's name may be a DICOM image's: many scanners give it no suffix at all.

    UIDs and slice numbers look like suffixes: 1.2.840.7 ends in ".7".
    """
    stem, _, end = name.rpartition(".")
    suffix = end.lower() if stem else ""
    return not name.startswith(".") and (suffix in _SUFFIXES or suffix.isdigit())


def place_of(path: str) -> str | None:
    """The folder or archive of a series, as the ledger names it; None for other scans."""
    place, _, name = path.rpartition("/")
    return place if glance.is_series_name(name) or name == UNREADABLE else None


class Sorter:
    """Sorts the files of folders and archives into series; remembers what it has looked into.

    Attributes:
        late: there was no time for some new file since `begin`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, dict[str, _Seen]] = {}
        self._archives: dict[str, tuple[str, list[Group]]] = {}
        self._visited: set[str] = set()
        self._until = math.inf
        self.late = False

    def begin(self) -> None:
        """A look at the whole inbox begins: files that are new are looked into for a while only."""
        self._until = time.monotonic() + BUDGET_S
        self._visited.clear()
        self.late = False

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
            Unfinished: a file cannot be read, or there was no time yet.
        """
        folder = self._root / place
        parts = {name: Part(folder / name) for name in marks}
        groups = self._sorted(place, marks, parts)
        # What lies directly in the inbox need not belong together.
        trouble = _trouble(groups) if place else None
        return [
            self._group(place, name, [(n, marks[n] or "link") for n in group], parts, seen, trouble)
            for name, (group, seen) in groups.items()
        ]

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
            one = self._group(place, name, [("", mark)], members, seen, trouble)
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
        groups: dict[str, tuple[list[str], list[Glance | str]]] = {}
        named: dict[str, str] = {}  # a series of which some instances lack the number is one still
        for name, seen in self._looked(known, marks, parts):
            if seen is not None:
                if isinstance(seen, str):
                    series = UNREADABLE
                else:
                    series = named.setdefault(seen.series_uid, seen.name)
                names, all_seen = groups.setdefault(series, ([], []))
                names.append(name)
                all_seen.append(seen)
        return dict(sorted(groups.items(), key=_order))

    def _looked(
        self,
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
                    before = known[name] = (mark, _look(parts[name], archive))
                yield name, before[1]
        finally:
            if archive:
                archive.close()

    def _group(
        self,
        place: str,
        name: str,
        files: Sequence[tuple[str, str]],
        parts: Mapping[str, Part],
        seen: Sequence[Glance | str],
        trouble: str | None,
    ) -> Group:
        glances = [one for one in seen if isinstance(one, Glance)]
        skipped = glance.unfit(glances) if glances else None
        refused = None if skipped else trouble or _refusal(seen)
        digest = hashlib.sha256()
        for file, mark in files:
            digest.update(os.fsencode(file) + b"\0" + mark.encode() + b"\n")
        digest.update((refused or "").encode())
        return Group(
            path=f"{place}/{name}" if place else name,
            mark=f"series:{len(seen)}:{digest.hexdigest()[:32]}",
            marks=dict(files),
            parts=tuple(parts[file] for file, _ in files if file in parts),
            refused=refused,
            skipped=skipped,
        )


def _look(part: Part, archive: zipfile.ZipFile | None) -> Glance | str | None:
    """A file's glance, what is wrong with it, or None where it is no DICOM image.

    Raises:
        Unfinished: it cannot be read.
    """
    for size in (glance.START, glance.MOST):
        try:
            start, whole = start_of(part, size, archive)
            return glance.look(start, whole or size == glance.MOST)
        except EOFError:
            continue
        except BadInput as error:
            return str(error)
        except OSError as error:
            raise Unfinished((error.strerror or "unreadable").lower()) from None
    raise AssertionError("unreachable: the longest start is taken as the whole file")


def _refusal(seen: Sequence[Glance | str]) -> str | None:
    """What is wrong with these files by themselves: damage, or several patients in a series."""
    damaged = [one for one in seen if isinstance(one, str)]
    if damaged:
        return f"{len(damaged)} file(s) cannot be read as DICOM: {damaged[0]}"
    count = glance.patients([one for one in seen if isinstance(one, Glance)])
    return glance.several_patients(count) if count > 1 else None


def _trouble(groups: Mapping[str, tuple[list[str], list[Glance | str]]]) -> str | None:
    """Why nothing in a place may be enhanced, or None."""
    return _refusal([one for _, seen in groups.values() for one in seen])


def _order(group: tuple[str, Any]) -> tuple[int, str]:
    """By SeriesNumber."""
    number = group[0].split("-")[1]
    return (int(number) if number.isdigit() else 0), group[0]
