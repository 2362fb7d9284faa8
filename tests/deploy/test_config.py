"""The settings file that ships says all that settings know, and says it truly."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from lohi_edge.settings import Settings, load

FILE = Path(__file__).parents[2] / "deploy" / "lohi-edge.toml"
_KEY = re.compile(r"^#(?=[a-z0-9_]+ = )", re.MULTILINE)
FOLDERS = {"inbox", "outbox", "state"}


@pytest.fixture
def everything(tmp_path) -> Settings:
    """The settings with every commented key switched on."""
    file = tmp_path / "all.toml"
    limits = tmp_path / "limits.json"
    limits.write_text("{}")
    text = _KEY.sub("", FILE.read_text())
    file.write_text(text.replace("/etc/lohi-edge/limits.json", str(limits)))
    return load(file, {})


def test_as_it_ships_only_the_folders_differ_from_the_defaults():
    shipped, plain = load(FILE, {}).to_dict(), Settings().to_dict()
    assert {key for key, value in shipped["watch"].items() if value != plain["watch"][key]} == (
        FOLDERS
    )
    for section in plain.keys() - {"watch"}:
        assert shipped[section] == plain[section]


def test_every_key_appears_once():
    known = [f"{s.name}.{k}" for s in fields(Settings) for k in asdict(Settings())[s.name]]
    named, section = [], ""
    for line in FILE.read_text().splitlines():
        if head := re.fullmatch(r"\[([a-z]+)\]", line):
            section = head[1]
        elif key := re.match(r"#?([a-z0-9_]+) = ", line):
            named.append(f"{section}.{key[1]}")
    assert sorted(named) == sorted(known)


def test_commented_keys_show_their_defaults(everything):
    """Where a key has no default, the file shows an example, which must be a legal value."""
    for section, values in Settings().to_dict().items():
        for key, default in values.items():
            if default not in (None, ()):
                assert everything.to_dict()[section][key] == default, f"{section}.{key}"
