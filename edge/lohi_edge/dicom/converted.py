"""DICOM attributes as converters write them into BIDS sidecars."""

from __future__ import annotations

from typing import Any

from lohi_edge.dicom.instance import MAKER, SYNTHETIC_PREFIX, SYNTHETIC_TYPE


def says_synthetic(sidecar: dict[str, Any]) -> bool:
    """Whether an image was converted from a series that this package derived."""
    kinds = sidecar.get("ImageType")
    return (
        SYNTHETIC_TYPE in (kinds if isinstance(kinds, list) else [])
        or str(sidecar.get("SeriesDescription")).startswith(SYNTHETIC_PREFIX)
        or sidecar.get("ManufacturersModelName") == MAKER
    )
