"""An installation that fails or is killed on the way: the old version runs, a repeat ends right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from wheelhouse import HOME, says, seal, write_dependency


@pytest.mark.slow
def test_a_version_that_does_not_start_is_never_switched_to(make_house, install, root):
    assert install(make_house("1.0")).returncode == 0
    done = install(make_house("2.0", cli="def main():\n    raise SystemExit(1)\n"))
    assert (done.returncode, "does not start here" in done.stderr) == (3, True)
    assert says(root) == "this is 1.0"
    assert len(list((root / HOME / "versions").iterdir())) == 1


def test_a_wheel_that_misses_another_is_refused_by_name_and_leaves_nothing(
    make_house, install, root
):
    house = make_house()
    write_dependency(house / "wheels", needs="platformdirs>=2.2")
    seal(house)
    done = install(house)
    assert done.returncode == 3, done.stderr
    assert "other 1.0 requires platformdirs, which is not installed" in done.stderr
    assert "EXTRA_WHEELS" in done.stderr
    assert not list((root / HOME / "versions").iterdir())
    assert not (root / "etc/systemd").exists()


@pytest.mark.slow
def test_settings_the_new_version_refuses_stop_the_switch(make_house, install, root):
    assert install(make_house("1.0")).returncode == 0
    (root / "etc/lohi-edge/config.toml").write_text("refused = 1\n")
    done = install(make_house("2.0"))
    assert done.returncode == 3
    assert "unknown key" in done.stderr
    assert says(root) == "this is 1.0"


# On the machine itself, of whose /etc and /usr/local only copies change.
_COPIED = """
set -e
mount -t tmpfs tmpfs "$1"
for name in etc usr/local; do
    up=$1/$name.up work=$1/$name.work
    mkdir -p "$up" "$work"
    mount -t overlay overlay -o "lowerdir=/$name,upperdir=$up,workdir=$work" "/$name"
done
mkdir "$1/bin" /etc/lohi-edge
for name in sysusers tmpfiles; do ln -s /bin/true "$1/bin/systemd-$name"; done
export PATH=$1/bin:$PATH
run() { "$@" --prefix "$prefix" --python "$python" --no-start; }
prefix=$1/lohi python=$2
run bash "$3/install.sh"
run bash "$4/install.sh"
echo 'away = 1' >/etc/lohi-edge/config.toml
run bash "$prefix/install.sh" rollback
cat /etc/lohi-edge/config.toml
ls /etc/lohi-edge
! run bash "$4/install.sh"
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount copies")
def test_going_back_while_a_mount_is_away_keeps_the_settings(make_house, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    words = (copies, sys.executable, make_house("1.0"), make_house("2.0"))
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", _COPIED, "bash", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 0, done.stderr
    assert "lohi-edge 1.0-" in done.stdout.partition("is current again\n")[0].splitlines()[-1]
    assert done.stdout.endswith("again\naway = 1\nconfig.toml\nconfig.toml.example\n")
    assert "expected a folder, found none" in done.stderr  # an installation still asks


# Runs the script given as $0, and kills it before the command number $KILL; without, lists them.
_TRACED = """
set -T
count=0
at() {
    count=$((count + 1))
    if [ -z "$KILL" ]; then printf '%s\\t%s\\n' "$count" "$1" >>"$TRACE"; fi
    if [ "$count" = "$KILL" ]; then kill -9 $$; fi
}
trap 'at "$BASH_COMMAND"' DEBUG
. "$0"
"""
_CHANGES = ("mkdir", "rm", "mv", "ln", "touch", "cp", "install", "sync", '"$python"', '"$folder')


@pytest.mark.slow
def test_killed_before_each_command_that_changes_anything(make_house, install, root, tmp_path):
    """SIGKILL before each mkdir, mv, ln, pip, ... of an update; repeated, it ends right."""
    first, second = make_house("1.0"), make_house("2.0")
    assert install(first).returncode == 0
    fresh, trace = tmp_path / "fresh", tmp_path / "trace"
    shutil.copytree(root, fresh, symlinks=True)

    def update(kill: str) -> int:
        words = ["--root", root, "--python", sys.executable]
        return subprocess.run(
            ["bash", "-c", _TRACED, second / "install.sh", *words],
            env={**os.environ, "KILL": kill, "TRACE": str(trace)},
            capture_output=True,
            check=False,
            start_new_session=True,
        ).returncode

    assert update("") == 0
    steps = [line.split("\t", 1) for line in trace.read_text().splitlines() if "\t" in line]
    changes = [number for number, words in steps if words.startswith(_CHANGES)]
    assert len(changes) >= 20
    for number in changes[:: max(1, len(changes) // 12)]:
        shutil.rmtree(root)
        shutil.copytree(fresh, root, symlinks=True)
        assert update(number) == -signal.SIGKILL, number
        assert says(root) in ("this is 1.0", "this is 2.0"), number
        assert install(second).returncode == 0, number
        assert (says(root), says(root, "previous")) == ("this is 2.0", "this is 1.0"), number


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_disk_that_fills_on_the_way_leaves_the_old_version(make_house, install, root, tmp_path):
    assert install(make_house("1.0")).returncode == 0
    second = make_house("2.0")
    versions = root / HOME / "versions"
    full = ["mount", "-t", "tmpfs", "-o", "size=1M,nr_inodes=20", "tmpfs"]
    (old,) = versions.iterdir()
    kept = tmp_path / "kept"
    shutil.move(old, kept)
    if subprocess.run([*full, versions], check=False, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        (versions / old.name).symlink_to(kept)
        done = install(second)
        assert done.returncode != 0
        assert "No space left" in done.stderr
        assert says(root) == "this is 1.0"
        subprocess.run(["mount", "-o", "remount,size=200M,nr_inodes=0", versions], check=True)
        assert install(second).returncode == 0
        assert says(root) == "this is 2.0"
    finally:
        subprocess.run(["umount", versions], check=True)


@pytest.mark.slow
def test_killed_anywhere_the_old_version_runs_and_a_repeat_ends_right(make_house, install, root):
    """SIGKILL after growing delays, until an installation ends before it is killed."""
    first, second = make_house("1.0"), make_house("2.0")
    assert install(first).returncode == 0
    killed, delay = 0, 0.05
    while True:
        process = subprocess.Popen(
            ["bash", second / "install.sh", "--root", root, "--python", sys.executable],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert process.wait(delay) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        killed += 1
        assert says(root) in ("this is 1.0", "this is 2.0")
        delay *= 1.4
    assert killed >= 3
    assert (says(root), says(root, "previous")) == ("this is 2.0", "this is 1.0")
