"""What a derived series says of itself in words: synthetic, and held where it is."""

from __future__ import annotations

from typing import Any

from lohi_edge.dicom.instance import SYNTHETIC_PREFIX

# dcm2niix keeps this much of a comment: a series that it converted is refused as a scan by that.
_IMAGE = "Synthetic 3 T-like image"
_COMPUTED = (
    "computed from a low-field scan by a generative neural network. "
    "Not acquired. Research use only, NOT FOR DIAGNOSTIC USE."
)
DESCRIPTION = f"{_IMAGE} {_COMPUTED}"


def is_held(record: dict[str, Any]) -> bool:
    """Whether the quality check held back the result that a receipt is about."""
    return bool(record["verdict"] == "hold")


def series_description(record: dict[str, Any], kind: str = "") -> str:
    """SeriesDescription, at most 64 characters; `kind`: of what, where that is no image."""
    held = "HELD" if is_held(record) else ""
    what = (SYNTHETIC_PREFIX, held, record["contrast"]["name"], kind, "NOT FOR DIAGNOSTIC USE")
    return " ".join(filter(None, what))


def comment(record: dict[str, Any]) -> str:
    """ImageComments: what the image is."""
    return f"{_IMAGE}, HELD BY QUALITY CHECK, {_COMPUTED}" if is_held(record) else DESCRIPTION


def derivation(record: dict[str, Any]) -> str:
    """DerivationDescription, at most 1024 characters: the comment, and what computed the image."""
    bundle = record["bundle"]
    return (
        f"{comment(record)} lohi-edge {record['software']['lohi-edge']}, model {bundle['name']} "
        f"{bundle['version']}, {record['precision']}, {record['runtime']['name']}"
    )[:1024]
