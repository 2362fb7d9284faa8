"""A daemon that starts before its mounts do says so, and works."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.watch import localfs
from lohi_edge.watch.folders import claim, warn_of_bare
from lohi_edge.watch.log import Log


@pytest.fixture
def system(tmp_path):
    """Factory: a root whose / is a disk, with the mounts and the lines of fstab given."""

    def write(mounted: list[str], fstab: str) -> Path:
        root = tmp_path / "root"
        for name, lines in (
            ("proc/self/mountinfo", [f"1 0 {m} rw - ext4 x rw" for m in ["8:1 / /", *mounted]]),
            ("etc/fstab", ["# what is mounted at a start", fstab]),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(os.fsencode("".join(f"{line}\n" for line in lines)))
        return root

    return write


def warnings(inbox: str, outbox: str, root: Path) -> list[str]:
    said = io.StringIO()
    warn_of_bare(Path(inbox), Path(outbox), Log(stream=said), root)
    return [line.partition(" ")[2] for line in said.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("mounted", "named"),
    [
        ([], ["inbox", "outbox"]),
        (["8:2 / /mnt/my\\040share"], []),
        (["8:2 / /mnt/my\\040share/out"], ["inbox"]),  # the outbox's own mount is there
        (["8:2 / /mnt"], ["inbox", "outbox"]),  # what it lies on is there, it is not
        # The outbox is its own mount in the service, by ReadWritePaths=: the bare folder again.
        (["8:1 /mnt/my\\040share/out /mnt/my\\040share/out"], ["inbox", "outbox"]),
        (["8:2 / /mnt/my\\040share", "8:2 /out /mnt/my\\040share/out"], []),
    ],
)
def test_what_is_not_mounted_is_said_of_each_folder(system, mounted, named):
    root = system(mounted, "pacs:/scans /mnt/my\\040share/ nfs4 defaults 0 0")
    assert warnings("/mnt/my share/in", "/mnt/my share/out", root) == [
        f'folder.bare folder={name} why="/mnt/my share is not mounted"' for name in named
    ]


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\xa0", "\r", "\x0b", "\udcff"])
def test_a_stick_may_bear_any_name(system, odd):
    """The kernel writes all but ASCII's own blanks as they are, line ends of Unicode too."""
    point = f"/media/STICK{odd}X"
    root = system([], f"LABEL=x {point} vfat defaults 0 0")
    mounts = root / "proc/self/mountinfo"
    with mounts.open("ab") as file:
        file.write(b"1 0 8:2 / " + os.fsencode(point) + b" rw shared:1 - vfat x rw\n")
    assert localfs.kind(Path(point, "in"), mounts) == "vfat"
    assert localfs.kind(Path("/srv"), mounts) == "ext4"
    assert localfs.comes_back(point, root)


def test_a_unit_of_systemd_counts_as_fstab_does(system):
    root = system([], "")
    assert warnings("/srv/in", "/mnt/scan-1/out", root) == []
    unit = root / "etc/systemd/system" / r"mnt-scan\x2d1.mount"
    unit.parent.mkdir(parents=True)
    unit.touch()
    (said,) = warnings("/srv/in", "/mnt/scan-1/out", root)
    assert said == 'folder.bare folder=outbox why="/mnt/scan-1 is not mounted"'


def test_a_daemon_on_a_bare_mount_point_warns_and_works(box):
    """With an fstab of its own, in a mount namespace as ReadWritePaths= of systemd makes one."""
    fstab = box.state.with_name("fstab")
    fstab.write_text(f"pacs:/scans {box.outbox} nfs4 defaults 0 0\n")
    made = f'mount --bind {fstab} /etc/fstab; mount --bind {box.outbox} {box.outbox}; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", made, "-"]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a mount namespace is not permitted here: {done.stderr.strip()}")
    box.scan("a_T1w.nii.gz")
    box.start(prefix=prefix)
    box.wait_states(done=1)
    assert box.stop() == 0
    said = box.read_log()
    assert said.count("folder.bare") == 1
    assert f'folder=outbox why="{box.outbox} is not mounted"' in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_root_does_not_work_on_the_state_of_a_service(tmp_path):
    """`sudo lohi-edge watch`, with the service stopped: the service could not use what it wrote."""
    inbox, outbox, state = (tmp_path / name for name in ("in", "out", "state"))
    for folder in (inbox, outbox, state):
        folder.mkdir()
    os.chown(state, 65534, 65534)
    said = f"{state}: belongs to the user nobody, who alone .*, not root; .*: sudo -u nobody"
    with pytest.raises(UsageError, match=said):
        claim(inbox, outbox, state)
    assert list(state.iterdir()) == []
