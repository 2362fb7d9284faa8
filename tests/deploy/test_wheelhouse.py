"""`make wheelhouse`, `install.sh` from what it made, and a scan enhanced by what that installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lohi_edge import demo

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "dist" / "wheelhouse-x86-64"
IDENTITY = ROOT / "tests/edge/data/identity.onnx"
LIMIT_S = 900
# No variable of this test reaches what is installed; no network is asked for.
CLEAN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PIP_NO_INDEX": "1"}


def run(*command: object, env=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command],
        env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def house() -> Path:
    if not shutil.which("make") or os.uname().machine != "x86_64":
        pytest.skip("needs make on x86-64")
    made = run(
        "make", "-f", "Makefile", "-f", "deploy/wheelhouse.mk", "wheelhouse", "TARGET=x86-64",
        f"PYTHON={sys.executable}",
    )  # fmt: skip
    if made.returncode and "resolve host" in made.stderr.lower():
        pytest.skip("needs a package index")
    assert made.returncode == 0, made.stderr[-2000:]
    return HOUSE


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A model that returns its input, so that no shipped one is needed."""
    import numpy as np

    from lohi_edge.bundle import Manifest
    from lohi_edge.files import sha256
    from lohi_edge.slices import SliceContract

    contract, path = SliceContract(), tmp_path / "identity"
    path.mkdir()
    shape = (2, 1, contract.height, contract.width)
    golden = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    np.savez_compressed(path / "golden.npz", input=golden, output=golden, truth=golden)
    shutil.copy(IDENTITY, path / "fp32.onnx")
    files = {n: sha256((path / n).read_bytes()) for n in ("fp32.onnx", "golden.npz")}
    manifest = Manifest("identity", "1", 1, ("T1w",), contract, files, {"fp32": 1e-6})
    (path / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    return path


@pytest.mark.slow
def test_from_a_wheelhouse_to_an_enhanced_scan(house, bundle, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    done = run(house / "install.sh", "--root", root, "--python", sys.executable, env=CLEAN)
    assert done.returncode == 0, done.stderr
    command = root / "opt/lohi-edge/current/bin/lohi-edge"
    environment = {**CLEAN, "LOHI_EDGE_CACHE": str(tmp_path / "cache")}
    done = run(command, "bundle", "verify", bundle, env=environment)
    assert done.returncode == 0, done.stderr
    done = run(
        command, "enhance", demo.SCAN, "-o", tmp_path / "out", "--bundle", bundle, "--json",
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert outcome["bundle"]["name"] == "identity"
    assert list((tmp_path / "out").glob("*_desc-synthetic.nii.gz"))
    # The installed settings are the daemon's: it starts as far as its folders, which are not there.
    done = run(
        command, "watch", "--config", root / "etc/lohi-edge/config.toml",
        env={**environment, "LOHI_EDGE_WATCH_INBOX": str(tmp_path / "no-inbox")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no-inbox: expected a folder for the inbox" in done.stderr
