"""active.json: which installed bundle serves each contrast, and which did before."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, BundleError
from lohi_edge.files import read_bytes

SCHEMA = 1
_MAX = 1 << 20


@dataclass(frozen=True)
class Pointer:
    """active.json.

    Attributes:
        active: contrast -> folder name; a contrast without one is served by the shipped bundle.
        previous: `active` before the last switch; None where there is nothing to go back to.
        refused: folder name -> why it was not activated, or was rolled back.
    """

    active: dict[str, str] = field(default_factory=dict)
    previous: dict[str, str] | None = None
    refused: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """What `read` reads."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"


def read(path: Path) -> Pointer:
    """The pointer in a file; the default where there is none, for nothing was installed yet.

    Raises:
        BundleError: the file is there and makes no sense, or may not be read.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return Pointer()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    try:
        values = json.loads(read_bytes(path, _MAX))
        if values.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        pointer = Pointer(**values)
        for names in (pointer.active, pointer.previous or {}):
            for contrast, name in names.items():
                if contrast not in CONTRASTS or name != Path(name).name:
                    raise ValueError(f"{contrast}: {name}")
    except (BadInput, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path}: cannot be used: {error}; remove it to go back to the bundles that ship, "
            "then activate again"
        ) from None
    return pointer
