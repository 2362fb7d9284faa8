"""Folders of self-tests that were killed go with the next one, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lohi_edge.device.private import private_folder

PREFIX = "lohi-edge-test-"
# Works in a private folder, together with a child of its own, until both are told to end.
WORKER = """
import subprocess, sys
from lohi_edge.device.private import private_folder
with private_folder(sys.argv[1]) as (folder, lock):
    (folder / "in/out").mkdir(parents=True)
    child = subprocess.Popen(["cat"], pass_fds=(lock,))
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The machine's temporary folder, for this process and its children."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def worker(place):
    """A process in a private folder, and that folder."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, PREFIX],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def others(place: Path) -> list[Path]:
    """What another private folder finds beside itself."""
    with private_folder(PREFIX) as (folder, _):
        found = sorted(path for path in place.iterdir() if path != folder)
    assert not folder.exists()
    return found


def test_a_folder_goes_when_no_process_works_in_it_any_more(worker, place):
    process, folder = worker
    assert others(place) == [folder]
    process.kill()
    process.wait()
    assert others(place) == [folder]  # its child outlives it
    assert (folder / "in/out").is_dir()
    process.stdin.close()
    for _ in range(600):
        if not others(place):
            return
        time.sleep(0.1)  # the child is about to end
    pytest.fail("the folder of processes that have ended stays")


def test_links_files_and_what_belongs_to_others_stay(place, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (place / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}mine").mkdir()
    (place / f"{PREFIX}mine/link").symlink_to(tmp_path / "precious")
    stay = [place / f"{PREFIX}file", place / f"{PREFIX}link"]
    if os.geteuid() == 0:
        (place / f"{PREFIX}other").mkdir()
        os.chown(place / f"{PREFIX}other", 65534, 65534)
        stay.append(place / f"{PREFIX}other")
    assert others(place) == stay
    assert (tmp_path / "precious/file").exists()
