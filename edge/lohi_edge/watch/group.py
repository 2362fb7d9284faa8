"""What a series in the inbox is called, what it consists of, and why it is not for enhancing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lohi_edge.dicom import Part, glance
from lohi_edge.dicom.glance import Glance
from lohi_edge.nifti import names_result

UNREADABLE = "series-unreadable"  # stands for the files that cannot be told apart
LINK = "a symbolic link that leaves the inbox; put the file itself there"
_KIND = "series"  # how the mark of a group begins
_SUFFIXES = ("", "dcm", "ima", "dicom")
UNFINISHED = (".part", ".tmp", ".partial", ".filepart", ".crdownload")
_OF_SYSTEMS = ("dicomdir", "thumbs.db", "desktop.ini")  # the last two Windows leaves on shares


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


def is_other(name: str) -> bool:
    """Whether a file that is no scan by its name or content was put here by somebody, for good."""
    low = name.lower()
    expected = low.endswith((*UNFINISHED, ".json")) or low in _OF_SYSTEMS or names_result(name)
    return not (name.startswith(".") or expected)


def place_of(path: str) -> str | None:
    """The folder or archive of a series, as the ledger names it; None for other scans."""
    place, _, name = path.rpartition("/")
    return place if glance.is_series_name(name) or name == UNREADABLE else None


def files_of(mark: str) -> int:
    """How many files a group's mark stands for; 0 of the mark of a file."""
    kind, _, rest = mark.partition(":")
    return int(rest.partition(":")[0]) if kind == _KIND else 0


def grouped(
    place: str,
    name: str,
    files: Sequence[tuple[str, str]],
    parts: Mapping[str, Part],
    seen: Sequence[Glance | str],
    trouble: str | None,
) -> Group:
    """The group of some files of a place.

    Args:
        place: folder or archive.
        name: of the series.
        files: names and marks.
        parts: where the files of the place are, by name.
        seen: for each of `files` its glance, or what is wrong with it.
        trouble: why nothing in this place may be enhanced, or None.
    """
    glances = [one for one in seen if isinstance(one, Glance)]
    skipped = glance.unfit(glances) if glances else None
    refused = None if skipped else trouble or refusal(seen)
    digest = hashlib.sha256()
    for file, mark in files:
        digest.update(os.fsencode(file) + b"\0" + mark.encode() + b"\n")
    digest.update((refused or "").encode())
    return Group(
        path=f"{place}/{name}" if place else name,
        mark=f"{_KIND}:{len(seen)}:{digest.hexdigest()[:32]}",
        marks=dict(files),
        parts=tuple(parts[file] for file, _ in files if file in parts),
        refused=refused,
        skipped=skipped,
    )


def refusal(seen: Sequence[Glance | str]) -> str | None:
    """What is wrong with these files by themselves: damage, or several patients in a series."""
    damaged = [one for one in seen if isinstance(one, str)]
    if damaged:
        return f"{len(damaged)} file(s) cannot be read as DICOM: {damaged[0]}"
    count = glance.patients([one for one in seen if isinstance(one, Glance)])
    return glance.several_patients(count) if count > 1 else None
