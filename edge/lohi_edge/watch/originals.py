"""Originals leave the inbox: moved or deleted, on disk, and never one over another."""

from __future__ import annotations

import errno
import filecmp
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.files import disk_error, fsync_directory, is_directory, make_directory
from lohi_edge.watch.names import remove
from lohi_edge.watch.sidecars import is_shared, sidecar_of

COARSE_NS = 2_000_000_000  # some file systems keep times to two seconds only


def home(target: Path, original: Path, mark: str, shares: bool = False) -> Path:
    """Where a scan's original goes, or went: the first of the target's numbers that is free.

    Free for its sidecar as well, which goes with it: two scans may have come under one name. A
    sidecar does not go beside x.nii where its own scan is x.nii.gz, unless it is there already.

    Args:
        target: in the outbox.
        original: in the inbox, where it may be no more.
        mark: of the original there.
        shares: two scans may have one sidecar there as here: none of them comes back alone.
    """
    if not os.path.lexists(original):
        return find(target, mark) or target
    beside = sidecar_of(original)
    paired = os.path.lexists(beside)
    return next(
        name
        for name in _numbered(target)
        if _fits(original, name)
        and _fits(beside, sidecar_of(name))
        and not (paired and is_shared(name) and not (shares and _same(beside, sidecar_of(name))))
    )


def find(target: Path, mark: str) -> Path | None:
    """Which file, of those that a target's numbers name, is the scan with this mark in the inbox.

    By size and time, which moving and copying keep.
    """
    try:
        size, changed = map(int, mark.partition("+")[0].split(":")[-3:-1])
    except ValueError:
        return None
    pattern = re.compile(re.escape(nifti.stem(target)) + r"(-\d+)?" + re.escape(_suffix(target)))
    try:
        found = [entry for entry in os.scandir(target.parent) if pattern.fullmatch(entry.name)]
    except OSError:
        return None
    distance = {
        Path(entry.path): abs(status.st_mtime_ns - changed)
        for entry in found
        if (status := entry.stat(follow_symlinks=False)).st_size == size
    }
    nearest = min(distance, key=lambda path: distance[path], default=None)
    return nearest if nearest and distance[nearest] <= COARSE_NS else None


def take(original: Path, target: Path, root: Path, staging: Path, copy: bool = False) -> Path:
    """Move an original out of the inbox; a name that another file has gets a number.

    Args:
        copy: leave it in the inbox as well.
        root: of the outbox, which lasts; folders below it are made as needed.
        staging: for a copy, where the two are on different file systems.

    Raises:
        DiskError: the original is where it was.
    """
    make_durable(target.parent, root)
    final = next(name for name in _numbered(target) if _fits(original, name))
    try:
        if copy:
            _copy(original, final, staging)
        elif not _renamed(original, final):
            _copy(original, final, staging)
            remove(original)
        fsync_directory(final.parent)
        fsync_directory(original.parent)
    except OSError as error:
        raise disk_error(final, error) from None
    return final


def destroy(original: Path, root: Path, staging: Path) -> None:
    """Delete an original; of a folder, all at once.

    Raises:
        DiskError: it is where it was.
    """
    try:
        if original.is_dir():
            going = take(original, staging / "going", root, staging)
            shutil.rmtree(going)
        else:
            original.unlink()
        fsync_directory(original.parent)
    except OSError as error:
        raise disk_error(original, error) from None


def _renamed(original: Path, final: Path) -> bool:
    """Whether it could be; False between file systems."""
    try:
        original.replace(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(original: Path, final: Path, staging: Path) -> None:
    # What is brought back is staged in the inbox, where listings pass over names with a dot.
    near = staging.stat().st_dev == final.parent.stat().st_dev
    staged = staging / "original" if near else final.with_name(".lohi-edge-original")
    remove(staged)
    if original.is_dir():
        shutil.copytree(original, staged)
    else:
        shutil.copy2(original, staged)
    for path in (*staged.rglob("*"), staged):
        _fsync(path)
    staged.rename(final)
    fsync_directory(final.parent)


def make_durable(folder: Path, root: Path) -> None:
    """Create a folder below root so that a power cut cannot take it away again.

    Raises:
        DiskError: it cannot be made, or looked at.
    """
    missing = []
    while not is_directory(folder) and folder != root:
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        make_directory(one)
        try:
            fsync_directory(one.parent)
        except OSError as error:
            raise disk_error(one, error) from None


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _numbered(target: Path) -> Iterator[Path]:
    """The target, then with the numbers 2, 3, ..."""
    yield target
    for number in itertools.count(2):
        yield target.with_name(f"{nifti.stem(target)}-{number}{_suffix(target)}")


def _suffix(target: Path) -> str:
    return target.name[len(nifti.stem(target)) :]


def _fits(original: Path, final: Path) -> bool:
    # The same is there where a power cut came between copying and removing.
    return not os.path.lexists(final) or _same(original, final)


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
