"""What is in a folder, archive, DICOMDIR or file: the series of one patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.dicom import glance
from lohi_edge.dicom.geometry import Frame, frames, stack
from lohi_edge.dicom.glance import Glance
from lohi_edge.dicom.instance import DIRECTORY, Instance, looks_like_dicom, parse
from lohi_edge.dicom.places import Part, contents, parts_of
from lohi_edge.errors import BadInput


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
    """

    path: Path
    name: str
    uid: str
    parts: tuple[Part, ...] = field(repr=False)
    instances: tuple[Instance, ...] = field(repr=False)
    repeats: int = 0

    def ordered(self) -> tuple[list[Frame], tuple[str, ...]]:
        """Its planes in spatial order, and what was noticed.

        Raises:
            BadInput: slices are missing, repeated, mixed or sheared; says which.
        """
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
    if not path.is_file():
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
    this package's own results are skipped and named in `skipped`.

    Args:
        parts: of the place, the only ones to look at; None for all of it.

    Raises:
        BadInput: nothing to enhance, several patients, or a damaged file; says which.
    """
    path = Path(path)
    try:
        return _sorted(path, parts_of(path) if parts is None else parts)
    except BadInput as error:
        text_ = str(error)
        raise BadInput(text_ if text_.startswith(str(path)) else f"{path}: {text_}") from None


def _sorted(path: Path, parts: Sequence[Part]) -> Found:
    groups: dict[str, list[tuple[Part, Instance, Glance]]] = {}
    for part, data in zip(parts, contents(parts), strict=False):
        if not looks_like_dicom(data[:132]):
            continue
        if (instance := _image(data, alone=len(parts) == 1)) is None:
            continue
        seen = glance.of(instance.header)
        groups.setdefault(seen.series_uid, []).append((part, instance, seen))
    if not groups:
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
            series.append(_series(path, group))
    if not series:
        raise BadInput("nothing to enhance: " + "; ".join(skipped))
    return Found(tuple(series), tuple(skipped))


def _image(data: bytes, alone: bool) -> Instance | None:
    """An instance, or None for what lies beside images without being one (a DICOMDIR, a note)."""
    try:
        return parse(data)
    except BadInput:
        if not alone and (data[128:132] != b"DICM" or DIRECTORY.encode() in data[:1024]):
            return None
        raise


def _series(path: Path, group: list[tuple[Part, Instance, Glance]]) -> Series:
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
    )


def _order(first: Glance) -> tuple[int, str]:
    number = first.number
    return (int(number) if number.isdecimal() and len(number) < 10 else 0), first.series_uid
