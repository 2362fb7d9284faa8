"""Originals leave the inbox: moved or deleted, on disk, and never one over another."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from pathlib import Path

from lohi_edge import nifti
from lohi_edge.files import disk_error, fsync_directory, make_directory
from lohi_edge.watch.names import remove


def take(original: Path, target: Path, root: Path, staging: Path) -> Path:
    """Move an original out of the inbox; a name that another file has gets a number.

    Args:
        root: of the outbox, which lasts; folders below it are made as needed.
        staging: for a copy, where the two are on different file systems.

    Raises:
        DiskError: the original is where it was.
    """
    make_durable(target.parent, root)
    final, number = target, 1
    while os.path.lexists(final):
        if _same(original, final):  # a power cut came between copying and removing
            break
        number += 1
        stem = nifti.stem(target)
        final = target.with_name(f"{stem}-{number}{target.name[len(stem) :]}")
    try:
        try:
            original.replace(final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_over(original, final, staging)
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


def _copy_over(original: Path, final: Path, staging: Path) -> None:
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
    remove(original)


def make_durable(folder: Path, root: Path) -> None:
    """Create a folder below root so that a power cut cannot take it away again."""
    missing = []
    while not folder.is_dir() and folder != root:
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


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
