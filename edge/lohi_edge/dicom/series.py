"""What is in a folder, archive, DICOMDIR or file: the series of one patient."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom import uid as uids

from lohi_edge.dicom.geometry import Frame, frames, stack
from lohi_edge.dicom.instance import (
    DIRECTORY,
    ENHANCED,
    MR_IMAGE,
    Instance,
    is_localizer,
    is_synthetic,
    items,
    looks_like_dicom,
    parse,
    patient_key,
    quiet,
    text,
    texts,
)
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes

MAX_FILES = 20_000
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 4 << 30


@dataclass(frozen=True)
class Part:
    """Where an instance is stored: a file, or a member (by number) of a zip archive."""

    path: Path
    member: int | None = None


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


def contents(parts: Sequence[Part]) -> Iterator[bytes]:
    """The stored bytes of each part, in order.

    Raises:
        BadInput: a part cannot be read, or they are too many bytes together.
    """
    total = 0
    archive: zipfile.ZipFile | None = None
    try:
        for part in parts:
            if part.member is None:
                data = read_bytes(part.path, MAX_FILE_BYTES)
            else:
                archive = archive or zipfile.ZipFile(part.path)
                data = _member(archive, archive.infolist()[part.member])
            total += len(data)
            if total > MAX_TOTAL_BYTES:
                raise BadInput(f"more than {MAX_TOTAL_BYTES:,} bytes; name one series' folder")
            yield data
    except (zipfile.BadZipFile, OSError, IndexError):
        raise BadInput("damaged zip archive; copy it again") from None
    finally:
        if archive:
            archive.close()


def _find(path: Path) -> Found:
    parts = _parts(path)
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


def _parts(path: Path) -> list[Part]:
    if path.is_dir():
        return [Part(file) for file in _walk(path)]
    start = read_bytes(path, MAX_TOTAL_BYTES)[:1024]
    if start[:4] == b"PK\x03\x04":
        return _zip_parts(path)
    if start[128:132] == b"DICM" and DIRECTORY.encode() in start:
        return _listed(path)
    return [Part(path)]


def _walk(folder: Path) -> list[Path]:
    """Regular files below a folder, links to folders not followed, dot-names left out."""
    files: list[Path] = []

    def refuse(error: OSError) -> None:
        raise BadInput(f"a folder cannot be listed: {(error.strerror or '').lower()}") from None

    for root, names, leaves in os.walk(folder, onerror=refuse):
        names[:] = sorted(name for name in names if not name.startswith("."))
        files.extend(Path(root, leaf) for leaf in sorted(leaves) if not leaf.startswith("."))
        if len(files) > MAX_FILES:
            raise BadInput(f"more than {MAX_FILES:,} files; name one study's folder")
    return [file for file in files if file.is_file()]


def _zip_parts(path: Path) -> list[Part]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise BadInput("damaged zip archive; copy it again") from None
    wanted = [i for i, entry in enumerate(entries) if not entry.is_dir()]
    if len(wanted) > MAX_FILES:
        raise BadInput(f"more than {MAX_FILES:,} files; pack one study only")
    if sum(entries[i].file_size for i in wanted) > MAX_TOTAL_BYTES:
        raise BadInput(f"unpacks to more than {MAX_TOTAL_BYTES:,} bytes; pack one study only")
    return [Part(path, i) for i in wanted]


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.flag_bits & 1:
        raise BadInput("the zip archive is encrypted; unpack it first")
    try:
        with archive.open(entry) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        raise BadInput("damaged zip archive; copy it again") from None
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"expected files of at most {MAX_FILE_BYTES:,} bytes in the zip archive")
    return data


def _listed(path: Path) -> list[Part]:
    """The files that a DICOMDIR lists, all of which lie in its folder."""
    with quiet("the DICOMDIR"):
        directory = pydicom.dcmread(path)
    root = path.parent.resolve()
    files = []
    for record in items(directory, "DirectoryRecordSequence"):
        if text(record, "DirectoryRecordType") != "IMAGE":
            continue
        file = root.joinpath(*texts(record, "ReferencedFileID"))
        if not file.resolve().is_relative_to(root):
            raise BadInput("the DICOMDIR points outside its folder; export the disc again")
        files.append(file)
    if not files:
        raise BadInput("the DICOMDIR lists no images")
    missing = sum(not file.is_file() for file in files)
    if missing:
        raise BadInput(f"{missing} of {len(files)} files in the DICOMDIR are missing; copy it all")
    return [Part(file) for file in dict.fromkeys(files)][: MAX_FILES + 1]
