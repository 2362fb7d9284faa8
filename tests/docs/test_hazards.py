"""Every control in the table of hazards is shown by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/explanation/hazards.md"


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_hazard_names_tests_and_every_named_test_exists():
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| H\d+ ", line)]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row[:60]
        for path, name in named:
            assert (ROOT / path).is_file(), f"{path} is gone: {row[:40]}"
            assert name in defined(ROOT / path), f"{path} has no {name}: {row[:40]}"
        assert row.count("|") == 6, f"a cell is missing: {row[:60]}"
