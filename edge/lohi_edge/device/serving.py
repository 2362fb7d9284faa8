"""The bundles that serve on this device."""

from __future__ import annotations

from pathlib import Path

from lohi_edge import bundle as bundles
from lohi_edge.device.library import Library
from lohi_edge.errors import BundleError
from lohi_edge.settings import Settings


def in_use(settings: Settings, library: Library) -> list[Path]:
    """Their folders: the one of the settings, else of each contrast the active or the shipped one.

    Raises:
        BundleError: what is active cannot be read.
    """
    if settings.enhance.bundle:
        return [Path(settings.enhance.bundle)]
    library.pointer()  # where it cannot be read, this says so
    found = []
    for contrast in bundles.CONTRASTS:
        try:
            found.append(library.active(contrast) or bundles.shipped(contrast))
        except BundleError:
            continue  # no bundle for this contrast: a scan of it is told so
    return list(dict.fromkeys(found))
