"""A journal of costly steps, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lohi_edge.files import atomic_write

SCHEMA = 1


class Journal:
    """Results of named steps in one JSON file, valid for one `key` (what they depend on)."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._state: dict[str, Any] = {"schema": SCHEMA, "key": key, "steps": {}}
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return  # nothing there, or not ours: the steps are simply done again
        if (
            isinstance(found, dict)
            and (found.get("schema"), found.get("key")) == (SCHEMA, key)
            and isinstance(found.get("steps"), dict)
        ):
            self._state = found

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """The JSON value of a step: what it was, else what `work` returns, on disk before use."""
        steps = self._state["steps"]
        if name not in steps:
            steps[name] = work()
            with atomic_write(self._path) as file:
                file.write(json.dumps(self._state, indent=1).encode())
        return steps[name]
