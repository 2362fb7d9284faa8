"""Bundles in one file: a .zip is unpacked into this machine's private store, or refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from lohi_edge.errors import BundleError
from lohi_edge.files import NOT_PERMITTED, disk_error, fsync_directory
from lohi_edge.manifest import FILE_NAME
from lohi_edge.store import Store

MAX_ENTRIES = 64
MAX_TOTAL = 1 << 30
_CHUNK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# ValueError: names that are no UTF-8.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError,
)  # fmt: skip


def unpack(path: Path, store: Store | None = None) -> Path:
    """The bundle directory that a zip file holds; unpacked once, found again afterwards.

    What lies in it is checked by `bundle.load` like any other bundle.

    Raises:
        BundleError: not permitted, not a zip, or one with folders, links, odd names, or too much.
        DiskError: the store cannot be written.
    """
    root = (store or Store()).root / "bundles"
    try:
        with path.open("rb") as file:
            name = _sha256(file)
            if (root / name).is_dir():
                return root / name
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                return _extract(archive, path, root, name)
    except _UNREADABLE as error:
        raise BundleError(
            f"{path}: expected a bundle directory or .zip: {error}; copy it again"
        ) from None
    except PermissionError:
        raise BundleError(f"{path}: {NOT_PERMITTED}") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None


def _extract(archive: zipfile.ZipFile, path: Path, root: Path, name: str) -> Path:
    entries = archive.infolist()
    _check(entries, path)
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=root))
    except OSError as error:
        raise disk_error(root, error) from None
    try:
        left = MAX_TOTAL
        for entry in entries:
            left -= _copy(archive, entry, folder / entry.filename, left, path)
        try:
            folder.rename(root / name)
        except OSError:
            if not (root / name).is_dir():  # another process was faster
                raise
        fsync_directory(root)
    except OSError as error:
        raise disk_error(root, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return root / name


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > MAX_ENTRIES:
        raise BundleError(f"{path}: expected at most {MAX_ENTRIES} files, got {len(names)}")
    if len(set(names)) < len(names):
        raise BundleError(f"{path}: holds two files of one name")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not FILE_NAME.fullmatch(entry.filename):
            raise BundleError(
                f"{path}: expected the files of one bundle without their folder, got "
                f"{entry.filename[:60]!r}; pack them with: zip -j {path.name} BUNDLE/*"
            )
        if kind not in (0, stat.S_IFREG):
            raise BundleError(f"{path}: expected regular files alone, {entry.filename} is none")
        if entry.flag_bits & 1 or entry.compress_type not in _METHODS:
            raise BundleError(f"{path}: {entry.filename} is encrypted or packed in an unknown way")
    total = sum(entry.file_size for entry in entries)
    if total > MAX_TOTAL:
        raise BundleError(f"{path}: expected at most {MAX_TOTAL:,} bytes inside, got {total:,}")


def _copy(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int, path: Path
) -> int:
    """Unpack one file of at most `left` bytes, whatever its header promises; its size."""
    size = 0
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > left:
                raise BundleError(f"{path}: holds more than {MAX_TOTAL:,} bytes")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size


def _sha256(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()
