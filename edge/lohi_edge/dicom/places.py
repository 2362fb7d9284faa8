"""Where DICOM instances come from: folders, zip archives, DICOMDIRs; every size bounded."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom

from lohi_edge.dicom.instance import DIRECTORY, items, quiet, text, texts
from lohi_edge.errors import BadInput
from lohi_edge.files import is_directory, is_file, may_be_file, read_bytes

MAX_FILES = 20_000
MAX_DIRECTORY = 64 << 20  # of a DICOMDIR: a record of as many files takes a kilobyte or so
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 4 << 30

_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Where an instance is stored: a file, or a member (by number) of a zip archive."""

    path: Path
    member: int | None = None

    @property
    def folder(self) -> Path:
        """Where it lies beside others: the archive, of a member."""
        return self.path.parent if self.member is None else self.path


def parts_of(path: Path) -> list[Part]:
    """The files of a folder, members of a zip archive, files listed in a DICOMDIR, or one file.

    Raises:
        BadInput: missing, damaged, or far more than a study.
    """
    if is_directory(path):
        return [Part(file) for file in _walk(path)]
    if not is_file(path):
        read_bytes(path, 0)  # says what it is instead
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise BadInput(f"cannot be opened: {(error.strerror or '').lower()}") from None
    if start[:4] == b"PK\x03\x04":
        return _zip_parts(path)
    if start[128:132] == b"DICM" and DIRECTORY.encode() in start:
        return _listed(path)
    return [Part(path)]


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
                entry = archive.infolist()[part.member]
                data = _member(archive, entry, MAX_FILE_BYTES + 1)
                if len(data) > MAX_FILE_BYTES:
                    raise BadInput(f"expected files of at most {MAX_FILE_BYTES:,} bytes in it")
            total += len(data)
            if total > MAX_TOTAL_BYTES:
                raise BadInput(f"more than {MAX_TOTAL_BYTES:,} bytes; name one series' folder")
            yield data
    except (zipfile.BadZipFile, OSError, IndexError):
        raise BadInput("damaged zip archive; copy it again") from None
    finally:
        if archive:
            archive.close()


def called(part: Part) -> str:
    """A part's path, that of an archive with the name of the member in it."""
    if part.member is None:
        return str(part.path)
    with zipfile.ZipFile(part.path) as archive:
        return f"{part.path}: {archive.infolist()[part.member].filename!r}"


def start_of(part: Part, size: int, archive: zipfile.ZipFile | None) -> tuple[bytes, bool]:
    """The first `size` bytes of a part, and whether they are all of it.

    Args:
        archive: the open archive of a member.

    Raises:
        OSError: the file cannot be read.
        BadInput: the member cannot be unpacked.
    """
    if part.member is None:
        fd = os.open(part.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
            data = file.read(size + 1)
    else:
        assert archive
        data = _member(archive, archive.infolist()[part.member], size + 1)
    return data[:size], len(data) <= size


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
    return [file for file in files if may_be_file(file)]


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


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int) -> bytes:
    """At most `size` bytes of a member."""
    if entry.flag_bits & 1:
        raise BadInput("the zip archive is encrypted; unpack it first")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The library inflates the others without a bound.
        raise BadInput("an uncommon compression in the zip archive; pack it again as a plain zip")
    try:
        with archive.open(entry) as file:
            return file.read(size)
    except _DAMAGED:
        raise BadInput("damaged zip archive; copy it again") from None


def _listed(path: Path) -> list[Part]:
    """The files that a DICOMDIR lists, all of which lie in its folder."""
    stored = io.BytesIO(read_bytes(path, MAX_DIRECTORY))
    with quiet("the DICOMDIR"):
        directory = pydicom.dcmread(stored)
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
    missing = sum(not is_file(file) for file in files)
    if missing:
        raise BadInput(f"{missing} of {len(files)} files in the DICOMDIR are missing; copy it all")
    return [Part(file) for file in dict.fromkeys(files)][: MAX_FILES + 1]
