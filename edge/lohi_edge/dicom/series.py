"""What is in a folder, archive, DICOMDIR or file: the series of one patient."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.dicom import glance
from lohi_edge.dicom.geometry import Frame, frames, stack
from lohi_edge.dicom.glance import Glance
from lohi_edge.dicom.instance import DIRECTORY, Instance, looks_like_dicom, parse
from lohi_edge.dicom.places import Part, called, contents, parts_of
from lohi_edge.errors import BadInput
from lohi_edge.files import is_file


@dataclass(frozen=True, eq=False)
class Series:
    """One series that may be enhanced.

    Attributes:
        path: what the user named.
        name: for files made from it; says nothing of the patient.
        uid: SeriesInstanceUID.
        parts: where its instances are, in the order of `instances`.
        instances: their headers.
        repeats: instances found more than once, byte for byte, and counted once.
        trouble: why it must not be enhanced though it was found, or None.
    """

    path: Path
    name: str
    uid: str
    parts: tuple[Part, ...] = field(repr=False)
    instances: tuple[Instance, ...] = field(repr=False)
    repeats: int = 0
    trouble: str | None = None

    def ordered(self) -> tuple[list[Frame], tuple[str, ...]]:
        """Its planes in spatial order, and what was noticed.

        Raises:
            BadInput: slices are missing, repeated, mixed or sheared, or a file that may be one of
                them is damaged; says which.
        """
        if self.trouble:
            raise BadInput(self.trouble)
        if len({instance.sop_uid for instance in self.instances}) < len(self.instances):
            raise BadInput("one SOPInstanceUID stands for different images; export it again")
        ranked, notes = stack([f for instance in self.instances for f in frames(instance)])
        if self.repeats:
            notes = (*notes, f"{self.repeats} file(s) found twice and counted once")
        return ranked, notes


@dataclass(frozen=True, eq=False)
class Found:
    """The series in one place, and why others were left alone (one line each)."""

    series: tuple[Series, ...]
    skipped: tuple[str, ...]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM or a zip archive, by its first bytes."""
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return looks_like_dicom(start) or start[:4] == b"PK\x03\x04"


def find(path: str | Path, parts: Sequence[Part] | None = None) -> Found:
    """The series of one patient in a folder (with its subfolders), zip, DICOMDIR or single file.

    Files that are not DICOM are passed over. Localizers, secondary captures, other modalities and
    this package's own results are skipped and named in `skipped`. A damaged file could be of any
    series of its folder: these have a `trouble` that names it, and so has one that stands for it.

    Args:
        parts: of the place, the only ones to look at, whose names are not told; None for all of it.

    Raises:
        BadInput: nothing to enhance, several patients, or a damaged file and no series in another
            folder; says which.
    """
    path = Path(path)
    try:
        return _sorted(path, parts_of(path) if parts is None else parts, parts is None)
    except BadInput as error:
        text_ = str(error)
        raise BadInput(text_ if text_.startswith(str(path)) else f"{path}: {text_}") from None


def _sorted(path: Path, parts: Sequence[Part], named: bool) -> Found:
    groups: dict[str, list[tuple[Part, Instance, Glance]]] = {}
    damaged: dict[Path, tuple[Part, str]] = {}  # the first of each folder
    alone = len(parts) == 1
    for part, data in zip(parts, contents(parts), strict=False):
        if not looks_like_dicom(data[:132]):
            continue
        try:
            if (instance := _image(data, alone)) is None:
                continue
            seen = glance.of(instance.header)
        except BadInput as error:
            why = f"{called(part)}: {error}" if named and not alone else str(error)
            damaged.setdefault(part.folder, (part, why))
            continue
        groups.setdefault(seen.series_uid, []).append((part, instance, seen))
    if not groups:
        for _, why in damaged.values():
            raise BadInput(why)
        others = any(nifti.is_nifti_name(part.path) for part in parts)
        advice = "; of NIfTI files name each" if others else ""
        raise BadInput(f"expected DICOM images here, found none{advice}")
    count = glance.patients([seen for group in groups.values() for _, _, seen in group])
    if count > 1:
        raise BadInput(glance.several_patients(count))
    series, skipped = [], []
    for group in sorted(groups.values(), key=lambda group: _order(group[0][2])):
        reason = glance.unfit([seen for _, _, seen in group])
        if reason:
            label = f"series {group[0][2].number or '?'} ({len(group)} files)"
            skipped.append(f"{label}: {reason}")
        else:
            series.append(_series(path, group, damaged))
    if damaged and all(one.trouble for one in series):
        raise BadInput(next(why for _, why in damaged.values()))
    if not series:
        raise BadInput("nothing to enhance: " + "; ".join(skipped))
    series.extend(_unreadable(part, why) for part, why in damaged.values())
    return Found(tuple(series), tuple(skipped))


def _image(data: bytes, alone: bool) -> Instance | None:
    """An instance, or None for what lies beside images without being one (a DICOMDIR, a note)."""
    try:
        return parse(data)
    except BadInput:
        if not alone and (data[128:132] != b"DICM" or DIRECTORY.encode() in data[:1024]):
            return None
        raise


def _series(
    path: Path,
    group: list[tuple[Part, Instance, Glance]],
    damaged: Mapping[Path, tuple[Part, str]],
) -> Series:
    near = next((damaged[part.folder][1] for part, _, _ in group if part.folder in damaged), None)
    kept: dict[tuple[str, str], tuple[Part, Instance]] = {}
    for part, instance, _ in group:
        kept.setdefault((instance.sop_uid, instance.sha256), (part, instance))
    return Series(
        path=path,
        name=glance.series_name([seen for _, _, seen in group]),
        uid=group[0][2].series_uid,
        parts=tuple(part for part, _ in kept.values()),
        instances=tuple(instance for _, instance in kept.values()),
        repeats=len(group) - len(kept),
        trouble=near and f"a file beside it could be one of its slices: {near}",
    )


def _unreadable(part: Part, why: str) -> Series:
    """What stands for the damaged files of a folder, of which `part` is the first."""
    token = hashlib.sha256(os.fsencode(part.path)).hexdigest()[:8]
    return Series(part.path, f"series-unreadable-{token}", token, (part,), (), trouble=why)


def _order(first: Glance) -> tuple[int, str]:
    number = first.number
    return (int(number) if number.isdecimal() and len(number) < 10 else 0), first.series_uid
