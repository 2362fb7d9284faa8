"""The inbox a receiver began with, told from the bare folder that is left when its mount goes."""

from __future__ import annotations

import secrets
from pathlib import Path

from lohi_edge.files import disk_error, make_directory

# Hidden, so that neither the daemon nor `enhance` looks into it; a folder, as it is made at once
# or not at all on every file system. It stays: other receivers into this inbox know it by it too.
_PREFIX = ".lohi-edge-here-"


class Here:
    """An inbox, known again by a hidden folder whose name nothing else bears.

    Args:
        inbox: made where it is not there.
        mark: by which an earlier receiver of this service knew it; None to begin with what is
            there.

    Attributes:
        mark: by which it is known.

    Raises:
        DiskError: it cannot be marked.
    """

    def __init__(self, inbox: Path, mark: str | None = None) -> None:
        self._inbox = inbox
        self.mark = mark or self._begin()

    def is_there(self) -> bool:
        """Whether this is still the folder begun with, not a bare mount point."""
        return (self._inbox / self.mark).is_dir()

    def _begin(self) -> str:
        make_directory(self._inbox)
        try:
            marks = sorted(path.name for path in self._inbox.glob(f"{_PREFIX}*"))
            if not marks:
                marks = [f"{_PREFIX}{secrets.token_hex(8)}"]
                (self._inbox / marks[0]).mkdir()
        except OSError as error:
            raise disk_error(self._inbox, error) from None
        return marks[0]
