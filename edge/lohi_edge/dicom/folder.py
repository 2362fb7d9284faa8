"""A derived series on disk: a folder that appears complete, or not at all."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from pydicom import dcmwrite
from pydicom import uid as dicom_uids
from pydicom.dataset import Dataset, FileMetaDataset

from lohi_edge.dicom import uids
from lohi_edge.dicom.instance import text
from lohi_edge.errors import DiskError, UsageError
from lohi_edge.files import disk_error, fsync_directory

_WRITERS = 16  # files fsynced at a time
_NEW, _FORMER = "new", "former"  # in the folder that one is written in


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
    """Every instance fsynced in a folder beside it, which then takes its name.

    Raises:
        DiskError: nothing was left behind.
        UsageError: an existing `folder` holds something else.
    """
    try:
        with _beside(folder) as place:
            new, former = place / _NEW, place / _FORMER
            new.mkdir()
            places = [new / f"{text(ds, 'InstanceNumber'):0>5}.dcm" for ds in instances]
            with ThreadPoolExecutor(_WRITERS) as pool:
                list(pool.map(_write_file, places, instances))
            fsync_directory(new)
            if folder.exists():
                _refuse_foreign(folder)
                # Moved aside whole: at no moment is half of it under its name.
                folder.replace(former)
            try:
                new.replace(folder)
            except OSError:
                _put_back(place, folder)
                raise
            fsync_directory(folder.parent)
    except OSError as error:
        raise disk_error(folder, error) from error


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder of this process's own beside another; those that dead processes left go first."""
    whole = hashlib.sha256(os.fsencode(folder.name)).hexdigest()
    prefix = f".{folder.name[:40]}.{whole[:8]}."
    for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
        if not any((left / name).exists() for name in (_NEW, _FORMER)):
            continue  # another process has only begun
        with suppress(FileNotFoundError), _locked(left) as dead:
            if dead:
                _put_back(left, folder)
                shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        with _locked(place):  # a process that is killed lets go
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(place: Path) -> Iterator[bool]:
    """Whether no other process has this folder."""
    held = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = True
    except OSError:
        mine = False  # or the file system has no locks
    try:
        yield mine
    finally:
        os.close(held)


def _put_back(place: Path, folder: Path) -> None:
    """What was moved aside for a folder that did not come."""
    if (place / _FORMER).exists() and not folder.exists():
        (place / _FORMER).replace(folder)


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
