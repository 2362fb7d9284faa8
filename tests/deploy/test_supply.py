"""Locks that hold, and a wheel that two builds make alike."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from documented import ROOT
from lohi_edge import toml
from wheelhouse import alone, make

LOCKS = sorted((ROOT / "deploy/locks").glob("*-py*.txt"))
UV = ROOT / ".venv-wheelhouse/bin"
EPOCH = "1700000000"
_PIN = re.compile(r"^(\S+?)==(\S+)", re.MULTILINE)


def pins(lock: Path) -> dict[str, str]:
    return {name.lower(): version for name, version in _PIN.findall(lock.read_text())}


def test_every_target_has_its_lock():
    names = {lock.stem for lock in LOCKS}
    assert names == set(
        re.search(r"^LOCKS := (.+)$", (ROOT / "deploy/supply.mk").read_text(), re.M)[1].split()
    )


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_fits_the_dependencies_and_names_every_file_by_hash(lock):
    """A changed dependency needs `make lock`."""
    python = lock.stem.rpartition("-py")[2]
    machine = "aarch64" if lock.stem.startswith("jetpack") else "x86_64"
    target = {"python_version": python, "platform_machine": machine, "sys_platform": "linux"}
    found = pins(lock)
    for text in toml.read(ROOT / "pyproject.toml")["project"]["dependencies"]:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({**default_environment(), **target}):
            continue
        assert found.get(wanted.name.lower()), f"{wanted.name} is not locked: run `make lock`"
        assert wanted.specifier.contains(found[wanted.name.lower()]), f"{wanted}: run `make lock`"
    assert "torch" not in found
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_bill_of_materials_leads_from_our_dependencies_to_every_package(lock):
    """The graph begins with what pyproject.toml asks for; nothing in the lock is unasked for."""
    parts = [{"name": name, "bom-ref": f"ref-{name}"} for name, _ in _PIN.findall(lock.read_text())]
    bare = {"metadata": {"component": {"name": "lohi-edge", "bom-ref": "us"}}, "components": parts}
    script = runpy.run_path(str(ROOT / "deploy/sbom.py"))
    graph = {
        row["ref"]: row["dependsOn"]
        for row in script["with_graph"](bare, lock.read_text())["dependencies"]
    }
    asked = toml.read(ROOT / "pyproject.toml")["project"]["dependencies"]
    ours = {f"ref-{Requirement(text).name.lower()}" for text in asked}
    assert set(graph["us"]) == ours & set(graph)
    reached, left = set(), ["us"]
    while left:
        reached.add(left[-1])
        left += [ref for ref in graph[left.pop()] if ref not in reached]
    assert reached == set(graph)
    assert "ref-numpy" in graph["ref-scipy"]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'Connection refused' >&2; exit 1",
        "echo 'numpy  Dependency not found on PyPI and could not be audited: numpy (2.4.6)'",
    ],
)
def test_an_advisory_service_that_knows_nothing_gives_no_clean_bill(tmp_path, script):
    (tmp_path / "pip-audit").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "pip-audit").chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "deploy/audit.sh", "x86-64-py3.11"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "nothing was audited" in done.stderr


def copy_sources(source: Path) -> Path:
    """What a build needs, in a folder of its own."""
    source.mkdir(parents=True)
    for part in ("edge", "calibration", "export", "deploy", "pyproject.toml", "README.md",
                 "LICENSE", "NOTICE", "Makefile"):  # fmt: skip
        path = ROOT / part
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / part, ignore=ignore) if path.is_dir() else shutil.copy2(
            path, source
        )
    return source


@pytest.fixture(scope="module")
def tools():
    """The tools that `make` gathers and builds with."""
    with alone():
        make(".venv-wheelhouse/.installed")


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(tools, tmp_path):
    """From two folders, at two times, under two umasks."""
    digests = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        source = copy_sources(tmp_path / name / "lohi-edge")
        os.utime(source / "README.md", (1, 1) if name == "one" else None)
        done = subprocess.run(
            ["bash", "-c", f"umask {umask:03o}; deploy/wheel.sh out"],
            env={**os.environ, "PATH": f"{UV}:{os.environ['PATH']}", "SOURCE_DATE_EPOCH": EPOCH},
            cwd=source, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (wheel,) = (source / "out").glob("*.whl")
        digests.append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert digests[0] == digests[1]
