"""`make wheelhouse`, `install.sh` from what it made, and a scan enhanced by what that installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wheelhouse import build

ROOT = Path(__file__).parents[2]
LIMIT_S = 900
# No variable of this test reaches what is installed; no network is asked for.
CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PIP_NO_INDEX": "1"}


def run(*command: object, env=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command],
        env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    if not shutil.which("make") or os.uname().machine != "x86_64":
        pytest.skip("needs make on x86-64")
    version = "{}.{}".format(*sys.version_info)
    return build(tmp_path_factory.mktemp("house"), sys.executable, version)


@pytest.mark.slow
def test_from_a_wheelhouse_to_an_enhanced_scan(house, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    done = run(house / "install.sh", "--root", root, "--python", sys.executable, env=CLEAN)
    assert done.returncode == 0, done.stderr
    command = root / "opt/lohi-edge/current/bin/lohi-edge"
    environment = {**CLEAN, "LOHI_EDGE_CACHE": str(tmp_path / "cache")}
    done = run(command, "bundle", "verify", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"]
    done = run(command, "demo", "-o", tmp_path / "out", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert Path(report["result"]).is_file()
    assert report["after"]["PSNR"] > report["before"]["PSNR"]
    # The installed settings are the daemon's: it comes as far as its folders, one of which is not.
    done = run(
        command, "watch", "--config", root / "etc/lohi-edge/config.toml",
        env={**environment, "LOHI_EDGE_WATCH_INBOX": str(tmp_path / "no-inbox")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no-inbox: expected a folder for the inbox" in done.stderr
