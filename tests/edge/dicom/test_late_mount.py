"""A receiver that is there before the mount of its inbox: what it acknowledges is never hidden."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_series import SMALL, save, slices
from lohi_edge.dicom import receive
from lohi_edge.dicom.send import NetworkError, send
from lohi_edge.watch.ground import Ground, Place


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path, inbox):
    """A system that mounts the inbox when it starts; what is mounted is what is."""
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    (made / "proc").symlink_to("/proc")
    (made / "etc/fstab").write_text(f"pacs:/scans {inbox} nfs4 defaults 0 0\n")
    return made


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_nothing_is_taken_before_the_mount_and_all_after(receiver, tmp_path, inbox, root, tmpfs):
    told: list[Place] = []
    _, node, _, log = receiver(Ground(inbox, tell=told.append, root=root))
    folder = save(tmp_path / "a", slices(SMALL))
    with pytest.raises(NetworkError, match="0xA700"):
        send([folder], node)
    assert "not mounted" in log[-1]
    assert list(inbox.iterdir()) == []
    tmpfs(inbox, 4)
    assert send([folder], node) == 5
    assert len(list(inbox.rglob("*.dcm"))) == 5
    (place,) = told
    unmount(inbox)
    # By this receiver, and by the next one of the service, whatever it is told about mounts.
    for ground in (None, Ground(inbox, Place(*json.loads(json.dumps(place))))):
        to = receiver(ground)[1] if ground else node
        with pytest.raises(NetworkError, match="0xA700"):
            send([folder], to)
    assert list(inbox.iterdir()) == []


def test_a_mount_that_nothing_announces_counts_once_it_is_there(receiver, tmp_path, inbox, tmpfs):
    _, node, _, _ = receiver()
    folder = save(tmp_path / "a", slices(SMALL))
    tmpfs(inbox, 4)
    assert send([folder], node) == 5
    unmount(inbox)
    with pytest.raises(NetworkError, match="0xA700"):
        send([folder], node)
    assert list(inbox.iterdir()) == []


def test_a_mount_that_comes_while_an_instance_is_written(
    receiver, tmp_path, inbox, tmpfs, monkeypatch
):
    """It lies hidden then: its sender keeps it."""
    _, node, _, _ = receiver()

    @contextlib.contextmanager
    def write_and_mount(path, write=receive.atomic_write):
        with write(path) as file:
            yield file
        tmpfs(inbox, 4)

    with monkeypatch.context() as patched:
        patched.setattr(receive, "atomic_write", write_and_mount)
        with pytest.raises(NetworkError, match="0xA700"):
            send([save(tmp_path / "a", slices(SMALL))], node)
    assert list(inbox.iterdir()) == []


def test_another_folder_of_the_same_mount_is_not_the_inbox(inbox):
    ground = Ground(inbox)
    assert ground.token()
    kept = inbox.rename(inbox.with_name("kept"))
    assert not ground.token()
    inbox.mkdir()
    assert not ground.token()
    shutil.rmtree(inbox)
    kept.rename(inbox)
    assert ground.token()
