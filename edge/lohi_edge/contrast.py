"""Which contrast a scan has, and which rule decided."""

from __future__ import annotations

import re
from typing import Any

from lohi_edge.bundle import CONTRASTS

_SUFFIX = re.compile(r"_(T1w|T2w|FLAIR)$")
_WORDS = {
    "FLAIR": re.compile(r"(?<![A-Za-z])FLAIR", re.IGNORECASE),
    "T1w": re.compile(r"(?<![A-Za-z])T1", re.IGNORECASE),
    "T2w": re.compile(r"(?<![A-Za-z])T2(?!\*)", re.IGNORECASE),
}
_SIDECAR_KEYS = ("SeriesDescription", "ProtocolName")


def decide(asked: str | None, stem: str, sidecar: dict[str, Any] | None) -> tuple[str, str]:
    """The contrast of a scan and the rule that decided it, in words.

    In this order: what was asked for; the BIDS suffix of the file name; the sidecar's
    SeriesDescription or ProtocolName; T1w.
    """
    if asked:
        return asked, "given with --contrast"
    if found := _SUFFIX.search(stem):
        return found.group(1), f"BIDS suffix _{found.group(1)} of the file name"
    for key in _SIDECAR_KEYS:
        text = (sidecar or {}).get(key)
        if isinstance(text, str):
            for name in ("FLAIR", "T1w", "T2w"):  # "T2 FLAIR" is a FLAIR
                if _WORDS[name].search(text):
                    return name, f"{key} in the sidecar"
    return CONTRASTS[0], f"nothing names it: assumed {CONTRASTS[0]}"
