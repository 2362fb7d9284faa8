"""The systemd units, judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from documented import ROOT, drop_in

DEPLOY = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in DEPLOY.glob("*.service"))
UNITS = [*SERVICES, *sorted(path.name for path in DEPLOY.glob("*.timer"))]
MOST_EXPOSED = 20  # tenths, as systemd-analyze's --threshold counts
SYSTEM = Path("/usr/lib/systemd/system")

needs_systemd = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and SYSTEM.is_dir()),
    reason="needs systemd-analyze (Debian's package systemd)",
)


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path) -> Path:
    """A root with the units, systemd's own, and the programs they start."""
    shutil.copytree(SYSTEM, tmp_path / "usr/lib/systemd/system", symlinks=True)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for name in UNITS:
        shutil.copy(DEPLOY / name, units)
    for program in ("opt/lohi-edge/current/bin/lohi-edge", "bin/sh"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_verify_finds_nothing(root, name):
    done = run("systemd-analyze", "verify", "--man=no", f"--root={root}", name)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_verify_would_find_something(root):
    unit = root / "etc/systemd/system" / SERVICES[0]
    unit.write_text(unit.read_text() + "NoSuchOption=yes\n")
    done = run("systemd-analyze", "verify", "--man=no", f"--root={root}", SERVICES[0])
    assert "NoSuchOption" in done.stderr


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_exposure_is_low(name):
    done = run(
        "systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}",
        DEPLOY / name,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert float(re.findall(r": ([\d.]+) ", done.stdout)[-1]) <= MOST_EXPOSED / 10


@needs_systemd
@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="needs systemd-sysusers")
def test_user_and_folders_are_made(tmp_path):
    """The accounts of sysusers.d, then the folders of tmpfiles.d with their modes."""
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", DEPLOY / "lohi-edge.sysusers")
    assert made.returncode == 0, made.stderr
    account = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^lohi-edge:.*:/nonexistent:/usr/sbin/nologin$", account, re.MULTILINE)
    groups = (tmp_path / "etc/group").read_text()
    assert re.search(r"^video:.*:lohi-edge$", groups, re.MULTILINE)
    assert re.search(r"^render:.*:lohi-edge$", groups, re.MULTILINE)
    made = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", DEPLOY / "lohi-edge.tmpfiles")
    modes = {
        path.name: oct(path.stat().st_mode & 0o7777)
        for path in (tmp_path / "var/lib/lohi-edge").iterdir()
    }
    assert modes == {
        "inbox": "0o2770", "outbox": "0o2750", "state": "0o700", "cache": "0o700",
        "bundles": "0o755",
    }, made.stderr  # fmt: skip


def test_the_daemon_is_started_as_its_command_line_asks():
    """Every option of every ExecStart exists, and the folders are those of the settings."""
    from typer.main import get_command

    from lohi_edge.cli import app

    for name in SERVICES:
        start = re.search(r"^ExecStart=\S+/lohi-edge (.+)$", (DEPLOY / name).read_text(), re.M)
        assert start
        # What receive.env of the unit's own comment says.
        options = re.search(r"^#   RECEIVE=(.+)$", (DEPLOY / name).read_text(), re.M)
        line = start[1].replace("$RECEIVE", options[1] if options else "")
        command, words = get_command(app), line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(name, words)


@pytest.mark.parametrize("name", SERVICES)
def test_onnxruntime_is_told_to_report_to_nobody(name):
    lines = (DEPLOY / name).read_text().splitlines()
    assert "Environment=ORT_DISABLE_TELEMETRY=1" in lines


def test_a_receiver_puts_series_where_the_daemon_looks():
    """Both read one settings file; neither unit names an inbox of its own."""
    starts = [
        re.search(r"^ExecStart=\S+/lohi-edge (.+)$", (DEPLOY / name).read_text(), re.M)[1]
        for name in ("lohi-edge-watch.service", "lohi-edge-receive.service")
    ]
    for start in starts:
        assert "--config /etc/lohi-edge/config.toml" in start
        assert "/var/lib/lohi-edge" not in start


def test_the_docs_open_an_inbox_elsewhere_to_both_services_and_an_outbox_to_the_daemon():
    opened = {
        unit: re.search(r"^ReadWritePaths=(.+)$", drop_in("docs/how-to/install.md", unit), re.M)[1]
        for unit in ("lohi-edge-watch", "lohi-edge-receive")
    }
    assert opened["lohi-edge-watch"].split()[0] == opened["lohi-edge-receive"]


def exposure(root: Path, name: str) -> float:
    done = run("systemd-analyze", "security", "--offline=true", f"--root={root}", name)
    return float(re.findall(r": ([\d.]+) ", done.stdout)[-1])


@needs_systemd
@pytest.mark.parametrize(
    ("page", "unit"),
    [
        ("docs/how-to/dicom.md", "lohi-edge-watch"),
        ("docs/how-to/install.md", "lohi-edge-watch"),
        ("docs/how-to/install.md", "lohi-edge-receive"),
    ],
)
def test_what_the_docs_open_is_sound_and_keeps_the_exposure_low(root, page, unit):
    name = f"{unit}.service"
    folder = root / f"etc/systemd/system/{name}.d"
    folder.mkdir()
    (folder / "override.conf").write_text("[Service]\nSystemCallFilter=\nPrivateUsers=no\n")
    loosened = exposure(root, name)
    (folder / "override.conf").unlink()
    assert loosened > exposure(root, name)  # a drop-in counts at all
    (folder / "override.conf").write_text(drop_in(page, unit))
    done = run("systemd-analyze", "verify", "--man=no", f"--root={root}", name)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert exposure(root, name) <= MOST_EXPOSED / 10
    assert "=" in drop_in(page, unit)
