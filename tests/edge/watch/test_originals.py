"""Originals that cross from one file system to another, and back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from lohi_edge.watch import originals

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system than `tmp_path`."""
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_original_goes_to_another_file_system_and_comes_back(tmp_path, elsewhere, kind):
    inbox, staging = elsewhere, tmp_path / "staging"
    staging.mkdir()
    original = inbox / "ward"
    if kind == "file":
        original.write_bytes(b"a scan")
    else:
        original.mkdir()
        (original / "slice").write_bytes(b"a scan")
    away = originals.take(original, tmp_path / "failed" / "ward", tmp_path, staging)
    assert list(inbox.iterdir()) == []
    back = originals.take(away, original, tmp_path, staging)
    assert back == original
    scan = original if kind == "file" else original / "slice"
    assert scan.read_bytes() == b"a scan"
    assert [p.name for p in inbox.iterdir()] == ["ward"]
    assert list(staging.iterdir()) == list((tmp_path / "failed").iterdir()) == []
