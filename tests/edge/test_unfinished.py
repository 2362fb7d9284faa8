"""What a killed process was writing is removed by the next; what one is writing never is."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import lohi_edge
from lohi_edge import unfinished


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """What was killed just now goes."""
    monkeypatch.setattr(unfinished, "RECENT_S", 0.0)


WRITES = """
import sys
from pathlib import Path
from lohi_edge.files import atomic_write

with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(path):
    """A process that is writing a file, and that tests may kill."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "writing\n"
        yield process
        process.stdin.close()


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_what_a_process_writes_stays_until_it_is_killed(tmp_path):
    path = tmp_path / "scan_desc-synthetic.nii.gz"
    with writing(path):
        unfinished.clear(path)
        assert len(hidden(tmp_path)) == 1
    assert path.read_bytes() == b"half"  # it came to its end
    with writing(path) as process:
        process.kill()
        process.wait()
        assert len(hidden(tmp_path)) == 1
        unfinished.clear(path)
        assert hidden(tmp_path) == []
    assert path.read_bytes() == b"half"


def test_nothing_else_is_taken_for_it(tmp_path):
    names = [
        ".scan.nii.tmp", ".scan.nii.12345678", ".scan.nii.1234567.tmp", ".other.nii.12345678.tmp",
        "scan.nii.12345678.tmp", ".scan.nii.12345678.tmp.old",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    target = tmp_path / "target"
    target.touch()
    (tmp_path / ".scan.nii.abcdefgh.tmp").symlink_to(target)
    unfinished.clear(tmp_path / "scan.nii")
    assert sorted(hidden(tmp_path)) == sorted([*names[:4], names[5], ".scan.nii.abcdefgh.tmp"])
    unfinished.clear(tmp_path / "gone" / "scan.nii")  # and a folder that is not there is no trouble


def test_what_was_just_made_stays(tmp_path, monkeypatch):
    """It may be a living process's, which has not locked it yet, or is about to rename it."""
    monkeypatch.setattr(unfinished, "RECENT_S", 60.0)
    left = tmp_path / ".scan.nii.12345678.tmp"
    left.touch()
    unfinished.clear(tmp_path / "scan.nii")
    assert left.exists()


def test_a_folder_stays_while_its_process_lives(tmp_path):
    path = tmp_path / "bundle"
    with unfinished.folder(path) as folder:
        (folder / "a").touch()
        unfinished.clear(path)
        assert (folder / "a").exists()
    assert hidden(tmp_path) == []
    left = Path(tempfile.mkdtemp(prefix=".bundle.", suffix=".tmp", dir=tmp_path))
    (left / "a").touch()
    unfinished.clear(path)
    assert hidden(tmp_path) == []


def test_enhancing_again_removes_what_a_killed_run_was_writing(scan, identity_bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    result = out / "sub-01_desc-synthetic_T1w.nii.gz"
    receipt = out / "sub-01_desc-synthetic_T1w.json"
    for path in (result, receipt):
        with writing(path) as process:
            process.kill()
            process.wait()
    assert len(hidden(out)) == 2
    with writing(out / "sub-02_desc-synthetic_T1w.nii.gz"):
        lohi_edge.enhance(scan, out=out, bundle=identity_bundle, threads=1)
        assert len(hidden(out)) == 1  # the other process's
        assert sorted(out.iterdir())[1:] == [receipt, result]
