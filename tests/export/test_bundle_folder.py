"""The folder of a bundle: written whole, replaced at one stroke."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from lohi_edge import bundle as bundles
from lohi_edge import unfinished
from lohi_export import bundle_folder


def rewrite(path):
    """The bundle, with another version, over itself."""
    found = bundles.load(path)
    files = {name: found.read(name) for name in found.manifest.files}
    bundle_folder.write(path, files, replace(found.manifest, version="9.9.9"), over=True)
    assert bundles.load(path).manifest.version == "9.9.9"
    assert [p.name for p in path.parent.glob(f".{path.name}.*")] == []


def test_in_place_the_bundle_is_at_no_moment_gone(make_bundle, monkeypatch):
    path, rename, there = make_bundle(), Path.rename, []

    def watched(self, target):
        moved = rename(self, target)
        there.append(path.is_dir())
        return moved

    monkeypatch.setattr(Path, "rename", watched)
    rewrite(path)
    assert all(there)


def test_it_is_replaced_where_names_cannot_be_swapped(make_bundle, monkeypatch):
    monkeypatch.setattr(bundle_folder, "_exchange", lambda *_: False)
    rewrite(make_bundle())


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from pathlib import Path
from lohi_edge import bundle as bundles
from lohi_export import bundle_folder

found = bundles.load(Path(sys.argv[1]))
bundle_folder.load = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
files = {name: found.read(name) for name in found.manifest.files}
bundle_folder.write(Path(sys.argv[2]), files, found.manifest)
"""


def test_what_a_killed_run_was_writing_goes_with_the_next(make_bundle, tmp_path, monkeypatch):
    path, out = make_bundle(), tmp_path / "made" / "bundle"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = out.parent.iterdir()
    assert (left / "manifest.json").exists()
    found = bundles.load(path)
    files = {name: found.read(name) for name in found.manifest.files}
    monkeypatch.setattr(unfinished, "RECENT_S", 0.0)
    with unfinished.folder(out) as other:  # that of a run that lives
        bundle_folder.write(out, files, found.manifest)
        assert sorted(out.parent.iterdir()) == [other, out]
