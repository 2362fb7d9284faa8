"""Wheelhouses, and a root to install them below."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wheelhouse import CLI, DEPLOY, bundled_pip, seal, write_wheel


@pytest.fixture
def make_house(tmp_path):
    """Write a wheelhouse: `make_house(version, **facts of TARGET)`."""

    def make(version="1.0", cli=CLI, **changed) -> Path:
        house = tmp_path / f"house-{version}"
        (house / "wheels").mkdir(parents=True)
        shutil.copy(bundled_pip(), house / "wheels")
        write_wheel(house / "wheels", version, cli)
        for name in ("install.sh", "lohi-edge.toml"):
            shutil.copy(DEPLOY / name, house)
        (house / "install.sh").chmod(0o644)  # as on a FAT32 stick that was mounted by itself
        shutil.copytree(DEPLOY / "systemd", house / "systemd")
        facts = {
            "target": "x86-64",
            "machine": platform.machine(),
            "python": "{}.{}".format(*sys.version_info),
            "glibc": "2.17",
            **changed,
        }
        (house / "TARGET").write_text("".join(f"{k}={v}\n" for k, v in facts.items()))
        seal(house)
        return house

    return make


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def install(root):
    """Run install.sh below a root of its own: `install(house, *words)`."""

    def run(house: Path, *words: str, **kwargs) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", house / "install.sh", *words, "--root", root, "--python", sys.executable],
            capture_output=True,
            text=True,
            check=False,
            **kwargs,
        )

    return run
