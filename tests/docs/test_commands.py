"""The commands that README and docs show: every one has a place, and parses.

Where each is run: `documented.py`.
"""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from documented import (
    NOT_RUN,
    PAGES,
    ROOT,
    SHORTER,
    WITHOUT_A_GPU,
    commands,
    place,
    root_command,
)

SHOWN = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
OURS = [line for line in SHOWN if line.split()[0].endswith(("lohi-edge", "lohi-export"))]


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_in_the_docs_has_a_place_or_a_reason(line):
    assert place(line) or NOT_RUN[line]


@pytest.mark.parametrize("line", NOT_RUN)
def test_what_is_not_run_is_still_shown(line):
    assert line in SHOWN


@pytest.mark.parametrize("start", [*SHORTER, *WITHOUT_A_GPU])
def test_what_is_made_shorter_is_still_shown(start):
    assert any(line.startswith(start) for line in SHOWN)


@pytest.mark.parametrize("line", OURS)
def test_a_command_in_the_docs_exists_with_its_options(line):
    program, *words = shlex.split(line.partition(" | ")[0])
    command = root_command(line)
    while hasattr(command, "commands"):
        assert words, f"{program}: a command is missing"
        assert words[0] in command.commands, f"{program} has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(program, list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_named_in_a_sentence_exist(page):
    """`lohi-edge bundle install`: as far as words are names of commands."""
    from lohi_edge.cli import app as edge
    from lohi_export.cli import app as export

    for program, rest in re.findall(r"`lohi-(edge|export) ([a-z][^`]*)`", page.read_text()):
        command = get_command(edge if program == "edge" else export)
        for word in re.split(r"[|\s]", rest):
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"lohi-{program} {rest}"
            command = command.commands[word]


def test_make_targets_in_the_docs_exist():
    rules = "".join(p.read_text() for p in (ROOT / "Makefile", *(ROOT / "deploy").glob("*.mk")))
    targets = set(re.findall(r"^([a-z][a-z-]*):", rules, re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"`make ([a-z-]+)", page.read_text())
        named += [line.split()[1] for line in commands(page) if line.startswith("make ")]
        assert set(named) <= targets, page.name


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_nobody_is_told_to_install_from_an_index_that_does_not_have_us():
    """The package is on none; an installed device has neither pip nor a network."""
    told = [*PAGES, *(ROOT / "edge").rglob("*.py"), *(ROOT / "export").rglob("*.py")]
    assert [path for path in told if re.search(r"install '?lohi-edge\[", path.read_text())] == []
