"""Every command for a device that the docs show, run as it stands; see tests/documented.py."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from documented import DEVICE, exit_code, for_place, shorter
from documented_box import write_box, write_state
from lohi_edge.cli import app
from lohi_edge.dicom.receive import Listening, Receiver
from lohi_edge.errors import LohiError
from orthanc import free_port

PAGES = for_place(DEVICE)
ENDLESS = ("watch", "receive")  # until they are stopped
DEADLINE_S = 240
# As the user finds the folder: these change what others of the page look at.
FRESH = ("watch", "queue", "status", "audit")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return write_box(tmp_path_factory.mktemp("template"))


@pytest.fixture
def peers(tmp_path):
    """A PACS, and a receiver of our own: `TITLE@host:port` of the docs -> of here."""
    places = {}
    nodes = {"PACS@10.0.0.5:104": "LOHI_EDGE", "LOHI_EDGE@127.0.0.1:11112": "SCANNER"}
    running = []
    for node, caller in nodes.items():
        title = node.partition("@")[0]
        listening = Listening(title=title, port=0, callers=(caller,), reserve=0)
        running.append(Receiver(tmp_path / title, listening, lambda _: None).__enter__())
        places[node] = f"{title}@127.0.0.1:{running[-1].port}"
    yield places
    for receiver in running:
        receiver.__exit__(None, None, None)


@pytest.fixture
def box(template, tmp_path, monkeypatch) -> Path:
    """A copy of the template, where the process now is, with settings and store of its own."""
    path = tmp_path / "box"
    shutil.copytree(template, path)
    write_state(path)
    monkeypatch.chdir(path)
    for name, value in {
        "HOME": path,
        "LOHI_EDGE_CONFIG": path / "etc/config.toml",
        "LOHI_EDGE_BUNDLES": path / "bundles",
        "LOHI_EDGE_CACHE": path / "cache",
        "LOHI_EDGE_LATENCY_CPU_P95_S": "1000",  # a busy machine is none of this test's business
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, str(value))
    return path


def until_stopped(words: list[str], box: Path) -> tuple[int, str]:
    """Start it, wait until it has done something, press Ctrl-C."""
    paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
    log = box / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lohi_edge", *words], stdout=out, stderr=out,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
    end = time.monotonic() + DEADLINE_S
    word = "scan.done" if words[0] == "watch" else "listening as"
    while word not in log.read_text() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = log.read_text()
    assert word in said, said
    return process.wait(DEADLINE_S), said


def run(line: str, box: Path) -> tuple[int, str]:
    """(exit code, what it said) of a command, in this process unless it is endless."""
    words = shlex.split(line)[1:]
    if words[0] in FRESH:
        write_state(box)
    if words[0] == "enhance":  # other options make another result, which does not replace one
        for old in box.glob("scan_desc-synthetic*"):
            old.unlink()
    if words[0] in ENDLESS:
        return until_stopped(words, box)
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, LohiError):
        return done.exception.exit_code, f"{done.output}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_as_they_stand(page, box, peers):
    stand_ins = {
        **peers, "/srv/": f"{box}/srv/", "/etc/lohi-edge/": f"{box}/etc/",
        " 8080": f" {free_port()}", "--caller SCANNER": "--caller SCANNER --port 0",
    }  # fmt: skip
    for line in PAGES[page]:
        here = shorter(line)
        for name, real in stand_ins.items():
            here = here.replace(name, real)
        code, said = run(here, box)
        assert code == exit_code(line), f"{line}\n{said[-2000:]}"
