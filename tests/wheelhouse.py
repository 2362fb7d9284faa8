"""Wheelhouses: one around a package of one page, and the one that `make` gathers."""

from __future__ import annotations

import base64
import contextlib
import ensurepip
import fcntl
import hashlib
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
HOME = Path("opt/lohi-edge")  # below the root that is installed on
OFFLINE = ("resolve host", "name resolution", "connection broken")  # in what pip says
PIP_WHEELS = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))

# Settings with the key `refused` are refused, those with `new_in_2` by version 1, and those with
# `away` where folders are asked for.
CLI = """
import re
import sys

def main():
    if sys.argv[1:2] == ["settings"]:
        text = open(sys.argv[sys.argv.index("--config") + 1]).read()
        newer = [n for n in re.findall(r"new_in_(\\d) = ", text) if n > "{version}"[0]]
        if newer or "refused = " in text:
            sys.exit("error: unknown key")
        if "away = " in text and "--folders" in sys.argv:
            sys.exit("error: expected a folder, found none")
    else:
        print("this is {version}")
"""


def bundled_pip() -> Path:
    """The pip wheel that comes with Python."""
    for folder in PIP_WHEELS:
        if found := sorted(folder.glob("pip-*.whl")):
            return found[-1]
    pytest.skip("needs the pip wheel of ensurepip (Debian's package python3-venv)")


def write_wheel(folder: Path, version: str, cli: str = CLI) -> None:
    """A lohi-edge of the given version that only prints it."""
    info = f"lohi_edge-{version}.dist-info"
    files = {
        "lohi_edge/__init__.py": "",
        "lohi_edge/cli.py": cli.replace("{version}", version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: lohi-edge\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nlohi-edge = lohi_edge.cli:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"lohi_edge-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)


def write_dependency(folder: Path, version: str = "1.0", needs: str = "") -> None:
    """A wheel of somebody else, whose RECORD has digests as real ones have; it may need another."""
    info = f"other-{version}.dist-info"
    files = {
        "other.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: other\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{name},sha256={digest.rstrip('=')},{len(text)}\n")
    with zipfile.ZipFile(folder / f"other-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": "".join(rows) + f"{info}/RECORD,,\n"}.items():
            wheel.writestr(zipfile.ZipInfo(name), text)  # of a fixed time: the same bytes again


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While another test process makes something in the repository, wait: they share it."""
    with (ROOT / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(*words: str) -> None:
    """Run `make` in the repository; inside `alone()`."""
    made = subprocess.run(["make", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    if made.returncode and any(word in made.stderr.lower() for word in OFFLINE):
        pytest.skip("needs a package index")
    assert made.returncode == 0, made.stderr[-2000:]


def build(folder: Path, interpreter: str, version: str) -> Path:
    """A copy of one's own of the wheelhouse that `make wheelhouse` gathers for this machine."""
    words = ("TARGET=x86-64", f"WHEELHOUSE_PYTHON={version}", f"PYTHON={interpreter}")
    with alone():
        make("wheelhouse", *words)
        return Path(shutil.copytree(ROOT / "dist/wheelhouse-x86-64", folder / "wheelhouse"))


def seal(house: Path) -> None:
    """Write SHA256SUMS over all that lies in a wheelhouse."""
    (house / "SHA256SUMS").unlink(missing_ok=True)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(house)}\n"
        for path in sorted(house.rglob("*"))
        if path.is_file()
    ]
    (house / "SHA256SUMS").write_text("".join(lines))


def says(root: Path, link="current") -> str:
    """What the installed command prints; "" where there is none."""
    command = root / HOME / link / "bin/lohi-edge"
    if not command.exists():
        return ""
    done = subprocess.run([command], env={}, capture_output=True, text=True, check=True)
    return done.stdout.strip()
