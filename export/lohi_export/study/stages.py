"""Results of a study's stages on disk: written whole, used again only while their inputs hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lohi_export.json_files import write_json

Result = dict[str, Any]


def digest(inputs: Any) -> str:
    """sha256 of what JSON says of a value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


class Stages:
    """Stages of a study by name, one JSON file each; a killed study finds what it had finished."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def kept(self, name: str, inputs: Any) -> Result | None:
        """A stage's result from these very inputs, or None."""
        try:
            stored = json.loads(self._path(name).read_text())
            found: Result = stored["result"]
            whole = stored["inputs"] == digest(inputs) and stored["sha256"] == digest(found)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if whole else None

    def get(self, name: str, inputs: Any, compute: Callable[[], Result]) -> Result:
        """A stage's result: kept, or computed and kept.

        Raises:
            DiskError: it cannot be written.
        """
        if (found := self.kept(name, inputs)) is not None:
            return found
        # What comes out of JSON is what a later run will read.
        result: Result = json.loads(json.dumps(compute()))
        stored = {"inputs": digest(inputs), "sha256": digest(result), "result": result}
        write_json(self._path(name), stored)
        return result

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"
