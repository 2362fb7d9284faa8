"""Which contrast a scan has, and which rule decided."""

from __future__ import annotations

import re
from typing import Any

from lohi_edge.bundle import CONTRASTS
from lohi_edge.quality.recognise import recognise
from lohi_edge.quality.scan import lay_out
from lohi_edge.volume import Volume

HEAD = 0.0  # the recogniser's score above which a volume shows an upright head

_SUFFIX = re.compile(r"_(T1w|T2w|FLAIR)$")
_WORDS = {
    "FLAIR": re.compile(r"(?<![A-Za-z])FLAIR", re.IGNORECASE),
    "T1w": re.compile(r"(?<![A-Za-z])T1", re.IGNORECASE),
    "T2w": re.compile(r"(?<![A-Za-z])T2(?!\*|[ _-]?star)", re.IGNORECASE),
}
_SIDECAR_KEYS = ("SeriesDescription", "ProtocolName")


def decide(
    asked: str | None,
    stem: str,
    sidecar: dict[str, Any] | None,
    fine: Volume | None = None,
) -> tuple[str, str]:
    """The contrast of a scan and the rule that decided it, in words.

    In this order: what was asked for; the BIDS suffix of the file name; the sidecar's
    SeriesDescription or ProtocolName; what the image at 1 mm, `fine`, looks like, where it looks
    like a head; T1w.
    """
    if asked:
        return asked, "given with --contrast or enhance.contrast"
    if found := _SUFFIX.search(stem):
        return found.group(1), f"BIDS suffix _{found.group(1)} of the file name"
    for key in _SIDECAR_KEYS:
        text = (sidecar or {}).get(key)
        if isinstance(text, str):
            for name in ("T1w", "FLAIR", "T2w"):  # "T2 FLAIR" is a FLAIR, "T1 FLAIR" a T1w
                if _WORDS[name].search(text):
                    return name, f"{key} in the sidecar"
    if fine is not None and (seen := _recognised(fine)):
        return seen, f"nothing names it: recognised as {seen} from the image"
    return CONTRASTS[0], f"nothing names it: assumed {CONTRASTS[0]}"


def unnamed(asked: str | None, stem: str, sidecar: dict[str, Any] | None) -> bool:
    """Whether only the image itself can tell."""
    return decide(asked, stem, sidecar)[1].startswith("nothing names it")


def _recognised(fine: Volume) -> str | None:
    """The contrast that the recogniser sees, or None where it sees no head."""
    scan = lay_out(fine, fine)
    seen = recognise(scan.work, scan.head)
    return seen.contrast if seen.head > HEAD else None
