"""A study run in this process, and its tables."""

from __future__ import annotations

import csv
from pathlib import Path

from typer.testing import CliRunner

from lohi_export.cli import app


def run(config: Path, *options: str) -> str:
    """`lohi-export study` in this process; what it printed."""
    words = ["study", str(config), "--device", "cpu", "--threads", "1", *options]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))
