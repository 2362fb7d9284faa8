"""JSON files that people write and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lohi_edge.errors import UsageError
from lohi_edge.files import atomic_write, make_directory


def read_options(path: Path) -> dict[str, Any]:
    """Settings from a JSON file.

    Raises:
        UsageError: not a JSON object.
    """
    try:
        options = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON file with settings: {error}") from None
    if not isinstance(options, dict):
        raise UsageError(f'{path}: expected a JSON object such as {{"model": "cgan"}}')
    return options


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all.

    Raises:
        ValueError: a NaN or infinity in it, for which JSON has no word.
        DiskError: the disk would not take it.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    make_directory(path.parent)
    with atomic_write(path) as file:
        file.write(text.encode())
