"""One folder, one study: what its report is of, kept beside it, and compared before the next."""

from __future__ import annotations

import json
import os
from typing import Any

from lohi_edge.errors import UsageError
from lohi_export.json_files import read_options, write_json
from lohi_export.study.config import StudyConfig

RECORD = "study.json"


def keep(config: StudyConfig) -> None:
    """Write down what study the folder's report is of.

    Raises:
        DiskError: it cannot be written.
    """
    write_json(config.out / RECORD, _identity(config))


def refuse_another(config: StudyConfig) -> None:
    """Raises UsageError where the folder holds another study's report, which would be replaced.

    The same study may get more models, and other options of training and measuring.
    """
    path = config.out / RECORD
    if not path.is_file():
        return
    had, now = read_options(path), _identity(config)
    others = [
        f"{name} is {json.dumps(now[name])}, there {json.dumps(had.get(name))}"
        for name in now
        if name != "models" and now[name] != had.get(name)
    ]
    if lost := [model for model in had.get("models", []) if model not in now["models"]]:
        others.append(f"models lacks {', '.join(map(str, lost))}")
    if others:
        raise UsageError(
            f"{config.out} holds the report of another study, which this one would replace: "
            f"{'; '.join(others)}; name another out"
        )


def _identity(config: StudyConfig) -> dict[str, Any]:
    """Data as seen from the folder: both may be moved together."""
    return {
        "data": os.path.relpath(config.data.resolve(), config.out.resolve()),
        "contrast": config.contrast,
        "folds": config.folds,
        "seed": config.seed,
        "split": config.split,
        "models": list(config.models),
    }
