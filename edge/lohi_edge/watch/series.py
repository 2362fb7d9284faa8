"""DICOM in the inbox: a folder of slices is one scan, and so is a zip archive.

A folder counts with the files directly in it, whichever they are called; it is complete when no
slice has come or changed for a while, since nothing in a series says how many there will be.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from lohi_edge import dicom

_SUFFIXES = ("", ".dcm", ".ima", ".dicom")
_PROBED = 3  # files looked into to tell whether a folder holds a series


def is_slice_name(name: str) -> bool:
    """Whether a file's name may be a DICOM image's: many scanners give it no suffix at all."""
    return not name.startswith(".") and Path(name).suffix.lower() in (*_SUFFIXES, *_numbers(name))


def is_series(folder: Path, names: list[str]) -> bool:
    """Whether a folder holds DICOM, judged by the first bytes of a few of its files."""
    return any(dicom.is_dicom(folder / name) for name in names[:_PROBED])


def mark_of(entries: Iterable[os.DirEntry[str]], mark: Callable[[os.stat_result], str]) -> str:
    """Changes whenever a slice comes, goes or changes."""
    seen = hashlib.sha256()
    count = 0
    for entry in entries:
        count += 1
        seen.update(os.fsencode(entry.name) + b"\0")
        seen.update(mark(entry.stat(follow_symlinks=False)).encode() + b"\n")
    return f"series:{count}:{seen.hexdigest()[:32]}"


def missing_of_zip(path: Path) -> str | None:
    """What a zip archive still lacks: its directory is written last."""
    return None if zipfile.is_zipfile(path) else "zip archive not at its end"


def _numbers(name: str) -> tuple[str, ...]:
    """UIDs and slice numbers look like suffixes: 1.2.840.7 ends in ".7"."""
    suffix = Path(name).suffix
    return (suffix,) if suffix[1:].isdigit() else ()
