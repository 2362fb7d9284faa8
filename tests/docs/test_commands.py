"""Every command in README and docs exists with the options it is shown with; the tutorial runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).parents[2]
# Pages that `make docs` writes show usage, not commands.
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if not p.name.startswith("cli-")),
]
TUTORIAL = ROOT / "docs/tutorial/first-scan.md"
# What may stand before a command of ours.
_BEFORE = re.compile(r"^(?:sudo (?:-u \S+ )?|(?:\S+/)?\.venv(?:-export)?/bin/|\S*/bin/|\w+=\S+ )*")
_OURS = re.compile(r"(lohi-edge|lohi-export)( .+)?$")


def blocks(page: Path) -> list[str]:
    """Lines of code blocks, fenced or indented, continuation lines joined."""
    lines, fenced = [], False
    for line in page.read_text().replace("\\\n", " ").splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(re.sub(r"\s+# .*$", "", line.strip().removeprefix("$ ")))
    return lines


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(program, words) of each command of ours."""
    found = []
    for line in blocks(page):
        ours = _OURS.fullmatch(_BEFORE.sub("", line, count=1))
        if ours and not re.search(r"[|]|\.\.\.|<", line):
            found.append((ours[1], shlex.split(ours[2] or "")))
    return found


SHOWN = [
    pytest.param(program, words, id=f"{page.stem}: {program} {' '.join(words)}"[:90])
    for page in PAGES
    for program, words in commands(page)
]


@pytest.mark.parametrize(("program", "words"), SHOWN)
def test_a_command_in_the_docs_exists_with_its_options(program, words):
    if program == "lohi-edge":
        from lohi_edge.cli import app
    else:
        from lohi_export.cli import app
    command = get_command(app)
    while hasattr(command, "commands"):
        assert words, f"{program}: a command is missing"
        assert words[0] in command.commands, f"{program} has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(program, list(words))


def test_make_targets_in_the_docs_exist():
    rules = "".join(p.read_text() for p in (ROOT / "Makefile", *(ROOT / "deploy").glob("*.mk")))
    targets = set(re.findall(r"^([a-z][a-z-]*):", rules, re.MULTILINE))
    for page in PAGES:
        for line in blocks(page):
            if line.startswith("make "):
                named = line.split()[1]
                assert named in targets, f"{page.name}: {line}"


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_there_is_something_to_check():
    assert len(SHOWN) > 40


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands(tmp_path):
    paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    ran = commands(TUTORIAL)
    assert len(ran) >= 4
    for program, words in ran:
        assert program == "lohi-edge"
        done = subprocess.run(
            [sys.executable, "-m", "lohi_edge", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stderr}"
