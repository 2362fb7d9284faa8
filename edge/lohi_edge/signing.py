"""Who made a bundle: an Ed25519 signature over its manifest, and through it over every file.

The signature (RFC 8032, 64 bytes, `manifest.sig`) covers the very bytes of manifest.json. A device
is configured by putting public keys into its key folder; from then on it runs only bundles that
one of them signed, and none older than it ran before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lohi_edge.bundle import MANIFEST, MAX_MANIFEST, SIGNATURE, Bundle, is_shipped
from lohi_edge.errors import BadInput, BundleError, ModelFault, UsageError
from lohi_edge.files import atomic_write, disk_error, read_bytes, sha256
from lohi_edge.store import Store, digest

# cryptography is imported where it is needed: most runs check no signature, and it takes time.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KEYS = "LOHI_EDGE_KEYS"
SERIALS = "LOHI_EDGE_SERIALS"
DEFAULT_KEYS = Path("/etc/lohi-edge/keys")
KEY_REMEDY = "repair this file or remove it"
_CONTEXT = b"lohi-edge bundle manifest v1\n"  # a signature made for anything else does not count
_MAX_KEY = 1 << 14


class KeyUnusable(BundleError):
    """A public key that cannot be read, or is none."""


def keygen(stem: Path) -> tuple[Path, Path]:
    """Write a new key pair: STEM.key (mode 0600) and STEM.pub; returns both paths.

    Raises:
        UsageError: either file is there already, or the stem names a folder.
        DiskError: they cannot be written; neither is left.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not stem.name:
        raise UsageError(f"expected a stem such as maker, got {str(stem)!r}")
    private, public = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shared = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made: list[Path] = []
    try:
        for path, data, mode in ((public, shared, 0o644), (private, secret, 0o600)):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        for half in made:
            half.unlink()
        if isinstance(error, FileExistsError):
            raise UsageError(f"{path} exists; keys are never replaced, choose another") from None
        raise disk_error(path, error) from None
    return private, public


def sign(folder: Path, key: Path) -> Path:
    """Sign a bundle directory with a private key; returns the signature's path.

    Raises:
        BundleError: no manifest there.
        UsageError: not an Ed25519 private key.
    """
    try:
        manifest = read_bytes(folder / MANIFEST, MAX_MANIFEST)
    except BadInput as error:
        raise BundleError(str(error)) from None
    signature = _private(key).sign(_CONTEXT + manifest)
    with atomic_write(folder / SIGNATURE) as file:
        file.write(signature)
    return folder / SIGNATURE


def verify(bundle: Bundle, key: Path) -> None:
    """Raises ModelFault unless the public key `key` signed the bundle."""
    _verify(bundle, [key])


def trusted_keys() -> list[Path]:
    """Public keys this device trusts: *.pub in LOHI_EDGE_KEYS, else in /etc/lohi-edge/keys.

    Raises:
        KeyUnusable: the folder is there but cannot be read: it may hold keys.
    """
    folder = Path(os.environ.get(KEYS) or DEFAULT_KEYS)
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".pub")
    except FileNotFoundError:
        return []
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise KeyUnusable(
            f"{folder}: the trusted keys cannot be read: {why}; let this user read them"
        ) from None


def admit(bundle: Bundle, allow_downgrade: bool = False, store: Store | None = None) -> str | None:
    """On a configured device: let a bundle in and remember its serial, or refuse it.

    As `screen`; an older serial that was allowed is remembered too.
    """
    signer = screen(bundle, allow_downgrade, store)
    if signer is None:
        return None
    store = store or Store()
    name, serial = bundle.manifest.name, bundle.manifest.serial
    if _seen_serial(name, store) != serial:
        path = _serial_path(name, store)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise disk_error(path.parent, error) from None
        store.write(path, {"name": name, "serial": serial})
    return signer


def screen(
    bundle: Bundle,
    allow_downgrade: bool = False,
    store: Store | None = None,
    back: str | None = None,
) -> str | None:
    """On a configured device: refuse a bundle that may not run here. Elsewhere: nothing.

    The bundle that ships inside this package is as trusted as the package's code.

    Args:
        allow_downgrade: accept an older serial than was accepted before.
        back: the command that goes back on purpose; None for `bundle verify`.

    Returns:
        The name of the key that signed it; None where none was asked for.

    Raises:
        KeyUnusable: a trusted key, or their folder; a bundle's own key may be the damaged one.
        ModelFault: unsigned, or signed by nobody trusted.
        BundleError: older than what ran here before.
    """
    if is_shipped(bundle.path):
        return None
    if not (keys := trusted_keys()):
        return None
    try:
        signer = _verify(bundle, keys)
    except KeyUnusable as error:
        raise KeyUnusable(f"{error}; it is among the trusted keys: {KEY_REMEDY}") from None
    name, serial = bundle.manifest.name, bundle.manifest.serial
    seen = _seen_serial(name, store or Store())
    if seen is not None and serial < seen and not allow_downgrade:
        back = back or f"lohi-edge bundle verify {bundle.path} --allow-downgrade"
        raise BundleError(
            f"{bundle.path}: expected serial {seen} or later of {name}, got {serial}; to "
            f"go back on purpose: {back}"
        )
    return signer.name


def _serial_path(name: str, store: Store) -> Path:
    """In LOHI_EDGE_SERIALS, for a daemon whose bundles are not active yet; else in the store."""
    return Path(os.environ.get(SERIALS) or store.root / "serials") / f"{digest(name)}.json"


def _seen_serial(name: str, store: Store) -> int | None:
    path = _serial_path(name, store)
    seen = store.read(path)
    if seen is None and path.exists():
        raise BundleError(f"{path}: this device's record of serials was altered; remove it by hand")
    return int(seen["serial"]) if seen else None


def _verify(bundle: Bundle, keys: list[Path]) -> Path:
    from cryptography.exceptions import InvalidSignature

    try:
        manifest = read_bytes(bundle.path / MANIFEST, MAX_MANIFEST)
        signature = read_bytes(bundle.path / SIGNATURE, 64)
    except BadInput:
        for path in keys:
            _public(path)  # where a key cannot be read, no bundle is to blame
        raise ModelFault(
            f"{bundle.path}: this bundle is not signed ({SIGNATURE}); sign it on the workstation "
            "with: lohi-export sign"
        ) from None
    if sha256(manifest) != bundle.sha256:
        raise ModelFault(f"{bundle.path}: the manifest changed while it was read")
    for path in keys:
        try:
            _public(path).verify(signature, _CONTEXT + manifest)
        except InvalidSignature:
            continue
        return path
    names = ", ".join(path.name for path in keys)
    raise ModelFault(
        f"{bundle.path}: not signed by any of {names}; it was altered, or made by somebody else"
    )


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_bytes(path, _MAX_KEY), None)
    except (BadInput, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: expected an Ed25519 private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: expected an Ed25519 private key, got another kind")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_bytes(path, _MAX_KEY))
    except (BadInput, ValueError, UnsupportedAlgorithm) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise KeyUnusable(f"{path}: expected an Ed25519 public key: {reason}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path}: expected an Ed25519 public key, got another kind")
    return key
