"""Folders of bundles: put in, taken out and swept, each whole or not at all.

What is half there has a name that begins with a dot, which no reader looks at.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lohi_edge import bundle as bundles
from lohi_edge.bundle import MANIFEST, MAX_MANIFEST, SIGNATURE, Bundle
from lohi_edge.errors import BundleError
from lohi_edge.files import atomic_write, disk_error, fsync_directory, read_bytes, sha256
from lohi_edge.watch import faults

READABLE = 0o644  # whoever may run lohi-edge here uses the same bundles
_INCOMING = ".incoming-"
_REMOVED = ".removed-"


def put(root: Path, bundle: Bundle) -> Path:
    """Copy a checked bundle into `root`, whole or not at all; returns its folder.

    One that is there is kept while it is whole, and replaced where it was damaged.

    Raises:
        BundleError: it changed while it was copied.
        DiskError: it cannot be written.
    """
    path = root / _folder_name(bundle)
    if path.is_dir():
        try:
            bundles.load(path)
            return path
        except BundleError:
            _hide(path)
    try:
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=root))
    except OSError as error:
        raise disk_error(root, error) from None
    try:
        for name, data in _contents(bundle):
            with atomic_write(incoming / name, READABLE) as file:
                file.write(data)
        incoming.chmod(0o755)
        incoming.rename(path)
        fsync_directory(root)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return path


def remove(folder: Path) -> None:
    """Remove a bundle's folder: by one rename it is gone, its bytes are freed after that.

    Raises:
        DiskError: it cannot be renamed, or not all of its bytes can be freed.
    """
    hidden = _hide(folder)
    faults.reach("bundle_hidden")
    try:
        shutil.rmtree(hidden)
    except OSError as error:
        raise disk_error(folder, error) from None


def sweep(root: Path) -> None:
    """Clear away what an interrupted `put` or `remove` left."""
    for prefix in (_INCOMING, _REMOVED):
        for left in root.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)


def _hide(folder: Path) -> Path:
    """Put a bundle's folder out of sight, where the next change sweeps it away."""
    hidden = folder.with_name(f"{_REMOVED}{folder.name}")
    try:
        folder.rename(hidden)
        fsync_directory(folder.parent)
    except OSError as error:
        raise disk_error(folder, error) from None
    return hidden


def _folder_name(bundle: Bundle) -> str:
    manifest = bundle.manifest
    slug = re.sub(r"[^A-Za-z0-9]+", "-", manifest.name).strip("-").lower() or "bundle"
    return f"{slug}-{manifest.serial}-{bundle.sha256[:8]}"


def _contents(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    manifest = read_bytes(bundle.path / MANIFEST, MAX_MANIFEST)
    if sha256(manifest) != bundle.sha256:
        raise BundleError(f"{bundle.path}: the manifest changed while it was read")
    for name in bundle.manifest.files:
        yield name, bundle.read(name)
    if (bundle.path / SIGNATURE).exists():
        yield SIGNATURE, read_bytes(bundle.path / SIGNATURE, 64)
    yield MANIFEST, manifest
