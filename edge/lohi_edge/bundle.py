"""The model as shipped: a directory with a manifest, ONNX files and golden slices.

Everything in a bundle is data from outside. Nothing is used before its sha256 matches the
manifest, and the very bytes that were hashed are the bytes that are used.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lohi_edge.errors import BadInput, BundleError, ModelFault, OtherContrast
from lohi_edge.files import NOT_PERMITTED, is_directory, is_file, read_bytes, sha256
from lohi_edge.manifest import CONTRASTS, GOLDEN, INTENDED_USE, MANIFEST, Manifest
from lohi_edge.onnx_check import check_onnx
from lohi_edge.volume import Float32

__all__ = [
    "CONTRASTS",
    "GOLDEN",
    "INTENDED_USE",
    "MANIFEST",
    "MAX_FILE",
    "MAX_MANIFEST",
    "SIGNATURE",
    "Bundle",
    "Golden",
    "Manifest",
    "is_shipped",
    "load",
    "shipped",
]

SIGNATURE = "manifest.sig"
MAX_MANIFEST = 1 << 20
MAX_FILE = 512 << 20
_SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True, eq=False)
class Golden:
    """Slices with known answers: input (n, C, H, W); output, truth (n, 1, H, W); float32."""

    input: Float32
    output: Float32
    truth: Float32


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle on disk whose every file matched its manifest when it was loaded."""

    path: Path
    manifest: Manifest
    sha256: str  # of manifest.json, and through it of everything

    def read(self, name: str) -> bytes:
        """Bytes of one file of the manifest, hashed again.

        Raises:
            BundleError: not in the manifest, or not permitted.
            ModelFault: unreadable, or changed.
        """
        wanted = self.manifest.files.get(name)
        if wanted is None:
            have = ", ".join(sorted(self.manifest.files))
            raise BundleError(f"{self.path}: expected {name} in the bundle, it has {have}")
        data = _read(self.path / name, MAX_FILE)
        got = sha256(data)
        if got != wanted:
            raise ModelFault(
                f"{self.path / name}: expected sha256 {wanted[:12]}..., got {got[:12]}...; "
                "the bundle was altered or damaged, install it again"
            )
        return data

    def read_onnx(self, name: str) -> bytes:
        """Bytes of an ONNX file that holds nothing but what a generator is made of.

        Raises:
            BundleError, ModelFault: as `read`.
            ModelFault: operators, subgraphs or outside weights that are not allowed.
        """
        data = self.read(name)
        check_onnx(data, str(self.path / name))
        return data

    def golden(self) -> Golden:
        """The golden slices.

        Raises:
            ModelFault: arrays missing, empty, of other shapes than the slice contract's, or not
                finite.
        """
        contract = self.manifest.slice_contract
        data = self.read(GOLDEN)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_FILE:
                raise ValueError(f"expected at most {MAX_FILE:,} bytes inside, got {size:,}")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                golden = Golden(*(arrays[name] for name in ("input", "output", "truth")))
        except Exception as error:  # what numpy's parser of headers raises has no common base
            raise ModelFault(f"{self.path / GOLDEN}: unreadable golden slices: {error}") from error
        count = max(1, golden.input.shape[0] if golden.input.ndim else 0)
        for name, channels in (("input", contract.channels), ("output", 1), ("truth", 1)):
            array = getattr(golden, name)
            wanted = (count, channels, contract.height, contract.width)
            if array.shape != wanted or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ModelFault(
                    f"{self.path / GOLDEN}: expected finite float32 {wanted} in {name!r}, "
                    f"got {array.dtype} {array.shape}"
                )
        return golden


def load(path: str | Path) -> Bundle:
    """Open a bundle, a directory or a .zip, and check every file in it.

    Raises:
        BundleError: it may not be read.
        ModelFault: missing, malformed, damaged, or holding files its manifest does not name.
    """
    path = Path(path)
    if not is_file(path):
        return _checked(path)
    from lohi_edge.zipped import unpack

    folder = unpack(path)
    try:
        return _checked(folder)
    except BundleError as error:
        shutil.rmtree(folder, ignore_errors=True)  # up to a gigabyte, of no use to anybody
        raise type(error)(str(error).replace(str(folder), str(path))) from None


def _checked(path: Path) -> Bundle:
    if not is_directory(path):
        raise _no_bundle(path)
    manifest, digest = read_manifest(path)
    try:
        found = {entry.name for entry in path.iterdir()}
    except OSError as error:  # removed by another command, or a stick pulled out
        raise _unreadable(path, error) from None
    extra = found - {MANIFEST, SIGNATURE, *manifest.files}
    if extra:
        raise ModelFault(f"{path}: holds files its manifest does not name: {sorted(extra)[:5]}")
    bundle = Bundle(path, manifest, digest)
    for name in manifest.files:
        bundle.read(name)
    return bundle


def _no_bundle(path: Path) -> BundleError:
    """Why a path is no folder; one that may not be looked at may be a bundle, zipped or not."""
    try:
        path.stat()
    except PermissionError as error:
        return _unreadable(path, error)
    except OSError:
        pass  # nothing is there
    return ModelFault(f"{path}: expected a bundle directory; see `lohi-edge bundle --help`")


def read_manifest(path: Path) -> tuple[Manifest, str]:
    """(manifest, its sha256) of a bundle's directory, whose other files are not looked at.

    Raises:
        BundleError: it may not be read.
        ModelFault: missing or malformed.
    """
    raw = _read(path / MANIFEST, MAX_MANIFEST)
    try:
        return Manifest.from_dict(json.loads(raw)), sha256(raw)
    except (ValueError, RecursionError) as error:
        raise ModelFault(f"{path / MANIFEST}: not JSON: {error}") from None
    except BundleError as error:
        raise ModelFault(f"{path}: {error}") from None


def require_contrast(path: Path, manifest: Manifest, contrast: str) -> None:
    """Refuse scans of a contrast that the bundle in `path` was not made for.

    Raises:
        OtherContrast: says which it was made for.
    """
    served = manifest.contrasts
    if contrast not in served:
        raise OtherContrast(
            f"{path}: this bundle enhances {', '.join(served)}, the scan is {contrast}; name "
            "another (--bundle, enhance.bundle), or the scan's true contrast with --contrast"
        )


def all_shipped() -> list[Path]:
    """Directories of the bundles in this package."""
    return sorted(_SHIPPED.glob("*-edge"))


def shipped(contrast: str) -> Path:
    """Directory of the bundle in this package that serves a contrast.

    Raises:
        BundleError: none does.
    """
    path = _SHIPPED / f"{contrast.lower()}-edge"
    if not path.is_dir():
        have = ", ".join(p.name for p in all_shipped()) or "none"
        raise BundleError(
            f"no bundle for {contrast} comes with this installation (it has: {have}); "
            "name one with --bundle"
        )
    return path


def is_shipped(path: Path) -> bool:
    """Whether a bundle is one of those inside this package."""
    return path.resolve().is_relative_to(_SHIPPED.resolve())


def _read(path: Path, limit: int) -> bytes:
    try:
        if stat.S_ISLNK(path.lstat().st_mode):
            raise ModelFault(f"{path}: expected a regular file, got a link")
        if (size := path.lstat().st_size) > limit:
            raise ModelFault(f"{path}: expected at most {limit:,} bytes, got {size:,}")
        return read_bytes(path, limit)
    except FileNotFoundError:
        raise ModelFault(f"{path}: missing from the bundle; install it again") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except BadInput as error:
        kind = ModelFault if os.access(path, os.R_OK) else BundleError
        raise kind(str(error)) from None


def _unreadable(path: Path, error: OSError) -> BundleError:
    """What may not be read may be whole; what cannot be read, by whomever, is not."""
    if isinstance(error, PermissionError):
        return BundleError(f"{path}: {NOT_PERMITTED}")
    return ModelFault(f"{path}: cannot be read: {(error.strerror or '').lower()}")
