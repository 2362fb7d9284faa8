"""A device of its own: a Debian root that a real systemd boots, without a network.

There install.sh runs from a wheelhouse, the hardened services start, and a scan is enhanced.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from documented import BOOTED, ROOT, drop_in, for_place
from wheelhouse import build, seal

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lohi-edge-ci"
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "python3,systemd,systemd-sysv,dbus"
GOAL_S = 180
# No variable of this test reaches what runs there.
CLEAN = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
DEADLINE_S = 1500  # generous: a hang must fail the test, a slow machine must not
DEMO = "/opt/lohi-edge/current/lib/python3.11/site-packages/lohi_edge/demo_data"
SCAN = "sub-demo_ses-64mT_T1w"
# Of the documented commands those that go last, in this order.
NARROWER = "[Service]\nIPAddressAllow=\nIPAddressAllow=127.0.0.0/8\n"  # for the receiver
LAST = ("install.sh list", "install.sh rollback", "install.sh uninstall")
NEEDS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "mount", "make")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or os.uname().machine != "x86_64" or not all(map(shutil.which, NEEDS)),
        reason=f"needs root on x86-64 and {', '.join(NEEDS)}",
    ),
]


def write_models(root: Path) -> None:
    """A model of one's own: on the stick serial 3, and serial 1 that was installed long ago."""
    package = "opt/lohi-edge/versions/*/lib/python3*/site-packages/lohi_edge"
    (source,) = root.glob(f"{package}/bundles/t1w-edge")
    manifest = json.loads((source / "manifest.json").read_text()) | {"name": "t1w-mine"}
    stick, bundles = root / "media/stick", root / "var/lib/lohi-edge/bundles"
    stick.mkdir(parents=True)
    with zipfile.ZipFile(stick / "t1w-mine.zip", "w") as archive:
        for name in manifest["files"]:
            archive.write(source / name, name)
        archive.writestr("manifest.json", json.dumps({**manifest, "serial": 3}))
    old = bundles / "t1w-mine-1-00000000"
    shutil.copytree(source, old)
    (old / "manifest.json").write_text(json.dumps({**manifest, "serial": 1}))


def run(*command: object, **kwargs) -> subprocess.CompletedProcess[str]:
    words = [str(c) for c in command]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **kwargs
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("house"), "python3", PYTHON)


@pytest.fixture(scope="module")
def debian() -> Path:
    """A minimal Debian with systemd; made once, kept between runs."""
    base = CACHE / SUITE
    if not base.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = CACHE / f".{SUITE}"
        shutil.rmtree(making, ignore_errors=True)
        done = run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, making)
        if done.returncode:
            pytest.skip("debootstrap reached no Debian mirror")
        making.rename(base)
    return base


class Machine:
    """A booted root; `run` runs a command in it."""

    def __init__(self, root: Path, house: Path) -> None:
        self.root = root
        with (root.parent / "console").open("wb") as console:
            words = ["systemd-nspawn", "--quiet", "--directory", root, "--register=no"]
            words += ["--keep-unit", "--private-network", f"--bind-ro={house}:/mnt/stick", "--boot"]
            self._nspawn = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        self._leader = ""
        end = time.monotonic() + 120
        while time.monotonic() < end and self._nspawn.poll() is None:
            self._leader = children.read_text().strip()
            if self._leader and self.run("systemctl", "is-system-running", "--wait").stdout:
                return
            time.sleep(0.5)
        pytest.skip(f"systemd does not boot here: {(root.parent / 'console').read_text()[-300:]}")

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return run("nsenter", "-t", self._leader, "-m", "-u", "-i", "-p", "-n", *words, env=CLEAN)

    def as_daemon(self, *words: object) -> subprocess.CompletedProcess[str]:
        user = ("--reuid=lohi-edge", "--regid=lohi-edge", "--init-groups")
        return self.run("setpriv", *user, *words)

    def ok(self, *words: object) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, line: str, folder: str = "/mnt/stick") -> None:
        """A command as the docs show it, given in the wheelhouse's folder; there is no sudo.

        `pytest -s` shows how long each took.
        """
        begin = time.monotonic()
        daemon = "setpriv --reuid=lohi-edge --regid=lohi-edge --init-groups "
        line = line.replace("sudo -u lohi-edge ", daemon).removeprefix("sudo ")
        done = self.run("sh", "-c", f"cd {folder} && {line}")
        said = done.stdout + done.stderr
        # The doctor rightly says of this root, an overlay, that it is gone with the power.
        excused = line.endswith("doctor") and said.count("FAIL") == said.count("on overlay") == 2
        slow = line.endswith("selftest") and done.returncode == 7  # right, on a busy machine
        assert slow or done.returncode == (1 if excused else 0), f"{line}: {said}"
        sys.stdout.write(f"{time.monotonic() - begin:6.1f} s  {line}\n")

    def edit(self, line: str, text: str) -> None:
        """`sudo systemctl edit UNIT`, in which somebody types."""
        editor = self.root / "usr/local/bin/types"
        editor.write_text(f"#!/bin/sh\ncat >\"$1\" <<'END'\n{text}END\n")
        editor.chmod(0o755)
        command = f"SYSTEMD_EDITOR=types {line.removeprefix('sudo ')}"
        self.ok("script", "-qec", command, "/dev/null")  # it edits on a terminal alone
        unit = line.split()[-1]
        assert text.strip() in self.ok("systemctl", "cat", unit)
        self.ok("systemctl", "restart", unit)
        assert self.ok("systemctl", "is-active", unit).strip() == "active"

    def wait(self, glob: str) -> Path:
        end = time.monotonic() + DEADLINE_S
        while not (found := list(self.root.glob(glob))):
            assert time.monotonic() < end, self.run("journalctl", "--no-pager", "-n50").stdout
            time.sleep(0.2)
        return found[0]

    def until(self, word: str, *words: object) -> None:
        """Wait for a word in what a command prints: journals and listening lag behind systemctl."""
        end = time.monotonic() + DEADLINE_S
        while word not in (said := "{0.stdout}{0.stderr}".format(self.run(*words))):
            assert time.monotonic() < end, f"{words}: no {word!r} in {said}"
            time.sleep(0.5)

    def off(self) -> None:
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()


@pytest.fixture
def machine(debian, house, tmp_path):
    parts = [tmp_path / name for name in ("changes", "work", "root")]
    for path in parts:
        path.mkdir()
    options = f"lowerdir={debian},upperdir={parts[0]},workdir={parts[1]}"
    if run("mount", "-t", "overlay", "overlay", "-o", options, parts[2]).returncode:
        pytest.skip("may not mount an overlay here")
    made = None
    try:
        made = Machine(parts[2], house)
        yield made
    finally:
        if made:
            made.off()
        run("umount", parts[2])


def test_from_a_clean_root_to_an_enhanced_scan_and_back(machine, capsys):
    begin = time.monotonic()
    machine.ok("/mnt/stick/install.sh")
    installed = time.monotonic() - begin
    assert machine.ok("systemctl", "is-active", "lohi-edge-watch").strip() == "active"
    inbox = "/var/lib/lohi-edge/inbox"
    machine.ok("install", "-m644", f"{DEMO}/{SCAN}.nii.gz", f"{inbox}/.coming")
    machine.ok("mv", f"{inbox}/.coming", f"{inbox}/{SCAN}.nii.gz")
    receipt = machine.wait(f"var/lib/lohi-edge/outbox/{SCAN}/*.json")
    seconds = time.monotonic() - begin
    verdict = json.loads(receipt.read_text())["LohiEdge"]["verdict"]
    assert verdict in ("pass", "warn")
    with capsys.disabled():
        sys.stdout.write(
            f"\nclean root to first enhanced scan: {seconds:.0f} s (goal {GOAL_S} s), of them "
            f"{installed:.0f} s for install.sh; load {os.getloadavg()[0]:.1f}\n"
        )

    report = json.loads(machine.as_daemon("lohi-edge", "doctor", "--json").stdout)
    found = {row["check"]: row["status"] for row in report["checks"]}
    assert found["service"] == found["permissions"] == found["acceptance"] == "pass", report

    # What the docs tell the engineer to do, a model included, which the running daemon follows.
    write_models(machine.root)
    machine.ok("chown", "-R", "lohi-edge:", "/var/lib/lohi-edge/bundles")
    assert machine.run("systemctl", "is-active", "lohi-edge-receive").returncode != 0
    page = (ROOT / "docs/how-to/add-a-scanner.md").read_text()
    line = re.search(r"^    (RECEIVE=.*)$", page, re.MULTILINE)[1]  # comes before systemctl there
    (machine.root / "etc/lohi-edge/receive.env").write_text(line + "\n")
    machine.ok("useradd", "alice")
    machine.ok("mkdir", "-p", "/mnt/scanner/inbox")
    shown = for_place(BOOTED)
    for page in shown:
        for line in shown[page]:
            if "systemctl edit" in line:
                machine.edit(line, drop_in(page) or NARROWER)
            elif not any(word in line for word in LAST):
                machine.follow(line)
    machine.ok("lohi-edge", "bundle", "list")
    machine.ok("systemctl", "start", "lohi-edge-selfcheck.service")
    machine.until("passed", "journalctl", "--no-pager", "-u", "lohi-edge-selfcheck")
    machine.until("bundle.switched", "journalctl", "--no-pager", "-u", "lohi-edge-watch")

    to = ("--to", "LOHI_EDGE@127.0.0.1:11112", "--title", "SCANNER")
    machine.until("answered in", "lohi-edge", "echo", *to)

    # Another release, and back; then gone, and nothing of the user's with it.
    machine.ok("cp", "-r", "/mnt/stick", "/mnt/newer")
    newer = machine.root / "mnt/newer"
    (newer / "TARGET").write_text((newer / "TARGET").read_text() + "release=newer\n")
    seal(newer)
    before = machine.ok("readlink", "/opt/lohi-edge/current")
    machine.follow("sudo ./install.sh", "/mnt/newer")
    assert machine.ok("readlink", "/opt/lohi-edge/current") != before
    for word in LAST:
        (line,) = (line for page in shown.values() for line in page if word in line)
        machine.follow(line)
        if word == "install.sh rollback":
            assert machine.ok("readlink", "/opt/lohi-edge/current") == before
    assert machine.run("systemctl", "is-active", "lohi-edge-watch").returncode != 0
    assert not (machine.root / "opt/lohi-edge").exists()
    assert receipt.exists()


def test_a_setting_or_folder_that_is_not_there_stops_the_switch(machine):
    for text, words in (
        ("[watch]\ninboks = '/x'\n", "did you mean 'inbox'"),
        ("[watch]\ninbox = '/mnt/no'\noutbox = '/var/tmp'\n", "/mnt/no: expected a folder"),
    ):
        config = machine.root / "etc/lohi-edge/config.toml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(text)
        done = machine.run("/mnt/stick/install.sh")
        assert (done.returncode, words in done.stderr) == (3, True), done.stderr
        assert not (machine.root / "opt/lohi-edge/current").exists()
        assert not list(machine.root.glob("etc/systemd/system/lohi-edge*"))
