"""A derived series on disk: a folder that appears complete, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom import dcmwrite
from pydicom import uid as dicom_uids
from pydicom.dataset import Dataset, FileMetaDataset

from lohi_edge.dicom import uids
from lohi_edge.dicom.instance import text
from lohi_edge.errors import DiskError, UsageError
from lohi_edge.files import disk_error, fsync_directory, umask

_WRITERS = 16  # files fsynced at a time


def encoded(ds: Dataset) -> Dataset:
    """An instance made ready to be written in explicit little endian."""
    # With the encoding and character set it is going to be written in, raw elements stay raw.
    ds.set_original_encoding(False, True, ds._character_set)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = dicom_uids.ExplicitVRLittleEndian
    meta.ImplementationClassUID = uids.IMPLEMENTATION
    meta.ImplementationVersionName = "LOHI_EDGE"
    ds.file_meta = meta
    return ds


def write_folder(folder: Path, instances: list[Dataset]) -> None:
    """Every instance fsynced under a temporary folder, which then takes its name.

    Raises:
        DiskError: nothing was left behind.
        UsageError: an existing `folder` holds something else.
    """
    temporary: Path | None = None
    former: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
        places = [temporary / f"{text(ds, 'InstanceNumber'):0>5}.dcm" for ds in instances]
        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(_write_file, places, instances))
        temporary.chmod(0o777 & ~umask())
        fsync_directory(temporary)
        if folder.exists():
            _refuse_foreign(folder)
            # Moved aside whole: at no moment is half of it under its name.
            former = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
            folder.replace(former)
        temporary.replace(folder)
        temporary = None
        fsync_directory(folder.parent)
        if former is not None:
            shutil.rmtree(former)
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    if any(entry.suffix != ".dcm" or not entry.stem.isdigit() for entry in folder.iterdir()):
        raise UsageError(
            f"{folder}: expected nothing but a derived series to replace, found other files; "
            "move them or choose another folder with -o"
        )


def _write_file(path: Path, instance: Dataset) -> None:
    with path.open("xb") as file:
        dcmwrite(file, instance, enforce_file_format=True)  # a preamble of zeros
        file.flush()
        os.fsync(file.fileno())


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of a derived series' files.

    Raises:
        DiskError: a file cannot be read back.
    """
    whole = hashlib.sha256()
    try:
        for file in sorted(folder.iterdir()):
            whole.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise DiskError(f"{folder}: cannot be read back: {error.strerror}") from None
    return whole.hexdigest()
