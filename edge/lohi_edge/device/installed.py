"""Which bundle serves a contrast on this device: the active one, else the one that ships."""

from __future__ import annotations

from pathlib import Path

from lohi_edge import bundle as bundles
from lohi_edge.device.library import Library
from lohi_edge.errors import BundleError, UsageError


def resolve(contrast: str) -> Path:
    """The bundle that serves a contrast here: the active one, else the one that ships.

    Raises:
        BundleError: there is none.
    """
    return Library().active(contrast) or bundles.shipped(contrast)


def fall_back(bundle: Path, why: str) -> dict[str, str] | None:
    """Where an installed bundle is no good: serve its contrasts by others, and refuse it.

    Returns:
        What is active now; None where the bundle is none of those installed here, and nothing can
        be done.

    Raises:
        BundleError: what would serve instead is no good either; nothing was switched.
        UsageError: the installed bundles cannot be changed now, or not by this user.
    """
    library = Library()
    if bundle.parent != library.root:
        return None
    try:
        with library.locked():
            active = library.pointer().active
            if bundle.name not in active.values():
                return active  # another command was sooner
            return library.retire(bundle, why)
    except (BundleError, UsageError) as worse:
        raise type(worse)(f"{why}; nor can be gone back: {worse}") from None


def is_active(path: Path) -> bool:
    """Whether this is a bundle that was checked and activated on this device."""
    library = Library()
    return path in {library.root / name for name in library.pointer().active.values()}
