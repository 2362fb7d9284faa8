"""AE titles: the names that DICOM nodes call each other by."""

from __future__ import annotations

import re

from lohi_edge.errors import UsageError

_TITLE = re.compile(r"(?! +$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE


def require_title(text: str) -> str:
    """The title itself.

    Raises:
        UsageError: it is none.
    """
    if not _TITLE.fullmatch(text):
        raise UsageError(
            f"expected an AE title of 1 to 16 ASCII characters without backslash, got {text!r}"
        )
    return text
