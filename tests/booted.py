"""A Debian root that a real systemd boots in a container, without a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from documented import exit_code

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lohi-edge-ci"
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "python3,systemd,systemd-sysv,dbus"
# No variable of this test reaches what runs there.
CLEAN = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
DEADLINE_S = 1500  # generous: a hang must fail the test, a slow machine must not
NEEDS = ("debootstrap", "systemd-nspawn", "nsenter", "setpriv", "mount", "make")
MISSING = (
    None
    if os.geteuid() == 0 and os.uname().machine == "x86_64" and all(map(shutil.which, NEEDS))
    else f"needs root on x86-64 and {', '.join(NEEDS)}"
)


def run(*command: object, **kwargs) -> subprocess.CompletedProcess[str]:
    words = [str(c) for c in command]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **kwargs
    )


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
        self.run("systemctl", "reset-failed")  # nobody restarts services so often in ten minutes
        begin, wanted = time.monotonic(), exit_code(line)
        daemon = "setpriv --reuid=lohi-edge --regid=lohi-edge --init-groups "
        line = line.replace("sudo -u lohi-edge ", daemon).removeprefix("sudo ")
        done = self.run("sh", "-c", f"cd {folder} && {line}")
        said = done.stdout + done.stderr
        # The doctor rightly says of this root, an overlay, that it is gone with the power.
        excused = line.endswith("doctor") and said.count("FAIL") == said.count("on overlay") == 2
        slow = line.endswith("selftest") and done.returncode == 7  # right, on a busy machine
        assert slow or done.returncode == (1 if excused else wanted), f"{line}: {said}"
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
