"""What is in a folder, archive, DICOMDIR or file: the series of one patient."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import uid as uids

from lohi_edge.dicom.geometry import Frame, frames, stack
from lohi_edge.dicom.instance import (
    DIRECTORY,
    ENHANCED,
    MR_IMAGE,
    Instance,
    is_localizer,
    is_synthetic,
    looks_like_dicom,
    parse,
    patient_key,
    text,
    texts,
)
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


def find(path: str | Path) -> Found:
    """The series of one patient in a folder (with its subfolders), zip, DICOMDIR or single file.

    Files that are not DICOM are passed over. Localizers, secondary captures, other modalities and
    this package's own results are skipped and named in `skipped`.

    Raises:
        BadInput: nothing to enhance, several patients, or a damaged file; says which.
    """
    path = Path(path)
    try:
        return _find(path)
    except BadInput as error:
        text_ = str(error)
        raise BadInput(text_ if text_.startswith(str(path)) else f"{path}: {text_}") from None


def arrived(folder: str | Path) -> tuple[Series, ...]:
    """The series in a folder that is still being filled, if what has arrived is whole.

    Whole is: every series to enhance has contiguous, evenly spaced slices. No more can be said of
    an unfinished transfer: slices missing at either end leave no gap. So call it when the folder
    has been idle for a while, and again when slices arrive late.

    Raises:
        BadInput: a series has gaps or repeats as yet, or there is nothing to enhance; says which.
    """
    found = find(folder)
    for series in found.series:
        try:
            series.ordered()
        except BadInput as error:
            raise BadInput(f"{folder}: {series.name}: {error}") from None
    return found.series


def _find(path: Path) -> Found:
    parts = parts_of(path)
    groups: dict[str, list[tuple[Part, Instance]]] = {}
    patients = set()
    for part, data in zip(parts, contents(parts), strict=False):
        if not looks_like_dicom(data[:132]):
            continue
        if (instance := _image(data, alone=len(parts) == 1)) is None:
            continue
        groups.setdefault(instance.series_uid, []).append((part, instance))
        patients.add(patient_key(instance))
    if not groups:
        raise BadInput("expected DICOM images here, found none")
    if len({key[0] for key in patients}) > 1 or len({key[1] for key in patients}) > 1:
        raise BadInput(
            f"images of {len(patients)} patients in one place; separate them before anything is "
            "computed"
        )
    series, skipped = [], []
    for uid, group in sorted(groups.items(), key=lambda entry: _order(entry[1][0][1])):
        label = f"series {text(group[0][1].header, 'SeriesNumber') or '?'} ({len(group)} files)"
        reason = _unfit([instance for _, instance in group])
        if reason:
            skipped.append(f"{label}: {reason}")
        else:
            series.append(_series(path, uid, group))
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


def _series(path: Path, uid: str, group: list[tuple[Part, Instance]]) -> Series:
    kept: dict[tuple[str, str], tuple[Part, Instance]] = {}
    for part, instance in group:
        kept.setdefault((instance.sop_uid, instance.sha256), (part, instance))
    digits = "".join(c for c in text(group[0][1].header, "SeriesNumber") if c.isdigit())[:8]
    token = hashlib.sha256(uid.encode()).hexdigest()[:8]
    return Series(
        path=path,
        name=f"series-{digits or '0'}-{token}",
        uid=uid,
        parts=tuple(part for part, _ in kept.values()),
        instances=tuple(instance for _, instance in kept.values()),
        repeats=len(group) - len(kept),
    )


def _unfit(instances: list[Instance]) -> str | None:
    """Why a series is not for enhancing, or None."""
    if any(is_synthetic(instance) for instance in instances):
        return "computed by lohi-edge already; the acquired series is what to enhance"
    first = instances[0]
    modality = text(first.header, "Modality")
    if first.sop_class.startswith(uids.SecondaryCaptureImageStorage):
        return "a secondary capture, not a scan"
    if modality != "MR" or first.sop_class not in (MR_IMAGE, *ENHANCED):
        kind = modality if modality.isalpha() and len(modality) <= 8 else "something else"
        return f"not an MR image ({kind}, {uids.UID(first.sop_class).name[:40]})"
    if any(is_localizer(instance) for instance in instances):
        return "a localizer"
    if all("PHASE MAP" in texts(i.header, "ImageType") for i in instances):
        return "phase images, not magnitude"
    return None


def _order(instance: Instance) -> tuple[int, str]:
    digits = text(instance.header, "SeriesNumber")
    return (int(digits) if digits.isdigit() and len(digits) < 10 else 0), instance.series_uid
