"""Writing a bundle directory: whole, and readable by the device, or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lohi_calibration.graph import load as load_onnx
from lohi_calibration.graph import macs
from lohi_edge import unfinished
from lohi_edge.bundle import MANIFEST, Manifest, load
from lohi_edge.errors import UsageError
from lohi_edge.files import (
    atomic_write,
    disk_error,
    fsync_directory,
    make_directory,
    require_place,
    sha256,
)
from lohi_export.json_files import write_json

_HERE = -100  # AT_FDCWD
_EXCHANGE = ctypes.c_uint(2)  # RENAME_EXCHANGE


def refuse_existing(out: Path) -> None:
    """Raises UsageError where something is in the way."""
    if out.exists():
        raise UsageError(f"{out} exists; expected a new directory, so remove it or name another")


def require_room(out: Path) -> None:
    """Ask, before long work, whether the bundle could be written as the new directory `out`.

    Raises:
        UsageError: something is in the way.
        DiskError: it cannot be written there.
    """
    refuse_existing(out)
    make_directory(out.absolute().parent)
    require_place(out)


def write(
    out: Path, files: Mapping[str, bytes], manifest: Manifest, over: bool = False
) -> Manifest:
    """Make the directory `out`; returns the manifest, to which hashes and `macs_per_slice` came.

    Args:
        over: replace the bundle that is there.

    Raises:
        BundleError: the device's reader refuses it.
        DiskError: the disk would not take it.
    """
    work = macs(load_onnx(files["fp32.onnx"]))
    manifest = replace(
        manifest,
        files={name: sha256(data) for name, data in files.items()},
        metrics={**manifest.metrics, "macs_per_slice": work},
    )
    out = out.resolve()  # of "." and of a link it is the folder itself that is replaced
    parent = out.parent
    make_directory(parent)
    unfinished.clear(out)
    try:
        with unfinished.folder(out) as folder:
            for name, data in files.items():
                with atomic_write(folder / name) as file:
                    file.write(data)
            write_json(folder / MANIFEST, manifest.to_dict())
            load(folder)
            folder.chmod(0o755)
            _put(folder, out, over)
            fsync_directory(parent)
    except OSError as error:
        raise disk_error(out, error) from None
    return manifest


def _put(folder: Path, out: Path, over: bool) -> None:
    """Give `folder` the name `out`; what was there is removed only once that is done."""
    if not over:
        folder.rename(out)
        return
    if _exchange(folder, out):
        return  # what was there goes with the name of `folder`
    old = folder.with_name(folder.name + ".old")
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)  # of Linux
    if swap is None:
        return False
    failed: int = swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    return not failed
