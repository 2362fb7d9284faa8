"""The installer below a temporary root, on a package of one page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wheelhouse import DEPLOY, HOME, says, seal, write_dependency


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_install_update_rollback_uninstall(make_house, install, root):
    first, second, third = make_house("1.0"), make_house("2.0"), make_house("3.0")
    assert install(first).returncode == 0
    assert says(root) == "this is 1.0"
    config = root / "etc/lohi-edge/config.toml"
    assert config.read_bytes() == (DEPLOY / "lohi-edge.toml").read_bytes()
    for name in ("watch.service", "selfcheck.service", "selfcheck.timer"):
        assert (root / f"etc/systemd/system/lohi-edge-{name}").is_file()

    assert os.access(root / HOME / "install.sh", os.X_OK)

    # Nothing in the environment can install anything else.
    assert not list((root / HOME / "current/lib").glob("python*/site-packages/pip*"))
    nowhere = install(first, "rollback")
    assert nowhere.returncode == 3
    assert "no earlier version" in nowhere.stderr

    again = tree(root)
    assert install(first).returncode == 0  # nothing is left to do
    assert tree(root) == again

    config.write_text("# mine\n")
    assert install(second).returncode == 0
    assert (says(root), says(root, "previous")) == ("this is 2.0", "this is 1.0")
    assert config.read_text() == "# mine\n"

    assert install(second, "rollback").returncode == 0
    assert (says(root), says(root, "previous")) == ("this is 1.0", "this is 2.0")

    assert install(third).returncode == 0
    assert (says(root), says(root, "previous")) == ("this is 3.0", "this is 1.0")
    assert len(list((root / HOME / "versions").iterdir())) == 2  # older ones make room

    scan = root / "var/lib/lohi-edge/inbox/scan.nii"
    scan.parent.mkdir(parents=True)
    scan.write_text("x")
    assert install(third, "uninstall").returncode == 0
    left = {path for path in tree(root) if (root / path).is_file() or (root / path).is_symlink()}
    assert left == {
        "etc/lohi-edge/config.toml", "etc/lohi-edge/config.toml.example",
        "var/lib/lohi-edge/inbox/scan.nii",
    }  # fmt: skip
    assert install(third, "uninstall", "--purge").returncode == 0
    assert not scan.exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["nothing", "damaged", "gone", "another"])
def test_an_update_takes_over_what_is_the_same_and_whole(make_house, install, root, change):
    for version in ("1.0", "2.0"):
        house = make_house(version)
        write_dependency(house / "wheels", version if change == "another" else "1.0")
        seal(house)
        done = install(house)
        assert done.returncode == 0, done.stderr
        (other,) = (root / HOME / "current/lib").glob("python*/site-packages/other.py")
        if version == "1.0":
            first = other.resolve()
            os.utime(first, (1e9, 1e9))
            planted = first.with_name("planted.pth")
            planted.write_text("")
            if change == "damaged":
                first.write_text("VERSION = '0.0'\n")
            elif change == "gone":
                first.unlink()
    assert says(root) == "this is 2.0"
    assert other.resolve() != first
    assert other.read_text() == f"VERSION = '{'2.0' if change == 'another' else '1.0'}'\n"
    assert (other.stat().st_mtime == 1e9) == (change == "nothing")  # taken over, not unpacked
    assert ("unpacking every wheel instead" in done.stderr) == (change in ("damaged", "gone"))
    assert not other.with_name("planted.pth").exists()


def test_dry_run_changes_nothing(make_house, install, root):
    done = install(make_house(), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would install 1.0-" in done.stdout
    assert tree(root) == set()


@pytest.mark.slow
def test_another_prefix_reaches_the_units(make_house, install, root):
    assert install(make_house(), "--prefix", "/srv/lohi").returncode == 0
    assert install(make_house("2.0"), "--prefix", "/srv/lohi").returncode == 0
    unit = (root / "etc/systemd/system/lohi-edge-watch.service").read_text()
    assert "ExecStart=/srv/lohi/current/bin/lohi-edge watch" in unit
    assert (root / "srv/lohi/current/bin/lohi-edge").exists()

    kept = root / "srv/lohi"  # where its install.sh is, which needs to be told nothing
    assert "1.0-" in (before := install(kept, "list").stdout)
    assert "is current again" in install(kept, "rollback").stdout
    assert sorted(before.split()) == sorted(install(kept, "list").stdout.split())
    assert before != install(kept, "list").stdout
    assert not (root / HOME).exists()
    assert install(kept, "uninstall").returncode == 0
    assert not kept.exists()


def test_a_wheelhouse_that_is_not_whole_is_refused(make_house, install, root):
    house = make_house()
    wheel = next((house / "wheels").glob("lohi_edge-*"))
    whole = wheel.read_bytes()
    for damage, words in (
        (lambda: wheel.write_bytes(whole[: len(whole) // 2]), "copy the wheelhouse again"),
        (wheel.unlink, "copy the wheelhouse again"),
        (lambda: (house / "wheels/other.whl").touch(), "does not name: wheels/other.whl"),
        ((house / "SHA256SUMS").unlink, "expected a wheelhouse"),
    ):
        damage()
        done = install(house)
        assert (done.returncode, tree(root)) == (3, set())
        assert words in done.stderr
        wheel.write_bytes(whole)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"machine": "riscv64"}, "expected a riscv64 machine"),
        ({"python": "2.7"}, "expected Python 2.7"),
        ({"glibc": "9.99"}, "expected glibc 9.99"),
    ],
)
def test_another_machine_is_refused(make_house, install, root, facts, words):
    done = install(make_house(**facts))
    assert (done.returncode, tree(root)) == (3, set())
    assert words in done.stderr


def test_a_small_disk_is_refused(make_house, install, root, tmp_path):
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "df").write_text("#!/bin/sh\necho head\necho disk 9 9 2048 1% /\n")
    (fake / "df").chmod(0o755)
    done = install(make_house(), env={"PATH": f"{fake}:/usr/bin:/bin"})
    assert (done.returncode, tree(root)) == (3, set())
    assert "got 2 MB; make room" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["--wheelhouse"], ["--nonsense"], ["--prefix", "relative"], ["--root", "/nowhere"]],
)
def test_wrong_usage_is_refused(words):
    done = subprocess.run(
        ["bash", DEPLOY / "install.sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error: " in done.stderr


def test_an_older_jetpack_is_refused(make_house, install, root):
    release = root / "etc/nv_tegra_release"
    release.parent.mkdir()
    release.write_text("# R35 (release), REVISION: 6.1, GCID: 1\n")
    done = install(make_house(target="jetpack6"))
    assert (done.returncode, (root / HOME).exists()) == (3, False)
    assert "expected Jetson Linux 36 or newer (jetpack6), this is 35" in done.stderr
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 1\n")
    assert install(make_house("2.0", target="jetpack6"), "--dry-run").returncode == 0


@pytest.mark.slow
def test_going_back_brings_back_settings_and_units_of_that_version(make_house, install, root):
    first, second = make_house("1.0"), make_house("2.0")
    unit = second / "systemd/lohi-edge-watch.service"
    unit.write_text(unit.read_text() + "# of 2.0\n")
    seal(second)
    assert install(first).returncode == 0
    config = root / "etc/lohi-edge/config.toml"
    config.write_text("# mine\n")
    assert install(second).returncode == 0
    installed = root / "etc/systemd/system/lohi-edge-watch.service"
    assert installed.read_text().endswith("# of 2.0\n")
    config.write_text("# mine\nnew_in_2 = 1\n")  # which 1.0 does not know
    done = install(second, "rollback")
    assert done.returncode == 0, done.stderr
    assert says(root) == "this is 1.0"
    assert config.read_text() == "# mine\n"
    (kept,) = config.parent.glob("config.toml.2.0-*")
    assert "new_in_2" in kept.read_text()
    assert not installed.read_text().endswith("# of 2.0\n")
    assert install(second, "rollback").returncode == 0
    assert (says(root), config.read_text()) == ("this is 2.0", "# mine\n")


@pytest.mark.skipif(os.uname().machine == "aarch64", reason="needs another machine than a Jetson")
def test_pycuda_is_built_on_a_jetson_alone():
    done = subprocess.run(
        ["make", "-C", DEPLOY.parent, "pycuda-wheel"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "expected a Jetson (aarch64)" in done.stderr


def test_pycuda_comes_with_what_no_lock_holds(tmp_path):
    """In the versions of the lock; a stand-in for pip says what it was asked for."""
    wheels = (
        "pycuda-2026.1-cp310-cp310-linux_aarch64", "pytools-2026.1.1-py3-none-any",
        "siphash24-1.9-cp310-cp310-linux_aarch64", "typing_extensions-4.16.0-py3-none-any",
    )  # fmt: skip
    fake, folder = tmp_path / "python", tmp_path / "wheels"
    fake.write_text(
        '#!/bin/sh\necho "$@"\ncat "$5"\nmkdir "$7"\ncd "$7"\ntouch '
        + " ".join(f"{name}.whl" for name in wheels)
    )
    fake.chmod(0o755)
    folder.mkdir()
    (folder / "pytools-2025.1-py3-none-any.whl").touch()  # of an earlier time
    lock = DEPLOY / "locks/jetpack6-py3.10.txt"
    done = subprocess.run(
        ["bash", DEPLOY / "pycuda.sh", fake, lock, folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "-m pip wheel --constraint" in done.stdout
    assert re.search(r"^typing-extensions==[\d.]+$", done.stdout, re.MULTILINE)
    assert "--hash" not in done.stdout
    assert sorted(path.stem for path in folder.iterdir()) == sorted(wheels[:3])


def test_the_container_installs_with_options_that_exist():
    lines = (DEPLOY / "container/Dockerfile.l4t").read_text()
    assert "/wheelhouse/install.sh --root / --wheelhouse /wheelhouse" in lines
    words = ["--root", "/", "--wheelhouse", "/nowhere"]
    done = subprocess.run(
        ["bash", DEPLOY / "install.sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3  # the wheelhouse is not there; the options are
    assert "unknown argument" not in done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", *sorted(DEPLOY.glob("*.sh"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
